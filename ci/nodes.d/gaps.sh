# Read twice: by ci/nodes, and by busybox's sh in the guest (`guest` alone runs there).
shows="node numbers with gaps, and a node with a CPU but no memory, served by the nearest and not by the next"

machine() {
    node 512 0
    node 0 1
    node 256 2
    # Linux gives this node its number, and then finds nothing in it.
    node 0 empty:3
    node 256
    # The nearest to node 1, which has no memory, is 4; the next by number would be 2, the first 0.
    distances 0:1:31 0:2:31 0:3:21 0:4:31 1:2:24 1:3:21 1:4:17 2:3:21 2:4:21 3:4:21
}

guest() {
    run machine cat /sys/devices/system/node/online /sys/devices/system/node/has_memory
    export LIFE_HOME=1:4
    preloaded local HOMING_VERBOSE=1 place
    preloaded bind HOMING_POLICY=bind place
    preloaded prefer:4 HOMING_POLICY=prefer:4 place
    preloaded prefer:1 HOMING_POLICY=prefer:1 place
    preloaded interleave HOMING_POLICY=interleave place
    workloads
    run placement placement --test-threads=1
    run pools-at-home pools_at_home --test-threads=1
    run topology homing topology
}

checks() {
    lines machine "0, 1, 2 and 4 are there" '^0-2,4$' 1 1
    lines machine "0, 2 and 4 have memory" '^0,2,4$' 1 1
    holds local "memory lies at home, that of the node without at the nearest" 'home >= 0.99 && node4 > 0.3'
    lines local "three nodes are found" '^homing: .* 3 nodes' 1 1
    lines local "and nothing else is said" '^homing:' 1 1
    holds bind "HOMING_POLICY=bind: likewise" 'home >= 0.99 && node4 > 0.3'
    holds prefer:4 "HOMING_POLICY=prefer:4" 'node4 >= 0.99'
    holds prefer:1 "HOMING_POLICY=prefer:1, a node without memory: as local" 'home >= 0.99'
    lines prefer:1 "and it is said once" 'prefer:1 is ignored' 1 1
    holds interleave "HOMING_POLICY=interleave spreads" 'node0 > 0.2 && node2 > 0.2 && node4 > 0.2'
    for kind in churn pairs migrated rebirth table large build; do
        holds $kind "life $kind: memory lies at home" 'home >= 0.99'
    done
    quiet "the workloads: nothing is said" churn pairs migrated rebirth table large build
    ends topology "homing topology runs"
    ends placement "tests of placement"
    ends pools-at-home "tests of pools whose blocks other nodes free"
}
