//! Hostile peers against the real programs, and failing disks. Linux only: the tests read `/proc`.
//!
//! `cargo test --test integration hostile::` takes a few seconds and is part of the ordinary test run. At full scale, with
//! its figures printed, it takes some minutes on two cores:
//!
//! ```sh
//! JTP_HOSTILE=full cargo test --release --test integration hostile:: -- --nocapture --test-threads 1
//! ```
//!
//! Attackers and honest clients share the machine, so the slowdown of the honest ones depends as much on its cores as
//! on the server. Tests of failing disks and of vanished peers need root or user namespaces; without them they print
//! that they are skipped.

mod disk;
mod floods;
mod handshakes;
mod images;
mod logs;
mod memory;
mod names;
mod readers;
mod slow;
mod swap;
mod tls;
mod vanished;
mod watchers;

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::support::bytes::*;
use crate::support::files::images_in;
use crate::support::peer::Peer;
pub(crate) use crate::support::peer::connect_from;
use crate::support::process::{Args, Output, Process, WorkDir, peak_memory};

/// Whether this is a run at full scale.
pub(crate) fn is_full() -> bool {
    std::env::var_os("JTP_HOSTILE").is_some_and(|scale| scale == "full")
}

/// `quick` in an ordinary run, `full` at full scale.
pub(crate) fn scale(quick: usize, full: usize) -> usize {
    if is_full() { full } else { quick }
}

/// Prints a line of the report; shown with `--nocapture`.
macro_rules! report_line {
    ($($text:tt)*) => { println!("      {}", format_args!($($text)*)) };
}
pub(crate) use report_line;

/// A number of bytes, displayed in MiB.
pub(crate) struct Mib(pub(crate) u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0 * 10 / (1 << 20);
        write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
    }
}

/// A runtime for up to thousands of attackers.
pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// A client that fetches all images on a new connection each time and compares every byte.
pub(crate) struct HonestClient {
    address: SocketAddr,
    expected: Vec<u8>,
}

impl HonestClient {
    /// For a server that compresses nothing.
    pub(crate) fn of(server: &Process, workdir: &WorkDir) -> HonestClient {
        HonestClient {
            address: server.addr(),
            expected: images_of(b"JTPG", &images_in(&workdir.images())),
        }
    }

    /// Fetches all images once.
    #[track_caller]
    pub(crate) fn fetch(&self) -> Duration {
        let start = Instant::now();
        let mut peer = Peer::connect(self.address);
        peer.send([LIST_AND_GET, 0]);
        peer.expect(&self.expected);
        peer.expect_end();
        start.elapsed()
    }

    /// The median duration of fetches in this time, of at least five.
    #[track_caller]
    fn median_in(&self, time: Duration) -> Duration {
        let start = Instant::now();
        let mut durations = Vec::new();
        while durations.len() < 5 || start.elapsed() < time {
            durations.push(self.fetch());
        }
        durations.sort_unstable();
        durations[durations.len() / 2]
    }
}

/// A server that is about to be attacked: what it took before, and how long an honest client took.
pub(crate) struct Attacked<'a> {
    server: &'a Process,
    pub(crate) honest: HonestClient,
    baseline: Duration,
    /// The server's peak memory in bytes.
    pub(crate) before: u64,
}

impl Attacked<'_> {
    /// How long an honest client is measured, without and under attack.
    fn measuring_time() -> Duration {
        Duration::from_millis(if is_full() { 3_000 } else { 200 })
    }

    pub(crate) fn new<'a>(server: &'a Process, workdir: &WorkDir) -> Attacked<'a> {
        let honest = HonestClient::of(server, workdir);
        let baseline = honest.median_in(Attacked::measuring_time());
        Attacked {
            server,
            honest,
            baseline,
            before: peak_memory(server.id()).unwrap(),
        }
    }

    /// Measures the honest client under attack, and prints the report line. The server's peak memory must be below this.
    #[track_caller]
    pub(crate) fn report(&self, what: &str, most: u64) {
        let under_attack = self.honest.median_in(Attacked::measuring_time());
        let peak = peak_memory(self.server.id()).unwrap();
        report_line!(
            "{what}: peak memory {} (before: {}); an honest client takes {under_attack:?} (before: {:?})",
            Mib(peak),
            Mib(self.before),
            self.baseline,
        );
        assert!(peak < most, "{what}: {}", Mib(peak));
    }
}

/// The number of sockets that a process has open.
pub(crate) fn sockets(pid: u32) -> usize {
    let Ok(descriptors) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return 0;
    };
    let is_socket = |path: PathBuf| {
        fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    descriptors
        .filter(|entry| entry.as_ref().is_ok_and(|entry| is_socket(entry.path())))
        .count()
}

/// Runs `client` to its end. Returns its output and its peak memory in bytes.
#[track_caller]
pub(crate) fn client(
    workdir: &WorkDir,
    address: SocketAddr,
    args: &(impl Args + ?Sized),
) -> (Output, u64) {
    let mut command = workdir.client_command(address, args);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    let mut client = Process::spawn(command);
    let start = Instant::now();
    let mut peak = 0;
    while !client.has_ended() {
        peak = peak.max(peak_memory(client.id()).unwrap_or(0));
        let is_late = start.elapsed() > Duration::from_secs(300);
        assert!(!is_late, "the client does not end: {}", client.printed());
        std::thread::sleep(Duration::from_millis(2));
    }
    (client.wait(), peak)
}

/// An image as a hostile server lists and sends it.
pub(crate) fn hostile_image(name: &str, id: u64, flags: u8, data: Vec<u8>) -> TestImage {
    TestImage {
        name: name.to_owned(),
        bytes: data,
        id,
        kind: flags,
    }
}
