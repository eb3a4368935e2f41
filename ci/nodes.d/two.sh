# Read twice: by ci/nodes, and by busybox's sh in the guest (`guest` alone runs there).
shows="two nodes with two CPUs each: the workloads"

machine() {
    # Neighbouring CPUs are on different nodes, so that pairs of threads are.
    node 512 0 2
    node 512 1 3
    distances 0:1:21
}

guest() {
    workloads
    preloaded crossed crossed
    run placement placement --test-threads=1
}

checks() {
    for kind in churn pairs migrated rebirth table large build; do
        holds $kind "life $kind: memory lies at home" 'home >= 0.99'
    done
    ends crossed "no handler on one node waits for the pool of another"
    ends placement "tests of placement"
}
