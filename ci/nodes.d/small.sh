# Read twice: by ci/nodes, and by busybox's sh in the guest (`guest` alone runs there).
shows="a node of 128 MiB that is asked for more: spilled to the nearest, brought home again, or refused (bind)"

machine() {
    node 512 0
    node 128 1
    node 512 2
    node 512
    # The nearest to node 1 is the last.
    distances 0:1:31 0:2:21 0:3:31 1:2:41 1:3:17 2:3:21
}

guest() {
    preloaded spill overfill spill 1
    # Large blocks have a home too: by default they lie where they are first touched.
    preloaded return HOMING_LARGE=local overfill return 1
    preloaded shared HOMING_LARGE=local overfill shared 1
    preloaded bind HOMING_POLICY=bind overfill bind 1
    preloaded rest HOMING_POLICY=bind overfill rest 0 60
    preloaded less HOMING_POLICY=bind overfill rest 0 40
    preloaded pool HOMING_POLICY=bind HOMING_POOL_SIZE=200M overfill bind 1
}

checks() {
    holds spill/filled "no request fails that the machine has memory for" 'failed == 0'
    holds spill/filled "what the node has no room for lies on the nearest" 'node1 > 0.3 && node3 > 0.2 && node1 + node3 >= 0.99'
    holds spill/anew "once all is freed, memory lies at home again" 'failed == 0 && home >= 0.99'
    holds return/spilled "a node that others have filled: no request fails" 'failed == 0 && home < 0.5'
    holds return/returned "once the others are gone, what is in use comes home" 'home >= 0.99'
    holds shared/spilled "likewise before a child is forked" 'failed == 0 && home < 0.5'
    holds shared/returned "a page that a child shares stays away alone" 'home >= 0.99 && away > 0'
    holds bind/bound "HOMING_POLICY=bind: null and ENOMEM once the node is full" 'null == 1 && enomem == 1 && part > 0.5'
    holds bind/bound "HOMING_POLICY=bind: all of it lies on the node" 'bytes > 0 && away == 0'
    holds bind/anew "HOMING_POLICY=bind: once all is freed, there is memory again" 'failed == 0 && away == 0'
    holds rest/rest "HOMING_POLICY=bind: ENOMEM where others have left the node 60 MiB" 'enomem == 1 && away == 0'
    holds less/rest "HOMING_POLICY=bind: likewise 40 MiB, what was left before being no promise" 'enomem == 1 && away == 0'
    lines pool "HOMING_POOL_SIZE=200M with HOMING_POLICY=bind: it is said where a node has less" 'POOL_SIZE is not met' 1 1
    holds pool/bound "and ENOMEM, once what the pool has kept is given to large blocks too" 'enomem == 1 && away == 0 && part > 0.5'
    holds pool/anew "and once all is freed, there is memory again" 'failed == 0 && away == 0'
}
