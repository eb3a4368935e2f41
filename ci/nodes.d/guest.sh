#!/bin/busybox sh
# The first process of a guest: runs what the file of its machine says in `guest`, and switches the machine off. The
# kernel's command line names the machine.
/bin/busybox --install -s /bin
export PATH=/bin
# The first line begins where the firmware has left the cursor.
echo
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys

# run NAME PROGRAM ARGUMENT...: between two lines by which ci/nodes finds what it printed. `timeout` and `env` are
# busybox's own, which is linked statically: nothing is preloaded into them.
run() {
    local run=$1
    shift
    echo "== $run"
    timeout -s KILL 30 "$@"
    echo "== $run ended: $?"
}
# preloaded NAME [SETTING=VALUE...] PROGRAM ARGUMENT...
preloaded() {
    local run=$1
    shift
    run "$run" env LD_PRELOAD=/lib/homing.so "$@"
}
# The workloads of life.c.
all_workloads="churn pairs migrated rebirth table large build"
workloads() {
    local kind
    for kind in $all_workloads; do preloaded "$kind" life "$kind" place; done
}

. "/$machine.sh"
guest
echo "== the end"
poweroff -f
