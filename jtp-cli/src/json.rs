//! JSON text: strings, and objects without line breaks.

use std::fmt::{self, Write};

use crate::escape::{BoundedWriter, Escaping};

/// A JSON string. What is over `limit` bytes of its escaped form is left out, and counted in its last words.
pub(crate) fn bounded_string(value: impl fmt::Display, limit: usize) -> String {
    let mut text = String::from("\"");
    let mut bounded = BoundedWriter::new(&mut text, Escaping::Json, limit);
    // Fails only if the value's formatting does.
    let _ = write!(bounded, "{value}");
    let _ = bounded.finish();
    text.push('"');
    text
}

/// A JSON object in one line. Names of members are written as they are: they are constants of this program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use]
pub struct Object(String);

impl Object {
    /// An object without members.
    pub(crate) fn new() -> Object {
        Object::default()
    }

    /// Adds a member whose value is JSON already.
    fn member(mut self, name: &str, value: impl fmt::Display) -> Object {
        let separator = if self.0.is_empty() { "" } else { "," };
        // Writing to a string fails only if the value's formatting does.
        let _ = write!(self.0, "{separator}\"{name}\":{value}");
        self
    }

    /// Adds a string. It is written whole, whatever its length.
    pub(crate) fn string(self, name: &str, value: impl fmt::Display) -> Object {
        self.member(name, bounded_string(value, usize::MAX))
    }

    /// Adds a number.
    pub(crate) fn number(self, name: &str, value: impl Into<u64>) -> Object {
        self.member(name, value.into())
    }

    /// Adds a time in seconds, with three digits after the point.
    pub(crate) fn seconds(self, name: &str, time: std::time::Duration) -> Object {
        self.member(name, format_args!("{:.3}", time.as_secs_f64()))
    }

    /// Adds true or false.
    pub(crate) fn bool(self, name: &str, value: bool) -> Object {
        self.member(name, value)
    }

    /// Adds an object.
    pub(crate) fn object(self, name: &str, value: &Object) -> Object {
        self.member(name, value)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{}}}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_object_is_what_another_parser_reads() {
        let name = "a\"\\\n\u{0}\u{1b}[2J\u{202e}\u{e0041}写.png";
        let object = Object::new()
            .string("name", name)
            .number("size", u64::MAX)
            .seconds("seconds", Duration::from_micros(1_234_567))
            .bool("compressed", true)
            .object("none", &Object::new())
            .object("one", &Object::new().number("n", 0_u8));
        let line = object.to_string();
        assert!(!line.contains(char::is_control), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "name": name, "size": u64::MAX, "seconds": 1.235, "compressed": true, "none": {}, "one": {"n": 0},
        });
        assert_eq!(value, expected);
    }
}
