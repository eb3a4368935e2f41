# A JVM compiles a program and runs it: its compilers, collectors and native buffers are on malloc, in some twenty threads.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs="java javac"
binds=libjvm.so
probe=(java -Xmx64m -version)
side_limit=100

work() {
    cp "$INPUT/Buffers.java" .
    run javac -J-Xmx256m -d classes Buffers.java
    run java -Xmx256m -cp classes Buffers >"$OUT/sums"
    run java -Xmx256m -XX:+UseParallelGC -Xcomp -cp classes Buffers >"$OUT/sums_compiled"
    cmp "$OUT/sums" "$OUT/sums_compiled" || wrong "the sums depend on the collector"
    grep -q '^all: ' "$OUT/sums" || wrong "the sums are incomplete"
}
