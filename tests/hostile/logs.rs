//! Floods of log lines, logs that nobody reads, and text from peers in logs and messages.

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use super::{HonestClient, Mib, client, hostile_image, report_line, scale};
use crate::support::TEST_TIMEOUT;
use crate::support::bytes::*;
use crate::support::peer::Peer;
use crate::support::process::{Process, WorkDir, peak_memory, wait_until};
use crate::support::stub::{Request, Stub};

/// The most bytes of a line in the server's log.
const LONGEST_LINE: usize = 4096 + 64;

/// The most bytes that the server logs about a flood at the default level.
const FLOOD_LOG: usize = 8 * 1024;

/// Longer than the server waits for the reader of its log, and much shorter than a test's timeout.
const QUICK_END: Duration = Duration::from_secs(10);

const NO_COMPRESSION: [&str; 2] = ["--compression-threshold", "0"];

/// A ClientHello of about 60 kB whose SNI is no host name.
fn hello_with_illegal_name() -> Vec<u8> {
    fn sized<const N: usize>(body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_be_bytes();
        [&length[4 - N..], body].concat()
    }
    fn extension(kind: u16, body: &[u8]) -> Vec<u8> {
        [&kind.to_be_bytes()[..], &sized::<2>(body)].concat()
    }
    let name = "\u{1b}[2J\n_".repeat(8_500);
    let names = [&[0][..], &sized::<2>(name.as_bytes())].concat();
    let extensions = [
        extension(0, &sized::<2>(&names)),
        // Supported versions, groups and signature schemes; no key share.
        extension(43, &sized::<1>(&[3, 4])),
        extension(10, &sized::<2>(&[0, 23])),
        extension(13, &sized::<2>(&[4, 3])),
    ]
    .concat();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0],
        &sized::<2>(&[0x13, 1]),
        &sized::<1>(&[0]),
        &sized::<2>(&extensions),
    ]
    .concat();
    let message = [&[1][..], &sized::<3>(&body)].concat();
    let record = |piece: &[u8]| [&[22, 3, 1][..], &sized::<2>(piece)].concat();
    message.chunks(16_000).flat_map(record).collect()
}

/// Sends `bytes` on a new connection, and waits until the server closes it or `patience` is over.
fn send_once(address: SocketAddr, bytes: &[u8], patience: Duration) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream.set_write_timeout(Some(patience)).unwrap();
    if stream.write_all(bytes).is_ok() {
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    }
}

/// The server's log once it has said that it stopped.
fn log_of(server: Process, workdir: &WorkDir) -> String {
    server.stop().assert_exit(0);
    let log = fs::read_to_string(workdir.server_log()).unwrap();
    assert!(log.lines().last().unwrap().contains("stopped"), "{log}");
    log
}

#[track_caller]
fn assert_escaped(log: &str) {
    let raw = |c: char| c != '\n' && (c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c));
    assert!(!log.contains(raw), "{log:?}");
}

#[test]
fn illegal_server_names_fill_no_log() {
    let hello = hello_with_illegal_name();
    let count = scale(20, 300);
    for (level, limit) in [
        (&[][..], FLOOD_LOG),
        (&["-v"], FLOOD_LOG + count * 1024),
        (&["-vv"], FLOOD_LOG + count * 16 * 1024),
    ] {
        let workdir = WorkDir::samples();
        let server = workdir.server(level);
        for _ in 0..count {
            send_once(server.addr(), &hello, TEST_TIMEOUT);
        }
        let log = log_of(server, &workdir);
        report_line!(
            "{count} ClientHellos with an illegal name, {} sent, {level:?}: {} bytes of log",
            Mib((count * hello.len()) as u64),
            log.len()
        );
        assert!(log.len() < limit, "{} bytes", log.len());
        let longest = log.lines().map(str::len).max().unwrap();
        assert!(longest < LONGEST_LINE, "a line of {longest} bytes");
        assert_escaped(&log);
    }
}

/// Floods the server with what it logs, at several levels.
fn flood(server: &Process, workdir: &WorkDir, id: u64) {
    let patience = Duration::from_millis(500);
    let hello = hello_with_illegal_name();
    for _ in 0..scale(10, 200) {
        send_once(server.addr(), &hello, patience);
    }
    // An image that cannot be read any more.
    let _ = fs::remove_file(workdir.images().join("gone.png"));
    for _ in 0..scale(300, 3_000) {
        send_once(server.addr(), &get(0, &[id]), patience);
    }
    for _ in 0..scale(100, 1_000) {
        send_once(server.addr(), b"GET / HTTP/1.1\r\n\r\n", patience);
    }
    // More connections than allowed.
    let flood: Vec<_> = (0..scale(60, 600))
        .map(|_| TcpStream::connect(server.addr()).unwrap())
        .collect();
    drop(flood);
}

