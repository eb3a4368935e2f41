# ruby fills hashes, threads hand strings to each other, its collector runs all the while and compacts at the end.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs=ruby
binds=libruby
probe=(ruby --disable-gems -e 1)
side_limit=60

work() {
    run ruby --disable-gems "$INPUT/strings.rb" >"$OUT/sums"
    grep -q '^all: ' "$OUT/sums" || wrong "the sums are incomplete"
}
