//! `client --json`: the output of all jobs, compared with docs/json.md.

mod events;
mod failures;
mod schema;

use std::fs::File;
use std::process::Stdio;
use std::sync::mpsc;

use jtp_core::ImageId;
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::progress::stalling_server;
use crate::readme::{PageCommand, console_commands, copy_images, page};
use crate::support::{
    CLIENT, FakeServer, Folder as _, Output, TestDir, closed_pipe, jtpe, noise, packet,
};
use schema::Schema;

/// Asserts the exit code and that the last object names it, and returns all objects.
#[track_caller]
fn parsed(output: &Output, code: i32) -> Vec<Value> {
    output.assert_exit(code);
    let values = Schema::documented().parse_all(&output.out);
    let last = &values[values.len() - 1];
    assert_eq!(last["exit_code"], code, "{output:?}");
    values
}

fn of<'a>(values: &'a [Value], event: &str) -> Vec<&'a Value> {
    let is_one = |value: &&Value| value["event"] == event;
    values.iter().filter(is_one).collect()
}

fn names(values: &[Value]) -> Vec<&str> {
    values
        .iter()
        .map(|value| value["event"].as_str().unwrap())
        .collect()
}

#[test]
fn list_has_an_object_for_each_image_in_the_order_of_sort() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    dir.wait_for_compressed_bmp(&server);
    let output = dir.fetch(&server, "--list --json --sort size --exclude b*");
    output.assert_err("");
    let values = parsed(&output, 0);
    assert_eq!(names(&values), ["start", "job", "entry", "entry", "end"]);
    assert_eq!(values[0]["command"], "list");
    assert_eq!(values[0]["server"], server.address.as_str());
    let (a, c) = (noise(1000, 1), dir.read("images/c.bmp"));
    let entry = |id: &[u8], size: u64, name: &str, kind: &str, compressed: bool| {
        json!({"event": "entry", "id": ImageId::of(id).to_string(), "size": size, "type": kind,
            "compressed": compressed, "name": name})
    };
    let size = values[3]["size"].as_u64().unwrap();
    assert!(size < 1000, "{values:?}");
    assert_eq!(values[2], entry(&a, 1000, "a.png", "png", false));
    assert_eq!(values[3], entry(&c, size, "c.bmp", "bmp", true));
    assert!(!dir.path("output").exists());
}

#[test]
fn names_are_the_servers_and_messages_are_not_escaped_twice() {
    let dir = TestDir::new();
    let image = noise(100, 1);
    let name = "a\"b\\\u{1b}[2J\n\u{202e}写.png";
    let list = [(name, ImageId::of(&image), 100)];
    let fake = FakeServer::with(&list, &[packet(ImageId::of(&image), &image)]);
    let output = fake.fetch(&dir, "--list --json");
    let values = parsed(&output, 0);
    assert_eq!(of(&values, "entry")[0]["name"], name);
    let output = fake.fetch(&dir, "--json");
    let values = parsed(&output, 0);
    // The file's name is that of R5.
    let file = of(&values, "fetched")[0]["name"].as_str().unwrap();
    assert_eq!(dir.names("output"), [file]);

    let fake = FakeServer::answering(jtpe(3, "go\n\u{1b}away"));
    let output = fake.fetch(&dir, "--json --retries 0");
    let code = output.code.unwrap();
    let values = parsed(&output, code);
    let message = of(&values, "error")[0]["message"].as_str().unwrap();
    assert!(message.contains(r"go\n\u{1b}away"), "{message}");
    assert_eq!(
        output.err.lines().last(),
        Some(&*format!("error: {message}"))
    );
}

