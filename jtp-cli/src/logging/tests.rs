use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// Text with which a peer could forge a line, or control a terminal.
const HOSTILE: &str = "a\n1970-01-01 ERROR forged\r\x1b[31m\u{202e}\u{9b}\"\\";

/// Collects what is logged.
#[derive(Debug, Clone, Default)]
struct Collected(Arc<Mutex<Vec<u8>>>);

impl Collected {
    fn lines(&self) -> Vec<String> {
        let bytes = std::mem::take(&mut *self.0.lock().unwrap());
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.ends_with('\n'), "{text}");
        text.lines().map(str::to_owned).collect()
    }
}

impl Write for Collected {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Collected {
    type Writer = Collected;

    fn make_writer(&'a self) -> Collected {
        self.clone()
    }
}

fn text_of(ansi: bool, log: impl FnOnce()) -> Vec<String> {
    let collected = Collected::default();
    let layer = tracing_subscriber::fmt::layer()
        .fmt_fields(EscapedFields)
        .with_ansi(ansi)
        .with_writer(collected.clone());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
    collected.lines()
}

fn json_of(log: impl FnOnce()) -> Vec<Value> {
    let collected = Collected::default();
    let writer = collected.clone();
    let layer = JsonLayer(move |line: &[u8]| writer.clone().write_all(line).unwrap());
    tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
    let lines = collected.lines();
    for line in &lines {
        assert!(line.len() < queue::MAX_LINE, "{line}");
        assert!(!line.contains(|c: char| c.is_control() || c == '\u{202e}'));
    }
    let parse = |line: &String| serde_json::from_str(line).unwrap();
    lines.iter().map(parse).collect()
}

#[derive(Debug)]
struct Layered(Option<Box<Layered>>);

impl fmt::Display for Layered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HOSTILE)
    }
}

impl std::error::Error for Layered {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.as_deref().map(|source| source as _)
    }
}

