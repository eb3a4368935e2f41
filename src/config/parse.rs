//! The words of the environment.

use core::num::NonZeroUsize;

use super::{BumpOverflow, Config, Debug, Large, Overflow, Policy, Zero};
use crate::arith::{decimal, times};

/// The settings' names, as they are told to people.
pub(crate) const SETTINGS: &str = "HOMING_POOL_SIZE, HOMING_POOL_LIMIT, HOMING_OVERFLOW, HOMING_ZERO, HOMING_POLICY, \
                                   HOMING_LARGE, HOMING_PURGE_DELAY, HOMING_BACKGROUND, HOMING_BUMP_SIZE, \
                                   HOMING_BUMP_ZERO, HOMING_BUMP_OVERFLOW, HOMING_BUMP_LIMIT, HOMING_DEBUG, \
                                   HOMING_STATS, HOMING_VERBOSE";

/// What is said of a key that is none of them.
pub(super) const UNKNOWN: &str = "no such setting; the settings are HOMING_POOL_SIZE, HOMING_POOL_LIMIT, \
                                  HOMING_OVERFLOW, HOMING_ZERO, HOMING_POLICY, HOMING_LARGE, HOMING_PURGE_DELAY, \
                                  HOMING_BACKGROUND, HOMING_BUMP_SIZE, HOMING_BUMP_ZERO, HOMING_BUMP_OVERFLOW, \
                                  HOMING_BUMP_LIMIT, HOMING_DEBUG, HOMING_STATS, HOMING_VERBOSE";

