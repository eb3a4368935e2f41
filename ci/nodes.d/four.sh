# Read twice: by ci/nodes, and by busybox's sh in the guest (`guest` alone runs there).
shows="four nodes, the last of memory only, uneven distances: policies, workloads, the launcher, a Rust program"

machine() {
    node 512 0
    node 512 1
    node 512 2
    node 512
    distances 0:1:21 0:2:31 0:3:41 1:2:21 1:3:17 2:3:31
}

guest() {
    for policy in local bind interleave prefer:2 prefer:3 prefer:9; do
        preloaded "$policy" HOMING_POLICY=$policy place
    done
    preloaded limit HOMING_POLICY=prefer:2 HOMING_POOL_LIMIT=8M place
    preloaded limit-fail HOMING_OVERFLOW=fail HOMING_POLICY=prefer:2 HOMING_POOL_LIMIT=8M place
    preloaded limit-interleave HOMING_POLICY=interleave HOMING_POOL_LIMIT=8M place
    workloads
    preloaded large-local HOMING_LARGE=local life large place
    preloaded large-interleave HOMING_LARGE=interleave life large place
    preloaded large-policy HOMING_POLICY=prefer:2 life large place
    run launcher homing run --set policy=prefer:2 place
    run topology homing topology
    run rust env HOMING_STATS=exit HOMING_POLICY=prefer:2 threads
    # Rust programs that place memory by themselves: they are in `examples` and `tests` of ci/nodes.
    run vectors node_vec
    run placement placement --test-threads=1
    run spill-tests spill --test-threads=1
    run pools-at-home pools_at_home --test-threads=1
}

checks() {
    holds local "memory lies on the node of the thread that asks" 'home >= 0.99'
    holds bind "HOMING_POLICY=bind: likewise" 'home >= 0.99'
    holds interleave "HOMING_POLICY=interleave spreads" 'node0 > 0.15 && node1 > 0.15 && node2 > 0.15 && node3 > 0.15'
    holds prefer:2 "HOMING_POLICY=prefer:2" 'node2 >= 0.99'
    holds prefer:3 "HOMING_POLICY=prefer:3, a node without CPUs" 'node3 >= 0.99'
    holds prefer:9 "HOMING_POLICY=prefer:9, a node that is not there: as local" 'home >= 0.99'
    lines prefer:9 "and it is said once" 'prefer:9 is ignored' 1 1
    holds limit "a full pool spills to the nearest" 'node2 > 0.1 && node2 < 0.9 && node1 > node0'
    holds limit-interleave "a full pool that is spread spills to the first node too" 'node0 > 0.3'
    lines limit-fail "a full pool fails requests where the setting says so (place aborts)" 'ended: 134$' 1 1
    for kind in churn pairs migrated rebirth table large build; do
        holds $kind "life $kind: memory lies at home" 'home >= 0.99'
    done
    holds large-local "HOMING_LARGE=local: large blocks lie at home" 'home >= 0.99'
    holds large-interleave "HOMING_LARGE=interleave spreads large blocks" 'home > 0.4 && home < 0.9'
    holds large-policy "HOMING_POLICY=prefer:2: large blocks too" 'node2 >= 0.99'
    holds launcher "homing run --set policy=prefer:2" 'node2 >= 0.99'
    ends topology "homing topology runs"
    lines topology "homing topology draws four nodes" '^│ +[0-3] ┆ (none|[0-3]) ' 4 4
    lines topology "homing topology draws the distance 41" ' 41 ' 2 2
    ends rust "a Rust program runs"
    lines rust "a Rust program has memory on the node it prefers" 'homing: node 2' 1 1
    lines rust "a Rust program has memory on no other node" 'homing: node [013]' 0 0
    lines vectors "a vector on each node lies there" '^node [0-3]: .*; 1954 of 1954 pages lie there' 4 4
    ends placement "tests of placement"
    ends spill-tests "tests of full pools"
    ends pools-at-home "tests of pools whose blocks other nodes free"
}
