//! `sync_*`: each with each server, interrupted and run again.

use std::fs;
use std::path::Path;

use jtp_core::ImageId;

use jtp_kit::{Process, Signal};

use crate::process::{fails, start, succeeds};
use crate::stub::Stub;
use crate::{SYNCS, contents, root, serve};

const WATCHING: &str = "watching for new images; Ctrl-C ends the program";

/// The lines up to the one that says that the program follows the server.
fn lines_until_watching(sync: &Process) -> Vec<String> {
    let lines = std::iter::repeat_with(|| sync.out.next_line());
    lines.take_while(|line| line != WATCHING).collect()
}

/// Adds a file in one step.
fn add(folder: &Path, name: &str, bytes: &[u8]) {
    let hidden = folder.join(".incomplete");
    fs::write(&hidden, bytes).unwrap();
    fs::rename(&hidden, folder.join(name)).unwrap();
}

fn assert_all_syncs_follow(server: &str, tls: bool) {
    let dir = tempfile::tempdir().unwrap();
    let shared = dir.path().join("shared");
    fs::create_dir(&shared).unwrap();
    for (name, bytes) in contents(&root().join("images")) {
        fs::write(shared.join(name), bytes).unwrap();
    }
    let running = serve(server, dir.path(), &shared, tls);
    let address = &*running.address;
    for (n, name) in SYNCS.into_iter().enumerate() {
        let out = dir.path().join(name);
        let mut args = vec!["--addr", address, "--out", name];
        args.extend(tls.then_some(["--cert", "cert.pem"]).into_iter().flatten());
        let sync = start(name, &args, dir.path());

        let images = 14 + n;
        let lines = lines_until_watching(&sync);
        assert_eq!(lines.len(), images + 1, "{server}, {name}: {lines:?}");
        let last = format!("{images} of {images}: ");
        assert!(lines[images - 1].starts_with(&last), "{server}: {lines:?}");
        assert_eq!(lines[images], format!("{images} new, 0 failed"));
        assert!(contents(&out) == contents(&shared), "{server}, {name}");

        let added = format!("added-{n}.bmp");
        add(&shared, &added, format!("BM {n}").as_bytes());
        let images = images + 1;
        assert_eq!(
            sync.out.next_line(),
            format!("{images} of {images}: {added:?}, 4 bytes"),
            "{server}, {name}"
        );
        assert!(contents(&out) == contents(&shared), "{server}, {name}");
        sync.signal(Signal::INT);
        assert_eq!(succeeds(sync), [""; 0], "{server}, {name}");
    }
    if tls {
        // The server refuses plain TCP.
        for name in SYNCS {
            let args = ["--addr", address, "--out", "plain"];
            let error = fails(start(name, &args, dir.path()));
            assert!(error.contains("TLS"), "{error}");
        }
    }
}

#[test]
fn all_syncs_follow_each_server_plain_and_over_tls() {
    std::thread::scope(|scope| {
        for server in ["serve_tokio", "serve_async_std", "serve_blocking"] {
            scope.spawn(move || assert_all_syncs_follow(server, false));
            scope.spawn(move || assert_all_syncs_follow(server, true));
        }
    });
}

#[test]
fn an_interrupted_sync_goes_on_with_the_next_run() {
    let images = [b"first".as_slice(), b"second"].map(|bytes| (ImageId::of(bytes).0, bytes));
    for name in SYNCS {
        let dir = tempfile::tempdir().unwrap();
        // Sends one of two images, and then nothing.
        let server = Stub::start(&images, 1);
        let args = ["--addr", &server.address, "--out", "out"];
        let sync = start(name, &args, dir.path());
        assert_eq!(sync.out.next_line(), "1 of 2: \"0.bmp\", 5 bytes", "{name}");
        sync.signal(Signal::INT);
        assert_eq!(succeeds(sync), [""; 0], "{name}");
        let found = contents(&dir.path().join("out"));
        assert_eq!(found.keys().collect::<Vec<_>>(), ["0.bmp"], "{name}");

        let server = Stub::start(&images, 2);
        let args = ["--addr", &server.address, "--out", "out"];
        let sync = start(name, &args, dir.path());
        let lines = lines_until_watching(&sync);
        let expected = ["1 of 1: \"1.bmp\", 6 bytes", "1 new, 0 failed"];
        assert_eq!(lines, expected, "{name}");
        sync.signal(Signal::INT);
        succeeds(sync);
        assert_eq!(contents(&dir.path().join("out")).len(), 2, "{name}");
    }
}

#[test]
fn an_image_that_stays_broken_does_not_end_a_sync() {
    let good = (ImageId::of(b"good").0, b"good".as_slice());
    for name in SYNCS {
        let dir = tempfile::tempdir().unwrap();
        let server = Stub::start(&[(7, b"x"), good], usize::MAX);
        let args = ["--addr", &server.address, "--out", "out"];
        let sync = start(name, &args, dir.path());
        let lines = lines_until_watching(&sync);
        let expected = ["1 of 2: \"1.bmp\", 4 bytes", "1 new, 1 failed"];
        assert_eq!(lines, expected, "{name}");
        sync.signal(Signal::INT);
        let output = sync.wait();
        output.assert_exit(0);
        let failed =
            "0000000000000007: the image was requested several times and never arrived intact";
        assert!(output.err.starts_with(failed), "{name}: {output:?}");
    }
}