#[test]
fn a_fetch_reports_each_image_and_its_summary() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    for quiet in ["--json", "--json -q"] {
        let output = dir.fetch(&server, &format!("--batch --repeat 2 {quiet}"));
        output.assert_err("");
        let values = parsed(&output, 0);
        let jobs: Vec<_> = of(&values, "job")
            .iter()
            .map(|job| job["number"].clone())
            .collect();
        assert_eq!(jobs, [1, 2]);
        let fetched = of(&values, "fetched");
        assert_eq!(fetched.len(), 3);
        let [first, second] = of(&values, "summary")[..] else {
            panic!("{values:?}");
        };
        assert_eq!(
            (&first["fetched"], &first["already_there"]),
            (&json!(3), &json!(0))
        );
        assert_eq!(first["bytes"], 203_002);
        assert_eq!(
            (&second["fetched"], &second["already_there"]),
            (&json!(0), &json!(3))
        );
        assert_eq!(of(&values, "listed")[0]["entries"], 3);
        assert_eq!(of(&values, "scanned").last().unwrap()["files"], 3);
        dir.remove("output");
    }
}

#[test]
fn replaced_and_renamed_files_are_reported() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    dir.fetch(&server, "");
    server.stop();
    // a.png gets the name of b.jpg's image, and another image comes.
    dir.write("output/a.png", noise(300, 8));
    dir.rename("output/b.jpg", "output/c.bmp");
    let server = dir.serve("--no-tls");
    let check = parsed(&dir.fetch(&server, "--check --json"), 3);
    assert_eq!(of(&check, "difference").len(), 3, "{check:?}");
    assert_eq!(of(&check, "comparison")[0]["equal"], false);
    let plan = parsed(&dir.fetch(&server, "--dry-run --batch --json -q"), 0);
    let values = parsed(&dir.fetch(&server, "--batch --json"), 0);
    // The plan has the same steps.
    let changes = of(&plan, "change");
    for (action, event) in [("fetch", "fetched"), ("rename", "renamed")] {
        let planned = changes.iter().filter(|change| change["action"] == action);
        assert_eq!(planned.count(), of(&values, event).len(), "{action}");
    }
    let (plan, summary) = (of(&plan, "plan")[0], of(&values, "summary")[0]);
    for (one, other) in [("fetch", "fetched"), ("replace", "replaced")] {
        assert_eq!(plan[one], summary[other], "{plan} {summary}");
    }
    let equal = parsed(&dir.fetch(&server, "--check --json"), 0);
    assert_eq!(of(&equal, "comparison")[0]["equal"], true);
}

#[test]
fn failures_are_reported_and_the_last_object_has_the_exit_code() {
    let dir = TestDir::new();
    let (image, bad) = (noise(100, 1), ImageId(7));
    let fake = FakeServer::with(&[("b.png", bad, 100)], &[packet(bad, &image)]);
    let output = fake.fetch(&dir, "--json");
    let values = parsed(&output, 3);
    let failed = of(&values, "failed")[0];
    assert_eq!(
        (&failed["name"], &failed["kind"]),
        (&json!("b.png"), &json!("wrong_content"))
    );
    assert!(!of(&values, "broken").is_empty());
    let summary = of(&values, "summary")[0];
    assert_eq!(
        (&summary["failed"], &summary["failures"]),
        (&json!(1), &json!({"wrong_content": 1}))
    );
    // For people, as without --json.
    assert!(output.err.starts_with("failed: b.png"), "{output:?}");
}

#[test]
fn errors_of_the_command_line_are_the_last_object_and_help_is_text() {
    let dir = TestDir::with_images();
    for args in ["--json --parallel 99", "--list --json --watch"] {
        let output = dir.run(CLIENT, args);
        let values = parsed(&output, 2);
        let message = of(&values, "error")[0]["message"].as_str().unwrap();
        let line = format!("error: {message}\n");
        assert!(output.err.starts_with(&line), "{output:?}");
    }
    let output = dir.run(CLIENT, "--json --help");
    assert!(output.out.starts_with("Fetch images"), "{output:?}");
    let server = dir.serve("--no-tls");
    let args = "--json --get 0123456789abcdef";
    for list in ["--list", ""] {
        let values = parsed(&dir.fetch(&server, &format!("{args} {list}")), 3);
        assert_eq!(of(&values, "not_listed")[0]["id"], "0123456789abcdef");
    }
}

