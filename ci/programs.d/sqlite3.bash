# sqlite3 makes a table of 400,000 rows with two indexes, asks for aggregates and checks the file's integrity.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs=sqlite3
binds=libsqlite3.so.0
probe=(sqlite3 :memory: 'select 1')
side_limit=100

work() {
    run sqlite3 -batch -bail rows.db <"$INPUT/rows.sql" >"$OUT/answers"
    # Row by row the same file, not only the same sums.
    run sqlite3 -batch rows.db .dump | sha256sum >"$OUT/dump"
    tail -n 1 "$OUT/answers" | grep -qx ok || wrong "the integrity check does not say ok"
}
