//! Checks the `console` blocks of README.md, docs/client.md, docs/server.md and docs/public-server.md against the
//! programs. `pages.rs` checks other pages.
//!
//! Each command is run on the images of `images/`, with only the address and the key of the server replaced. In its
//! output, `…` stands for any number of lines, and numbers may differ.

use std::fs;
use std::path::Path;

use rustix::process::Signal;

use crate::support::{CLIENT, Folder as _, Process, TestDir, key_in, key_of};

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

/// The words of a command. A key that is shown in part, as in `sha256:8f43…c1e7`, is replaced.
pub(crate) fn with_keys(words: &str, key: &str) -> Vec<String> {
    let word = |word: &str| match word.starts_with("sha256:") && word.contains('…') {
        true => key.to_owned(),
        false => word.trim_matches('\'').to_owned(),
    };
    words.split_whitespace().map(word).collect()
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

fn assert_output(command: &str, expected: &[String], actual: &[&str]) {
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

/// Runs the commands of the `console` blocks of a page, or of a part of it.
fn run_page(text: &str) {
    let dir = TestDir::new();
    copy_images(&dir);
    let mut run = Run::new(&dir);
    if !text.contains("$ server ") {
        run.serve("server", &["listening on 0.0.0.0:8443".to_owned()]);
    }
    let mut commands = 0;
    for PageCommand { command, expected } in console_commands(text) {
        if TESTED_ELSEWHERE.contains(&command.as_str()) {
            continue;
        }
        commands += 1;
        match command.split(' ').next().unwrap() {
            "server" => run.serve(&command, &expected),
            "client" => run.client(&command, &expected),
            "cat" => run.write(&command, &expected),
            _ => panic!("unexpected command {command:?}"),
        }
    }
    assert!(commands > 0, "no commands in {text}");
}

/// The server of a page, and the folder in which its commands are run.
struct Run<'a> {
    dir: &'a TestDir,
    server: Option<Process>,
    /// The key that the server prints.
    key: String,
    /// The key of the identity that a command showed.
    own_key: String,
}

impl Run<'_> {
    fn new(dir: &TestDir) -> Run<'_> {
        Run {
            dir,
            server: None,
            key: String::new(),
            own_key: String::new(),
        }
    }

    fn serve(&mut self, command: &str, expected: &[String]) {
        assert_eq!(expected, ["listening on 0.0.0.0:8443"]);
        let args = with_keys(command, &self.key);
        let args: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
        let server = self
            .dir
            .serve(&[&args[..], &["--bind", "127.0.0.1:0"]].concat());
        self.key = key_of(&server);
        self.server = Some(server);
    }

    /// Writes a file whose content the page shows.
    fn write(&self, command: &str, content: &[String]) {
        let lines = content.iter().map(|line| match line.split_once('…') {
            Some((_, rest)) => {
                let name = rest.split_once(' ').unwrap().1;
                format!("{} {name}\n", self.own_key)
            }
            None => format!("{line}\n"),
        });
        let file = command.strip_prefix("cat ").unwrap();
        self.dir.write(file, lines.collect::<String>());
    }

    /// Runs a client with the address of the server in place of the page's.
    fn client(&mut self, command: &str, expected: &[String]) {
        let server = self.server.as_ref();
        let address = server.map_or("127.0.0.1:1", |server| &server.address);
        let mut args = with_keys(command, &self.key);
        args.remove(0);
        let is_url = |arg: &&mut String| arg.starts_with("jtps://");
        let mut urls = 0;
        for url in args.iter_mut().filter(is_url) {
            *url = format!("jtps://{address}");
            urls += 1;
        }
        if urls == 0 {
            args.extend(["--addr".to_owned(), address.to_owned()]);
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        if !args.contains(&"--watch") {
            let output = self.dir.run(CLIENT, &args);
            if expected == ["# exit code 5"] {
                output.assert_exit(5);
                return;
            }
            output.assert_exit(0);
            if args.contains(&"--show-identity") {
                key_in(&output.out).clone_into(&mut self.own_key);
            } else if !expected.is_empty() {
                let printed: Vec<&str> = output.out.lines().chain(output.err.lines()).collect();
                assert_output(command, expected, &printed);
            }
            return;
        }
        // Adds each image that the page shows as fetched.
        let client = Process::start(self.dir.command(CLIENT, &args));
        client.err.wait_for("watching");
        let first = client.out.next_line();
        assert_output(command, &expected[..1], &[&first]);
        for line in &expected[1..] {
            let new = line.split_whitespace().nth(1).unwrap();
            self.dir.add(new, new.as_bytes());
            let printed = client.out.next_line();
            assert_output(command, std::slice::from_ref(line), &[&printed]);
        }
        client.end(Signal::INT).assert_exit(130);
    }
}

#[test]
fn readme_commands_print_the_shown_output() {
    run_page(&page("README.md"));
}

#[test]
fn client_page_commands_print_the_shown_output() {
    run_page(&page("docs/client.md"));
}

#[test]
fn server_page_commands_print_the_shown_output() {
    run_page(&page("docs/server.md"));
}

#[test]
fn public_server_page_admits_the_listed_client_alone() {
    let text = page("docs/public-server.md");
    run_page(text.split("\n## ").nth(1).unwrap());
}
