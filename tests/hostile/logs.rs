//! What peers and file names can do to the logs and messages of the programs.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Stdio};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use super::{HostileImage, client, hostile_server, report_line, scale, scripted_server};
use crate::support::TEST_TIMEOUT;
use crate::support::bytes::*;
use crate::support::peer::Peer;
use crate::support::process::{WorkDir, eventually};

/// A ClientHello with a server name of this many bytes that is no host name, in TLS records.
fn hello_with_illegal_name(length: u16) -> Vec<u8> {
    let mut server_name = vec![0; 9];
    server_name[2..4].copy_from_slice(&(length + 5).to_be_bytes());
    server_name[4..6].copy_from_slice(&(length + 3).to_be_bytes());
    server_name[7..9].copy_from_slice(&length.to_be_bytes());
    server_name.extend(b"\x1b[2J\nforged ".iter().cycle().take(length.into()));
    let extensions_length = u16::try_from(server_name.len()).unwrap();
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[0, 0, 2, 0x13, 1, 1, 0],
        &extensions_length.to_be_bytes(),
        &server_name,
    ]
    .concat();
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    message
        .chunks(16_384)
        .flat_map(|part| {
            let length = u16::try_from(part.len()).unwrap().to_be_bytes();
            [&[22, 3, 1][..], &length, part].concat()
        })
        .collect()
}

fn send_and_read(address: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    // The server may close first.
    let _ = stream.write_all(bytes);
    let _ = stream.read_to_end(&mut Vec::new());
}

/// A server whose stderr is a pipe.
struct Logging {
    child: Child,
    address: SocketAddr,
}

impl Logging {
    fn start(workdir: &WorkDir, args: &[&str], rust_log: &str) -> Logging {
        let args = [&["--bind", "127.0.0.1:0"], args].concat();
        let mut child = workdir
            .command("server", &args)
            .env("RUST_LOG", rust_log)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let stdout = child.stdout.take().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Logging { child, address }
    }

    fn ask_to_end(&self) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn illegal_server_names_do_not_fill_the_log() {
    let workdir = WorkDir::samples();
    let count = scale(20, 300);
    for args in [&[][..], &["-v"], &["--log-format", "json"]] {
        let mut server = Logging::start(&workdir, args, "");
        let mut stderr = server.child.stderr.take().unwrap();
        let reader = thread::spawn(move || {
            let mut log = Vec::new();
            stderr.read_to_end(&mut log).map(|_| log).unwrap()
        });
        let hello = hello_with_illegal_name(60_000);
        for _ in 0..count {
            send_and_read(server.address, &hello);
        }
        server.ask_to_end();
        let log = reader.join().unwrap();
        report_line!(
            "{count} ClientHellos of 60 kB, {args:?}: {} bytes of log",
            log.len()
        );
        let log = String::from_utf8(log).unwrap();
        assert!(log.len() < 4_000 + 400 * count, "{} bytes", log.len());
        assert!(!log.contains('\x1b'), "{log}");
    }
}

/// Requests the catalog again and again, over one connection.
fn request_lists(address: SocketAddr, count: usize) {
    let mut peer = Peer::connect(address);
    for _ in 0..count {
        peer.send([LIST, KEEP]);
        peer.expect(b"JTPL");
        for _ in 0..peer.varint() {
            peer.entry();
        }
    }
}

#[test]
fn a_log_that_nobody_reads_stops_neither_the_server_nor_its_end() {
    let workdir = WorkDir::of(&[]);
    let mut server = Logging::start(&workdir, &[], "trace");
    // Far more than the pipe and the queue hold.
    request_lists(server.address, 20_000);
    server.ask_to_end();
    eventually("the server ends", || {
        server.child.try_wait().unwrap().is_some()
    });
    // What the pipe holds is whole lines but for the last.
    let mut stderr = server.child.stderr.take().unwrap();
    let mut log = Vec::new();
    stderr.read_to_end(&mut log).unwrap();
    report_line!("{} bytes of log were written", log.len());
    assert!(log.len() <= 1 << 20, "{} bytes", log.len());
}

#[test]
fn dropped_lines_are_counted() {
    let workdir = WorkDir::of(&[]);
    let mut server = Logging::start(&workdir, &[], "trace");
    request_lists(server.address, 20_000);
    // Now it is read.
    let mut lines = BufReader::new(server.child.stderr.take().unwrap()).lines();
    let dropped = lines.find_map(|line| {
        let line = line.unwrap();
        let count = line.split(" log lines were dropped").next()?.to_owned();
        (count.len() < line.len()).then(|| count.parse::<u64>().unwrap())
    });
    assert!(dropped.is_some_and(|count| count > 0), "{dropped:?}");
    server.ask_to_end();
    lines.for_each(drop);
}

#[test]
fn names_and_folders_do_not_forge_log_lines() {
    let workdir = WorkDir::samples();
    let folder = workdir.path().join("a\nERROR forged: \x1b[31m");
    fs::create_dir(&folder).unwrap();
    for n in 0..scale(100, 10_000) {
        // Larger than an image can be, and sparse. // S14
        let name = format!("{n}\nERROR forged \u{202e}\x1b[2J.png");
        let file = fs::File::create(folder.join(name)).unwrap();
        file.set_len(1 << 33).unwrap();
    }
    let folder = folder.to_str().unwrap();
    for format in ["text", "json"] {
        let mut server =
            Logging::start(&workdir, &["--images", folder, "--log-format", format], "");
        server.ask_to_end();
        let mut log = String::new();
        let mut stderr = server.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        assert!(log.contains("forged"), "{log}");
        for line in log.lines() {
            assert!(!line.starts_with("ERROR"), "{line}");
            assert!(
                !line.contains(['\x1b', '\u{202e}']) || format == "json",
                "{line:?}"
            );
            if format == "json" {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                assert!(
                    value["message"].is_string() && value["level"].is_string(),
                    "{line}"
                );
            }
        }
        let left_out = log
            .lines()
            .filter(|line| line.contains("is left out"))
            .count();
        assert_eq!(left_out, 20, "{log}");
    }
}

#[test]
fn a_long_message_of_the_server_is_cut_and_escaped() {
    let message = "\x1b[2J\u{202e}".repeat(8_000);
    let address = scripted_server(move |mut stream| {
        let _ = stream.write_all(&error(SERVER_ERROR, &message));
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let run = client(&WorkDir::of(&[]), address, &["--retries", "2"]);
    report_line!("a message of 64 kB: {} bytes are printed", run.output.len());
    assert_eq!(run.code, Some(1), "{} bytes", run.output.len());
    assert!(run.output.len() < 20_000, "{} bytes", run.output.len());
    assert!(!run.output.contains('\x1b'));
}

#[test]
fn failures_of_many_images_are_printed_as_a_few_lines_and_a_count() {
    let count = scale(2_000, 100_000);
    let images = (0..count)
        .map(|n| HostileImage {
            id: u64::try_from(n).unwrap(),
            ..HostileImage::raw(&format!("{n}.png"), b"not this image")
        })
        .collect();
    let address = hostile_server(images);
    let workdir = WorkDir::of(&[]);
    let run = client(&workdir, address, &[]);
    report_line!(
        "{count} broken images: {} bytes are printed",
        run.output.len()
    );
    assert_eq!(run.code, Some(3), "{}", run.output);
    let failed = run
        .output
        .lines()
        .filter(|line| line.starts_with("failed: "));
    assert_eq!(failed.count(), 20, "{}", run.output);
    assert!(run.output.len() < 10_000, "{} bytes", run.output.len());
}
