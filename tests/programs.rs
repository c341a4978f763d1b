//! The programs `server` and `client` as processes.

use std::collections::HashMap;
use std::fs;
use std::time::SystemTime;

use crate::support::bytes::*;
use crate::support::files::{images_in, noise};
use crate::support::process::{WorkDir, wait_until};
use crate::support::proxy::Proxy;
use jtp_kit::{Folder, Signal};

fn names(images: &[TestImage]) -> Vec<&str> {
    images.iter().map(|p| &*p.name).collect()
}

#[track_caller]
fn assert_same(fetched: &[TestImage], expected: &[TestImage]) {
    assert_eq!(names(fetched), names(expected));
    assert!(fetched == expected, "all bytes are equal");
}

#[test]
fn t2_default_flags_work_with_plain_and_tls() {
    let workdir = WorkDir::samples();
    let server = workdir.server(""); // TLS is on, with a self-signed certificate.
    let samples = images_in(&workdir.images());
    workdir.client(server.addr(), "").assert_fetched(14, 0);
    assert_same(&workdir.fetched(), &samples);

    // Over TLS, trusting the server's self-signed certificate.
    workdir
        .client(server.addr(), "--tls --cert cert.pem --out secure")
        .assert_fetched(14, 0);
    assert_same(
        &images_in(&workdir.output().with_file_name("secure")),
        &samples,
    );

    // `--batch` fetches only missing images.
    workdir
        .client(server.addr(), "--batch")
        .assert_fetched(0, 14);
    let added = workdir.add("new.png", &noise(100_000, 1));
    let listed = |id: u64| {
        let list = workdir.client(server.addr(), "--list");
        list.assert_exit(0)
            .out
            .lines()
            .any(|line| line.starts_with(&format!("{id:016x} ")))
    };
    wait_until("the new image is listed", || listed(added.id));
    workdir
        .client(server.addr(), "--batch")
        .assert_fetched(1, 14);
    assert_same(&workdir.fetched(), &images_in(&workdir.images()));
    // Everything again over several connections with keep-alive.
    workdir
        .client(server.addr(), "-p 4 -k --repeat 2")
        .assert_exit(0);
    assert_same(&workdir.fetched(), &images_in(&workdir.images()));

    // S16: SIGTERM ends the server with exit code 0.
    server.stop().assert_exit(0);
}

/// A working folder with 200 images of about 30 KB.
fn many() -> (WorkDir, Vec<TestImage>) {
    let images: Vec<TestImage> = (0..200)
        .map(|n| {
            let len = 20_000 + usize::try_from(n).unwrap() * 97;
            TestImage::new(&format!("{n:03}.png"), noise(len, n))
        })
        .collect();
    (WorkDir::of(&images), images)
}

/// Tells a file from one that was written later in its place: the inode, where there are inodes, and the time of
/// modification.
type FileIdentity = (u64, SystemTime);

/// Checks that each visible file is complete and correct; returns their identities by name.
#[track_caller]
fn check_files(workdir: &WorkDir, images: &[TestImage]) -> HashMap<String, FileIdentity> {
    let fetched = workdir.fetched();
    for file in &fetched {
        let right = images.iter().any(|p| p == file);
        assert!(right, "R2: {} is visible and is not the image", file.name);
    }
    let identity = |p: &TestImage| {
        let data = fs::metadata(workdir.output().join(&p.name)).unwrap();
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(&data);
        #[cfg(not(unix))]
        let inode = 0;
        (p.name.clone(), (inode, data.modified().unwrap()))
    };
    fetched.iter().map(identity).collect()
}

#[test]
fn r2_r5_r6_killed_client_leaves_complete_files_and_the_next_run_fetches_the_rest() {
    let (workdir, images) = many();
    let server = workdir.server("--no-tls");
    let mut before = HashMap::new();
    let mut killed = 0;
    // The client is killed inside LIST, at its end, and inside heads and bodies of many images.
    for moment in [0, 1, 3000, 7000, 7005, 7018, 30_000]
        .into_iter()
        .chain((0..16).map(|n| 250_000 + n * 9_973))
    {
        let proxy = Proxy::start(server.addr(), moment);
        let args: &[&str] = match killed % 3 {
            0 => &["--batch"],
            1 => &["--batch", "-p", "3"],
            _ => &["--batch", "-k"],
        };
        let mut client = workdir.start_client(proxy.address, args);
        // After 250,000 bytes at least one new image is complete, on any number of connections.
        let known = if moment < 250_000 {
            0
        } else {
            before.len() + 1
        };
        wait_until("the proxy's limit is reached", || {
            (proxy.is_spent() && workdir.fetched().len() >= known) || client.has_ended()
        });
        if !client.has_ended() {
            client.signal(Signal::KILL);
            killed += 1;
        }
        client.wait();
        let after = check_files(&workdir, &images);
        for (name, file) in &before {
            assert_eq!(
                after.get(name),
                Some(file),
                "{name} must not be fetched again"
            );
        }
        before = after;
    }
    assert!(killed >= 20, "{killed}");
    assert!(before.len() >= 16, "{} images were fetched", before.len());
    assert!(before.len() < 200, "some images remain");
    workdir
        .client(server.addr(), "--batch")
        .assert_fetched(200 - before.len(), before.len());
    let after = check_files(&workdir, &images);
    assert_eq!(after.len(), 200);
    for (name, file) in &before {
        assert_eq!(
            after.get(name),
            Some(file),
            "{name} must not be fetched again"
        );
    }
    // No temporary files remain.
    assert_eq!(workdir.output().temporaries(), [""; 0]);
}

#[test]
fn r6_client_completes_after_a_server_restart() {
    let (workdir, images) = many();
    for (args, moment) in [
        (&[][..], 2_000_000),
        (&["-p", "3"], 1_000_000),
        (&["-k"], 3_000_000),
    ] {
        let _ = fs::remove_dir_all(workdir.output());
        let server = workdir.server("--no-tls");
        let proxy = Proxy::start(server.addr(), moment);
        let client = workdir.start_client(proxy.address, args);
        wait_until("the proxy's limit is reached", || proxy.is_spent());
        drop(server);
        let server = workdir.server("--no-tls");
        proxy.open(server.addr());
        client.wait().assert_exit(0);
        assert_same(&workdir.fetched(), &images);
        server.stop().assert_exit(0);
    }
}
