# Read twice: by ci/nodes, and by busybox's sh in the guest (`guest` alone runs there).
shows="no /sys, as in some containers: the nodes come from get_mempolicy alone, and memory lies at home"

machine() {
    node 512 0
    node 512 1
    node 512 2
    node 512
    distances 0:1:21 0:2:31 0:3:41 1:2:21 1:3:17 2:3:31
}

guest() {
    umount /sys
    preloaded churn HOMING_VERBOSE=1 life churn place
    preloaded migrated life migrated place
    preloaded prefer:3 HOMING_POLICY=prefer:3 place
    preloaded summary HOMING_STATS=exit life pairs far
    run topology homing topology
}

checks() {
    holds churn "life churn: memory lies at home" 'home >= 0.99'
    lines churn "four nodes are found" '^homing: .* 4 nodes' 1 1
    holds migrated "life migrated: memory lies at home" 'home >= 0.99'
    holds prefer:3 "HOMING_POLICY=prefer:3, a node without CPUs" 'node3 >= 0.99'
    quiet "nothing is said" migrated prefer:3
    ends summary "life pairs: works"
    lines summary "the summary says that distances are unknown" '^homing: .*distance.*(unknown|not known)|^homing: .*unknown.*distance' 1 1
    lines topology "homing topology draws four nodes" '^│ +[0-3] ┆ ' 4 4
}
