//! The tables of docs/json.md, and objects that are compared with them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::readme::page;

/// A row of a table.
struct Member {
    kind: String,
    is_optional: bool,
    /// The only values that it may have.
    values: BTreeSet<String>,
}

/// The members of each event.
pub(super) struct Schema(BTreeMap<String, BTreeMap<String, Member>>);

impl Schema {
    pub(super) fn documented() -> Schema {
        let mut events = BTreeMap::new();
        for section in page("docs/json.md").split("\n### `").skip(1) {
            let (event, text) = section.split_once('`').unwrap();
            let rows = text.lines().filter(|line| line.starts_with("| `"));
            let previous = events.insert(event.to_owned(), rows.map(member).collect());
            assert!(previous.is_none(), "{event}");
        }
        assert!(events.len() > 10);
        Schema(events)
    }

    pub(super) fn events(&self) -> BTreeSet<&str> {
        self.0.keys().map(String::as_str).collect()
    }

    /// The members of all events, as `event.member`, and as `event.member=value` for those with few values.
    pub(super) fn members(&self) -> BTreeSet<String> {
        let mut all = BTreeSet::new();
        for (event, members) in &self.0 {
            for (name, member) in members {
                all.insert(format!("{event}.{name}"));
                let values = member.values.iter();
                all.extend(values.map(|value| format!("{event}.{name}={value}")));
            }
        }
        all
    }

    /// Parses a line, and asserts that it is as documented.
    #[track_caller]
    pub(super) fn parse(&self, line: &str) -> Value {
        assert!(!line.contains(char::is_control), "{line}");
        let value: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        let object = value.as_object().unwrap();
        assert_eq!(line.matches("\"event\":").count(), 1, "{line}");
        let event = object["event"].as_str().unwrap();
        let members = self.0.get(event);
        let members = members.unwrap_or_else(|| panic!("the event is not documented: {line}"));
        for (name, value) in object.iter().filter(|(name, _)| *name != "event") {
            let member = members.get(name);
            let member = member.unwrap_or_else(|| panic!("{name} is not documented: {line}"));
            member.check(value, line);
        }
        for (name, member) in members {
            let is_complete = member.is_optional || object.contains_key(name);
            assert!(is_complete, "{name} is missing: {line}");
        }
        value
    }

    /// Parses all lines of a program's output, and asserts that they have a beginning and an end.
    #[track_caller]
    pub(super) fn parse_all(&self, out: &str) -> Vec<Value> {
        assert!(out.ends_with('\n'), "{out}");
        let values: Vec<_> = out.lines().map(|line| self.parse(line)).collect();
        assert_eq!(values[0]["event"], "start", "{out}");
        assert_eq!(values[0]["schema"], 1);
        let is_end = |value: &Value| value["event"] == "end" || value["event"] == "error";
        let ends: Vec<_> = values.iter().map(is_end).collect();
        assert!(ends[ends.len() - 1], "{out}");
        assert_eq!(ends.iter().filter(|is_end| **is_end).count(), 1, "{out}");
        values
    }
}

/// As in `| `kind` | string, optional | one of `a`, `b` |`.
fn member(row: &str) -> (String, Member) {
    let cells: Vec<_> = row.split('|').map(str::trim).collect();
    let [_, name, kind, meaning, _] = cells[..] else {
        panic!("{row}");
    };
    let (kind, is_optional) = match kind.strip_suffix(", optional") {
        Some(kind) => (kind, true),
        None => (kind, false),
    };
    let values = meaning.strip_prefix("one of ").unwrap_or_default();
    let member = Member {
        kind: kind.to_owned(),
        is_optional,
        values: values
            .split('`')
            .skip(1)
            .step_by(2)
            .map(str::to_owned)
            .collect(),
    };
    (name.trim_matches('`').to_owned(), member)
}

impl Member {
    fn check(&self, value: &Value, line: &str) {
        let fits = match self.kind.as_str() {
            "string" => value
                .as_str()
                .is_some_and(|text| self.values.is_empty() || self.values.contains(text)),
            "ID" => value.as_str().is_some_and(|id| {
                let is_digit = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
                id.len() == 16 && id.chars().all(is_digit)
            }),
            "integer" => value.is_u64(),
            "number" => value.as_f64().is_some_and(|number| number >= 0.0),
            "boolean" => value.is_boolean(),
            "object" => value.is_object(),
            other => panic!("a type that the page does not explain: {other}"),
        };
        assert!(fits, "{value} is no {} as documented: {line}", self.kind);
    }
}
