//! Reads the vector files; `tests/vectors/README.md` describes the format.

use std::fs;
use std::path::Path;

use jtp_core::wire::request::RequestKind;
use serde_json::Value;

/// One vector.
pub(crate) struct Vector {
    /// `kind/name`.
    pub(crate) label: String,
    fields: Value,
}

impl Vector {
    pub(crate) fn get(&self, field: &str) -> Option<&Value> {
        self.fields.get(field)
    }

    pub(crate) fn str(&self, field: &str) -> &str {
        self.get(field).and_then(Value::as_str).unwrap_or_else(|| {
            panic!("{} has no {field}", self.label);
        })
    }

    pub(crate) fn number(&self, field: &str) -> u64 {
        self.get(field).and_then(Value::as_u64).unwrap_or_else(|| {
            panic!("{} has no {field}", self.label);
        })
    }

    pub(crate) fn bytes(&self, field: &str) -> Vec<u8> {
        bytes(self.str(field))
    }

    pub(crate) fn list(&self, field: &str) -> &[Value] {
        self.get(field)
            .and_then(Value::as_array)
            .unwrap_or_else(|| panic!("{} has no {field}", self.label))
    }
}

/// All vectors of a file.
pub(crate) fn vectors(kind: &str) -> Vec<Vector> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let text = fs::read_to_string(folder.join(format!("{kind}.json"))).unwrap();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&file["format"], &file["kind"]), (&1.into(), &kind.into()));
    let Value::Array(all) = file["vectors"].take() else {
        panic!("{kind}.json has no vectors");
    };
    assert!(!all.is_empty());
    all.into_iter()
        .map(|mut fields| {
            let name = fields["name"].as_str().unwrap();
            let label = format!("{kind}/{name}");
            unroll(&mut fields);
            Vector { label, fields }
        })
        .collect()
}

/// The kind of request with this name.
pub(crate) fn kind_named(name: &str) -> RequestKind {
    let kind = RequestKind::ALL
        .into_iter()
        .find(|kind| kind.name() == name);
    kind.unwrap_or_else(|| panic!("no request is named {name}"))
}

/// Decodes groups of hex digits, separated by spaces; `*N` behind a group repeats it.
pub(crate) fn bytes(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        let (digits, times) = word.split_once('*').unwrap_or((word, "1"));
        assert!(digits.len() % 2 == 0, "{word}");
        let some: Vec<u8> = (0..digits.len())
            .step_by(2)
            .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap())
            .collect();
        out.extend(some.repeat(times.parse().unwrap()));
    }
    out
}

/// Expands `"x_repeat": ["a", 3]` to `"x": "aaa"`, and `"ids_repeat"` to a list.
fn unroll(value: &mut Value) {
    match value {
        Value::Array(all) => all.iter_mut().for_each(unroll),
        Value::Object(fields) => {
            let short: Vec<String> = fields
                .keys()
                .filter(|name| name.ends_with("_repeat"))
                .cloned()
                .collect();
            for key in short {
                let what = fields.remove(&key).unwrap();
                let text = what[0].as_str().unwrap();
                let times = usize::try_from(what[1].as_u64().unwrap()).unwrap();
                let name = key.trim_end_matches("_repeat");
                let long = match name {
                    "ids" => vec![text; times].into(),
                    _ => text.repeat(times).into(),
                };
                fields.insert(name.to_owned(), long);
            }
            fields.values_mut().for_each(unroll);
        }
        _ => {}
    }
}
