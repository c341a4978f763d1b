//! R2 R6: a client that is killed at any moment, and an output folder that vanishes.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::{scale, tell};
use crate::support::bytes::*;
use crate::support::files::{noise, pictures as pictures_in};
use crate::support::process::{Place, eventually};
use crate::support::proxy::Proxy;

/// Numbers that are the same in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % limit
    }
}

/// Images of 1 KB to 1.5 MB, most of them small.
fn library() -> Vec<Picture> {
    (0..400)
        .map(|n| {
            let len = match n % 20 {
                0 => 1_500_000,
                1..4 => 200_000,
                _ => 1_000 + n * 31,
            };
            Picture::new(&format!("{n:03}.png"), noise(len, n as u64))
        })
        .collect()
}

/// The visible files, each whole and right; by name, what tells a file from its successor.
#[track_caller]
fn whole_files(place: &Place, wanted: &BTreeMap<String, Picture>) -> BTreeMap<String, u64> {
    let fetched = place.fetched();
    let inode = |picture: &Picture| {
        let right = wanted.get(&picture.name) == Some(picture);
        assert!(right, "R2: {} is visible and not the image", picture.name);
        let data = fs::metadata(place.output().join(&picture.name)).unwrap();
        (picture.name.clone(), data.ino())
    };
    fetched.iter().map(inode).collect()
}

fn by_name(pictures: &[Picture]) -> BTreeMap<String, Picture> {
    let named = |p: &Picture| (p.name.clone(), p.clone());
    pictures.iter().map(named).collect()
}

#[test]
fn r2_r6_killed_at_random_moments_nothing_unverified_shows_and_nothing_verified_is_lost() {
    let pictures = library();
    let place = Place::of(&pictures);
    let wanted = by_name(&pictures);
    let server = place.server(&["--no-tls"]);
    // How long a run may go on, in microseconds: all of it takes about so long.
    let begun = Instant::now();
    place.client(server.address, &[]).fetched(400, 0);
    let mut longest = u64::try_from(begun.elapsed().as_micros()).unwrap();
    fs::remove_dir_all(place.output()).unwrap();

    let times = scale(12, 200);
    let mut dice = Dice(0x1234_5678_9abc_def1);
    let mut before = BTreeMap::new();
    let (mut killed, mut late, mut came, mut temporaries) = (0, 0, 0, 0);
    for n in 0.. {
        if killed == times {
            break;
        }
        assert!(n < times * 10, "the client is never caught");
        let args: &[&str] = [
            &["--batch"][..],
            &["--batch", "-p", "4"],
            &["--batch", "-k"],
        ][n % 3];
        let mut client = place.start_client(server.address, args);
        // No moment is waited for: any will do.
        std::thread::sleep(Duration::from_micros(dice.below(longest)));
        let signal = [Signal::KILL, Signal::KILL, Signal::TERM, Signal::INT][n % 4];
        if client.has_ended() {
            late += 1;
            longest = longest * 9 / 10;
        } else {
            client.signal(signal);
            killed += 1;
            longest = longest * 51 / 50;
        }
        client.end();
        let after = whole_files(&place, &wanted);
        for (name, inode) in &before {
            assert_eq!(
                after.get(name),
                Some(inode),
                "{name} was lost, or fetched again"
            );
        }
        came += after.len() - before.len();
        temporaries = temporaries.max(hidden(&place));
        before = after;
        // So that there is always something to fetch: some of it goes again.
        if before.len() > 300 {
            for name in before.keys().step_by(2) {
                fs::remove_file(place.output().join(name)).unwrap();
            }
            before = whole_files(&place, &wanted);
        }
    }
    place
        .client(server.address, &["--batch"])
        .fetched(400 - before.len(), before.len());
    let after = whole_files(&place, &wanted);
    assert_eq!(after.len(), 400);
    assert!(
        before
            .iter()
            .all(|(name, inode)| after.get(name) == Some(inode))
    );
    assert!(hidden(&place) <= 1, "temporary files are left");
    tell!(
        "{killed} times killed ({late} had ended before): {came} images came meanwhile, none wrong, none lost; at most {temporaries} hidden files between, at the end the index alone"
    );
}

/// How many hidden files are in the output folder.
fn hidden(place: &Place) -> usize {
    let Ok(entries) = fs::read_dir(place.output()) else {
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
fn r2_an_output_folder_that_vanishes_is_a_failure_and_the_next_run_completes() {
    let pictures = library();
    let place = Place::of(&pictures);
    let wanted = by_name(&pictures);
    let server = place.server(&["--no-tls"]);
    let times = scale(6, 60);
    for n in 0..times {
        let args: &[&str] = [&[][..], &["-p", "4"], &["--batch"]][n % 3];
        // It goes when so much has passed, and the rest comes afterwards.
        let proxy = Proxy::start(
            server.address,
            20_000 + n as u64 * 40_000_000 / times as u64,
        );
        let mut client = place.start_client(proxy.address, args);
        eventually("the moment is here", || proxy.is_spent());
        let gone = place.path().join("gone");
        if n % 2 == 0 {
            // What is under way may still be written while it is removed.
            while place.output().exists() {
                let _ = fs::remove_dir_all(place.output());
            }
            proxy.open(server.address);
            assert_eq!(client.end().code(), Some(8), "{n}");
        } else {
            // Moved, it is the same folder: the client has it in its hands.
            fs::rename(place.output(), &gone).unwrap();
            proxy.open(server.address);
            assert_eq!(client.end().code(), Some(0), "{n}");
            let moved = pictures_in(&gone);
            assert!(moved.iter().eq(wanted.values()), "R2: {}", moved.len());
            fs::remove_dir_all(&gone).unwrap();
        }
        whole_files(&place, &wanted);
        let _ = fs::remove_dir_all(place.output());
    }
    place.client(server.address, &["--batch"]).fetched(400, 0);
    assert_eq!(whole_files(&place, &wanted).len(), 400);
    tell!(
        "the folder was removed {} times, each a failure (8), and moved {} times, and was filled there; the next run completes",
        times.div_ceil(2),
        times / 2
    );
}
