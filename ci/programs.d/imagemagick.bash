# ImageMagick draws, resizes, blurs and packs pictures, with threads of its own.
# Left out: what its files say of time; the pictures' own digests are compared.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs="convert identify"
binds=libMagickCore
probe=(convert -size 8x8 xc:red null:)
side_limit=60

work() {
    run convert -size 1200x900 plasma:red-blue -seed 7 -resize 60% -blur 0x2 -rotate 17 a.png
    run convert -seed 7 -size 800x600 gradient:green-yellow -swirl 90 -wave 10x60 b.jpg
    run convert b.jpg -resize 200x200 -colors 32 c.gif
    run convert b.jpg c.gif -append -edge 1 -quality 80 d.webp
    run convert -delay 10 c.gif -rotate 30 c.gif -rotate 60 e.gif
    # A plasma is drawn by chance, in spite of its seed, where threads take turns.
    run identify -format '%f %w %h %#\n' b.jpg c.gif d.webp e.gif >"$OUT/digests"
    run identify -format '%f %w %h\n' a.png >"$OUT/sizes"
    [ "$(wc -l <"$OUT/digests")" -ge 4 ] || wrong "pictures are missing"
}
