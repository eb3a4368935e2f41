# shellcheck shell=bash disable=SC1090,SC2034,SC2317  # the program's file uses what is defined here
# One program, one side: with the library, or without. Started by ci/programs under `measure`:
#
#   side.bash PROGRAM-FILE FOLDER
#
# The program's file is read and its function `work` called in FOLDER, which is empty. Handed down:
#   PRELOAD  the library, or "-"          SIDE   where this side's report, errors and results go
#   INPUT    the programs' input          MEASURE
# What `work` leaves in $OUT is compared between the sides; what it prints is shown only when something is wrong.
set -u

OUT=$SIDE/out
# A program may set its own for the commands that follow.
LIMIT=60

# Something that must not be, on this side alone.
wrong() { printf '%s\n' "$*" >>"$SIDE/wrong"; }

# Something the reader should know although it is no failure; shown from the side without the library.
note() { printf '%s\n' "$*" >>"$SIDE/notes"; }

# Runs a command that may end with any status; the statuses of both sides are compared afterwards.
try() { "$MEASURE" "$SIDE/report" "$LIMIT" "$PRELOAD" "$@"; }

# Runs a command that must end with status 0.
run() {
    try "$@"
    local status=$?
    case $status in
        0) ;;
        124) wrong "'$*' took longer than $LIMIT seconds" ;;
        *) wrong "'$*' ended with status $status" ;;
    esac
    return "$status"
}

. "$1"
cd "$2" || exit 1
work
exit 0
