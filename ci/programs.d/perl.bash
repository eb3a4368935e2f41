# perl fills a hash of 500,000 keys with strings, lists and hashes, drops half of it and adds up what is left.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs=perl
binds=perl
probe=(perl -e 1)
side_limit=100

work() {
    # The order of a hash is otherwise drawn anew in every run.
    export PERL_HASH_SEED=0 PERL_PERTURB_KEYS=0
    run perl "$INPUT/hash.pl" >"$OUT/sums"
    grep -q '^all: ' "$OUT/sums" || wrong "the sums are incomplete"
}
