//! What the tests of this program share: the scale, the honest client, the crowd of attackers.

mod batch;
mod catalogs;
mod crash;
mod disk;
mod floods;
mod images;
mod readers;
mod slow;
mod tls;
mod vanished;

use std::fmt;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;

use crate::support::bytes::*;
use crate::support::files::pictures;
use crate::support::peer::Peer;
use crate::support::process::{Place, Server, peak_memory};

/// Whether this is the run at full scale.
pub(crate) fn is_full() -> bool {
    std::env::var_os("JTP_HOSTILE").is_some_and(|scale| scale == "full")
}

/// So many in a quick run, so many at full scale.
pub(crate) fn scale(quick: usize, full: usize) -> usize {
    if is_full() { full } else { quick }
}

/// A line of the report; to be seen with `--nocapture`.
macro_rules! tell {
    ($($text:tt)*) => { println!("      {}", format_args!($($text)*)) };
}
pub(crate) use tell;

/// Bytes for a reader.
pub(crate) struct Mib(pub(crate) u64);

impl fmt::Display for Mib {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0 * 10 / (1 << 20);
        write!(f, "{}.{} MiB", tenths / 10, tenths % 10)
    }
}

/// For the attackers, of whom there may be thousands.
pub(crate) fn runtime() -> Runtime {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().build().unwrap()
}

/// A client that fetches all images, each time on a new connection, and compares every byte.
pub(crate) struct Honest {
    address: SocketAddr,
    wanted: Vec<u8>,
}

/// How an honest client fared.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Served {
    count: usize,
    median: Duration,
    worst: Duration,
}

impl Honest {
    /// Of a server that compresses nothing.
    pub(crate) fn of(server: &Server, place: &Place) -> Honest {
        Honest {
            address: server.address,
            wanted: images_of(b"JTPG", &pictures(&place.images())),
        }
    }

    /// Fetches everything once.
    #[track_caller]
    pub(crate) fn fetch(&self) -> Duration {
        let begun = Instant::now();
        let mut peer = Peer::connect(self.address);
        peer.send([LIST_AND_GET, 0]);
        peer.expect(&self.wanted);
        peer.expect_end();
        begun.elapsed()
    }

    /// Fetches again and again, for so long and at least five times.
    #[track_caller]
    pub(crate) fn fetch_for(&self, time: Duration) -> Served {
        let begun = Instant::now();
        let mut took = Vec::new();
        while took.len() < 5 || begun.elapsed() < time {
            took.push(self.fetch());
        }
        took.sort_unstable();
        Served {
            count: took.len(),
            median: took[took.len() / 2],
            worst: took[took.len() - 1],
        }
    }
}

impl Served {
    /// How many times slower than in peace.
    pub(crate) fn ratio(self, peace: Served) -> f64 {
        self.median.as_secs_f64() / peace.median.as_secs_f64()
    }
}

impl fmt::Display for Served {
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

/// How long honest clients are watched, in peace and under attack.
pub(crate) fn a_while() -> Duration {
    Duration::from_millis(if is_full() { 3_000 } else { 200 })
}

/// The line of the report that every attack on a server has.
pub(crate) fn report(what: &str, server: &Server, before: u64, peace: Served, attacked: Served) {
    tell!(
        "{what}: peak memory {} (before: {}); honest: {attacked}; {:.2} times as long as in peace",
        Mib(server.peak_memory()),
        Mib(before),
        attacked.ratio(peace),
    );
}

/// The connections that a process has open.
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

/// How a program ended that was looked at while it ran.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) code: Option<i32>,
    pub(crate) said: String,
    pub(crate) peak: u64,
    pub(crate) took: Duration,
}

/// Runs `client` to its end and looks at its memory.
#[track_caller]
pub(crate) fn client(place: &Place, address: SocketAddr, args: &[&str]) -> Looked {
    let address = address.to_string();
    let args = [&["--addr", &*address], args].concat();
    let log = place.path().join("client.log");
    let child = place
        .command("client", &args)
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    look(child, || fs::read_to_string(&log).unwrap())
}

fn look(mut child: Child, said: impl FnOnce() -> String) -> Looked {
    let begun = Instant::now();
    let mut peak = 0;
    let code = loop {
        peak = peak.max(peak_memory(child.id()).unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            break status.code();
        }
        if begun.elapsed() > Duration::from_secs(300) {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("the client does not end: {}", said());
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    Looked {
        code,
        said: said(),
        peak,
        took: begun.elapsed(),
    }
}

/// What a client asks for, as a scripted server reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    List,
    Get(Vec<u64>),
    All,
    Watch,
    Other,
}

/// The next request; `None` once nothing comes. BATCH is never asked for here: nothing is in the folder.
pub(crate) fn asked(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    Some(match head[0] {
        GET => {
            let mut count = [0];
            stream.read_exact(&mut count).ok()?;
            let mut ids = vec![0; usize::from(count[0]) * 8];
            stream.read_exact(&mut ids).ok()?;
            let id = |bytes: &[u8]| u64::from_be_bytes(bytes.try_into().unwrap());
            Asked::Get(ids.chunks(8).map(id).collect())
        }
        LIST => Asked::List,
        LIST_AND_GET => Asked::All,
        4 => Asked::Watch,
        _ => Asked::Other,
    })
}

/// A server that does this with each connection, on a thread of its own.
pub(crate) fn scripted(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> SocketAddr {
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

/// Something that a hostile server has on offer.
#[derive(Debug, Clone)]
pub(crate) struct Ware {
    pub(crate) name: String,
    pub(crate) id: u64,
    pub(crate) flags: u8,
    /// The bytes that travel.
    pub(crate) data: Vec<u8>,
}

impl Ware {
    pub(crate) fn raw(name: &str, bytes: &[u8]) -> Ware {
        Ware {
            name: name.to_owned(),
            id: id_of(bytes),
            flags: 0,
            data: bytes.to_vec(),
        }
    }

    pub(crate) fn packed(name: &str, id: u64, data: Vec<u8>) -> Ware {
        Ware {
            name: name.to_owned(),
            id,
            flags: ZSTD | 7,
            data,
        }
    }
}

/// A server that lists its wares and sends them, however bad.
pub(crate) fn shop(wares: Vec<Ware>) -> SocketAddr {
    let entries: Vec<u8> = wares
        .iter()
        .flat_map(|ware| {
            entry(
                ware.flags & 0x0f,
                ware.id,
                &ware.name,
                u32::try_from(ware.data.len()).unwrap(),
            )
        })
        .collect();
    let list = [head(b"JTPL", wares.len()), entries].concat();
    scripted(move |mut stream| {
        while let Some(asked) = asked(&mut stream) {
            let ids: Vec<u64> = match asked {
                Asked::List => {
                    let _ = stream.write_all(&list);
                    continue;
                }
                Asked::All => {
                    let _ = stream.write_all(&head(b"JTPG", wares.len()));
                    wares.iter().map(|ware| ware.id).collect()
                }
                Asked::Get(ids) => {
                    let _ = stream.write_all(&data_head(u8::try_from(ids.len()).unwrap()));
                    ids
                }
                other => panic!("{other:?}"),
            };
            for id in ids {
                let ware = wares.iter().find(|ware| ware.id == id).unwrap();
                if stream
                    .write_all(&packet(ware.flags, id, &ware.data))
                    .is_err()
                {
                    return;
                }
            }
        }
    })
}
