//! The server, which is stopped, killed and restarted, behind a network that cuts connections.

use std::fs::OpenOptions;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::tree::{Catalog, Shared};
use crate::support::bytes::{LIST, LIST_AND_GET, ZSTD, id_of};
use crate::support::peer::Peer;
use crate::support::process::{Process, WorkDir};
use crate::support::proxy::Proxy;

/// How long a condition may take to become true. A server finds most changes within 2 s, but a file that was changed
/// under another name (a hard link) which was gone soon after only by the scan of each minute.
pub(super) const DEADLINE: Duration = Duration::from_secs(90);

pub(super) struct Server {
    args: Vec<&'static str>,
    pub(super) recursive: bool,
    pub(super) tls: bool,
    process: Option<Process>,
    stopped: bool,
    network: Proxy,
    /// File descriptors and memory in bytes at the first quiet point of this process.
    first_use: Option<(usize, u64)>,
}

impl Server {
    pub(super) fn start(workdir: &WorkDir, args: Vec<&'static str>) -> Server {
        let process = spawn(workdir, &args);
        let network = Proxy::start(process.addr(), u64::MAX);
        Server {
            recursive: args.contains(&"--recursive"),
            tls: !args.contains(&"--no-tls"),
            args,
            process: Some(process),
            stopped: false,
            network,
            first_use: None,
        }
    }

    /// The address that clients connect to.
    pub(super) fn address(&self) -> SocketAddr {
        self.network.address
    }

    pub(super) fn is_running(&self) -> bool {
        self.process.is_some()
    }

    pub(super) fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            drop(process);
        }
        self.stopped = false;
    }

    /// SIGTERM, which a server answers with exit code 0.
    pub(super) fn end(&mut self) {
        self.go_on();
        if let Some(process) = self.process.take() {
            process.stop().assert_exit(0);
        }
    }

    pub(super) fn stop(&mut self) {
        self.signal(Signal::STOP);
        self.stopped = true;
    }

    pub(super) fn go_on(&mut self) {
        if std::mem::take(&mut self.stopped) {
            self.signal(Signal::CONT);
        }
    }

    pub(super) fn cut(&self) {
        self.network.cut();
    }

    pub(super) fn cut_after(&self, bytes: u64) {
        self.network.cut_after(bytes);
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            kill_process(pid(process), signal).unwrap();
        }
    }

    /// Starts it if it does not run, and repairs the network.
    pub(super) fn restore(&mut self, workdir: &WorkDir) {
        self.go_on();
        let process = self.process.get_or_insert_with(|| {
            self.first_use = None;
            spawn(workdir, &self.args)
        });
        self.network.open(process.addr());
    }

    /// Waits until the server lists and sends exactly the images of its folder; returns the list and the time that it took.
    pub(super) fn await_catalog(&self, workdir: &WorkDir) -> (Catalog, Duration) {
        let shared = Shared::of(&workdir.images(), self.recursive);
        let address = self.process.as_ref().unwrap().addr();
        let start = Instant::now();
        loop {
            let listed = catalog(address);
            let differences = shared.differences(&listed);
            // A file with a new mode or link has the same entry; the server sends it when it has read it again. // S13
            let sent = sent_images(address);
            let is_sent = sent == listed.iter().map(|(_, id)| *id).collect::<Vec<_>>();
            if differences.is_empty() && is_sent {
                return (listed, start.elapsed());
            }
            assert!(
                start.elapsed() < DEADLINE,
                "the server's list is not its folder: {differences:#?}, {listed:x?}, sent: {sent:x?}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Checks that the file descriptors and the memory of the process do not grow.
    pub(super) fn check_use(&mut self, connections: usize) {
        let process = self.process.as_ref().unwrap();
        let used = (descriptors(process), memory(process));
        let first = *self.first_use.get_or_insert(used);
        let most = first.0 + connections + 24;
        assert!(
            used.0 <= most,
            "file descriptors of the server: {first:?}, now {used:?}"
        );
        assert!(
            used.1 < first.1 + (64 << 20),
            "memory of the server: {first:?}, now {used:?}"
        );
    }
}

fn pid(process: &Process) -> Pid {
    Pid::from_raw(i32::try_from(process.id()).unwrap()).unwrap()
}

fn descriptors(process: &Process) -> usize {
    let folder = PathBuf::from(format!("/proc/{}/fd", process.id()));
    std::fs::read_dir(folder).unwrap().count()
}

fn memory(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<u64>().unwrap() * 1024
}

fn spawn(workdir: &WorkDir, args: &[&str]) -> Process {
    let log = OpenOptions::new()
        .append(true)
        .create(true)
        .open(workdir.server_log());
    workdir.server_with_stderr(args, log.unwrap())
}

/// The catalog of a server, which must be in order and have each image once. // S4 S5
pub(super) fn catalog(address: SocketAddr) -> Catalog {
    let mut peer = Peer::connect(address);
    peer.send([LIST, 0]);
    peer.expect(b"JTPL");
    let count = peer.varint();
    let entries: Vec<_> = (0..count)
        .map(|_| {
            let (_, id, name, _) = peer.entry();
            (name, id)
        })
        .collect();
    assert!(entries.is_sorted(), "the catalog is in order: {entries:?}");
    let ids: std::collections::HashSet<u64> = entries.iter().map(|(_, id)| *id).collect();
    assert_eq!(ids.len(), entries.len(), "each image once: {entries:?}");
    entries.into_iter().collect()
}

/// The IDs of all images that a server sends, up to an error. Their content is right. // S3 S12 S13
fn sent_images(address: SocketAddr) -> Vec<u64> {
    let mut peer = Peer::connect(address);
    peer.send([LIST_AND_GET, 0]);
    let bytes = peer.read_to_end();
    let mut rest = &bytes[..];
    let mut sent = Vec::new();
    if take(&mut rest, 4) != Some(b"JTPG") {
        return sent;
    }
    let count = take_varint(&mut rest);
    while let Some(id) = take_packet(&mut rest) {
        sent.push(id);
    }
    assert!(count.is_none_or(|count| sent.len() <= count));
    sent
}

/// The ID of the next whole packet.
fn take_packet(rest: &mut &[u8]) -> Option<u64> {
    let flags = take(rest, 1)?[0];
    if flags == b'J' {
        return None;
    }
    let length = take_varint(rest)?;
    let id = u64::from_be_bytes(take(rest, 8)?.try_into().unwrap());
    let data = take(rest, length)?;
    let image = match flags & ZSTD {
        0 => data.to_vec(),
        _ => zstd::decode_all(data).unwrap(),
    };
    assert_eq!(
        id_of(&image),
        id,
        "a whole packet has the bytes of its image"
    );
    Some(id)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (taken, left) = rest.split_at_checked(count)?;
    *rest = left;
    Some(taken)
}

fn take_varint(rest: &mut &[u8]) -> Option<usize> {
    let mut value = 0;
    for place in 0..5 {
        let byte = take(rest, 1)?[0];
        value |= usize::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(value);
        }
    }
    panic!("a varint of more than five bytes");
}
