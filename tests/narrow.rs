//! The sources, as a compiler for a system of 32 bits sees them, which may not be at hand: a number that does not fit into its
//! `usize` is refused there, or loses its upper bits. See ci/others for such a compiler.

use std::fs;
use std::path::{Path, PathBuf};

/// The numbers of a line that are written out: alone, or shifted by another.
fn numbers(line: &str) -> Vec<(String, u128)> {
    let is_part = |symbol: char| symbol.is_ascii_alphanumeric() || symbol == '_';
    let words: Vec<&str> = line.split_inclusive(|symbol| !is_part(symbol)).collect();
    let number = |word: &str| {
        let digits: String = word.trim_end_matches(|symbol| !is_part(symbol)).replace('_', "").to_lowercase();
        match digits.strip_prefix("0x") {
            Some(digits) => u128::from_str_radix(digits, 16).ok(),
            None => digits.trim_end_matches("usize").parse::<u128>().ok(),
        }
    };
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let Some(mut value) = number(word) else { continue };
        let rest = words[at + 1..].concat();
        let shifted = word.ends_with(' ').then(|| rest.strip_prefix("<< ")).flatten();
        if let Some(shift) = shifted.and_then(|rest| number(rest.split_inclusive(|symbol| !is_part(symbol)).next()?)) {
            value = value.checked_shl(shift as u32).unwrap_or(u128::MAX);
        }
        found.push((word.to_string(), value));
    }
    found
}

/// What does not fit, by line, outside of comments and unit tests, and but for numbers that are said to be wider.
fn too_large(source: &str) -> Vec<String> {
    let own = source.split("\nmod tests {").next().unwrap_or(source);
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let is_wide = |line: &str| {
        ["u64", "u128", "0x9e37_79b9_7f4a_7c15", "0xff51_afd7_ed55_8ccd"].iter().any(|word| line.contains(word))
    };
    let lines = own.lines().filter(is_code).filter(|line| !is_wide(line));
    lines
        .filter(|line| numbers(line).iter().any(|(_, value)| *value > u128::from(u32::MAX)))
        .map(str::to_string)
        .collect()
}

fn each_source(folder: &Path, visit: &mut dyn FnMut(PathBuf)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            each_source(&path, visit);
        } else if path.extension().is_some_and(|end| end == "rs") {
            visit(path);
        }
    }
}

#[test]
fn no_constant_loses_its_upper_bits_where_addresses_have_32() {
    assert_eq!(too_large("const A: usize = 4 << 30;\nconst B: usize = 1 << 44;\nlet c = 0x1_0000_0000;").len(), 3);
    assert!(too_large("const A: usize = 3 << 30;\nconst B: u64 = 1 << 44; // 1 << 44\n// 1 << 44").is_empty());
    let (mut files, mut found) = (0, Vec::new());
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    each_source(&root, &mut |path| {
        files += 1;
        let source = fs::read_to_string(&path).unwrap();
        // Of a system that has 64 bits, and tests.
        if !path.starts_with(root.join("os/linux")) && !path.ends_with("tests.rs") {
            found.extend(too_large(&source).into_iter().map(|line| format!("{}: {line}", path.display())));
        }
    });
    assert!(files > 80, "{files}");
    assert!(found.is_empty(), "{found:#?}");
}
