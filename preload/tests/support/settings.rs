//! What each setting is to do, seen from outside. The same checks for each way to use the allocator.

use super::Outcome;

/// Runs the probe's operation with variables of the environment.
pub type Probe<'a> = &'a dyn Fn(&str, &[(&str, &str)]) -> Outcome;

/// A check and its name.
pub type Check = (&'static str, fn(Probe));

const MIB: i64 = 1 << 20;
const SIGABRT: i32 = 6;

/// All of them.
pub const CHECKS: &[Check] = &[
    ("pool_size_is_resident_from_the_start", pool_size_is_resident_from_the_start),
    ("pool_limit_fails_requests_and_frees_make_room", pool_limit_fails_requests_and_frees_make_room),
    ("pool_limit_0_is_no_limit", pool_limit_0_is_no_limit),
    (
        "pool_limit_holds_what_the_pool_keeps_and_mappings_together",
        pool_limit_holds_what_the_pool_keeps_and_mappings_together,
    ),
    ("an_empty_value_is_as_good_as_none", an_empty_value_is_as_good_as_none),
    ("overflow_abort_ends_the_process_with_one_line", overflow_abort_ends_the_process_with_one_line),
    ("overflow_spill_with_one_node_fails_but_does_not_abort", overflow_spill_with_one_node_fails_but_does_not_abort),
    ("zero_off_hands_out_old_bytes", zero_off_hands_out_old_bytes),
    ("zero_alloc_clears_what_is_handed_out", zero_alloc_clears_what_is_handed_out),
    ("zero_free_clears_what_is_freed", zero_free_clears_what_is_freed),
    ("purge_delay_0_gives_back_at_once", purge_delay_0_gives_back_at_once),
    ("purge_delay_never_keeps_all", purge_delay_never_keeps_all),
    ("verbose_says_one_line_with_every_setting", verbose_says_one_line_with_every_setting),
    ("stats_exit_writes_a_summary", stats_exit_writes_a_summary),
    ("policy_of_a_missing_node_is_one_line", policy_of_a_missing_node_is_one_line),
];

/// Those that only the environment can bring about.
pub const ENVIRONMENT_CHECKS: &[Check] = &[
    ("an_unknown_key_is_one_line", an_unknown_key_is_one_line),
    ("a_bad_value_is_one_line_and_the_default_holds", a_bad_value_is_one_line_and_the_default_holds),
];

fn pool_size_is_resident_from_the_start(probe: Probe) {
    let small = probe("resident", &[]).silent();
    let large = probe("resident", &[("HOMING_POOL_SIZE", "64M")]).silent();
    assert!(small.number("resident") < 40 * MIB, "{small:?}");
    assert!(large.number("resident") >= 64 * MIB, "{large:?}");
}

fn pool_limit_fails_requests_and_frees_make_room(probe: Probe) {
    let free = probe("fill", &[]).silent();
    assert_eq!(free.number("blocks"), 128, "without a limit all are served");
    let limited = probe("fill", &[("HOMING_POOL_LIMIT", "48M"), ("HOMING_OVERFLOW", "fail")]).silent();
    assert!((16..48).contains(&limited.number("blocks")), "{limited:?}");
    assert_eq!(limited.number("enomem"), 1, "{limited:?}");
    assert_eq!(limited.number("again"), 1, "a freed block makes room: {limited:?}");
    assert_eq!(limited.number("large"), 0, "a mapping counts, too: {limited:?}");
    assert_eq!(limited.number("large_again"), 1, "and is served when there is room: {limited:?}");
}

fn pool_limit_0_is_no_limit(probe: Probe) {
    for overflow in ["spill", "fail", "abort"] {
        let free = probe("fill", &[("HOMING_POOL_LIMIT", "0"), ("HOMING_OVERFLOW", overflow)]).silent();
        assert_eq!((free.number("blocks"), free.number("large")), (128, 1), "{free:?}");
    }
    let said = probe("nothing", &[("HOMING_POOL_LIMIT", "0K"), ("HOMING_POOL_SIZE", "1M"), ("HOMING_VERBOSE", "1")]);
    assert!(said.only_line().contains("limit none"), "{said:?}");
}

fn pool_limit_holds_what_the_pool_keeps_and_mappings_together(probe: Probe) {
    let settings = [("HOMING_POOL_SIZE", "40M"), ("HOMING_POOL_LIMIT", "48M"), ("HOMING_OVERFLOW", "fail")];
    let plain = probe("mapping", &[]).silent();
    let kept = probe("mapping", &settings[..1]).silent();
    let limited = probe("mapping", &settings).silent();
    assert_eq!([&plain, &kept, &limited].map(|outcome| outcome.number("served")), [1; 3], "{limited:?}");
    let more = |outcome: &Outcome| outcome.number("resident") - plain.number("resident");
    assert!(more(&kept) > 36 * MIB, "the pool keeps what it has obtained: {kept:?}");
    // The mapping is 32 MiB: what the pool keeps beside it is at most the rest.
    assert!((12 * MIB..=17 * MIB).contains(&more(&limited)), "{limited:?}, without settings {plain:?}");
}

fn an_empty_value_is_as_good_as_none(probe: Probe) {
    let names = [
        "POOL_SIZE",
        "POOL_LIMIT",
        "OVERFLOW",
        "ZERO",
        "POLICY",
        "LARGE",
        "PURGE_DELAY",
        "BACKGROUND",
        "DEBUG",
        "STATS",
        "VERBOSE",
    ];
    let names = names.map(|name| format!("HOMING_{name}"));
    let settings: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
    probe("nothing", &settings).silent();
    assert_eq!(probe("fill", &settings).silent().number("blocks"), 128);
}

fn overflow_abort_ends_the_process_with_one_line(probe: Probe) {
    let aborted = probe("fill", &[("HOMING_POOL_LIMIT", "48M"), ("HOMING_OVERFLOW", "abort")]);
    assert_eq!(aborted.signal, Some(SIGABRT), "{aborted:?}");
    assert!(aborted.only_line().contains("HOMING_POOL_LIMIT"), "{aborted:?}");
    probe("resident", &[("HOMING_POOL_LIMIT", "48M"), ("HOMING_OVERFLOW", "abort")]).silent();
}

fn overflow_spill_with_one_node_fails_but_does_not_abort(probe: Probe) {
    let spilled = probe("fill", &[("HOMING_POOL_LIMIT", "48M"), ("HOMING_OVERFLOW", "spill")]).silent();
    assert!((16..48).contains(&spilled.number("blocks")), "there is no other node to spill to: {spilled:?}");
}

fn zero_off_hands_out_old_bytes(probe: Probe) {
    let off = probe("zero", &[("HOMING_ZERO", "off")]).silent();
    assert!(off.number("recycled") > 0, "else the other checks would prove nothing: {off:?}");
    assert!(off.number("freed") > 0, "{off:?}");
    assert_eq!(off.number("calloc"), 0, "{off:?}");
}

fn zero_alloc_clears_what_is_handed_out(probe: Probe) {
    let zeroed = probe("zero", &[("HOMING_ZERO", "alloc")]).silent();
    assert_eq!(zeroed.number("recycled"), 0, "{zeroed:?}");
    assert!(zeroed.number("freed") > 0, "not when it is freed: {zeroed:?}");
}

fn zero_free_clears_what_is_freed(probe: Probe) {
    let zeroed = probe("zero", &[("HOMING_ZERO", "free")]).silent();
    assert_eq!(zeroed.number("freed"), 0, "{zeroed:?}");
    assert_eq!(zeroed.number("recycled"), 0, "{zeroed:?}");
}

fn purge_delay_0_gives_back_at_once(probe: Probe) {
    for operation in ["purge-small", "purge-runs", "purge-mappings"] {
        let purged = probe(operation, &[("HOMING_PURGE_DELAY", "0")]).silent();
        assert!(purged.number("before") - purged.number("after") > 48 * MIB, "{operation}: {purged:?}");
    }
}

fn purge_delay_never_keeps_all(probe: Probe) {
    for operation in ["purge-small", "purge-runs"] {
        let kept = probe(operation, &[("HOMING_PURGE_DELAY", "never")]).silent();
        assert!(kept.number("before") - kept.number("after") < 4 * MIB, "{operation}: {kept:?}");
    }
}

fn verbose_says_one_line_with_every_setting(probe: Probe) {
    let settings = [
        ("HOMING_VERBOSE", "1"),
        ("HOMING_POOL_SIZE", "3M"),
        ("HOMING_POOL_LIMIT", "2G"),
        ("HOMING_OVERFLOW", "fail"),
        ("HOMING_ZERO", "alloc"),
        ("HOMING_POLICY", "interleave"),
        ("HOMING_LARGE", "firsttouch"),
        ("HOMING_PURGE_DELAY", "3s"),
        ("HOMING_BACKGROUND", "1"),
        ("HOMING_BUMP_SIZE", "1M"),
        ("HOMING_BUMP_ZERO", "0"),
        ("HOMING_BUMP_OVERFLOW", "error"),
        ("HOMING_BUMP_LIMIT", "6M"),
        ("HOMING_DEBUG", "1"),
    ];
    let said = probe("nothing", &settings).succeeded();
    let line = said.only_line();
    for part in [
        env!("CARGO_PKG_VERSION"),
        "pool size 3.0 MiB",
        "limit 2.0 GiB",
        "overflow fail",
        "zero alloc",
        "policy interleave",
        "large firsttouch",
        "purge delay 3000 ms, background",
        "bump arenas of 1.0 MiB, not zeroed, overflow error, limit 6.0 MiB",
        "debug 1",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    probe("nothing", &[("HOMING_VERBOSE", "0")]).silent();
}

fn stats_exit_writes_a_summary(probe: Probe) {
    let summary = probe("resident", &[("HOMING_STATS", "exit")]).succeeded();
    for part in ["blocks handed out", "bytes handed out", "node ", "resident memory"] {
        assert_eq!(summary.lines().iter().filter(|line| line.contains(part)).count(), 1, "{part}: {summary:?}");
    }
    probe("resident", &[("HOMING_STATS", "off")]).silent();
}

fn policy_of_a_missing_node_is_one_line(probe: Probe) {
    let warned = probe("resident", &[("HOMING_POLICY", "prefer:999")]).succeeded();
    assert!(warned.only_line().contains("prefer:999"), "{warned:?}");
    probe("resident", &[("HOMING_POLICY", "local")]).silent();
}

fn an_unknown_key_is_one_line(probe: Probe) {
    probe("resident", &[("HOMING_POOL_SIZES", "")]).silent();
    let warned = probe("resident", &[("HOMING_POOL_SIZES", "64M")]).succeeded();
    let line = warned.only_line();
    assert!(line.contains("HOMING_POOL_SIZES") && line.contains("HOMING_PURGE_DELAY"), "{line}");
}

fn a_bad_value_is_one_line_and_the_default_holds(probe: Probe) {
    let warned = probe("resident", &[("HOMING_POOL_SIZE", "64X")]).succeeded();
    let line = warned.only_line();
    assert!(line.contains("HOMING_POOL_SIZE=64X") && line.contains("64M"), "{line}");
    assert!(warned.number("resident") < 40 * MIB, "{warned:?}");
}
