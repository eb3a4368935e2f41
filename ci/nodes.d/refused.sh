# Read twice: by ci/nodes, and by busybox's sh in the guest (`guest` alone runs there).
shows="a kernel that refuses mbind and the like (EPERM, ENOSYS; getcpu too): memory lies at home by first touch"

machine() {
    node 512 0
    node 512 1
    node 512 2
    distances 0:1:21 0:2:31 1:2:21
}

guest() {
    for refused in EPERM ENOSYS "EPERM getcpu"; do
        name=$(echo "$refused" | tr ' ' '-')
        for kind in churn migrated rebirth; do
            run "$name-$kind" refuse $refused env LD_PRELOAD=/lib/homing.so life $kind place
        done
        run "$name-summary" refuse $refused env LD_PRELOAD=/lib/homing.so HOMING_STATS=exit life pairs far
    done
}

checks() {
    for name in EPERM ENOSYS EPERM-getcpu; do
        for kind in churn migrated rebirth; do
            holds $name-$kind "$name, life $kind: memory lies at home" 'home >= 0.99'
        done
        lines $name-churn "$name: one line at most is said of it" '^homing:' 0 1
        ends $name-summary "$name, life pairs: works"
    done
    lines EPERM-summary "EPERM: the summary names the reason" '^homing: not bound to nodes .*(EPERM|error 1\>|not permitted)' 1 1
    lines ENOSYS-summary "ENOSYS: the summary names the reason" '^homing: not bound to nodes .*(ENOSYS|error 38\>|not implemented)' 1 1
}
