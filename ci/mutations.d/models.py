"""Mutations of the lock-free parts: name, file, what stands there, what is put there instead (everywhere in the file)."""
INBOX, MODELS = "src/arena/inbox.rs", "src/models.rs"
AT_HAND = "src/node/at_hand.rs"
LOCK, ONCE = "src/sync/lock.rs", "src/sync/once.rs"
GAUGE = "src/bump/gauge.rs"

# name, file, what stands there, what is put there instead
MUTATIONS = [
    ("a push releases nothing", INBOX, "compare_exchange_weak(head, first, Ordering::Release", "compare_exchange_weak(head, first, Ordering::Relaxed"),
    ("a take acquires nothing", INBOX, "self.head.swap(0, Ordering::Acquire)", "self.head.swap(0, Ordering::Relaxed)"),
    ("a push forgets the chain that is there", INBOX, "link_last(head);", "link_last(0);"),
    ("a push does not look again", INBOX, "Err(now) => head = now,", "Err(now) => { self.head.store(first, Ordering::Release); let _ = now; return }"),
    ("a take leaves what it took", INBOX, "self.head.swap(0, Ordering::Acquire)", "self.head.load(Ordering::Acquire)"),
    ("a block of a slab that was handed over is kept", MODELS, "if owner == arena {", "if true {"),
    ("a slab is taken over without the node's lock", MODELS, "let _guard = self.node.lock();\n        self.collect_inbox(0);", "self.collect_inbox(0);"),
    ("a run is taken that was at hand without what was done to it", AT_HAND, "Ordering::Acquire, Ordering::Relaxed", "Ordering::Relaxed, Ordering::Relaxed"),
    ("a run is put at hand without what was done to it", AT_HAND, "self.0.swap(name, Ordering::AcqRel)", "self.0.swap(name, Ordering::Relaxed)"),
    ("a run at hand goes to two who want it", AT_HAND, "self.0.compare_exchange(name, 0, Ordering::Acquire, Ordering::Relaxed).is_ok()", "{ self.0.store(0, Ordering::Relaxed); true }"),
    ("the lock releases nothing", LOCK, "self.word.swap(FREE, Ordering::Release)", "self.word.swap(FREE, Ordering::Relaxed)"),
    ("the lock acquires nothing", LOCK, "Ordering::Acquire", "Ordering::Relaxed"),
    ("the lock lets two in", LOCK, "            if seen == FREE {\n                return;\n            }", "            return;"),
    ("whoever frees the lock wakes nobody", LOCK, "            wake_one(&self.word);\n", ""),
    ("a waiter takes the lock without saying that others may sleep", LOCK, "if seen == FREE { token | CONTENDED }", "if seen == FREE { token }"),
    ("being set releases nothing", ONCE, "if done { SET } else { UNSET }, Ordering::Release", "if done { SET } else { UNSET }, Ordering::Relaxed"),
    ("being set is not acquired", ONCE, "token, Ordering::Acquire, Ordering::Acquire", "token, Ordering::Acquire, Ordering::Relaxed"),
    ("the setter does not know itself", ONCE, "if setter == token", "if setter == usize::MAX"),
    ("everybody sets", ONCE, "Err(SET) => return Entry::Done,", "Err(SET) => { set(); return Entry::Done }"),
    ("a bump arena's next figures come before the last ones hold", GAUGE,
     "self.sequence.store(sequence.wrapping_add(2), Ordering::Release);\n        fence(Ordering::Release);",
     "self.sequence.store(sequence.wrapping_add(2), Ordering::Release);"),
    ("a bump arena's next chunk comes before the figures that stand still", GAUGE,
     "self.sequence.store(sequence.wrapping_add(1), Ordering::Release);\n        fence(Ordering::Release);",
     "self.sequence.store(sequence.wrapping_add(1), Ordering::Release);"),
    ("a bump arena's top goes up before its lowest is noted", GAUGE,
     "self.low.store(lowest, Ordering::Relaxed);\n        fence(Ordering::Release);", "self.low.store(lowest, Ordering::Relaxed);"),
]
