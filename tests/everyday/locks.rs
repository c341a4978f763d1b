//! Locks on the output folder that others hold: no mode waits for them. // R8

use std::fs::File;

use rustix::fs::{FlockOperation, flock};

use super::*;

const MODES: [&[&str]; 5] = [
    &[],
    &["--batch"],
    &["-k"],
    &["-p", "4"],
    &["--batch", "-k", "-p", "2"],
];

fn library() -> WorkDir {
    let workdir = WorkDir::of(&[]);
    for n in 0..6 {
        workdir.add(&format!("{n}.png"), &picture(n));
    }
    workdir
}

fn lock(path: &Path, operation: FlockOperation) -> File {
    let file = File::open(path).unwrap();
    flock(&file, operation).unwrap();
    file
}

#[test]
fn a_client_that_flock_runs_on_its_output_folder_ends_in_every_mode() {
    if Command::new("flock").arg("--version").output().is_err() {
        skipped!("no flock");
        return;
    }
    let workdir = library();
    let server = workdir.server("--no-tls");
    for options in [&[][..], &["--shared"], &["--no-fork"]] {
        for args in MODES {
            fs::create_dir(workdir.output()).unwrap();
            let client = workdir.client_command(server.addr(), args);
            let mut flock = Command::new("flock");
            flock.args(options).arg(workdir.output());
            let mut running = start(wrapped(flock, &client));
            let ended = within(|| running.has_ended());
            assert!(ended, "flock {options:?} client {args:?} hangs");
            running.wait().assert_fetched(6, 0);
            assert_complete(&workdir);
            fs::remove_dir_all(workdir.output()).unwrap();
        }
    }
}

#[test]
fn a_lock_that_another_process_holds_delays_no_mode() {
    let workdir = library();
    let server = workdir.server("--no-tls");
    for operation in [FlockOperation::LockExclusive, FlockOperation::LockShared] {
        for args in MODES {
            // A run that makes the folder's index.
            run(&workdir, server.addr(), "--batch").assert_exit(0);
            fs::remove_file(workdir.output().join("3.png")).unwrap();
            let _folder = lock(&workdir.output(), operation);
            let index = workdir.output().join(".jtp-index");
            let _index = index.exists().then(|| lock(&index, operation));
            let output = run(&workdir, server.addr(), args);
            output.assert_exit(0);
            assert_complete(&workdir);
            fs::remove_dir_all(workdir.output()).unwrap();
        }
    }
}

#[test]
fn ctrl_c_ends_a_client_at_once_while_another_process_holds_a_lock() {
    let workdir = library();
    let server = workdir.server("--no-tls");
    fs::create_dir(workdir.output()).unwrap();
    let _lock = lock(&workdir.output(), FlockOperation::LockExclusive);
    for args in [&["--watch"][..], &["--watch", "--batch"]] {
        let mut client = start_client(&workdir, server.addr(), args);
        client.wait_for("watching");
        assert_complete(&workdir);
        interrupt(client);
    }
}

#[test]
fn watch_under_a_lock_fetches_new_images() {
    let workdir = library();
    let server = workdir.server("--no-tls");
    fs::create_dir(workdir.output()).unwrap();
    let lock = lock(&workdir.output(), FlockOperation::LockExclusive);
    let mut client = start_client(&workdir, server.addr(), "--watch --batch");
    client.wait_for("watching");
    workdir.add("new.png", &picture(60));
    await_complete(&workdir, &client);
    drop(lock);
    workdir.add("newer.png", &picture(61));
    await_complete(&workdir, &client);
    interrupt(client);
    assert_nothing_to_do(&workdir, &server);
}
