# PostgreSQL sets up a database, and four clients work on it by pgbench; then sums over all rows, sorted and joined in
# parallel, are asked for.
# Left out: rates, and who did what when; the sums that must come out whatever the order are compared.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs="pg_config perl"
binds=postgres
side_limit=100
PLACE=$(pg_config --bindir 2>/dev/null)
[ -x "$PLACE/postgres" ] || PLACE=$(printf '%s\n' /usr/lib/postgresql/*/bin | tail -n 1)
probe=("$PLACE/postgres" --version)

# The server does not run as root.
as_server() {
    if [ "$(id -u)" -eq 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi
}
ask() { psql --no-psqlrc --quiet --tuples-only --no-align -h "$HOUSE" -U tester -v ON_ERROR_STOP=1 "$@" postgres; }

work() {
    # Its own, since the server's user must reach it; short, since a socket's path may have no more than 107 bytes.
    HOUSE=$(mktemp -d /tmp/pg.XXXXXX)
    trap 'rm -rf "$HOUSE"' EXIT
    [ "$(id -u)" -ne 0 ] || chown postgres "$HOUSE"
    if [ "$PRELOAD" != - ] && ! as_server test -r "$PRELOAD"; then
        wrong "the server's user cannot read $PRELOAD"
        return
    fi
    LIMIT=90
    # Through `try`'s own way, since a function cannot be measured.
    local as=()
    [ "$(id -u)" -ne 0 ] || as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
    run "${as[@]}" "$PLACE/initdb" -D "$HOUSE/data" -U tester -A trust --no-sync --locale=C -E UTF8 >initdb.txt || return
    run "${as[@]}" "$PLACE/postgres" -D "$HOUSE/data" -k "$HOUSE" -c listen_addresses= -c fsync=off -c shared_buffers=64MB \
        -c work_mem=1MB -c min_parallel_table_scan_size=0 -c parallel_setup_cost=0 -c autovacuum_naptime=1s >server.txt 2>&1 &
    local server=$! tries=200
    while ! ask -c 'select 1' >/dev/null 2>&1 && [ "$tries" -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    LIMIT=50
    run "$PLACE/pgbench" -h "$HOUSE" -U tester -i -s 2 -q postgres >init.txt 2>&1
    # Each client makes its own moves by chance; what a transaction adds to one account it adds to a branch and a teller.
    run "$PLACE/pgbench" -h "$HOUSE" -U tester -c 4 -j 2 -t 1500 --random-seed=7 postgres >bench.txt 2>&1
    grep -q '^number of failed transactions: 0 ' bench.txt || wrong "transactions failed"
    {
        ask -c "select (select sum(abalance) from pgbench_accounts) = (select sum(bbalance) from pgbench_branches),
                       (select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history),
                       (select count(*) from pgbench_history)"
        ask -c "create table t as select g, md5(g::text) m, repeat(chr(97 + g % 26), g % 500) r from generate_series(1, 60000) g"
        ask -c "select count(*), sum(length(r)), md5(string_agg(m, ',' order by m)) from t"
        ask -c "select a.g % 10, count(*), max(b.m) from t a join t b on left(a.m, 4) = left(b.m, 4) group by 1 order by 1"
        ask -c "select md5(string_agg(x, '')) from (select regexp_replace(m, '[a-f]+', r, 'g') x from t where g < 5000 order by g) s"
        ask -c "select md5(jsonb_agg(to_jsonb(t) order by g)::text) from t where g < 5000"
    } >"$OUT/sums"
    # "Fast shutdown": as the server's own tool asks for it.
    run "${as[@]}" "$PLACE/pg_ctl" -D "$HOUSE/data" -m fast -w stop >stop.txt
    wait "$server"
    grep -q 'database system is shut down' server.txt || wrong "the server did not shut down cleanly"
    grep -qE 'PANIC|terminated by signal' server.txt && wrong "a process of the server died"
    tail -n 5 server.txt
}