/// Server arguments for [`flood`].
const FLOODED: [&str; 6] = [
    "--compression-threshold",
    "0",
    "--watch-interval",
    "1h",
    "--max-connections",
    "50",
];

#[test]
fn a_log_that_nobody_reads_does_not_stop_the_server() {
    for level in [&[][..], &["-v"], &["-vv"], &["-vv", "--log-format", "json"]] {
        let workdir = WorkDir::samples();
        let honest_images = workdir.images();
        let gone = workdir.add("gone.png", b"\x89PNG soon gone");
        let args = [&FLOODED[..], level].concat();
        let server = workdir.server_with_stderr(&args, Stdio::piped());
        let honest = HonestClient::of(&server, &workdir);
        honest.fetch();
        flood(&server, &workdir, gone.id);
        fs::write(honest_images.join("gone.png"), b"\x89PNG soon gone").unwrap();
        wait_until("connections of the flood are closed", || {
            let mut peer = Peer::on(TcpStream::connect(server.addr()).unwrap());
            peer.try_send([LIST, KEEP]).is_ok() && peer.read_up_to_or_gone(4) == b"JTPL"
        });
        let time = honest.fetch();
        let since = Instant::now();
        let memory = peak_memory(server.id()).unwrap();
        server.stop().assert_exit(0);
        let end = since.elapsed();
        report_line!(
            "a log that nobody reads, {level:?}: honest client {:.1} ms, end after {:.1} s, peak memory {}",
            time.as_secs_f64() * 1e3,
            end.as_secs_f64(),
            Mib(memory)
        );
        assert!(end < QUICK_END, "{level:?}: ended after {end:?}");
    }
}

/// A stream whose buffers are full, and its reader.
fn full_stream() -> (OwnedFd, UnixStream) {
    let (reader, writer) = UnixStream::pair().unwrap();
    writer.set_nonblocking(true).unwrap();
    for piece in [4096, 1] {
        while (&writer).write(&b".".repeat(piece)).is_ok() {}
    }
    writer.set_nonblocking(false).unwrap();
    (writer.into(), reader)
}

#[test]
fn a_server_whose_log_is_blocked_starts_serves_and_ends() {
    let workdir = WorkDir::samples();
    let (stderr, _reader) = full_stream();
    let server = workdir.server_with_stderr(&NO_COMPRESSION, stderr);
    let honest = HonestClient::of(&server, &workdir);
    honest.fetch();
    let since = Instant::now();
    server.stop().assert_exit(0);
    assert!(since.elapsed() < QUICK_END, "{:?}", since.elapsed());
}

#[test]
fn a_server_whose_stdout_is_blocked_starts_serves_and_ends() {
    let workdir = WorkDir::samples();
    let (stdout, _reader) = full_stream();
    let log = fs::File::create(workdir.server_log()).unwrap();
    let mut server = workdir
        .command("server", "--bind 127.0.0.1:0 --no-tls")
        .stdout(stdout)
        .stderr(log)
        .spawn()
        .unwrap();
    let mut address = None;
    wait_until("the server listens", || {
        let log = fs::read_to_string(workdir.server_log()).unwrap();
        let line = log.lines().find(|line| line.contains(" on 127.0.0.1:"));
        let found = line.map(|line| line.split(" on ").last().unwrap().split(' ').next());
        address = found.and_then(|found| found.unwrap().parse::<SocketAddr>().ok());
        address.is_some()
    });
    let mut peer = TcpStream::connect(address.unwrap()).unwrap();
    peer.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    peer.write_all(&[LIST, KEEP]).unwrap();
    peer.read_exact(&mut [0; 5]).unwrap();
    drop(peer);
    let pid = rustix::process::Pid::from_child(&server);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    wait_until("the server ends", || server.try_wait().unwrap().is_some());
    assert_eq!(server.wait().unwrap().code(), Some(0));
}

