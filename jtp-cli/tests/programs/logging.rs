//! The server's log: its formats, and what is in it.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Map, Value};

use crate::support::{FakeServer, Output, Process, SERVER, TestDir, jtpe};

/// The lines of a log in JSON, each of which is checked to be a flat object with the documented members.
#[track_caller]
fn json_lines(log: &str) -> Vec<Map<String, Value>> {
    let parse = |line: &str| {
        let Ok(Value::Object(object)) = serde_json::from_str(line) else {
            panic!("no object: {line}");
        };
        for name in ["timestamp", "level", "target"] {
            assert!(object[name].is_string(), "{name}: {line}");
        }
        let time = object["timestamp"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.len() == 27, "{time}");
        let is_flat = |value: &Value| !value.is_object() && !value.is_array();
        assert!(object.values().all(is_flat), "{line}");
        object
    };
    log.lines().map(parse).collect()
}

fn text<'a>(line: &'a Map<String, Value>, member: &str) -> &'a str {
    line.get(member).and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn json_log_has_one_object_a_line_with_fields_and_spans() {
    let dir = TestDir::with_images();
    let server = dir.serve("--log-format json -vv");
    // Plain TCP, and TLS with records of the crate `log`.
    assert_eq!(dir.fetch(&server, "").code, Some(0));
    dir.fetch(&server, "--tls").assert_exit(0);
    let output = server.stop();
    output.assert_exit(0);
    let lines = json_lines(&output.err);
    let with = |message: &str| {
        let found = lines.iter().find(|line| text(line, "message") == message);
        found.unwrap_or_else(|| panic!("{message}: {}", output.err))
    };
    let request = with("request");
    assert_eq!(text(request, "level"), "DEBUG");
    assert!(text(request, "target").starts_with("jtp_driver::server"));
    assert!(text(request, "spans").starts_with("connection:request"));
    assert!(text(request, "peer").starts_with("127.0.0.1:"));
    assert!(request["kind"].is_string(), "the span's field");
    assert!(with("served")["bytes"].is_u64());
    assert_eq!(text(with("stopped"), "level"), "INFO");
    let sharing =
        |line: &&Map<String, Value>| text(line, "message").starts_with("sharing 3 images");
    assert_eq!(lines.iter().filter(sharing).count(), 1, "{}", output.err);
    let rustls = lines
        .iter()
        .any(|line| text(line, "target").starts_with("rustls"));
    assert!(rustls, "{}", output.err);
}

#[test]
fn json_log_ends_with_the_error_that_ends_the_server() {
    let dir = TestDir::new();
    let args = ["--log-format", "json", "--images", "no\nwhere"];
    let mut command = dir.server_command("127.0.0.1:0", &args);
    let output = Output::of(command.env("RUST_LOG", "not=a=filter"));
    output.assert_exit(1);
    let lines = json_lines(&output.err);
    let levels: Vec<_> = lines.iter().map(|line| text(line, "level")).collect();
    assert_eq!(levels, ["WARN", "ERROR"], "{output:?}");
    assert!(
        text(&lines[0], "message").contains("RUST_LOG"),
        "{output:?}"
    );
    let error = text(&lines[1], "message");
    assert!(
        error.starts_with("cannot read the images folder no\nwhere: "),
        "{error}"
    );
}

#[test]
fn text_log_has_one_line_for_an_error_with_a_newline() {
    let dir = TestDir::new();
    let output = dir.run(SERVER, &["--images", "no\nerror: forged"]);
    output.assert_failure(1, &[r"no\nerror: forged"]);
    assert_eq!(output.err.lines().count(), 1, "{output:?}");
}

#[test]
fn rustls_logs_nothing_below_errors_unless_asked() {
    let dir = TestDir::with_images();
    for (args, rust_log, is_logged) in [
        ("", "", false),
        ("-v", "", false),
        ("-vv", "", true),
        ("", "rustls=debug", true),
    ] {
        let mut command = dir.server_command("127.0.0.1:0", args);
        command.env("RUST_LOG", rust_log);
        let server = Process::listening(command);
        assert_eq!(dir.fetch(&server, "--tls").code, Some(0));
        // No TLS at all: an error of rustls.
        let mut broken = TcpStream::connect(&server.address).unwrap();
        broken.write_all(&[22, 3, 1, 0, 4, 1, 0, 0, 0]).unwrap();
        let _ = broken.read_to_end(&mut Vec::new());
        let log = server.stop().err;
        let is_logged_now = log.contains("decided upon suite");
        assert_eq!(is_logged_now, is_logged, "{args:?} {rust_log}: {log}");
    }
}

#[test]
fn clients_messages_of_a_hostile_server_are_cut_and_stay_in_their_line() {
    let dir = TestDir::new();
    let message = "\u{1b}[2J\nerror: fake\u{202e}".repeat(3_000);
    for (code, exit, args) in [
        (3, 1, "--retries 1 -q"),
        (3, 1, "--retries 1 -v"),
        (3, 1, "--retries 1 -vv"),
        (4, 1, "--retries 0 --list -vv"),
        (5, 7, "--retries 0 -v"),
    ] {
        let fake = FakeServer::answering(jtpe(code, &message));
        let output = fake.fetch(&dir, args);
        output.assert_exit(exit);
        output.assert_in_err(" more bytes)");
        assert!(output.err.len() < 8_192, "{} bytes", output.err.len());
        let unsafe_text = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
        assert!(!output.err.chars().any(unsafe_text), "{output:?}");
        output.assert_not_in_err("\nerror: fake");
    }
}
