//! RFC.md shows these vectors and no other bytes.

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

fn rfc() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../RFC.md");
    fs::read_to_string(path).unwrap()
}

/// What `kind/name`, or `kind/name#step` of an exchange, stands for.
fn named(all: &BTreeMap<String, Vector>, reference: &str) -> Vec<u8> {
    let (label, step) = reference.split_once('#').unwrap_or((reference, ""));
    let vector = all
        .get(label)
        .unwrap_or_else(|| panic!("RFC.md names {label}, which is no vector"));
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

/// The bytes that a step sends, of whichever side; not where a part of them is left open.
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

/// The bytes of a line: pairs of digits up to two spaces, where a comment begins; `FF × 768` repeats the pair.
fn of_line(line: &str) -> Vec<u8> {
    let text = line.split("  ").next().unwrap_or_default();
    bytes(&text.replace(" × ", "*"))
}

/// Compares a dump with its vector.
fn compare(reference: &str, dump: &[&str], wanted: &[u8]) {
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
        let due = wanted.get(at..at + shown.len());
        assert_eq!(due, Some(&*shown), "{reference}: {line}");
        at += shown.len();
    }
    assert_eq!(at, wanted.len(), "{reference} goes on");
}

fn is_dump(line: &str) -> bool {
    line.get(..6).is_some_and(|start| {
        let (offset, spaces) = start.split_at(4);
        offset.bytes().all(|b| b.is_ascii_hexdigit()) && spaces == "  "
    })
}

#[test]
fn every_dump_is_the_vector_that_it_names() {
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

/// The cells of a table's row, without the spaces around them.
fn cells(line: &str) -> Vec<&str> {
    let row = line.strip_prefix('|').and_then(|row| row.strip_suffix('|'));
    row.map_or(Vec::new(), |row| row.split('|').map(str::trim).collect())
}

/// What stands between backquotes at the start of a cell.
fn quoted(cell: &str) -> Option<&str> {
    cell.strip_prefix('`')?.split('`').next()
}

#[test]
fn every_row_that_names_a_vector_shows_its_first_bytes() {
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
        // The side that is not tested speaks.
        let speaker = if label.starts_with("server/") {
            "client"
        } else {
            "server"
        };
        let steps = vector.list("steps");
        let said: Vec<Vec<u8>> = steps
            .iter()
            .skip_while(|step| step.get(speaker).is_none())
            .take_while(|step| step.get(speaker).is_some())
            .filter_map(octets)
            .collect();
        let said = said.concat();
        if cells[0].contains('…') {
            assert!(said.starts_with(&shown), "{line}");
        } else {
            assert_eq!(said, shown, "{line}");
        }
    }
    assert!(rows >= 28, "{rows} rows");
}

#[test]
fn w1_the_table_of_varints_is_right() {
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