#[test]
fn a_server_that_fails_with_a_blocked_log_ends() {
    let workdir = WorkDir::samples();
    let (stderr, _reader) = full_stream();
    let mut child = workdir
        .command("server", "--images nowhere")
        .stderr(stderr)
        .spawn()
        .unwrap();
    wait_until("the server ends", || child.try_wait().unwrap().is_some());
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
fn file_names_forge_no_lines_in_the_servers_log() {
    const FORGED: &str = "1970-01-01T00:00:00Z ERROR forged";
    let workdir = WorkDir::samples();
    let name = format!("a\n{FORGED}\r\u{1b}[31m\u{202e}\u{9b}.png");
    let folder = workdir.path().join(&name);
    fs::rename(workdir.images(), &folder).unwrap();
    std::os::unix::fs::symlink(&folder, workdir.images()).unwrap();
    let image = workdir.add(&name, b"\x89PNG under a hostile name");
    let other = workdir.add("second.png", b"\x89PNG second");
    let args = [
        "--no-tls",
        "--watch-interval",
        "1h",
        "-vv",
        "--images",
        &name,
    ];
    let server = workdir.server(&[&args[..], &NO_COMPRESSION].concat());
    for image in [&image, &other] {
        fs::remove_file(workdir.images().join(&image.name)).unwrap();
    }
    let request = get(0, &[image.id]);
    send_once(server.addr(), &request, TEST_TIMEOUT);
    let count = scale(100, 1_000);
    for _ in 0..count {
        send_once(server.addr(), &get(0, &[other.id]), TEST_TIMEOUT);
    }
    let log = log_of(server, &workdir);
    let unsent = log
        .lines()
        .filter(|line| line.contains("cannot be sent"))
        .count();
    report_line!("{count} requests for an image that is gone: {unsent} lines");
    assert!(log.contains("forged") && log.contains(r"\n"), "{log}");
    assert!(!log.lines().any(|line| line.starts_with(FORGED)), "{log}");
    assert_escaped(&log);
    assert!((1..=10).contains(&unsent), "{unsent} lines");
}

#[test]
fn files_that_are_left_out_fill_no_log() {
    use std::os::unix::ffi::OsStringExt;
    let workdir = WorkDir::samples();
    let count = scale(2_000, 100_000);
    for n in 0..count {
        let name = [format!("{n}\n\u{1b}").as_bytes(), b"\xff.png"].concat();
        let name = std::ffi::OsString::from_vec(name);
        fs::write(workdir.images().join(name), format!("\u{89}PNG{n}")).unwrap();
    }
    let server = workdir.server(&[&["--no-tls"], &NO_COMPRESSION[..]].concat());
    let log = log_of(server, &workdir);
    report_line!(
        "{count} files with invalid names: {} bytes of log",
        log.len()
    );
    assert_escaped(&log);
    assert!(log.len() < 2 * FLOOD_LOG, "{} bytes", log.len());
    assert!(log.contains("not UTF-8"), "{log}");
}

#[test]
fn failing_images_print_twenty_lines_and_a_count() {
    let count = scale(2_000, 100_000);
    let images: Vec<TestImage> = (0..count as u64)
        .map(|id| hostile_image(&format!("{id}\n\u{1b}[2J.png"), id, 0, b"wrong".into()))
        .collect();
    for is_sent in [false, true] {
        let images = images.clone();
        let stub = Stub::answering(move |connection, request| {
            let sent = match is_sent || request == Request::List {
                true => &images[..],
                false => &[],
            };
            connection.answer(sent, &request);
        });
        let workdir = WorkDir::of(&[]);
        let (ended, _) = client(&workdir, stub.address, "--retries 1");
        report_line!(
            "{count} images with wrong content ({is_sent}) or not sent: {} bytes of messages",
            ended.err.len()
        );
        assert_eq!(ended.code, Some(3), "{}", ended.err);
        let lines = ended.err.lines();
        let failed = lines.filter(|line| line.starts_with("failed: ")).count();
        assert_eq!(failed, 20, "{is_sent}: {} bytes", ended.err.len());
        assert!(ended.err.len() < FLOOD_LOG, "{}", ended.err.len());
        let more = format!("{} more images failed", grouped(count - 20));
        assert!(ended.err.contains(&more), "{more}: {}", ended.err);
        assert_escaped(&ended.err);
    }
}

/// A number with commas between the thousands.
fn grouped(count: usize) -> String {
    match count {
        0..1_000 => count.to_string(),
        _ => format!("{},{:03}", count / 1_000, count % 1_000),
    }
}
