# Read twice: by ci/nodes, and by busybox's sh in the guest (`guest` alone runs there).
shows="four nodes of which a cpuset allows some, others while the program runs (version 2 moves its pages, 1 does not)"

machine() {
    node 512 0
    node 512 1
    node 512 2
    node 512 3
    # The nearest to node 2 is 3; the first by number that is ever allowed is 1.
    distances 0:1:21 0:2:31 0:3:41 1:2:24 1:3:31 2:3:17
}

# group CPUS MEMS: a cpuset of that name, for what runs by `inside`
group() {
    mkdir "/cgroup/$1"
    echo "$1" > "/cgroup/$1/cpuset.cpus"
    echo "$2" > "/cgroup/$1/cpuset.mems"
}
# inside GROUP NAME PROGRAM ARGUMENT...: as `preloaded`, the program being in the group from its start
inside() {
    local inside=$1 run=$2
    shift 2
    run "$run" sh -c 'echo $$ > "$0/cgroup.procs" && exec env LD_PRELOAD=/lib/homing.so "$@"' "/cgroup/$inside" "$@"
}
with_cpusets() {
    group 1-2 1-2
    group 1-3 1-3
    inside 1-2 "$1-churn" life churn place
    inside 1-2 "$1-migrated" life migrated place
    inside 1-2 "$1-two" confine /cgroup/1-2/cpuset.mems 1-2 1=2:1 1-2
    inside 1-3 "$1-three" confine /cgroup/1-3/cpuset.mems 1-3 1,3=2:3 1-3
    # It begins with one node.
    echo 1 > /cgroup/1-2/cpuset.mems
    inside 1-2 "$1-one" confine /cgroup/1-2/cpuset.mems 1=2:1 1-2 2=1:2 1-2
    rmdir /cgroup/1-2 /cgroup/1-3
}

guest() {
    mount -t cgroup2 none /cgroup
    echo +cpuset > /cgroup/cgroup.subtree_control
    with_cpusets v2
    echo -cpuset > /cgroup/cgroup.subtree_control
    umount /cgroup
    # Version 2 gives the controller up some time after its last group is gone.
    for wait in $(seq 50); do
        mount -t cgroup -o cpuset none /cgroup 2> /dev/null && break
        sleep 0.1
    done
    with_cpusets v1
}

checks() {
    for version in v2 v1; do
        holds $version-churn "$version, life churn in nodes 1 and 2: memory lies at home" 'home >= 0.99 && nodes == 2'
        holds $version-migrated "$version, life migrated in nodes 1 and 2: memory lies at home" 'home >= 0.99 && nodes == 2'
        holds $version-two/step1 "$version, nodes 1 and 2: memory lies at home" 'home >= 0.99 && nodes == 2'
        holds $version-two/step2 "$version, narrowed to node 1: all of it lies there" 'node1 >= 0.99'
        holds $version-two/step3 "$version, widened to both again: memory lies at home" 'home >= 0.99 && nodes == 2'
        holds $version-three/step1 "$version, nodes 1 to 3: memory lies at home" 'home >= 0.99 && nodes == 3'
        holds $version-three/step2 "$version, narrowed to 1 and 3: what node 2 gets lies on 3, the nearest" 'home >= 0.99'
        holds $version-three/step3 "$version, widened to 1 to 3 again: memory lies at home" 'home >= 0.99 && nodes == 3'
        holds $version-one/step1 "$version, node 1: all of it lies there" 'node1 >= 0.99'
        holds $version-one/step2 "$version, widened to both: memory lies at home" 'home >= 0.99 && nodes == 2'
        holds $version-one/step3 "$version, moved to node 2: all of it lies there" 'node2 >= 0.99'
        holds $version-one/step4 "$version, and widened again: memory lies at home" 'home >= 0.99 && nodes == 2'
        quiet "$version: nothing is said" $version-churn $version-migrated $version-two $version-three $version-one
    done
}
