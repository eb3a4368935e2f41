//! Settings, `KEY=VALUE`, held against their descriptions in another form: what is accepted is written down here as a
//! grammar, without the allocator's parser.
#![no_main]

use libfuzzer_sys::fuzz_target;

/// Units of bytes, in lower case, and how often they double one.
const UNITS: [(&str, u32); 14] = [
    ("", 0),
    ("b", 0),
    ("k", 10),
    ("kb", 10),
    ("kib", 10),
    ("m", 20),
    ("mb", 20),
    ("mib", 20),
    ("g", 30),
    ("gb", 30),
    ("gib", 30),
    ("t", 40),
    ("tb", 40),
    ("tib", 40),
];

/// Whether the text is a number in decimal that is, times the factor, no more than the greatest.
fn is_number(text: &str, factor: u128, greatest: u128) -> bool {
    let digits = text.trim_start_matches('0');
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_digit())
        && digits.len() <= 20
        && digits.bytes().rev().zip(0..).map(|(byte, place)| u128::from(byte - b'0') * 10_u128.pow(place)).sum::<u128>()
            * factor
            <= greatest
}

fn is_size(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    let is_of = |(unit, doublings): &(&str, u32)| {
        text.strip_suffix(unit).is_some_and(|number| is_number(number, 1 << doublings, usize::MAX as u128))
    };
    UNITS.iter().any(is_of)
}

fn is_time(text: &str) -> bool {
    let is_in =
        |(unit, ms): (&str, u128)| text.strip_suffix(unit).is_some_and(|number| is_number(number, ms, u64::MAX.into()));
    text == "never" || [("", 1), ("ms", 1), ("s", 1000)].into_iter().any(is_in)
}

/// Whether the value is one of the key's, or empty; `None` where there is no such key.
fn is_accepted(key: &str, value: &str) -> Option<bool> {
    let one_of = |words: &[&str]| words.contains(&value);
    let is_value = match key.strip_prefix("HOMING_").unwrap_or(key) {
        "POOL_SIZE" | "POOL_LIMIT" | "BUMP_SIZE" | "BUMP_LIMIT" => is_size(value),
        "OVERFLOW" => one_of(&["spill", "fail", "abort"]),
        "ZERO" => one_of(&["off", "alloc", "free"]),
        "POLICY" => {
            let preferred = value.strip_prefix("prefer:");
            one_of(&["local", "bind", "interleave"])
                || preferred.is_some_and(|node| is_number(node, 1, u16::MAX.into()))
        }
        "LARGE" => one_of(&["local", "firsttouch", "interleave"]),
        "PURGE_DELAY" => is_time(value),
        "DEBUG" => one_of(&["0", "1", "leaks"]),
        "STATS" => one_of(&["off", "exit"]),
        "BUMP_OVERFLOW" => one_of(&["error", "abort", "grow"]),
        "BACKGROUND" | "BUMP_ZERO" | "VERBOSE" => one_of(&["0", "1"]),
        "REPORT" => value.split_once(':').is_some_and(|(process, descriptor)| {
            is_number(process, 1, u32::MAX.into()) && is_number(descriptor, 1, i32::MAX as u128)
        }),
        _ => return None,
    };
    Some(is_value || value.is_empty())
}

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let (key, value) = text.split_once('=').unwrap_or((&text, ""));
    let answer = homing::check_setting(key, value);
    let is_key = !answer.is_err_and(|error| error.starts_with("no such setting"));
    let found = is_key.then_some(answer.is_ok());
    assert_eq!(found, is_accepted(key, value), "{key:?}={value:?}: None says that there is no such key");
});
