"""Mutations that ordinary tests have to notice: name, file, what stands there first, what is put there instead, and the
tests that are run: a file of tests/, of preload/tests/ (`preload/...`), with `+features`, and words that choose among its
tests; or a script of ci/."""
ZONE, LARGE, RUNS, SLOTS = "src/zone.rs", "src/large.rs", "src/arena/large.rs", "src/node/slots.rs"
MEMORY, THREAD = "src/os/linux/memory.rs", "src/os/linux/thread.rs"
ENTER, PROCESS, LISTS = "src/arena/enter.rs", "src/process.rs", "src/arena/lists.rs"
SLAB, SEGMENT, HEAP, CHECKED = "src/slab.rs", "src/segment.rs", "src/heap.rs", "src/heap/checked.rs"
MISUSE, PLACE, RECORD, QUARANTINE = "src/misuse.rs", "src/place.rs", "src/debug/record.rs", "src/debug/quarantine.rs"
BUMP, BUMP_BLOCKS, BUMP_LOCAL = "src/bump/head.rs", "src/bump/allocator.rs", "src/bump/local.rs"
POOL = "src/pool/slabs.rs"
GUARD = "src/pool/guard.rs"
HARDENED, CXX, C = "src/hardened.rs", "preload/src/cxx.rs", "preload/src/c.rs"
BLOCKS, BUDGET, BUDGETS, LEDGER = "src/node_pools/blocks.rs", "src/budget.rs", "src/budget/allocator.rs", "src/budget/ledger.rs"

REFUSALS = "refusals+fault-injection"
FORK_LOCKS = "fork_locks+fault-injection"
ATTACKS = "hardened+hardened"
NODE_POOLS = "node_pools+allocator-api2"
NODE_POOLS_MODEL = "node_pools_model+allocator-api2"
BUDGET_TESTS, AROUND = "budget+allocator-api2", "budget_around+allocator-api2"
BUMP_MODEL = "bump_model+allocator-api2"

