# node makes and drops 300,000 buffers and maps, also in worker threads that hand them to one another.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs=node
binds=node
probe=(node -e 1)
side_limit=100

work() {
    run node "$INPUT/buffers.js" >"$OUT/sums"
    grep -q '^all: ' "$OUT/sums" || wrong "the sums are incomplete"
}
