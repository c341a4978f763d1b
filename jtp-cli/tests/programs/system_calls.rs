//! How many system calls the programs make for each small image: bounds, so that no call is added unnoticed.
#![cfg(target_os = "linux")]

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use crate::support::*;

/// More images than a program makes calls at its start.
const IMAGES: u64 = 200;

/// Calls that do not depend on the number of images, and differ from run to run.
const SLACK: u64 = 100;

/// Calls whose number depends on how the threads take turns, and on the memory allocator.
const UNRELATED: &[&str] = &[
    "futex",
    "epoll_wait",
    "sched_yield",
    "poll",
    "recvfrom",
    "restart_syscall", // waiting
    "brk",
    "madvise",
    "mmap",
    "mprotect",
    "munmap", // memory
];

/// Calls by name.
struct Calls(HashMap<String, u64>);

impl Calls {
    /// Reads the summary of `strace -c`.
    fn read(path: &Path) -> Calls {
        let text = fs::read_to_string(path).unwrap();
        let rows = text.lines().filter_map(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            let count = columns.get(3)?.parse().ok()?;
            Some(((*columns.last()?).to_owned(), count))
        });
        Calls(rows.filter(|(name, _)| name != "total").collect())
    }

    fn of(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    fn since(&self, before: &Calls, name: &str) -> u64 {
        self.of(name).saturating_sub(before.of(name))
    }

    /// Asserts that only these calls are made for each image: each at most once.
    #[track_caller]
    fn assert_once_for_each_image(&self, before: &Calls, allowed: &[&str]) {
        let related = |name: &&String| !UNRELATED.contains(&name.as_str());
        for name in self.0.keys().filter(related) {
            // Debug builds look at each descriptor before they close it.
            let is_check = name == "fcntl" && cfg!(debug_assertions);
            let most = match is_check || allowed.contains(&name.as_str()) {
                true => IMAGES + SLACK,
                false => SLACK,
            };
            let count = self.since(before, name);
            assert!(count <= most, "{count} calls of {name} for {IMAGES} images");
        }
    }
}

/// A folder with [`IMAGES`] small images. `None` if calls cannot be counted here.
fn small_images() -> Option<TestDir> {
    if !jtp_kit::has_strace() {
        return None;
    }
    let dir = TestDir::new();
    for n in 0..IMAGES {
        let path = dir.path(&format!("images/{n}.png"));
        fs::write(path, noise(3000, n)).unwrap();
    }
    Some(dir)
}

#[test]
fn the_client_calls_each_function_at_most_once_for_each_small_image() {
    let Some(dir) = small_images() else { return };
    let server = dir.serve("");
    let strace = format!("-f -qq -c -o calls {CLIENT} --addr {}", server.address);
    let output = dir.run("strace", &strace);
    output.assert_exit(0);
    assert_eq!(dir.files("output"), dir.files("images"));
    let calls = Calls::read(&dir.path("calls"));
    // The last two are for its record in the index: an exact mtime, and the file's state after the rename.
    let once = [
        "openat2",
        "openat",
        "write",
        "close",
        "renameat2",
        "utimensat",
        "statx",
    ];
    calls.assert_once_for_each_image(&Calls(HashMap::new()), &once);
    // Creating by one of two calls.
    let opened = calls.of("openat2") + calls.of("openat");
    assert!(opened <= IMAGES + SLACK, "{opened} files opened");
}

/// The calls of a server to which the client fetches all images `fetches` times.
fn server_calls(dir: &TestDir, fetches: usize) -> Calls {
    let log = format!("calls-{fetches}");
    // With -D the process is the server, which ends with the test, and not strace.
    let mut command = dir.command("strace", &format!("-D -f -qq -c -o {log} {SERVER}"));
    command.args(["--bind", "127.0.0.1:0", "--no-watch"]);
    let server = Process::listening(command);
    for n in 0..fetches {
        let out = format!("output-{fetches}-{n}");
        dir.fetch(&server, &format!("--out {out}")).assert_exit(0);
        assert_eq!(dir.files(&out), dir.files("images"));
    }
    server.stop().assert_exit(0);
    let path = dir.path(&log);
    // The last line is written at once with the others.
    wait_until("the summary of strace", || {
        fs::read_to_string(&path).is_ok_and(|text| text.contains("total"))
    });
    Calls::read(&path)
}

#[test]
fn the_server_opens_reads_checks_and_closes_each_small_image_once_and_then_has_it_in_memory() {
    let Some(dir) = small_images() else { return };
    // Reads the images, and writes the index that the others use.
    server_calls(&dir, 1);
    let [none, once, twice] = [0, 1, 2].map(|fetches| server_calls(&dir, fetches));
    let allowed = ["openat2", "openat", "pread64", "statx", "fstat", "close"];
    once.assert_once_for_each_image(&none, &allowed);
    // S13: its metadata are looked at after it was read.
    let looks = ["statx", "fstat", "newfstatat"].map(|name| once.since(&none, name));
    assert!(looks.iter().sum::<u64>() <= IMAGES + SLACK, "{looks:?}");
    twice.assert_once_for_each_image(&once, &[]);
}
