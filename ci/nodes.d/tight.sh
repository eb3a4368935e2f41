# Read twice: by ci/nodes, and by busybox's sh in the guest (`guest` alone runs there).
shows="a kernel that promises no more memory than it has (vm.overcommit_memory=2), and a control group of 64 MiB"

machine() {
    node 512 0 1
}

guest() {
    echo 2 > /proc/sys/vm/overcommit_memory
    preloaded overcommit tight none
    preloaded overcommit-churn tight churn 1000
    echo 0 > /proc/sys/vm/overcommit_memory
    mount -t cgroup2 none /cgroup
    echo +memory > /cgroup/cgroup.subtree_control
    mkdir /cgroup/tight
    echo 64M > /cgroup/tight/memory.max
    run group sh -c 'echo $$ > /cgroup/tight/cgroup.procs && exec env LD_PRELOAD=/lib/homing.so tight churn 2000'
    run killed grep -c '^oom_kill [1-9]' /cgroup/tight/memory.events
}

checks() {
    holds overcommit "vm.overcommit_memory=2: null and ENOMEM once there is no more" 'enomem == 1 && mib > 100'
    holds overcommit "and once all is freed, as much can be had again" 'again > 0.8'
    holds overcommit-churn "and blocks that come and go find room" 'churned == 1000'
    holds group "in a group of 64 MiB: blocks that come and go, 16 MiB at a time, find room" 'churned == 2000'
    lines killed "and nothing was killed for want of memory" '^0$' 1 1
    quiet "nothing is said" overcommit overcommit-churn group
}