/// Logs hostile text in every place of an event.
fn log_hostile_text() {
    let error = Layered(Some(Box::new(Layered(None))));
    let span = tracing::info_span!("outer", name = %HOSTILE, later = tracing::field::Empty);
    let _entered = span.enter();
    span.record("later", HOSTILE);
    tracing::info!("message {HOSTILE}");
    tracing::info!(text = HOSTILE, "string");
    tracing::info!(name = %HOSTILE, "display");
    tracing::info!(name = ?HOSTILE, "debug");
    tracing::info!(
        error = &error as &(dyn std::error::Error + 'static),
        "error"
    );
}

#[test]
fn text_lines_escape_messages_fields_errors_and_spans() {
    for ansi in [false, true] {
        let lines = text_of(ansi, log_hostile_text);
        assert_eq!(lines.len(), 5, "{lines:#?}");
        for line in &lines {
            let plain = ["0", "1", "2", "3", "32"]
                .iter()
                .fold(line.clone(), |line, code| {
                    line.replace(&format!("\x1b[{code}m"), "")
                });
            assert!(!plain.contains(char::is_control), "{plain:?}");
            assert!(!plain.contains('\u{202e}'), "{plain:?}");
            assert!(
                plain.contains(r"name=a\n1970-01-01 ERROR forged\r\u{1b}[31m"),
                "{plain}"
            );
            assert!(plain.contains(r#"later="a\n1970"#), "{plain}");
        }
        assert!(lines[0].contains(r"message a\n1970-01-01"), "{lines:#?}");
    }
}

#[test]
fn json_lines_are_flat_objects_with_the_text_as_it_was() {
    let lines = json_of(log_hostile_text);
    assert_eq!(lines.len(), 5, "{lines:#?}");
    for line in &lines {
        let object = line.as_object().unwrap();
        assert!(
            object
                .values()
                .all(|value| !value.is_object() && !value.is_array())
        );
        assert_eq!(line["spans"], "outer");
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["target"], "jtp_cli::logging::tests");
        assert_eq!(line["later"], HOSTILE);
        let time = line["timestamp"].as_str().unwrap();
        assert!(
            time.len() == 27 && time.ends_with('Z') && &time[10..11] == "T",
            "{time}"
        );
    }
    assert_eq!(lines[0]["message"], format!("message {HOSTILE}"));
    assert_eq!(lines[1]["text"], HOSTILE);
    assert_eq!(lines[2]["name"], HOSTILE);
    assert_eq!(lines[4]["error"], HOSTILE);
}

#[test]
fn json_fields_have_types_and_the_inner_one_of_a_name_counts() {
    let lines = json_of(|| {
        let outer = tracing::info_span!("outer", peer = "outer", id = 1, seen = true);
        let _outer = outer.enter();
        let inner = tracing::info_span!("inner", peer = "inner", id = 2);
        let _inner = inner.enter();
        tracing::warn!(
            peer = "event",
            level = "x",
            count = 3,
            share = 0.5,
            none = f64::NAN,
            "m"
        );
        tracing::error!(left = -1);
    });
    let first = &lines[0];
    assert_eq!(first["spans"], "outer:inner");
    assert_eq!((&first["peer"], &first["id"]), (&"event".into(), &2.into()));
    assert_eq!(
        (&first["level"], &first["level_"]),
        (&"WARN".into(), &"x".into())
    );
    assert_eq!((&first["count"], &first["share"]), (&3.into(), &0.5.into()));
    assert_eq!(
        (&first["none"], &first["seen"]),
        (&"NaN".into(), &true.into())
    );
    assert_eq!(
        (&lines[1]["left"], &lines[1]["peer"]),
        (&(-1).into(), &"inner".into())
    );
    assert!(lines[1].get("message").is_none());
}

#[test]
fn values_messages_and_lines_are_cut() {
    let long = "\x1b".repeat(60_000);
    let log = || {
        tracing::info!(a = %long, b = %long, c = %long, d = %long, e = %long, f = %long, g = %long, "{long}");
    };
    let text = text_of(false, log);
    assert_eq!(text.len(), 1);
    let (message, fields) = text[0].split_once(" a=").unwrap();
    assert!(message.len() < MAX_MESSAGE + 120, "{message}");
    assert!(message.ends_with("more bytes)"), "{message}");
    assert!(fields.len() < 7 * (MAX_VALUE + 40), "{fields}");
    let json = &json_of(log)[0];
    assert!(json["message"].as_str().unwrap().ends_with("more bytes)"));
    assert!(json["a"].as_str().unwrap().ends_with("more bytes)"));
    assert_eq!(json["truncated"], true);
}

#[test]
fn lines_that_are_no_events_have_the_same_form() {
    let text = line(LogFormat::Text, Level::ERROR, "error: no\nmore");
    assert_eq!(text, "error: no\\nmore\n");
    let json = line(LogFormat::Json, Level::ERROR, HOSTILE);
    assert!(json.ends_with("}\n"), "{json}");
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["level"], &json["message"]),
        (&"ERROR".into(), &HOSTILE.into())
    );
    let text = dropped_line(LogFormat::Text, 7);
    assert!(text.ends_with("Z  WARN 7 log lines were dropped\n"));
    let json: Value = serde_json::from_str(&dropped_line(LogFormat::Json, 7)).unwrap();
    assert_eq!(json["message"], "7 log lines were dropped");
}

#[test]
fn other_crates_log_errors_only_unless_more_is_asked_for() {
    for (verbose, others, jtp) in [
        (0, "error", "info"),
        (1, "error", "debug"),
        (2, "debug", "trace"),
    ] {
        // RUST_LOG is not set in tests.
        let (filter, invalid) = filter(DefaultLevel::Info, verbose);
        let text = filter.to_string();
        assert_eq!(invalid, None);
        assert!(
            text.split(',').any(|directive| directive == others),
            "{text}"
        );
        // The dependencies of this crate, and the crate itself.
        let manifest = include_str!("../../Cargo.toml").lines();
        let dependencies = manifest
            .take_while(|line| *line != "[dev-dependencies]")
            .filter_map(|line| line.split([' ', '.', '=']).next())
            .filter(|name| name.starts_with("jtp-"));
        let crates: Vec<_> = dependencies.chain(["jtp-cli"]).collect();
        assert!(crates.contains(&"jtp-driver"), "{crates:?}");
        for name in crates {
            let name = name.replace('-', "_");
            let directive = format!("{name}={jtp}");
            assert!(text.split(',').any(|found| found == directive), "{text}");
        }
    }
}
