//! Checks that the bytes in RFC.md are those of the vectors.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::read::{Vector, bytes, vectors};

/// The vectors by `kind/name`.
fn all() -> BTreeMap<String, Vector> {
    let kinds = [
        "varint", "request", "head", "entry", "packet", "error", "image_id", "body", "server",
        "client",
    ];
    let all = kinds.into_iter().flat_map(vectors);
    all.map(|vector| (vector.label.clone(), vector)).collect()
}

pub(crate) fn rfc() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../RFC.md");
    fs::read_to_string(path).unwrap()
}

/// The bytes of `kind/name`, or of `kind/name#step` in an exchange.
fn named(all: &BTreeMap<String, Vector>, reference: &str) -> Vec<u8> {
    let (label, step) = reference.split_once('#').unwrap_or((reference, ""));
    let vector = all
        .get(label)
        .unwrap_or_else(|| panic!("RFC.md refers to {label}, which is not a vector"));
    if step.is_empty() {
        let field = if vector.get("bytes").is_some() {
            "bytes"
        } else {
            "data"
        };
        return vector.bytes(field);
    }
    let step = &vector.list("steps")[step.parse::<usize>().unwrap()];
    octets(step).unwrap_or_else(|| panic!("{reference} has no bytes"))
}

/// The bytes that a step sends, from either side; `None` if a part of them is not fixed.
fn octets(step: &Value) -> Option<Vec<u8>> {
    match step.as_object()?.values().next()? {
        Value::String(text) => Some(bytes(text)),
        Value::Array(parts) => {
            let parts: Option<Vec<&str>> = parts.iter().map(Value::as_str).collect();
            Some(bytes(&parts?.join(" ")))
        }
        _ => None,
    }
}

/// The bytes of a dump's line: pairs of digits up to two spaces, where a comment begins; `FF × 768` repeats the pair.
fn of_line(line: &str) -> Vec<u8> {
    let text = line.split("  ").next().unwrap_or_default();
    bytes(&text.replace(" × ", "*"))
}

/// Compares a dump with its vector.
fn compare(reference: &str, dump: &[&str], expected: &[u8]) {
    let mut at = 0;
    for line in dump {
        let (offset, rest) = line.split_at(4);
        assert_eq!(
            usize::from_str_radix(offset, 16),
            Ok(at),
            "{reference}: {line}"
        );
        let shown = of_line(rest.strip_prefix("  ").expect("two spaces"));
        assert!(!shown.is_empty(), "{reference}: {line}");
        let bytes = expected.get(at..at + shown.len());
        assert_eq!(bytes, Some(&*shown), "{reference}: {line}");
        at += shown.len();
    }
    assert_eq!(at, expected.len(), "{reference} has more bytes");
}

fn is_dump(line: &str) -> bool {
    line.get(..6).is_some_and(|start| {
        let (offset, spaces) = start.split_at(4);
        offset.bytes().all(|b| b.is_ascii_hexdigit()) && spaces == "  "
    })
}

#[test]
fn every_dump_equals_its_vector() {
    let (all, text) = (all(), rfc());
    let mut reference = None;
    let mut seen = BTreeSet::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(rest) = line.strip_prefix("Vector `") {
            reference = rest.strip_suffix("`:");
            assert!(reference.is_some(), "{line}");
        } else if line == "```" {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            if block.first().is_some_and(|first| is_dump(first)) {
                let reference = reference.unwrap_or_else(|| panic!("no vector for {}", block[0]));
                compare(reference, &block, &named(&all, reference));
                seen.insert(reference);
            }
            reference = None;
        } else if !line.is_empty() {
            assert_eq!(reference, None, "no dump follows");
        }
    }
    assert!(seen.len() >= 37, "{} dumps", seen.len());
}

/// The trimmed cells of a table row.
fn cells(line: &str) -> Vec<&str> {
    let row = line.strip_prefix('|').and_then(|row| row.strip_suffix('|'));
    row.map_or(Vec::new(), |row| row.split('|').map(str::trim).collect())
}

/// The text between backquotes at the start of a cell.
fn quoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.split('`').next()
}

#[test]
fn every_table_row_shows_the_first_bytes_of_its_vector() {
    let (all, text) = (all(), rfc());
    let mut rows = 0;
    for line in text.lines() {
        let cells = cells(line);
        let Some(label) = cells.last().and_then(|cell| quoted(cell)) else {
            continue;
        };
        let Some(vector) = all.get(label) else {
            assert!(!label.contains('/'), "{line}");
            continue;
        };
        rows += 1;
        let shown = bytes(quoted(cells[0]).unwrap());
        if vector.get("data").is_some() {
            assert_eq!(vector.bytes("data"), shown, "{line}");
            assert_eq!(Some(vector.str("id")), quoted(cells[1]), "{line}");
            continue;
        }
        // The bytes are those of the side that is not under test.
        let sender = if label.starts_with("server/") {
            "client"
        } else {
            "server"
        };
        let steps = vector.list("steps");
        let sent: Vec<Vec<u8>> = steps
            .iter()
            .skip_while(|step| step.get(sender).is_none())
            .take_while(|step| step.get(sender).is_some())
            .filter_map(octets)
            .collect();
        let sent = sent.concat();
        if cells[0].contains('…') {
            assert!(sent.starts_with(&shown), "{line}");
        } else {
            assert_eq!(sent, shown, "{line}");
        }
    }
    assert!(rows >= 28, "{rows} rows");
}

#[test]
fn w1_varint_table_matches_the_vectors() {
    let (all, text) = (all(), rfc());
    let mut seen = 0;
    for line in text.lines() {
        for pair in cells(line).windows(2) {
            let (Ok(number), Some(code)) = (pair[0].parse::<u32>(), quoted(pair[1])) else {
                continue;
            };
            let is_code = code.split(' ').all(|byte| byte.len() == 2);
            let Some(vector) = all.get(&format!("varint/{number}")).filter(|_| is_code) else {
                continue;
            };
            assert_eq!(vector.bytes("bytes"), bytes(code), "{line}");
            seen += 1;
        }
    }
    assert_eq!(seen, 14);
}
