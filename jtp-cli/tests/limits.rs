//! What the server does where the system gives no news of folders. A process of its own: it takes all there are.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::inotify::{CreateFlags, init};

#[test]
fn a_server_without_news_of_its_folder_scans_it_and_says_so_once() {
    let mut instances = Vec::new();
    while let Ok(instance) = init(CreateFlags::CLOEXEC) {
        instances.push(instance);
        if instances.len() > 2000 {
            eprintln!("skipped: there is no limit of inotify instances here");
            return;
        }
    }
    let place = tempfile::tempdir().unwrap();
    fs::create_dir(place.path().join("images")).unwrap();
    let mut server = Command::new(env!("CARGO_BIN_EXE_server"))
        .args(["--no-tls", "--bind", "127.0.0.1:0"])
        .current_dir(place.path())
        .env("XDG_CACHE_HOME", place.path().join("cache"))
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
            .current_dir(place.path())
            .output()
            .unwrap();
        assert!(client.status.success(), "{client:?}");
        String::from_utf8(client.stdout).unwrap()
    };
    // Two changes, so that it has scanned several times.
    for name in ["a.png", "b.png"] {
        fs::write(place.path().join("images").join(name), name).unwrap();
        let begun = Instant::now();
        while !client(&["--list"]).contains(name) {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{name} is not noticed"
            );
        }
    }
    rustix::process::kill_process(
        rustix::process::Pid::from_child(&server),
        rustix::process::Signal::TERM,
    )
    .unwrap();
    assert!(server.wait().unwrap().success());
    let mut said = String::new();
    server
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    let lines = said
        .lines()
        .filter(|line| line.contains("scanned each second"));
    assert_eq!(lines.count(), 1, "{said}");
}
