# php sorts, joins, matches and serializes arrays, with its own pools and, the second time, with every block from malloc.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs=php
binds=php
probe=(php -n -r '1;')
side_limit=60

work() {
    run php -n "$INPUT/arrays.php" >"$OUT/sums"
    USE_ZEND_ALLOC=0 run php -n "$INPUT/arrays.php" >"$OUT/sums_of_malloc"
    cmp "$OUT/sums" "$OUT/sums_of_malloc" || wrong "the sums depend on php's own pools"
    grep -q '^all: ' "$OUT/sums" || wrong "the sums are incomplete"
}
