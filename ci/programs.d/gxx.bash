# g++ compiles a file that takes in the whole standard library; the object file must be the same byte for byte.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs="g++ nm"
binds=cc1plus
probe=(g++ -x c++ -c /dev/null -o nothing.o)
side_limit=120

work() {
    cp "$INPUT/templates.cpp" .
    # Names that the compiler makes up are otherwise drawn from a random seed.
    run g++ -std=c++17 -O1 -g -frandom-seed=1 -c templates.cpp -o templates.o
    cp templates.o "$OUT"
    [ "$(nm templates.o | wc -l)" -gt 500 ] || wrong "the object file holds fewer symbols than the source makes"
    run g++ templates.o -o templates
    run ./templates >"$OUT/printed"
}
