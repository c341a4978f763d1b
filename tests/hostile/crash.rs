//! R2 R6: clients that are killed at random moments, and output folders that are removed.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use jtp_kit::Rng;
use rustix::process::Signal;

use super::{report_line, scale};
use crate::support::bytes::*;
use crate::support::files::{images_in, noise};
use crate::support::process::{WorkDir, wait_until};
use crate::support::proxy::Proxy;

/// 400 images of 1 KB to 1.5 MB, most of them small.
fn library() -> Vec<TestImage> {
    (0..400)
        .map(|n| {
            let len = match n % 20 {
                0 => 1_500_000,
                1..4 => 200_000,
                _ => 1_000 + n * 31,
            };
            TestImage::new(&format!("{n:03}.png"), noise(len, n as u64))
        })
        .collect()
}

/// Checks that each visible file is complete and correct; returns their inodes by name.
#[track_caller]
fn check_files(workdir: &WorkDir, expected: &BTreeMap<String, TestImage>) -> BTreeMap<String, u64> {
    let fetched = workdir.fetched();
    let inode = |image: &TestImage| {
        let right = expected.get(&image.name) == Some(image);
        assert!(right, "R2: {} is visible and is not the image", image.name);
        let data = fs::metadata(workdir.output().join(&image.name)).unwrap();
        (image.name.clone(), data.ino())
    };
    fetched.iter().map(inode).collect()
}

fn by_name(images: &[TestImage]) -> BTreeMap<String, TestImage> {
    let named = |p: &TestImage| (p.name.clone(), p.clone());
    images.iter().map(named).collect()
}

#[test]
fn r2_r6_killed_client_shows_no_unverified_and_loses_no_verified_file() {
    let images = library();
    let workdir = WorkDir::of(&images);
    let expected = by_name(&images);
    let server = workdir.server("--no-tls");
    // A full run takes about this long, in microseconds.
    let start = Instant::now();
    workdir.client(server.addr(), "").assert_fetched(400, 0);
    let mut longest = u64::try_from(start.elapsed().as_micros()).unwrap();
    fs::remove_dir_all(workdir.output()).unwrap();

    let times = scale(12, 200);
    let seed = jtp_kit::seed().unwrap_or(1);
    println!("JTP_SEED={seed}");
    let mut rng = Rng::new(seed);
    let mut before = BTreeMap::new();
    let (mut killed, mut late, mut fetched, mut temporaries) = (0, 0, 0, 0);
    for n in 0.. {
        if killed == times {
            break;
        }
        assert!(n < times * 10, "the client always ends before it is killed");
        let args: &[&str] = [
            &["--batch"][..],
            &["--batch", "-p", "4"],
            &["--batch", "-k"],
        ][n % 3];
        let mut client = workdir.start_client(server.addr(), args);
        // The kill happens at a random time.
        std::thread::sleep(Duration::from_micros(rng.below(longest)));
        let signal = [Signal::KILL, Signal::KILL, Signal::TERM, Signal::INT][n % 4];
        if client.has_ended() {
            late += 1;
            longest = longest * 9 / 10;
        } else {
            client.signal(signal);
            killed += 1;
            longest = longest * 51 / 50;
        }
        client.wait();
        let after = check_files(&workdir, &expected);
        for (name, inode) in &before {
            assert_eq!(
                after.get(name),
                Some(inode),
                "{name} was lost or fetched again"
            );
        }
        fetched += after.len() - before.len();
        temporaries = temporaries.max(hidden(&workdir));
        before = after;
        // Removes some files, so that there is always something to fetch.
        if before.len() > 300 {
            for name in before.keys().step_by(2) {
                fs::remove_file(workdir.output().join(name)).unwrap();
            }
            before = check_files(&workdir, &expected);
        }
    }
    workdir
        .client(server.addr(), "--batch")
        .assert_fetched(400 - before.len(), before.len());
    let after = check_files(&workdir, &expected);
    assert_eq!(after.len(), 400);
    assert!(
        before
            .iter()
            .all(|(name, inode)| after.get(name) == Some(inode))
    );
    assert!(hidden(&workdir) <= 1, "no temporary files remain");
    report_line!(
        "killed {killed} times ({late} runs had ended before): {fetched} images fetched, none wrong, none lost; at most {temporaries} hidden files meanwhile, only the index at the end"
    );
}

/// The number of hidden files in the output folder.
fn hidden(workdir: &WorkDir) -> usize {
    let Ok(entries) = fs::read_dir(workdir.output()) else {
        return 0;
    };
    entries
        .filter(|entry| {
            entry
                .as_ref()
                .unwrap()
                .file_name()
                .as_encoded_bytes()
                .starts_with(b".")
        })
        .count()
}

#[test]
fn r2_removed_output_folder_fails_and_the_next_run_completes() {
    let images = library();
    let workdir = WorkDir::of(&images);
    let expected = by_name(&images);
    let server = workdir.server("--no-tls");
    let times = scale(6, 60);
    for n in 0..times {
        let args: &[&str] = [&[][..], &["-p", "4"], &["--batch"]][n % 3];
        // The folder is removed when this many bytes have passed; then the rest is forwarded.
        let proxy = Proxy::start(server.addr(), 20_000 + n as u64 * 40_000_000 / times as u64);
        let client = workdir.start_client(proxy.address, args);
        wait_until("the proxy's limit is reached", || proxy.is_spent());
        // The first images may be on their way before the client has read the catalog.
        wait_until("the folder is there", || workdir.output().exists());
        let gone = workdir.path().join("gone");
        if n % 2 == 0 {
            // The client may still write a file while the folder is removed.
            while workdir.output().exists() {
                let _ = fs::remove_dir_all(workdir.output());
            }
            proxy.open(server.addr());
            client.wait().assert_exit(8);
        } else {
            // A moved folder remains open in the client, which fails since it is no longer the output folder.
            fs::rename(workdir.output(), &gone).unwrap();
            proxy.open(server.addr());
            client.wait().assert_exit(8);
            let moved = images_in(&gone);
            let is_complete = |image: &TestImage| expected.get(&image.name) == Some(image);
            assert!(moved.iter().all(is_complete), "R2: {}", moved.len());
            fs::remove_dir_all(&gone).unwrap();
        }
        check_files(&workdir, &expected);
        let _ = fs::remove_dir_all(workdir.output());
    }
    workdir
        .client(server.addr(), "--batch")
        .assert_fetched(400, 0);
    assert_eq!(check_files(&workdir, &expected).len(), 400);
    report_line!(
        "the folder was removed {} times (exit code 8 each) and moved {} times (and completed there); the next run completes",
        times.div_ceil(2),
        times / 2
    );
}
