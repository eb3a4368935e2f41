# stress-ng's malloc stressor, which writes to what it allocates and checks it: two processes of two threads each.
# Left out: all it prints but the number of operations (times and process ids).
# shellcheck shell=bash disable=SC2034  # read by ci/programs
needs=stress-ng
binds=stress-ng
probe=(stress-ng --version)
side_limit=100

OPERATIONS=400000

work() {
    run stress-ng --malloc 2 --malloc-pthreads 2 --malloc-ops "$OPERATIONS" --malloc-max 20000 --verify --oomable \
        --timeout 60 --metrics-brief --verbose --temp-path . >messages.txt 2>&1
    cat messages.txt
    # A stressor that crashes is started again and counts as a success; only the messages tell.
    if grep -iE 'fail|child died|restarts: [1-9]|restarting|killed|corrupt|free\(\)|abort' messages.txt; then
        wrong "stress-ng's messages tell of failures"
    fi
    grep -q 'successful run completed' messages.txt || wrong "the run was not completed"
    # Short of the number asked for, the time ran out.
    local count
    count=$(sed -n 's/^.* malloc  *\([0-9][0-9]*\) .*$/\1/p' messages.txt)
    if [ "${count:-0}" -ge "$OPERATIONS" ]; then
        echo "at least $OPERATIONS" >"$OUT/operations"
    else
        wrong "only ${count:-0} of $OPERATIONS operations were done in time"
    fi
}
