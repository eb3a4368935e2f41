# Read twice: by ci/nodes, and by busybox's sh in the guest (`guest` alone runs there).
shows="72 nodes: more than the kernel's masks have bits in a word"

machine() {
    node 512 0
    for cpu in 1 2 3; do node 48 $cpu; done
    for number in $(seq 4 71); do node 24; done
}

guest() {
    preloaded local HOMING_VERBOSE=1 place 1000
    preloaded prefer:70 HOMING_POLICY=prefer:70 place 600
    # Of nodes as small as these the kernel would keep most for itself.
    echo 4096 > /proc/sys/vm/min_free_kbytes
    preloaded bind HOMING_POLICY=bind place 1000
    preloaded interleave HOMING_POLICY=interleave place
    preloaded churn life churn place
}

checks() {
    lines local "72 nodes are found" '^homing: .* 72 nodes' 1 1
    holds local "memory lies at home" 'home >= 0.99'
    holds prefer:70 "HOMING_POLICY=prefer:70" 'node70 >= 0.99'
    lines prefer:70 "and nothing is said" '^homing:' 0 0
    holds bind "HOMING_POLICY=bind" 'home >= 0.99'
    holds interleave "HOMING_POLICY=interleave spreads over more than 64" 'nodes > 64'
    holds churn "life churn: memory lies at home" 'home >= 0.99'
}
