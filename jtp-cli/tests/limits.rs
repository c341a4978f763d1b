//! The server without inotify. A separate test binary, because it uses up all inotify instances of the user.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{CreateFlags, init};

#[test]
fn server_without_inotify_rescans_and_warns_once() {
    let mut instances = Vec::new();
    while let Ok(instance) = init(CreateFlags::CLOEXEC) {
        instances.push(instance);
        if instances.len() > 2000 {
            eprintln!("skipped: the number of inotify instances is not limited");
            return;
        }
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("images")).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_server"))
        .args(["--no-tls", "--bind", "127.0.0.1:0"])
        .current_dir(dir.path())
        .env("XDG_CACHE_HOME", dir.path().join("cache"))
        .env_remove("RUST_LOG")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut out = BufReader::new(server.stdout.take().unwrap());
    out.read_line(&mut line).unwrap();
    let address = line
        .trim()
        .strip_prefix("listening on ")
        .unwrap()
        .to_owned();
    let client = |args: &[&str]| {
        let client = Command::new(env!("CARGO_BIN_EXE_client"))
            .args(["--addr", &address])
            .args(args)
            .current_dir(dir.path())
            .output()
            .unwrap();
        assert!(client.status.success(), "{client:?}");
        String::from_utf8(client.stdout).unwrap()
    };
    // Two changes, so that the server scans several times.
    for name in ["a.png", "b.png"] {
        fs::write(dir.path().join("images").join(name), name).unwrap();
        let start = Instant::now();
        while !client(&["--list"]).contains(name) {
            assert!(
                start.elapsed() < Duration::from_secs(30),
                "{name} is not listed"
            );
        }
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&server),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert!(server.wait().unwrap().success());
    let mut log = String::new();
    server
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut log)
        .unwrap();
    let lines = log
        .lines()
        .filter(|line| line.contains("scanned every second"));
    assert_eq!(lines.count(), 1, "{log}");
}