MUTATIONS = [
    # What the kernel refuses.
    ("granules that the kernel did not clean are forgotten", ZONE,
     "        mark(&UNCLEAN, first, granules, true);\n        UNCLEAN_COUNT.fetch_add(granules, Ordering::Relaxed);\n", "",
     REFUSALS + " refusals_of_every"),
    ("addresses that the kernel did not take back are forgotten", MEMORY, "        owed::note(start, size);\n", "",
     REFUSALS + " each_refused_reservation refusals_of_every"),
    ("a mapping that cannot be committed keeps its range", LARGE,
     "            // SAFETY: nobody was given the range.\n            unsafe { zone::free(range) };\n            return None;",
     "            return None;", REFUSALS + " each_refused_commit refusals_of_every"),
    ("a refused hook of a thread's end is ignored", ENTER, "Ok(hold(tls::get(), !is_hooked))",
     "{ let _ = is_hooked; Ok(hold(tls::get(), false)) }", REFUSALS + " threads_whose"),
    ("a refused purge counts as done", MEMORY,
     "pub(crate) unsafe fn purge(start: NonNull<u8>, size: usize) -> bool {\n    if fault::fails(Call::Purge) || is_within_pretended_page(start) {\n        return false;",
     "pub(crate) unsafe fn purge(start: NonNull<u8>, size: usize) -> bool {\n    if fault::fails(Call::Purge) || is_within_pretended_page(start) {\n        return true;",
     REFUSALS + " each_refused_purge"),
    ("a segment that cannot be committed keeps its granule", SLOTS,
     "            // SAFETY: nobody was given the range.\n            unsafe { zone::free(range) };\n            return None;",
     "            return None;", REFUSALS + " segments_that"),
    ("a mapping that cannot grow stays counted as grown", RUNS,
     "    if !mapping.grow(new_size) {\n        HeldPool::of(pool).end_mapping(length - old);\n        return false;",
     "    if !mapping.grow(new_size) {\n        return false;", REFUSALS + " each_refused_commit refusals_of_every"),
    ("an arena is not given up at the end of its thread", ENTER,
     "        tls::set(&tls::ATTACHING);\n        retire(arena);\n    }\n    tls::set(&tls::EXITED);",
     "    }\n    tls::set(&tls::EXITED);", "many_threads", "preload/threads", "soak+fault-injection --seconds 25"),
    ("a page is taken to be 4 KiB long", MEMORY, "            PAGE.store(page, Ordering::Relaxed);\n            page\n",
     "            let _ = page;\n            PAGE.store(4096, Ordering::Relaxed);\n            4096\n", "pages+fault-injection"),
    # Forks, threads, loading.
    ("a fork leaves the zone's lock out", PROCESS, "    zone::lock_for_fork().lock_for_fork();\n", "", FORK_LOCKS),
    ("a fork leaves the last pool's lock out", PROCESS,
     "extern \"C\" fn before_fork() {\n    debug::lock_for_fork().lock_for_fork();\n    for index in 0..node::pools() {",
     "extern \"C\" fn before_fork() {\n    debug::lock_for_fork().lock_for_fork();\n    for index in 0..node::pools() - 1 {", FORK_LOCKS),
    ("a fork does not wait", "src/sync/lock.rs", "core::mem::forget(self.lock());", "", FORK_LOCKS),
    ("blocks freed for another arena are dropped after a thread's end", LISTS,
     "        free_anew(Destination::arena(owner), block, segment.weight(slot));",
     "        if core::ptr::eq(tls::get(), &tls::EXITED) { return; }\n        free_anew(Destination::arena(owner), block, segment.weight(slot));",
     "preload/threads"),
    ("thread-local storage is 4 KiB longer", "src/arena/tls.rs", "        \".quad {empty}\",\n", "        \".quad {empty}\", \".zero 4096\",\n",
     "preload/loading"),
    ("replaced operators are not looked for", CXX, "REPLACED.store(others().any(is_replacement), Ordering::Relaxed);",
     "REPLACED.store(others().any(is_replacement) && false, Ordering::Relaxed);", "preload/loading"),
    ("posix_memalign is not exported", C, "#[unsafe(no_mangle)]\npub unsafe extern \"C\" fn posix_memalign",
     "pub unsafe extern \"C\" fn posix_memalign", "preload/loading", "preload/contract"),
    # Zeros.
    ("zeroed blocks are not cleared where a kept mapping is handed out", RUNS, "    if want_zero && !is_zero {\n        clear_pages(kept.block()",
     "    if false && want_zero && !is_zero {\n        clear_pages(kept.block()", "zeroed"),
    ("zeroed blocks are not cleared where a kept run is handed out", RUNS,
     "                if want_zero {\n                    clear_pages(block,", "                if false {\n                    clear_pages(block,", "zeroed"),
    ("zeroed blocks are not cleared in slots that were used", RUNS, "    if want_zero && !is_zero {\n        clear_pages(taken.start()",
     "    if false && want_zero && !is_zero {\n        clear_pages(taken.start()", "zeroed", "zero_alloc"),
    ("what is freed is not cleared in slabs", CHECKED, "        unsafe { block.write_bytes(0, size) };", "        let _ = (block, size);", "zero_free"),
    ("what is freed is not cleared in runs", RUNS, "    if config::current().zero == Zero::Free {\n        clear_pages(block, slots * SLOT);\n    }\n", "", "zero_free"),
    # The feature `hardened`.
    ("links are not encoded", HARDENED, "if ON { link ^ disguise(place) } else { link }", "link", ATTACKS),
    ("lists come back in order", SLAB, "Some((if hardened::ON { list.shuffled() } else { list }, taken))", "Some((list, taken))", ATTACKS),
    ("blocks are carved in order", HARDENED, "((u128::from(state) * bound as u128) >> 64) as usize", "bound - 1", ATTACKS),
    ("there are no guards", SEGMENT, "            unsafe { os::forbid(self.slot_start(slot), SLOT) };", "", ATTACKS),
    ("headers are not guarded", SEGMENT, "            unsafe { os::forbid(self.part(end), FIRST_SLOT * SLOT - end) };", "", ATTACKS),
    ("nothing is inaccessible behind a mapping", LARGE, "!hardened::ON && !os::promises_are_counted()", "!os::promises_are_counted()", ATTACKS),
    ("a block that looks free is freed", HEAP, "    if hardened::ON && block.looks_free() {", "    if false && block.looks_free() {", ATTACKS),
    ("a block that looks free comes home", LISTS, "        if is_suspect && self", "        if is_suspect && false && self", ATTACKS),
    ("hints are left in free blocks", SLAB, "        if hardened::ON {\n            return;\n        }\n        // SAFETY: whoever holds the block may write to it, and callers", "        // SAFETY: whoever holds the block may write to it, and callers", ATTACKS),
    ("a walk along a list has no end", LISTS, "            if let Some(block) = blocks.next() {", "            if let Some(block) = blocks.next().filter(|_| false) {",
     "preload/hazards walk_without_end"),
    # Node pools.
    ("node pools: a freed block is not joined with the hole behind it", BLOCKS, "        if !self.is_hole(end) {\n            return self.note_hole",
     "        if true {\n            return self.note_hole", NODE_POOLS + " adjacent neighbours", NODE_POOLS_MODEL),
    ("node pools: a hole is taken for a live block", BLOCKS, "line.blocks & !line.holes & bit(granule) != 0",
     "line.blocks & bit(granule) != 0", NODE_POOLS + " freed_twice"),
    ("node pools: a hole that was carved counts as long as it was", BLOCKS, "        self.note_loss(block, end - block);\n", "",
     NODE_POOLS + " figures fragmentation", NODE_POOLS_MODEL),
    ("node pools: the tail is no free memory", BLOCKS, "self.room.largest().max((self.count - self.tail) as Granules)", "self.room.largest()",
     NODE_POOLS + " figures fragmentation", NODE_POOLS_MODEL),
    ("node pools: what grew last is forgotten when another hole grows", "src/node_pools/late.rs",
     "            self.tree.raise(self.late.place, self.late.number);\n", "", "lib not_in_the_tree_yet", NODE_POOLS_MODEL),
    ("node pools: what grew last counts when it has shrunk again", "src/node_pools/late.rs", "            self.late.number = 0;\n", "",
     "lib not_in_the_tree_yet", NODE_POOLS_MODEL),
    ("node pools: a hole that lies before what grew last is passed over", "src/node_pools/late.rs", "Some(found.min(late))", "Some(late)",
     "lib not_in_the_tree_yet", NODE_POOLS_MODEL),
    ("node pools: a handler inside the heap waits for whoever waits for the heap", "src/node_pools/node_pool.rs",
     "lock_unless(is_inside_heap)", "lock_unless(|| false)", "node_pools_locks+fault-injection"),
    # Budgets.
    ("budgets: what was reserved in vain stays reserved", LEDGER, "        self.ledger.reserved.fetch_sub(self.bytes, Ordering::Release);\n", "",
     BUDGET_TESTS, AROUND),
    ("budgets: a block that could not shrink tells of a crossing", BUDGET, " && !was_over {", " {", AROUND + " could_not_shrink"),
    ("budgets: a block that grows is charged as a new one", BUDGETS,
     "self.charge(new.size().saturating_sub(old.size()), new.align(), grow)", "self.charge(new.size(), new.align(), grow)",
     BUDGET_TESTS + " growing", AROUND),
    ("budgets: blocks may say that they are longer than was charged", BUDGETS, "NonNull::slice_from_raw_parts(block.cast(), size)",
     "{ let _ = size; block }", BUDGET_TESTS + " generous", AROUND),
    # Bump arenas.
    ("a bump arena's reset clears nothing", BUMP, "                if zero {\n                    // SAFETY: nobody uses",
     "                if false && zero {\n                    // SAFETY: nobody uses", "bump+allocator-api2 zero", BUMP_MODEL),
    ("a bump arena's blocks come back uncleared", BUMP_BLOCKS, "        if self.config.zero_on_reset {\n            // SAFETY: the caller's promise.",
     "        if false {\n            // SAFETY: the caller's promise.", BUMP_MODEL),
    ("a bump arena's blocks come back from below a checkpoint", BUMP, "        end <= self.limit.get()", "        let _ = end;\n        true", BUMP_MODEL),
    ("a bump arena's block grows over into another chunk", BUMP_BLOCKS, "match head.is_last(block) && head.may_give_back(end) {", "match head.is_last(block) {",
     "bump_collections+allocator-api2 neighbour"),
    ("a bump arena believes made-up checkpoints", BUMP, "(chunk.end() - (position - chunk.base())).max(top)",
     "chunk.end() - (position - chunk.base())", "bump+allocator-api2 made_up", BUMP_MODEL),
    ("a bump arena forgets the lowest restore", "src/bump/restores.rs", "restore.position < position)\n    }", "restore.position < position && restore.position != 0)\n    }",
     BUMP_MODEL),
    ("a bump arena's high-water mark goes down", "src/bump/gauge.rs", "        self.low.store(lowest, Ordering::Relaxed);\n", "        let _ = lowest;\n", BUMP_MODEL),
    ("a thread's bump arena is held twice", BUMP_LOCAL, "if state.held.swap(true, Ordering::Relaxed) {", "if state.held.swap(true, Ordering::Relaxed) && false {",
     "bump_local+allocator-api2 reentry told"),
    ("a thread's bump arena is not given up by a clean-up", BUMP_LOCAL, "        os::set_thread_value(ptr::null_mut(), on_thread_end);\n        // SAFETY: no guard is out, and the thread's data names it no more.\n        unsafe { free(local) };",
     "        os::set_thread_value(ptr::null_mut(), on_thread_end);", "bump_local+allocator-api2 without_growth"),
    # Pools of objects.
    ("an object in the word is not told as free", POOL, "|| self.has_in_word(object, geometry) ", "", "pool", "pool_model"),
    ("an object that came back elsewhere is not told as free", POOL,
     " || Self::is_returned(slab, index, geometry)", "", "pool"),
    ("a pool's slab is known after it has gone", POOL,
     "        if self.known.get() == slab.address() {\n            self.known.set(1);\n        }\n", "", "pool"),
    ("a remote guard gives back as the pool's thread does", "src/pool.rs", "if R::IS_REMOTE {", "if false && R::IS_REMOTE {", "pool"),
    ("guards go to other threads as they are", GUARD, "unsafe impl<T: Send> Send for RemotePoolBox<'_, T> {}",
     "unsafe impl<T: Send, R: PoolReach> Send for PoolBox<'_, T, R> {}", "compile_fail"),
    ("a pool brings another pool's guards home", GUARD, "match ptr::eq(self, guard.pool) {", "match ptr::eq(self, guard.pool) || true {", "pool home"),
    ("the few free objects of full slabs wait for memory", POOL, "else { return self.scrape(geometry) };",
     "else { return None };", "pool_full"),
    ("what came back on another thread makes a peak", "src/pool/stats.rs", "            let count = returned.take_count();\n            if count == 0",
     "            let count = 0;\n            if count == 0", "pool"),
    ("a block of the heap has no part in the peak", "src/pool/stats.rs", "let now = self.mark.get() + heap.objects();",
     "let now = self.mark.get().max(heap.objects());", "pool_allocator+allocator-api2"),
    # homing.h.
    ("homing.h: a stale checkpoint is told as done", "preload/src/interface.rs", "CheckpointError::Stale { .. } => Status::StaleCheckpoint",
     "CheckpointError::Stale { .. } => Status::Ok", "preload/header"),
    ("homing.h: a block is freed whichever node is said", "preload/src/interface.rs", "homing::dealloc_from_node(block, layout, NodeId::new(node))",
     "homing::dealloc_from_node(block, layout, homing::node_of(block.as_ptr()).unwrap_or(NodeId::new(node)))", "preload/header"),
    ("homing.h: settings are ignored", "preload/src/interface.rs", "Bump::open(Arena::Owned(homing::Bump::with(settings)), place)",
     "{ let _ = settings; Bump::open(Arena::Owned(homing::Bump::new()), place) }", "preload/header"),
    # Panics.
    ("an index is checked", SEGMENT, "        self.header().free_count.get() as usize", "        [0, self.header().free_count.get() as usize][usize::from(self.address() != 0)]", "ci/panics"),
]
