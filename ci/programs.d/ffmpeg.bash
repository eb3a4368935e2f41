# ffmpeg draws a film, packs it with threads by four codecs, unpacks and compares it.
# Left out: what it says of speed; the digests of all frames are compared.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs=ffmpeg
binds=libvpx
probe=(ffmpeg -version)
side_limit=100

film() { run ffmpeg -hide_banner -loglevel error -nostdin -bitexact "$@"; }

work() {
    local drawn=(-f lavfi -i testsrc2=size=640x360:rate=25:duration=4 -f lavfi -i sine=frequency=440:duration=4)
    film "${drawn[@]}" -c:v mpeg4 -threads 4 -q:v 5 -c:a aac film.mp4
    film "${drawn[@]}" -c:v libx264 -preset veryfast -threads 1 -c:a flac film.mkv
    film -i film.mp4 -vf 'scale=320:180,hue=h=90,transpose=1' -c:v ffv1 -slices 4 -threads 2 -an film.avi
    film -i film.mp4 -vf scale=160:90 -c:v libvpx -deadline realtime -cpu-used 8 -threads 1 -b:v 200k -an film.webm
    local each
    for each in film.mp4 film.mkv film.avi film.webm; do
        film -i "$each" -threads 2 -f framemd5 - >"$OUT/$each"
        [ "$(wc -l <"$OUT/$each")" -gt 100 ] || wrong "frames of $each are missing"
    done
}
