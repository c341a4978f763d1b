//! T1: broken TLS and oversized records.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{Attacked, report_line, scale};
use crate::support::TEST_TIMEOUT;
use crate::support::process::{Process, WorkDir};

/// A TLS record with arbitrary content.
fn record(kind: u8, length: u16, body: &[u8]) -> Vec<u8> {
    [&[kind, 3, 1][..], &length.to_be_bytes(), body].concat()
}

/// Sends everything and reads until the server closes; returns the number of bytes received.
fn until_closed(server: &Process, pieces: impl IntoIterator<Item = Vec<u8>>) -> usize {
    let mut stream = TcpStream::connect(server.addr()).unwrap();
    stream.set_read_timeout(Some(TEST_TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TEST_TIMEOUT)).unwrap();
    for piece in pieces {
        if stream.write_all(&piece).is_err() {
            break;
        }
    }
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return answer.len(),
            Ok(count) => answer.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("the server does not close")
            }
            Err(_) => return answer.len(), // A reset, because the server left bytes unread.
        }
    }
}

#[test]
fn t1_broken_and_oversized_records_end_the_connection() {
    let workdir = WorkDir::samples();
    let server = workdir.server("--compression-threshold 0");
    let attacked = Attacked::new(&server, &workdir);
    let count = scale(10, 300);
    let cases: [(&str, Vec<Vec<u8>>); 7] = [
        (
            "a record of 65535 bytes",
            vec![record(22, 0xffff, &[0; 0xffff])],
        ),
        (
            "a record of 16385 bytes and its overhead",
            vec![record(22, 18_433, &[1; 18_433])],
        ),
        ("a handshake message of 16 MiB, in records", {
            let begin = [&[1, 0xff, 0xff, 0xff][..], &[0; 16_380]].concat();
            std::iter::once(record(22, 16_384, &begin))
                .chain((0..1_023).map(|_| record(22, 16_384, &[0; 16_384])))
                .collect()
        }),
        ("empty records", vec![record(22, 0, &[]).repeat(10_000)]),
        (
            "application data before the handshake",
            vec![record(23, 3, b"\x01\x00\x00")],
        ),
        (
            "an alert, then other bytes",
            vec![record(21, 2, &[2, 40]), vec![7; 1_000]],
        ),
        ("SSL 2", vec![vec![0x16, 0x80, 0x2e, 1, 0, 2, 0, 0, 0, 0]]),
    ];
    for (what, pieces) in cases {
        let mut answered = 0;
        for _ in 0..count {
            answered = answered.max(until_closed(&server, pieces.clone()));
        }
        report_line!("{count} x {what}: all closed, at most {answered} bytes of answer");
    }
    attacked.report("afterwards", attacked.before + (16 << 20));
}
