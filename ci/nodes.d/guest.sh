#!/bin/busybox sh
# The first process of a guest: runs what the file of its machine says in `guest`, and switches the machine off. The
# kernel's command line names the machine.
/bin/busybox --install -s /bin
export PATH=/bin
# The kernel unpacks these files in a thread of its own, on whatever node that is: tens of MiB, of which a small node has
# little more. They are moved to node 0.
if [ $$ = 1 ] && [ ! -e /moved ]; then
    # The first line begins where the firmware has left the cursor.
    echo
    mkdir /new
    mount -t tmpfs -o mpol=bind:0 files /new
    cp -a /bin /lib /*.sh /init /new/
    [ ! -e /lib64 ] || cp -a /lib64 /new/
    [ ! -e /usr ] || cp -a /usr /new/
    mkdir /new/proc /new/sys /new/dev /new/cgroup
    : > /new/moved
    # Deletes the old ones.
    exec switch_root /new /init
fi
mount -t proc proc /proc
mount -t devtmpfs dev /dev
mount -t sysfs sys /sys
echo "the machine has begun; free, in KiB, of the nodes 0 to 9:" $(sed -n 's/.*MemFree: *\([0-9]*\) kB/\1/p' /sys/devices/system/node/node[0-9]/meminfo)

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
