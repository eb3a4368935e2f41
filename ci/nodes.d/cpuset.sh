# Read twice: by ci/nodes, and by busybox's sh in the guest (`guest` alone runs there).
shows="a program that may use some of four nodes, while which ones changes (cgroup v2, which moves pages; v1, which does not)"

machine() {
    node 512 0
    node 512 1
    node 512 2
    node 512 3
    # The nearest to node 2 is 3; the first by number that is allowed would be 1.
    distances 0:1:21 0:2:31 0:3:41 1:2:24 1:3:31 2:3:17
}

# in_group CPUS MEMS: a group that may use these
group() {
    mkdir /cgroup/$1
    echo $2 > /cgroup/$1/cpuset.cpus
    echo $2 > /cgroup/$1/cpuset.mems
}
# within GROUP PROGRAM ARGUMENT...: runs the program in the group
within() {
    sh -c 'echo $$ > /cgroup/'$1'/cgroup.procs; shift; exec "$@"' "$@"
}

guest() {
    mount -t cgroup2 none /cgroup
    echo +cpuset > /cgroup/cgroup.subtree_control
    steps v2
    umount /cgroup
    # The same by version 1.
    mount -t cgroup -o cpuset none /cgroup
    steps v1
}
steps() {
    group two 1-2
    group three 1-3
    in_two="env LD_PRELOAD=/lib/homing.so"
    for name in churn migrated; do
        run $1-$name /group.sh two life $name place
    done
}

checks() {
    :
}
