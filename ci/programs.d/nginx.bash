# nginx with two workers serves files, compressed and through itself, to 50 connections, and reads its settings anew
# meanwhile: old workers end, new ones begin.
# Left out: rates, and connections that old workers close; the pages' digests are compared, and no answer may be an error.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs="nginx wrk perl"
binds=nginx
probe=(nginx -v)
side_limit=60

# The answer to one request, whole.
fetch() { # PATH [HEADER]
    perl -MIO::Socket::INET -e '
        my ($port, $path, $header) = @ARGV;
        my $server = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $port, Timeout => 5) or die "nobody answers\n";
        print $server "GET $path HTTP/1.0\r\nHost: here\r\n$header\r\n";
        local $/;
        my $answer = <$server>;
        print $answer =~ s/^(Date|Last-Modified|ETag|Server):.*\r\n//gmr' "$PORT" "$1" "${2:-}"
}

load() { # PATH [HEADER]
    run wrk -t 2 -c 50 -d 1s -H "${2:-Accept: */*}" "http://127.0.0.1:$PORT$1" >load.txt
    grep -q 'requests in' load.txt || wrong "wrk did not get to ask for $1"
    # A worker that ends closes connections; what it answers must be right.
    grep 'Non-2xx' load.txt && wrong "$1 was not always answered with the page"
}

work() {
    PORT=$(perl -MIO::Socket::INET -e 'print IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1")->sockport')
    mkdir files temp
    perl -e 'print "line $_ of a page that can be packed\n" for 1 .. 2000' >files/page.html
    perl -e 'print pack("L", $_ * 2654435761 % 4294967296) for 1 .. 50000' >files/data.bin
    cat >nginx.conf <<CONF
user $(id -un); worker_processes 2; daemon off; pid nginx.pid; error_log error.log notice;
events { worker_connections 512; }
http {
    access_log access.log; types { text/html html; application/octet-stream bin; }
    client_body_temp_path temp/a; proxy_temp_path temp/b; fastcgi_temp_path temp/c; uwsgi_temp_path temp/d; scgi_temp_path temp/e;
    gzip on; gzip_min_length 100;
    server {
        listen 127.0.0.1:$PORT; root files;
        location /through/ { proxy_pass http://127.0.0.1:$PORT/; proxy_buffers 8 4k; }
    }
}
CONF
    run nginx -p "$PWD" -c nginx.conf -e error.log &
    local server=$! tries=100
    while ! fetch /page.html >/dev/null 2>&1 && [ "$tries" -gt 0 ]; do
        sleep 0.05
        tries=$((tries - 1))
    done
    load /page.html 'Accept-Encoding: gzip'
    load /through/data.bin &
    local loading=$!
    sleep 0.3
    kill -HUP "$(cat nginx.pid)"
    wait "$loading"
    load /through/page.html 'Accept-Encoding: gzip'
    local each
    for each in /page.html /data.bin /through/page.html /through/data.bin /none; do
        fetch "$each" | md5sum >>"$OUT/digests"
        fetch "$each" $'Accept-Encoding: gzip\r\n' | md5sum >>"$OUT/digests"
    done
    kill -QUIT "$(cat nginx.pid)"
    wait "$server"
    grep -E 'exited on signal|alert|emerg' error.log && wrong "a worker of the server died"
    tail -n 3 error.log
}