/// Why a setting was not taken.
pub(super) enum Rejection {
    /// There is no such key.
    UnknownKey,
    /// The value is not of the kind that the text describes.
    BadValue(&'static str),
}

const SIZE: &str = "a size such as 4096, 512K, 64M or 2G";
const DELAY: &str = "a time such as 0, 500ms or 2s, or never";
const OVERFLOW: &str = "spill, fail or abort";
const ZERO: &str = "off, alloc or free";
const POLICY: &str = "local, bind, interleave or prefer:N with a node's number N";
const LARGE: &str = "local, firsttouch or interleave";
const BUMP_OVERFLOW: &str = "error, abort or grow";
const SWITCH: &str = "0 or 1";
const DEBUG: &str = "0, 1 or leaks";
const STATS: &str = "off or exit";
const REPORT: &str = "what the launcher gives it";

/// Takes one setting over: `key` without its prefix. An empty value changes nothing, as in a shell that sets a variable for
/// one command to nothing.
pub(super) fn apply(config: &mut Config, key: &[u8], value: &[u8]) -> Result<(), Rejection> {
    match take(config, key, value) {
        Err(Rejection::BadValue(_)) if value.is_empty() => Ok(()),
        answer => answer,
    }
}

fn take(config: &mut Config, key: &[u8], value: &[u8]) -> Result<(), Rejection> {
    match key {
        b"POOL_SIZE" => set(&mut config.pool_size, size(value), SIZE),
        b"POOL_LIMIT" => set(&mut config.pool_limit, size(value), SIZE),
        b"OVERFLOW" => {
            let word = match value {
                b"spill" => Some(Overflow::Spill),
                b"fail" => Some(Overflow::Fail),
                b"abort" => Some(Overflow::Abort),
                _ => None,
            };
            set(&mut config.overflow, word, OVERFLOW)
        }
        b"ZERO" => {
            let word = match value {
                b"off" => Some(Zero::Off),
                b"alloc" => Some(Zero::Alloc),
                b"free" => Some(Zero::Free),
                _ => None,
            };
            set(&mut config.zero, word, ZERO)
        }
        b"POLICY" => {
            let word = match value {
                b"local" => Some(Policy::Local),
                b"bind" => Some(Policy::Bind),
                b"interleave" => Some(Policy::Interleave),
                _ => value
                    .strip_prefix(b"prefer:")
                    .and_then(decimal)
                    .and_then(|node| u16::try_from(node).ok())
                    .map(Policy::Prefer),
            };
            set(&mut config.policy, word, POLICY)
        }
        b"LARGE" => {
            let word = match value {
                b"local" => Some(Large::Local),
                b"firsttouch" => Some(Large::FirstTouch),
                b"interleave" => Some(Large::Interleave),
                _ => None,
            };
            set(&mut config.large, word.map(Some), LARGE)
        }
        b"PURGE_DELAY" => set(&mut config.purge_delay_ms, delay(value), DELAY),
        b"BACKGROUND" => set(&mut config.background, switch(value), SWITCH),
        b"BUMP_SIZE" => set(&mut config.bump.pool_size, size(value), SIZE),
        b"BUMP_ZERO" => set(&mut config.bump.zero_on_reset, switch(value), SWITCH),
        b"BUMP_OVERFLOW" => {
            let word = match value {
                b"error" => Some(BumpOverflow::Error),
                b"abort" => Some(BumpOverflow::Abort),
                b"grow" => Some(BumpOverflow::Grow),
                _ => None,
            };
            set(&mut config.bump.overflow, word, BUMP_OVERFLOW)
        }
        b"BUMP_LIMIT" => set(&mut config.bump.limit, size(value).map(NonZeroUsize::new), SIZE),
        b"DEBUG" => {
            let word = match value {
                b"0" => Some(Debug::Off),
                b"1" => Some(Debug::On),
                b"leaks" => Some(Debug::Leaks),
                _ => None,
            };
            set(&mut config.debug, word, DEBUG)
        }
        b"STATS" => {
            let word = match value {
                b"off" => Some(false),
                b"exit" => Some(true),
                _ => None,
            };
            set(&mut config.summary, word, STATS)
        }
        b"VERBOSE" => set(&mut config.verbose, switch(value), SWITCH),
        b"REPORT" => set(&mut config.report, report(value).map(Some), REPORT),
        _ => Err(Rejection::UnknownKey),
    }
}

fn set<T>(place: &mut T, value: Option<T>, wanted: &'static str) -> Result<(), Rejection> {
    *place = value.ok_or(Rejection::BadValue(wanted))?;
    Ok(())
}

/// Off or on.
fn switch(text: &[u8]) -> Option<bool> {
    match text {
        b"0" => Some(false),
        b"1" => Some(true),
        _ => None,
    }
}

/// A number of bytes, with K, M, G or T for powers of 1,024 (also as KiB or KB, in either case).
fn size(text: &[u8]) -> Option<usize> {
    let digits = text.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let number = decimal(&text[..digits])?;
    let unit = &text[digits..];
    let shift: u32 = match unit.first().map(u8::to_ascii_uppercase) {
        None => return Some(number),
        Some(b'B') if unit.len() == 1 => return Some(number),
        Some(b'K') => 10,
        Some(b'M') => 20,
        Some(b'G') => 30,
        Some(b'T') => 40,
        Some(_) => return None,
    };
    let rest = &unit[1..];
    if !(rest.is_empty() || rest.eq_ignore_ascii_case(b"b") || rest.eq_ignore_ascii_case(b"ib")) {
        return None;
    }
    times(number, 1_usize.checked_shl(shift)?)
}

/// A time in milliseconds: a plain number, or one with `ms` or `s`; `never` is the greatest.
fn delay(text: &[u8]) -> Option<u64> {
    if text == b"never" {
        return Some(u64::MAX);
    }
    let (digits, factor) = match (text.strip_suffix(b"ms"), text.strip_suffix(b"s")) {
        (Some(digits), _) => (digits, 1),
        (None, Some(digits)) => (digits, 1000),
        (None, None) => (text, 1),
    };
    times(decimal(digits)?, factor).and_then(|ms| u64::try_from(ms).ok())
}

/// `process:descriptor`.
fn report(text: &[u8]) -> Option<(u32, i32)> {
    let colon = text.iter().position(|byte| *byte == b':')?;
    Some((u32::try_from(decimal(&text[..colon])?).ok()?, i32::try_from(decimal(&text[colon + 1..])?).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BumpConfig;

    #[test]
    fn sizes_with_units_are_powers_of_1024_and_overflow_is_refused() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("512K", 512 << 10),
            ("64M", 64 << 20),
            ("1gb", 1 << 30),
            ("2GiB", 2 << 30),
            ("7B", 7),
        ] {
            assert_eq!(size(text.as_bytes()), Some(bytes), "{text}");
        }
        assert_eq!(size(b"3TiB"), usize::try_from(3_u64 << 40).ok());
        for text in
            ["", "M", "-1", "1.5M", "64X", "64Mx", "64 M", "99999999999999999999", "18446744073709551615K", "1KiBs"]
        {
            assert_eq!(size(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn times_have_units_and_never_is_a_time() {
        for (text, ms) in [("0", 0), ("250", 250), ("500ms", 500), ("2s", 2000), ("never", u64::MAX)] {
            assert_eq!(delay(text.as_bytes()), Some(ms), "{text}");
        }
        for text in ["", "s", "ms", "1m", "-1", "1.5s"] {
            assert_eq!(delay(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_bad_value_leaves_the_default_in_force() {
        let mut config = Config::new();
        for (key, value) in [
            ("POOL_SIZE", "lots"),
            ("OVERFLOW", " "),
            ("ZERO", "1"),
            ("POLICY", "prefer:x"),
            ("POLICY", "prefer:70000"),
            ("LARGE", "first-touch"),
            ("VERBOSE", "yes"),
            ("STATS", "xml"),
            ("DEBUG", "yes"),
            ("PURGE_DELAY", "soon"),
            ("BACKGROUND", "thread"),
            ("BUMP_SIZE", "-1"),
            ("BUMP_ZERO", "off"),
            ("BUMP_OVERFLOW", "spill"),
            ("BUMP_LIMIT", "none"),
        ] {
            assert!(
                matches!(apply(&mut config, key.as_bytes(), value.as_bytes()), Err(Rejection::BadValue(_))),
                "{key}={value}"
            );
        }
        assert!(matches!(apply(&mut config, b"POOL_SIZES", b"1"), Err(Rejection::UnknownKey)));
        assert_eq!(config, Config::new());
    }

    #[test]
    fn an_empty_value_is_as_good_as_none_for_every_setting() {
        let names = SETTINGS.split(", ").map(|name| name.strip_prefix("HOMING_").unwrap());
        let mut config = Config::new().pool_size(5).debug(Debug::Leaks).zero(Zero::Free);
        let before = config;
        for key in names.chain(["REPORT"]) {
            assert!(apply(&mut config, key.as_bytes(), b"").is_ok(), "{key}");
        }
        assert!(matches!(apply(&mut config, b"POOL_SIZES", b""), Err(Rejection::UnknownKey)));
        assert_eq!(config, before);
    }

    #[test]
    fn every_setting_is_taken_over() {
        let mut config = Config::new();
        for (key, value) in [
            ("POOL_SIZE", "1M"),
            ("POOL_LIMIT", "2M"),
            ("OVERFLOW", "abort"),
            ("ZERO", "free"),
            ("POLICY", "prefer:3"),
            ("LARGE", "interleave"),
            ("PURGE_DELAY", "never"),
            ("BACKGROUND", "1"),
            ("BUMP_SIZE", "5M"),
            ("BUMP_ZERO", "0"),
            ("BUMP_OVERFLOW", "error"),
            ("BUMP_LIMIT", "3G"),
            ("VERBOSE", "1"),
            ("DEBUG", "leaks"),
            ("STATS", "exit"),
            ("REPORT", "12:101"),
        ] {
            assert!(apply(&mut config, key.as_bytes(), value.as_bytes()).is_ok(), "{key}={value}");
        }
        let wanted = Config {
            pool_size: 1 << 20,
            pool_limit: 2 << 20,
            overflow: Overflow::Abort,
            zero: Zero::Free,
            policy: Policy::Prefer(3),
            large: Some(Large::Interleave),
            purge_delay_ms: u64::MAX,
            background: true,
            verbose: true,
            debug: Debug::Leaks,
            summary: true,
            report: Some((12, 101)),
            bump: BumpConfig::new()
                .pool_size(5 << 20)
                .zero_on_reset(false)
                .overflow(BumpOverflow::Error)
                .limit(3 << 30),
        };
        assert_eq!(config, wanted);
        assert!(apply(&mut config, b"BUMP_LIMIT", b"0").is_ok());
        assert_eq!(config.bump.most(), usize::MAX, "0 is none, also in place of one that the program has set");
    }
}
