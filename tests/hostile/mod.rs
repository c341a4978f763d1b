//! Shared helpers: the scale, the honest client, hostile servers.

mod batch;
mod buffers;
mod cache;
mod catalogs;
mod crash;
mod disk;
mod floods;
mod folders;
mod handshakes;
mod images;
mod logs;
mod names;
mod readers;
mod slow;
mod swap;
mod tls;
mod vanished;
mod watchers;

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};
use tokio::runtime::Runtime;

use crate::support::bytes::*;
use crate::support::files::images_in;
use crate::support::peer::Peer;
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

/// The durations of an honest client's fetches.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FetchTimes {
    count: usize,
    median: Duration,
    worst: Duration,
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

    /// Fetches repeatedly for this time, at least five times.
    #[track_caller]
    pub(crate) fn fetch_for(&self, time: Duration) -> FetchTimes {
        let start = Instant::now();
        let mut durations = Vec::new();
        while durations.len() < 5 || start.elapsed() < time {
            durations.push(self.fetch());
        }
        durations.sort_unstable();
        FetchTimes {
            count: durations.len(),
            median: durations[durations.len() / 2],
            worst: durations[durations.len() - 1],
        }
    }
}

impl FetchTimes {
    /// The slowdown relative to a baseline.
    pub(crate) fn ratio(self, baseline: FetchTimes) -> f64 {
        self.median.as_secs_f64() / baseline.median.as_secs_f64()
    }
}

impl fmt::Display for FetchTimes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} fetches, median {:.1} ms, worst {:.1} ms",
            self.count,
            self.median.as_secs_f64() * 1e3,
            self.worst.as_secs_f64() * 1e3
        )
    }
}

/// How long an honest client is measured, without and under attack.
pub(crate) fn measuring_time() -> Duration {
    Duration::from_millis(if is_full() { 3_000 } else { 200 })
}

/// Prints the report line of an attack on a server.
pub(crate) fn report(
    what: &str,
    server: &Process,
    before: u64,
    baseline: FetchTimes,
    under_attack: FetchTimes,
) {
    report_line!(
        "{what}: peak memory {} (before: {}); honest client: {under_attack}; {:.2} times as long as without attack",
        Mib(peak_memory(server.id()).unwrap()),
        Mib(before),
        under_attack.ratio(baseline),
    );
}

/// Connects from the loopback address 127.0.0.`last`.
pub(crate) fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from(([127, 0, 0, last], 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
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

/// Runs `client` to its end. Returns its output, what was measured: its peak memory and the time.
#[track_caller]
pub(crate) fn client(
    workdir: &WorkDir,
    address: SocketAddr,
    args: &(impl Args + ?Sized),
) -> (Output, Measured) {
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
    let elapsed = start.elapsed();
    (client.wait(), Measured { peak, elapsed })
}

/// What a client took.
#[derive(Debug)]
pub(crate) struct Measured {
    /// Bytes.
    pub(crate) peak: u64,
    pub(crate) elapsed: Duration,
}

/// A request as read by a scripted server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ParsedRequest {
    List,
    Get(Vec<u64>),
    /// The IDs that the client has.
    Batch(Vec<u64>),
    All,
    Watch,
    Other,
}

/// Reads the next request; `None` at the end of the stream.
pub(crate) fn read_request(stream: &mut TcpStream) -> Option<ParsedRequest> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    Some(match head[0] {
        GET => {
            let mut count = [0];
            stream.read_exact(&mut count).ok()?;
            ParsedRequest::Get(read_ids(stream, count[0].into())?)
        }
        BATCH => {
            let (mut count, mut shift) = (0, 0);
            loop {
                let mut byte = [0];
                stream.read_exact(&mut byte).ok()?;
                count |= usize::from(byte[0] & 0x7f) << shift;
                shift += 7;
                if byte[0] < 0x80 {
                    break;
                }
            }
            ParsedRequest::Batch(read_ids(stream, count)?)
        }
        LIST => ParsedRequest::List,
        LIST_AND_GET => ParsedRequest::All,
        4 => ParsedRequest::Watch,
        _ => ParsedRequest::Other,
    })
}

fn read_ids(stream: &mut TcpStream, count: usize) -> Option<Vec<u64>> {
    let mut ids = vec![0; count * 8];
    stream.read_exact(&mut ids).ok()?;
    let id = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
    Some(ids.chunks(8).map(id).collect())
}

/// A server that calls `serve` for each connection on its own thread.
pub(crate) fn scripted_server(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            thread::spawn(move || serve(stream));
        }
    });
    address
}

/// An image of a hostile server.
#[derive(Debug, Clone)]
pub(crate) struct HostileImage {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) flags: u8,
    /// The body as sent.
    pub(crate) data: Vec<u8>,
}

impl HostileImage {
    pub(crate) fn raw(name: &str, bytes: &[u8]) -> HostileImage {
        HostileImage {
            name: name.to_owned(),
            id: id_of(bytes),
            flags: 0,
            data: bytes.to_vec(),
        }
    }

    pub(crate) fn packed(name: &str, id: u64, data: Vec<u8>) -> HostileImage {
        HostileImage {
            name: name.to_owned(),
            id,
            flags: ZSTD | 7,
            data,
        }
    }
}

/// A server that lists these images and sends them as they are.
pub(crate) fn hostile_server(images: Vec<HostileImage>) -> SocketAddr {
    let entries: Vec<u8> = images
        .iter()
        .flat_map(|image| {
            entry(
                image.flags & 0x0f,
                image.id,
                &image.name,
                u32::try_from(image.data.len()).unwrap(),
            )
        })
        .collect();
    let list = [head(b"JTPL", images.len()), entries].concat();
    scripted_server(move |mut stream| {
        while let Some(read_request) = read_request(&mut stream) {
            let ids: Vec<u64> = match read_request {
                ParsedRequest::List => {
                    let _ = stream.write_all(&list);
                    continue;
                }
                ParsedRequest::All => {
                    let _ = stream.write_all(&head(b"JTPG", images.len()));
                    images.iter().map(|image| image.id).collect()
                }
                ParsedRequest::Batch(have) => {
                    let ids = images.iter().map(|image| image.id);
                    let missing: Vec<u64> = ids.filter(|id| !have.contains(id)).collect();
                    let _ = stream.write_all(&head(b"JTPB", missing.len()));
                    missing
                }
                ParsedRequest::Get(ids) => {
                    let _ = stream.write_all(&data_head(u8::try_from(ids.len()).unwrap()));
                    ids
                }
                other => panic!("{other:?}"),
            };
            for id in ids {
                let image = images.iter().find(|image| image.id == id).unwrap();
                if stream
                    .write_all(&packet(image.flags, id, &image.data))
                    .is_err()
                {
                    return;
                }
            }
        }
    })
}
