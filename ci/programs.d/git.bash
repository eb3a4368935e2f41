# git takes in 2,000 commits, packs them with two threads, checks them and reads them back.
# Left out: "size-pack" of count-objects, as which deltas are found depends on how the two threads share the work.
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs="git perl"
binds=git
probe=(git --version)
side_limit=120

# 2,000 commits of two authors, with a branch and a merge every hundred: three of 80 files change at a time.
history() {
    perl -e '
        use integer;
        my $seed = 4711;
        sub next_number { $seed = ($seed * 1103515245 + 12345) & 0x7fffffff; return ($seed >> 8) % $_[0] }
        my @text = map { "file $_\n" } 0 .. 79;
        for my $n (1 .. 2000) {
            my $time = 1500000000 + $n * 60;
            my $who = $n % 2 ? "One Person <one\@example.org>" : "Other Person <other\@example.org>";
            my $message = "change $n\n\n" . "a reason\n" x next_number(5);
            print "commit refs/heads/", ($n % 100 == 50 ? "side" : "main"), "\nmark :$n\n";
            print "author $who $time +0000\ncommitter $who $time +0000\n";
            print "data ", length $message, "\n$message\n";
            print "from :", $n % 100 == 51 ? $n - 2 : $n - 1, "\n" if $n > 1;
            print "merge :", $n - 1, "\n" if $n % 100 == 51;
            for (1 .. 3) {
                my $file = next_number(80);
                my $line = "line " . next_number(100000) . " of change $n\n";
                $text[$file] = next_number(3) ? $text[$file] . $line x (1 + next_number(8)) : $line . $text[$file];
                print "M 100644 inline folder", $file % 9, "/file$file\ndata ", length $text[$file], "\n$text[$file]\n";
            }
        }
        print "done\n"'
}

work() {
    # Nothing of the machine's or the user's own settings.
    export GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_TERMINAL_PROMPT=0
    history >history.txt
    run git init -q -b main repository
    cd repository || return
    git config pack.threads 2
    git config gc.auto 0
    run git fast-import --quiet --done <../history.txt
    run git reset -q --hard main
    run git status --porcelain >"$OUT/status"
    run git gc -q --aggressive --prune=now
    run git fsck --full --strict >"$OUT/fsck" 2>&1
    run git count-objects -v | grep -v '^size-pack:' >"$OUT/objects"
    run git rev-parse HEAD side >"$OUT/head"
    run git log --stat --format=fuller | sha256sum >"$OUT/log"
    run git blame -s folder3/file3 | sha256sum >"$OUT/blame"
    run git archive --format=tar HEAD | sha256sum >"$OUT/archive"
    [ "$(git rev-list --all --count)" -eq 2000 ] || wrong "the repository does not hold 2,000 commits"
}
