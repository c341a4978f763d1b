//! Output that cannot be written: closed pipes, and files over the limit of `ulimit -f`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use crate::support::{CLIENT, ProcessOutput, SERVER, TestDir, noise};

/// Reads one line of stdout, closes it, and waits for the program.
fn head(mut command: Command) -> (String, ProcessOutput) {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::with_capacity(64, child.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    (line, ProcessOutput::new(child.wait_with_output().unwrap()))
}

/// Closes stderr before the program writes to it.
fn without_stderr(mut command: Command) -> Option<i32> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stderr.take());
    let mut out = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut out)
        .unwrap();
    child.wait().unwrap().code()
}

fn dir_with_many_images() -> TestDir {
    let dir = TestDir::new();
    for number in 0..1000_u32 {
        let name = format!("{number}-{}.png", "x".repeat(150));
        fs::write(dir.path("images").join(name), number.to_be_bytes()).unwrap();
    }
    dir
}

#[test]
fn a_pipe_that_is_closed_early_is_no_error() {
    let dir = dir_with_many_images();
    let server = dir.serve(&["--no-tls"]);
    for args in [
        &["--list"][..],
        &["--list", "--long"],
        &["--list", "--json"],
        &["--dry-run"],
        &["--dry-run", "--json"],
        &[],
        &["--json", "--batch"],
        &["--help"],
    ] {
        let args = [&["--addr", &*server.address], args].concat();
        let (line, output) = head(dir.command(CLIENT, &args));
        assert!(!line.is_empty());
        assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
        let is_plan = |line: &str| line.starts_with("dry run: would fetch 1,000 images");
        assert!(output.err.lines().all(is_plan), "{args:?}: {output:?}");
    }
    assert_eq!(dir.files("output"), dir.files("images"));
    // The exit code says whether there are differences, whoever reads them.
    let args = ["--addr", &*server.address, "--check", "--out", "other"];
    let (_, output) = head(dir.command(CLIENT, &args));
    assert_eq!(output.code, Some(3));
}

#[test]
fn a_closed_stderr_changes_nothing() {
    let dir = TestDir::with_images();
    let mut command = dir.command(SERVER, &["--bind", "127.0.0.1:0", "--no-tls", "-vv"]);
    let mut server = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(server.stderr.take());
    let mut line = String::new();
    let mut out = BufReader::new(server.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    drop(out);
    let address = line.trim_end().strip_prefix("listening on ").unwrap();
    for args in [
        &["-vv"][..],
        &["-vv", "--json"],
        &["--get", "0123456789abcdef"],
    ] {
        let expected = if args.contains(&"--get") { 3 } else { 0 };
        let args = [&["--addr", address], args].concat();
        assert_eq!(without_stderr(dir.command(CLIENT, &args)), Some(expected));
    }
    assert_eq!(dir.files("output"), dir.files("images"));
    let args = ["--addr", "127.0.0.1:1", "--list"];
    assert_eq!(without_stderr(dir.command(CLIENT, &args)), Some(4));
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

/// A program that can write no file longer than this.
fn limited(blocks: u32, dir: &TestDir, program: &str, args: &[&str]) -> Command {
    // Blocks of 512 bytes.
    let script = format!("ulimit -f {blocks}; exec \"$@\"");
    dir.command("sh", &[&["-c", &script, "sh", program], args].concat())
}

#[test]
fn images_over_the_file_size_limit_fail_alone_and_exit_8() {
    let dir = TestDir::new();
    dir.add("small.png", &noise(10_000, 1));
    dir.add("large.png", &noise(3 << 20, 2));
    dir.add("larger.jpg", &noise(9 << 20, 3));
    let server = dir.serve(&["--no-tls"]);
    for args in [&[][..], &["--batch", "--parallel", "3"]] {
        let _ = fs::remove_dir_all(dir.path("output"));
        fs::create_dir(dir.path("output")).unwrap();
        fs::write(dir.path("output/large.png"), "the old one").unwrap();
        let args = [&["--addr", &*server.address], args].concat();
        let output = ProcessOutput::of(&mut limited(2048, &dir, CLIENT, &args));
        assert_eq!(output.code, Some(8), "{output:?}");
        assert!(output.err.contains("failed: large.png"), "{output:?}");
        assert!(output.err.contains("File too large"), "{output:?}");
        assert!(output.out.contains("2 failed: 2 local disk"), "{output:?}");
        assert_eq!(dir.names("output"), ["large.png", "small.png"]);
        assert_eq!(
            fs::read(dir.path("output/large.png")).unwrap(),
            b"the old one"
        );
    }
    // The client's index and its output.
    let out = File::create(dir.path("out.json")).unwrap();
    let args = ["--addr", &*server.address, "--list", "--json"];
    let mut command = limited(0, &dir, CLIENT, &args);
    let output = ProcessOutput::of(command.stdout(out));
    assert_eq!(output.code, Some(8), "{output:?}");
    assert!(
        output.err.contains("cannot write to stdout: "),
        "{output:?}"
    );
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
    let args = ["--bind", "127.0.0.1:0", "--no-tls", "-vv"];
    let mut command = limited(1, &dir, SERVER, &args);
    command.stderr(File::create(dir.path("log")).unwrap());
    let mut server = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(server.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening on ").unwrap();
    for _ in 0..3 {
        let output = dir.run(CLIENT, &["--addr", address]);
        assert_eq!(output.code, Some(0), "{output:?}");
    }
    assert_eq!(dir.files("output"), dir.files("images"));
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(server.wait().unwrap().code(), Some(0));
    assert_eq!(fs::metadata(dir.path("log")).unwrap().len(), 512);
}