#[test]
fn each_event_of_watch_is_flushed_and_ctrl_c_is_reported() {
    let schema = Schema::documented();
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let client = dir.client(&server.address, "--watch --json");
    client.out.wait_for("\"event\":\"watching\"");
    dir.add("new.png", &noise(400, 5));
    let fetched = schema.parse(&client.out.wait_for("\"event\":\"fetched\""));
    assert_eq!(
        (&fetched["name"], &fetched["size"]),
        (&json!("new.png"), &json!(400))
    );
    client.signal(Signal::INT);
    let output = client.wait();
    output.assert_exit(130);
    let last = schema.parse(output.out.lines().last().unwrap());
    assert_eq!(
        (&last["kind"], &last["exit_code"]),
        (&json!("interrupted"), &json!(130))
    );
}

#[test]
fn progress_is_reported_while_an_image_arrives_and_while_the_folder_is_scanned() {
    let schema = Schema::documented();
    let dir = TestDir::new();
    let (go_on, receiver) = mpsc::channel();
    let fake = stalling_server(1 << 20, receiver);
    let client = dir.client(&fake.addr(), "--json");
    go_on.send(()).unwrap();
    let progress = schema.parse(&client.out.wait_for("\"event\":\"progress\""));
    let expected = json!({"event": "progress", "images": 0, "bytes": 1 << 19, "planned_images": 1,
        "planned_bytes": 1 << 20});
    assert_eq!(progress, expected);
    go_on.send(()).unwrap();
    client.wait().assert_exit(0);

    dir.add_endless_images();
    let client = dir.client(&fake.addr(), "--json --batch --out images");
    schema.parse(&client.out.wait_for("\"event\":\"scanning\""));
    client.end(Signal::INT).assert_exit(130);
}

#[test]
fn a_server_that_fails_is_reported_and_the_next_one_is_used() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    for job in ["--list", "--batch", "--check"] {
        let args = format!("127.0.0.1:1 {} --json {job}", server.address);
        let values = parsed(&dir.run(CLIENT, &args), 0);
        let changed = of(&values, "server_changed")[0];
        let expected = json!({"event": "server_changed", "failed": "127.0.0.1:1", "kind": "connect",
            "server": server.address, "message": changed["message"]});
        assert_eq!(*changed, expected);
    }
}

#[test]
fn a_closed_pipe_ends_watch_and_a_full_disk_every_job() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let run = |args: &str, stdout: Stdio| {
        let mut command = dir.client_command(&server.address, &format!("--json {args}"));
        Output::of(command.stdout(stdout))
    };
    run("--watch --batch", closed_pipe())
        .assert_exit(0)
        .assert_err("");
    assert_eq!(dir.files("output"), dir.files("images"));
    if cfg!(not(target_os = "linux")) {
        return; // No /dev/full.
    }
    for args in ["--list", "--dry-run", "", "--watch"] {
        run(args, File::create("/dev/full").unwrap().into())
            .assert_failure(8, &["cannot write to stdout: "]);
    }
}

#[test]
fn commands_of_the_page_print_what_it_shows() {
    let dir = TestDir::new();
    copy_images(&dir);
    let text = page("docs/json.md");
    let server = dir.serve_on("127.0.0.1:0", "--no-tls");
    for PageCommand { command, expected } in console_commands(&text) {
        let words = command.split_whitespace().skip(1);
        let args: Vec<_> = words.map(|word| word.trim_matches('\'')).collect();
        let output = dir.fetch(&server, &args);
        parsed(&output, 0);
        let shown = output.out.replace(&server.address, "127.0.0.1:8443");
        assert_eq!(shown.lines().collect::<Vec<_>>(), expected, "{command}");
    }
}
