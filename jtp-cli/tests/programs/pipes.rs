//! Output that cannot be written: closed pipes, and files over the limit of `ulimit -f`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::{Args as _, CLIENT, Output, Process, SERVER, TestDir, closed_pipe};

/// Reads one line of stdout, closes it, and waits for the program.
fn head(mut command: Command) -> (String, Output) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::with_capacity(64, child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    (line, Output::new(child.wait_with_output().unwrap()))
}

#[test]
fn a_pipe_that_is_closed_early_is_no_error() {
    let dir = TestDir::new();
    dir.add_many_images();
    let server = dir.serve("--no-tls");
    for args in [
        "--list",
        "--list --long",
        "--list --json",
        "--dry-run",
        "--dry-run --json",
        "",
        "--json --batch",
        "--help",
    ] {
        let args = format!("--addr {} {args}", server.address);
        let (line, output) = head(dir.command(CLIENT, &args));
        assert!(!line.is_empty());
        output.assert_exit(0);
        let is_plan = |line: &str| line.starts_with("dry run: would fetch 1,000 images");
        assert!(output.err.lines().all(is_plan), "{args:?}: {output:?}");
    }
    assert_eq!(dir.files("output"), dir.files("images"));
    // The exit code says whether there are differences, whoever reads them.
    let args = format!("--addr {} --check --out other", server.address);
    let (_, output) = head(dir.command(CLIENT, &args));
    output.assert_exit(3);
}

#[test]
fn a_closed_stderr_changes_nothing() {
    let dir = TestDir::with_images();
    let mut command = dir.server_command("127.0.0.1:0", "--no-tls -vv");
    command.stderr(closed_pipe());
    let server = Process::listening_with_stderr(command);
    for (args, code) in [
        ("-vv", 0),
        ("-vv --json", 0),
        ("--get 0123456789abcdef", 3),
        ("--addr 127.0.0.1:1 --list", 4),
    ] {
        let mut client = dir.client_command(&server.address, args);
        Output::of(client.stderr(closed_pipe())).assert_exit(code);
    }
    assert_eq!(dir.files("output"), dir.files("images"));
    server.stop().assert_exit(0);
}

/// A program that can write no file longer than this.
fn limited(blocks: u32, dir: &TestDir, program: &str, args: &str) -> Command {
    // Blocks of 512 bytes.
    let script = format!("ulimit -f {blocks}; exec \"$@\"");
    dir.command(
        "sh",
        &[&["-c", &*script, "sh", program], &args.list()[..]].concat(),
    )
}

#[test]
fn a_server_over_the_file_size_limit_works_without_its_cache_and_log() {
    let dir = TestDir::new();
    for number in 0..50_u8 {
        dir.add(
            &format!("{number}.bmp"),
            &[b"BM".as_slice(), &[number; 100_000]].concat(),
        );
    }
    let args = "--bind 127.0.0.1:0 --no-tls -vv";
    let mut command = limited(1, &dir, SERVER, args);
    command.stderr(File::create(dir.path("log")).unwrap());
    let server = Process::listening_with_stderr(command);
    for _ in 0..3 {
        dir.fetch(&server, "").assert_exit(0);
    }
    assert_eq!(dir.files("output"), dir.files("images"));
    server.stop().assert_exit(0);
    assert_eq!(fs::metadata(dir.path("log")).unwrap().len(), 512);
}
