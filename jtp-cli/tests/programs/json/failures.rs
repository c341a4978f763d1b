//! The last object after each kind of failure, and the line on stderr.

use serde_json::Value;

use super::{of, parsed};
use crate::support::{CLIENT, FakeServer, Folder as _, Process, TestDir};

#[test]
fn each_kind_of_failure_ends_with_its_kind_and_exit_code() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    let limited = dir.serve("--rate-limit 1 --rate-limit-window 1h");
    let at_limit = |args: &str| dir.fetch(&limited, args);
    assert_eq!(at_limit("--list").code, Some(0));
    let strange = FakeServer::answering(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    dir.write("file", "");
    let wrong_key = format!("sha256:{}", "0a".repeat(32));
    let address = server.address.as_str();
    for (args, code, kind) in [
        ("--addr 127.0.0.1:1", 4, "connect"),
        (&format!("--addr {address} --pin {wrong_key}"), 5, "tls"),
        (&format!("--addr {address} --tls --cert missing"), 5, "tls"),
        (&format!("--addr {}", strange.addr()), 6, "protocol"),
        (&format!("--addr {}", limited.address), 7, "rate_limited"),
        (&format!("--addr {address} --out file"), 8, "disk"),
        (
            &format!("--addr {address} --max-total-size 1"),
            3,
            "some_failed",
        ),
        (&format!("--addr {address} --max-delete 200%"), 2, "usage"),
    ] {
        for job in ["", "--batch", "--mirror", "--dry-run", "--check"] {
            if code < 4 && ["--dry-run", "--check"].contains(&job) {
                continue; // They have no limits, and delete nothing.
            }
            let args = format!("{args} {job} --json --retries 0");
            let output = dir.run(CLIENT, &args);
            let values = parsed(&output, code);
            let error = &values[values.len() - 1];
            assert_eq!(
                (&error["event"], &error["kind"]),
                (&"error".into(), &kind.into())
            );
            let message = error["message"].as_str().unwrap();
            output.assert_in_err(&format!("error: {message}\n"));
        }
    }
    assert!(!dir.path("output").exists() || dir.names("output").is_empty());
}

#[test]
fn mirror_that_deletes_nothing_reports_why() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let run = |server: &Process, args: &str| dir.fetch(server, &format!("--json --mirror {args}"));
    parsed(&run(&server, ""), 0);
    let before = dir.files("output");
    server.stop();
    let only = |name: &str| dir.serve(&format!("--no-tls --only {name}"));
    let reason = |values: &[Value]| of(values, "not_deleted")[0]["reason"].clone();
    let half = only("a.png");
    assert_eq!(reason(&parsed(&run(&half, ""), 3)), "over_limit");
    let none = only("nothing");
    assert_eq!(reason(&parsed(&run(&none, ""), 3)), "empty_catalog");
    assert_eq!(dir.files("output"), before);
    let values = parsed(&run(&half, "--max-delete 2"), 0);
    assert_eq!(of(&values, "deleted").len(), 2);
    assert_eq!(dir.names("output"), ["a.png"]);
}
