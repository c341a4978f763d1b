//! Two clients with one output folder.

use std::fs;

use jtp_store::{FolderLock, OutputFolder};
use rustix::process::Signal;

use crate::support::{CLIENT, FakeServer, Process, TestDir, wait_until};

const PLAIN: &str = "--no-tls";
const LOCK: &str = "output/.jtp-sync.lock";
const WAITING: &str = "waiting for another client that is syncing output";

/// What a client has that brings the output folder in step.
fn lock(dir: &TestDir) -> FolderLock {
    let folder = OutputFolder::open(dir.path("output")).unwrap();
    folder.try_lock().unwrap()
}

fn start(dir: &TestDir, address: &str, args: &[&str]) -> Process {
    let args = [&["--addr", address], args].concat();
    Process::start(dir.command(CLIENT, &args))
}

#[test]
fn second_client_waits_and_uses_what_the_first_has_stored() {
    for mode in ["--batch", "--mirror"] {
        let dir = TestDir::with_images();
        let server = dir.serve(&[PLAIN]);
        let first = lock(&dir);
        let second = start(&dir, &server.address, &[mode]);
        assert_eq!(second.err.next_line(), WAITING);
        for name in ["a.png", "b.jpg"] {
            fs::copy(dir.path("images").join(name), dir.path("output").join(name)).unwrap();
        }
        drop(first);
        let output = second.wait();
        assert_eq!((output.code, &*output.err), (Some(0), ""), "{output:?}");
        assert!(output.out.contains("fetched 1 image "), "{output:?}");
        assert!(
            output.out.contains("2 already there; 0 failed"),
            "{output:?}"
        );
        assert_eq!(dir.files("output"), dir.files("images"));
        assert!(!dir.path(LOCK).exists());
    }
}

#[test]
fn client_goes_on_when_the_one_it_waits_for_is_killed() {
    let dir = TestDir::with_images();
    let server = dir.serve(&[PLAIN]);
    fs::create_dir(dir.path("output")).unwrap();
    let silent = FakeServer::new(|_, _, stream| {
        let _ = std::io::Read::read(stream, &mut [0]);
    });
    let first = start(&dir, &silent.addr(), &["--batch", "--json"]);
    wait_until("the first client has the lock", || dir.path(LOCK).exists());
    let second = start(&dir, &server.address, &["--batch", "--json"]);
    second.out.wait_for("folder_in_use");
    first.signal(Signal::KILL);
    let output = second.wait();
    assert_eq!(output.code, Some(0), "{output:?}");
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn waiting_client_ends_by_a_signal_and_by_its_time_limit() {
    let dir = TestDir::with_images();
    let server = dir.serve(&[PLAIN]);
    let first = lock(&dir);
    let second = start(&dir, &server.address, &["--batch"]);
    assert_eq!(second.err.next_line(), WAITING);
    second.signal(Signal::INT);
    assert_eq!(second.wait().code, Some(130));
    let limited = dir.fetch(&server, &["--batch", "--max-time", "0.1"]);
    assert_eq!(limited.code, Some(3), "{limited:?}");
    assert!(limited.err.contains(WAITING), "{limited:?}");
    drop(first);
    assert!(dir.names("output").is_empty());
}

#[test]
fn clients_that_change_nothing_or_fetch_everything_do_not_wait() {
    let dir = TestDir::with_images();
    let server = dir.serve(&[PLAIN]);
    let _first = lock(&dir);
    for args in [&["--batch", "--dry-run"][..], &["--check"], &["--list"]] {
        let output = dir.fetch(&server, args);
        assert!(!output.err.contains(WAITING), "{output:?}");
    }
    dir.fetch(&server, &[]).assert_no_error();
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn watching_client_lets_others_in_while_it_has_nothing_to_do() {
    let dir = TestDir::with_images();
    let server = dir.serve(&[PLAIN]);
    let first = lock(&dir);
    let watching = start(&dir, &server.address, &["--batch", "--watch"]);
    assert_eq!(watching.err.next_line(), WAITING);
    drop(first);
    watching.err.wait_for("watching");
    let other = dir.fetch(&server, &["--batch"]);
    other.assert_no_error();
    assert!(other.out.contains("3 already there"), "{other:?}");
    assert_eq!(watching.stop().code, Some(130));
}
