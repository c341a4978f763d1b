//! What README.md shows at the prompt is what the programs do and say.
//!
//! Each command line of a `console` block is run as it stands, but for the server's port and the name of a host,
//! on the pictures of `images/`. A line that says `…` stands for any number of lines; numbers may differ.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::support::{CLIENT, Place, Running};

/// Commands that other tests run: `examples/tests/run.rs`, and the tests themselves.
const ELSEWHERE: [&str; 2] = [
    "cargo run --release --example sync",
    "cargo test --workspace",
];

/// A command with the lines that it prints.
struct Shown {
    command: String,
    prints: Vec<String>,
}

fn shown() -> Vec<Shown> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let mut all: Vec<Shown> = Vec::new();
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        assert!(block.starts_with("$ "), "{block}");
        for line in block.lines().filter(|line| !line.is_empty()) {
            match line.strip_prefix("$ ") {
                Some(command) => all.push(Shown {
                    command: command.to_owned(),
                    prints: Vec::new(),
                }),
                None => all.last_mut().unwrap().prints.push(line.to_owned()),
            }
        }
    }
    all
}

/// A line without what differs from run to run: numbers, their units, and IDs.
fn shape(line: &str) -> String {
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

fn assert_prints(command: &str, expected: &[String], printed: &[&str]) {
    let mut left = printed;
    for (n, line) in expected.iter().enumerate() {
        if line == "…" {
            let rest = expected.len() - n - 1;
            assert!(left.len() > rest, "{command}: {printed:#?}");
            left = &left[left.len() - rest..];
            continue;
        }
        let Some((first, others)) = left.split_first() else {
            panic!("{command} does not print {line:?}");
        };
        assert_eq!(shape(first), shape(line), "{command}");
        left = others;
    }
    assert!(left.is_empty(), "{command} also prints {left:#?}");
}

#[test]
fn the_commands_of_the_readme_do_what_it_shows() {
    let place = Place::new();
    let images = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images");
    for file in fs::read_dir(&images).unwrap().map(Result::unwrap) {
        fs::copy(file.path(), place.path("images").join(file.file_name())).unwrap();
    }
    let mut servers: Vec<Running> = Vec::new();
    let mut run = 0;
    for Shown { command, prints } in shown() {
        if ELSEWHERE.contains(&command.as_str()) {
            continue;
        }
        run += 1;
        let args: Vec<&str> = command.split_whitespace().skip(1).collect();
        if command.starts_with("server ") {
            let server = place.serve(&[&args[..], &["--bind", "127.0.0.1:0"]].concat());
            assert_eq!(prints, ["listening on 0.0.0.0:8443"]);
            servers.push(server);
            continue;
        }
        assert!(command.starts_with("client"), "nothing runs {command:?}");
        let address = servers.last().unwrap().address.as_str();
        let args = [&args[..], &["--addr", address]].concat();
        if !args.contains(&"--watch") {
            let ended = place.run(CLIENT, &args);
            assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{command}");
            let printed: Vec<&str> = ended.out.lines().collect();
            assert_prints(&command, &prints, &printed);
            continue;
        }
        // What the README says of the new image happens.
        let client = Running::start(place.command(CLIENT, &args));
        client.err.until("watching");
        let first = client.out.line();
        assert_prints(&command, &prints[..1], &[&first]);
        for line in &prints[1..] {
            let new = line.split_whitespace().nth(1).unwrap();
            place.add(new, new.as_bytes());
            assert_prints(&command, std::slice::from_ref(line), &[&client.out.line()]);
        }
        client.signal(Signal::INT);
        assert_eq!(client.end().code, Some(130));
    }
    assert!(run >= 5, "the blocks are found");
}
