//! Checks the `console` blocks of README.md against the programs. `pages.rs` uses the same for other pages.
//!
//! Each command is run on the images of `images/`, with only the server's address replaced. In its output, `…` stands for
//! any number of lines, and numbers may differ.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::support::{CLIENT, Process, TestDir};

/// Commands that are covered elsewhere: by `examples/tests/run.rs`, and by the test run itself.
const TESTED_ELSEWHERE: [&str; 2] = [
    "cargo run --release --example sync",
    "cargo test --workspace",
];

/// A command and its output in a page.
pub(crate) struct PageCommand {
    pub(crate) command: String,
    pub(crate) expected: Vec<String>,
}

/// The text of a page, by its path below the root of the repository.
pub(crate) fn page(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    fs::read_to_string(root.join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The commands in the `console` blocks of a text.
pub(crate) fn console_commands(text: &str) -> Vec<PageCommand> {
    let mut all: Vec<PageCommand> = Vec::new();
    for block in text.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        assert!(block.starts_with("$ "), "{block}");
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("$ ") {
                Some(command) => all.push(PageCommand {
                    command: command.to_owned(),
                    expected: Vec::new(),
                }),
                None => all.last_mut().unwrap().expected.push(line.to_owned()),
            }
        }
    }
    all
}

/// Replaces numbers, units and IDs, which differ from run to run.
fn normalize(line: &str) -> String {
    let words = line.split_whitespace().map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        let is_id = bare.len() == 16 && bare.chars().all(|c| c.is_ascii_hexdigit());
        let is_unit = ["B", "KiB", "MiB", "ms", "s"].contains(&bare);
        match word.starts_with(|c: char| c.is_ascii_digit() || c == '(') || is_id || is_unit {
            true => "#",
            false => word,
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

pub(crate) fn assert_output(command: &str, expected: &[String], actual: &[&str]) {
    let mut left = actual;
    for (n, line) in expected.iter().enumerate() {
        if line == "…" {
            let rest = expected.len() - n - 1;
            assert!(left.len() > rest, "{command}: {actual:#?}");
            left = &left[left.len() - rest..];
            continue;
        }
        let Some((first, others)) = left.split_first() else {
            panic!("{command} does not print {line:?}");
        };
        assert_eq!(normalize(first), normalize(line), "{command}");
        left = others;
    }
    assert!(left.is_empty(), "{command} also prints {left:#?}");
}

/// Copies the images of the repository into the folder of a test.
pub(crate) fn copy_images(dir: &TestDir) {
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
    for file in fs::read_dir(&images).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), dir.path("images").join(file.file_name())).unwrap();
    }
}

#[test]
fn readme_commands_print_the_shown_output() {
    let dir = TestDir::new();
    copy_images(&dir);
    let mut servers: Vec<Process> = Vec::new();
    let mut run = 0;
    for PageCommand { command, expected } in console_commands(&page("README.md")) {
        if TESTED_ELSEWHERE.contains(&command.as_str()) {
            continue;
        }
        run += 1;
        let words = command.split_whitespace().skip(1);
        let args: Vec<&str> = words.map(|word| word.trim_matches('\'')).collect();
        if command.starts_with("server ") {
            let server = dir.serve(&[&args[..], &["--bind", "127.0.0.1:0"]].concat());
            assert_eq!(expected, ["listening on 0.0.0.0:8443"]);
            servers.push(server);
            continue;
        }
        assert!(
            command.starts_with("client"),
            "unexpected command {command:?}"
        );
        let address = servers.last().unwrap().address.as_str();
        let args = [&args[..], &["--addr", address]].concat();
        if !args.contains(&"--watch") {
            let output = dir.run(CLIENT, &args);
            assert_eq!(output.code, Some(0), "{command}: {output:?}");
            let printed: Vec<&str> = output.out.lines().chain(output.err.lines()).collect();
            assert_output(&command, &expected, &printed);
            continue;
        }
        // Adds each image that the README shows as fetched.
        let client = Process::start(dir.command(CLIENT, &args));
        client.err.wait_for("watching");
        let first = client.out.next_line();
        assert_output(&command, &expected[..1], &[&first]);
        for line in &expected[1..] {
            let new = line.split_whitespace().nth(1).unwrap();
            dir.add(new, new.as_bytes());
            assert_output(
                &command,
                std::slice::from_ref(line),
                &[&client.out.next_line()],
            );
        }
        client.signal(Signal::INT);
        assert_eq!(client.wait().code, Some(130));
    }
    assert!(run >= 5, "too few commands found in README.md");
}
