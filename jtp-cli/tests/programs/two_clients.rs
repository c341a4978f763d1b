//! Two clients with one output folder.

use std::fs;

use jtp_store::{FolderLock, OutputFolder};
use rustix::process::Signal;

use crate::support::{FakeServer, Folder as _, TestDir, wait_until};
const LOCK: &str = "output/.jtp-sync.lock";
const WAITING: &str = "waiting for another client that is syncing output";

/// What a client has that brings the output folder in step.
fn lock(dir: &TestDir) -> FolderLock {
    let folder = OutputFolder::open(dir.path("output")).unwrap();
    folder.try_lock().unwrap()
}

#[test]
fn second_client_waits_and_uses_what_the_first_has_stored() {
    for mode in ["--batch", "--mirror"] {
        let dir = TestDir::with_images();
        let server = dir.serve("--no-tls");
        let first = lock(&dir);
        let second = dir.client(&server.address, mode);
        assert_eq!(second.err.next_line(), WAITING);
        for name in ["a.png", "b.jpg"] {
            fs::copy(dir.path("images").join(name), dir.path("output").join(name)).unwrap();
        }
        drop(first);
        let output = second.wait();
        output.assert_exit(0).assert_err("");
        output.assert_in_out("fetched 1 image ");
        output.assert_in_out("2 already there; 0 failed");
        assert_eq!(dir.files("output"), dir.files("images"));
        assert!(!dir.path(LOCK).exists());
    }
}

#[test]
fn client_goes_on_when_the_one_it_waits_for_is_killed() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    dir.make_dir("output");
    let silent = FakeServer::silent();
    let first = dir.client(&silent.addr(), "--batch --json");
    wait_until("the first client has the lock", || dir.path(LOCK).exists());
    let second = dir.client(&server.address, "--batch --json");
    second.out.wait_for("folder_in_use");
    first.signal(Signal::KILL);
    let output = second.wait();
    output.assert_exit(0);
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn waiting_client_ends_by_a_signal_and_by_its_time_limit() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let first = lock(&dir);
    let second = dir.client(&server.address, "--batch");
    assert_eq!(second.err.next_line(), WAITING);
    second.end(Signal::INT).assert_exit(130);
    dir.fetch(&server, "--batch --max-time 0.1")
        .assert_exit(3)
        .assert_in_err(WAITING);
    drop(first);
    assert!(dir.names("output").is_empty());
}

#[test]
fn clients_that_change_nothing_or_fetch_everything_do_not_wait() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let _first = lock(&dir);
    for args in ["--batch --dry-run", "--check", "--list"] {
        dir.fetch(&server, args).assert_not_in_err(WAITING);
    }
    dir.fetch(&server, "").assert_no_error();
    assert_eq!(dir.files("output"), dir.files("images"));
}

#[test]
fn watching_client_lets_others_in_while_it_has_nothing_to_do() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls");
    let first = lock(&dir);
    let watching = dir.client(&server.address, "--batch --watch");
    assert_eq!(watching.err.next_line(), WAITING);
    drop(first);
    watching.err.wait_for("watching");
    dir.fetch(&server, "--batch")
        .assert_no_error()
        .assert_in_out("3 already there");
    watching.stop().assert_exit(130);
}
