# redis-server with two I/O threads: it holds the same data on both sides, goes through a benchmark, a fork (BGSAVE), a
# reload and a flush by its own freeing thread, and must still hold that data, by its own digest.
# Left out: the benchmark's rates and the figures of INFO (they are checked, not compared).
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs="redis-server redis-cli redis-benchmark perl"
binds=redis-server
probe=(redis-server --version)
side_limit=120

# A short relative path, since that of a socket may have no more than 107 bytes.
SOCKET=redis.sock
cli() { redis-cli -s "$SOCKET" "$@"; }

# The value of one field of INFO.
info() { cli INFO "$1" | tr -d '\r' | sed -n "s/^$2://p"; }

# Up to ten seconds until a command's output has a word in it.
await() { # WORD COMMAND [ARGUMENT ...]
    local word=$1 tries=200
    shift
    while [ "$tries" -gt 0 ]; do
        "$@" 2>/dev/null | grep -q "$word" && return 0
        sleep 0.05
        tries=$((tries - 1))
    done
    wrong "'$*' did not say '$word' within ten seconds"
    return 1
}

# Every type in small and large encodings, values that grow, keys that go away; in database 1.
commands() {
    perl -e '
        use integer;
        my $seed = 12345;
        sub next_number { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return ($seed >> 8) % $_[0] }
        print "SELECT 1\r\n";
        for my $i (1 .. 60000) {
            my $n = next_number(2000);
            my $text = chr(97 + $i % 26) x (1 + next_number(400));
            my $kind = next_number(8);
            if    ($kind == 0) { print "SET string:$n $text$i\r\n" }
            elsif ($kind == 1) { print "APPEND string:$n $text\r\n" }
            elsif ($kind == 2) { print "RPUSH list:", $n % 100, " $text$i\r\n" }
            elsif ($kind == 3) { print "SADD set:", $n % 50, " $i\r\n" }
            elsif ($kind == 4) { print "SADD words:", $n % 50, " $text$n\r\n" }
            elsif ($kind == 5) { print "HSET hash:", $n % 100, " field$n $text$i\r\n" }
            elsif ($kind == 6) { print "ZADD sorted:", $n % 50, " $i member$n\r\n" }
            else               { print "DEL string:", $n / 2, "\r\n" }
        }'
}

check_memory() { # sane figures, and the accounts balance: what was flushed is no longer counted
    local used peak resident
    used=$(info memory used_memory)
    peak=$(info memory used_memory_peak)
    resident=$(info memory used_memory_rss)
    if [ -z "$used" ]; then
        wrong "the server no longer answers"
        return
    fi
    echo "INFO memory: used $used, peak $peak, resident $resident, before the flush $1"
    if ! ((used > 1000000 && used <= peak && used < resident * 5 / 4)); then
        wrong "INFO memory makes no sense: used $used, peak $peak, resident $resident"
    fi
    ((used < $1)) || wrong "used memory did not fall by a flush: from $1 to $used"
}

work() {
    commands >commands.txt
    LIMIT=110
    run redis-server --port 0 --unixsocket "$SOCKET" --daemonize no --save '' --appendonly no --dir . \
        --io-threads 2 --io-threads-do-reads yes --enable-debug-command yes --databases 2 >server.txt 2>&1 &
    local server=$!
    LIMIT=50
    if ! await PONG cli PING; then
        cat server.txt
        return
    fi
    if [ "$PRELOAD" != - ]; then
        grep -qF -- "$PRELOAD" "/proc/$(info server process_id)/maps" || wrong "the server has not mapped the library"
    fi

    run redis-cli -s "$SOCKET" --pipe <commands.txt | tail -n 1 >"$OUT/loaded"
    cli -n 1 DBSIZE >"$OUT/keys"
    cli DEBUG DIGEST >"$OUT/digest"

    run redis-benchmark -s "$SOCKET" --dbnum 0 --threads 2 -c 50 -P 8 -n 150000 -r 50000 -d 300 --csv \
        -t ping,set,get,incr,lpush,rpush,lpop,rpop,sadd,hset,spop,zadd,zpopmin,mset >benchmark.csv
    cut -d , -f 1 benchmark.csv >"$OUT/benchmark"
    info stats io_threaded_writes_processed | grep -q "^[1-9]" || wrong "the I/O threads had nothing to do"

    local before
    before=$(info memory used_memory)
    before=${before:-0}
    cli FLUSHDB ASYNC
    await '^lazyfree_pending_objects:0' cli INFO memory
    check_memory "$before"
    cli DEBUG DIGEST >"$OUT/digest_after_benchmark"

    cli BGSAVE
    await '^rdb_bgsave_in_progress:0' cli INFO persistence
    info persistence rdb_last_bgsave_status >"$OUT/saved"
    cli DEBUG RELOAD >"$OUT/reloaded"
    cli DEBUG DIGEST >"$OUT/digest_after_reload"
    cat "$OUT"/digest*
    [ "$(sort -u "$OUT"/digest* | wc -l)" -eq 1 ] || wrong "the data changed while the server ran"
    # An empty server has a digest too: forty zeros.
    if ! grep -E '^[0-9a-f]{40}$' "$OUT/digest" | grep -q '[1-9a-f]'; then
        wrong "there is no digest of the data"
    fi

    cli SHUTDOWN NOSAVE
    wait "$server"
    grep -q 'bye bye' server.txt || wrong "the server did not shut down cleanly"
    tail -n 5 server.txt
}
