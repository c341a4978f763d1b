//! The client's TLS stream against rustls's own server, joined in memory.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use jtp_driver::{BoxTransport, Transport};
use rustls::{AlertDescription, ServerConnection};

use crate::support::tls::{Tls, localhost, tls};

const VERSIONS: [&rustls::SupportedProtocolVersion; 2] =
    [&rustls::version::TLS12, &rustls::version::TLS13];

/// A connection between the client and the server.
#[derive(Default)]
struct Wire {
    to_client: VecDeque<u8>,
    to_server: VecDeque<u8>,
    ended: bool,
    /// The most bytes that the client reads or writes in a call.
    limit: usize,
    reads: usize,
    /// The client's writes are pending.
    blocked: bool,
}

#[derive(Clone)]
struct ClientEnd(Arc<Mutex<Wire>>);

impl Transport for ClientEnd {
    fn poll_read(&mut self, _: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock().unwrap();
        if wire.to_client.is_empty() && !wire.ended {
            return Poll::Pending;
        }
        wire.reads += 1;
        let most = buf.len().min(wire.limit);
        Poll::Ready(wire.to_client.read(&mut buf[..most]))
    }

    fn poll_write_vectored(
        &mut self,
        _: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock().unwrap();
        if wire.blocked {
            return Poll::Pending;
        }
        let data = &bufs[0][..bufs[0].len().min(wire.limit)];
        wire.to_server.extend(data);
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Both ends after the handshake.
struct Pair {
    client: BoxTransport,
    server: ServerConnection,
    wire: Arc<Mutex<Wire>>,
}

/// Passes bytes between the wire and the server. Returns what the server received.
fn pump(server: &mut ServerConnection, wire: &Mutex<Wire>) -> Result<Vec<u8>, rustls::Error> {
    let mut wire = wire.lock().unwrap();
    let mut received = Vec::new();
    while !wire.to_server.is_empty() {
        server.read_tls(&mut wire.to_server).unwrap();
        server.process_new_packets()?;
        // An error says that no more is available.
        let _ = server.reader().read_to_end(&mut received);
    }
    while server.wants_write() {
        server.write_tls(&mut wire.to_client).unwrap();
    }
    Ok(received)
}

fn polled<T>(operation: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
    operation(&mut Context::from_waker(Waker::noop()))
}

impl Pair {
    fn new(tls: &Tls, version: &'static rustls::SupportedProtocolVersion, limit: usize) -> Pair {
        let wire = Arc::new(Mutex::new(Wire {
            limit,
            ..Wire::default()
        }));
        let mut server = ServerConnection::new(Arc::clone(&tls.server)).unwrap();
        server.set_buffer_limit(None);
        let config = tls.client_with(&[], version);
        let end = ClientEnd(Arc::clone(&wire));
        let mut connecting = pin!(jtp_driver::tls::connect(config, localhost(), end));
        let client = loop {
            if let Poll::Ready(client) = polled(|cx| connecting.as_mut().poll(cx)) {
                break client.unwrap();
            }
            pump(&mut server, &wire).unwrap();
        };
        pump(&mut server, &wire).unwrap();
        assert!(!server.is_handshaking());
        Pair {
            client,
            server,
            wire,
        }
    }

    fn server_sends(&mut self, data: &[u8]) {
        self.server.writer().write_all(data).unwrap();
        self.pump();
    }

    fn pump(&mut self) -> Vec<u8> {
        pump(&mut self.server, &self.wire).unwrap()
    }

    /// Reads until nothing more is available, `size` bytes at a time.
    fn client_reads(&mut self, size: usize) -> Vec<u8> {
        let (mut received, mut buf) = (Vec::new(), vec![0; size]);
        while let Poll::Ready(count) = polled(|cx| self.client.poll_read(cx, &mut buf)) {
            let count = count.unwrap();
            assert!(count > 0, "no end");
            received.extend_from_slice(&buf[..count]);
        }
        received
    }

    /// One read.
    fn client_read(&mut self) -> Poll<io::Result<usize>> {
        polled(|cx| self.client.poll_read(cx, &mut [0; 1000]))
    }

    /// Writes everything, then flushes.
    fn client_writes(&mut self, mut data: &[u8]) -> Vec<u8> {
        let mut received = Vec::new();
        while !data.is_empty() {
            let wrote = polled(|cx| self.client.poll_write_vectored(cx, &[IoSlice::new(data)]));
            let Poll::Ready(Ok(count)) = wrote else {
                panic!("{wrote:?}");
            };
            data = &data[count..];
            received.extend(self.pump());
        }
        assert!(polled(|cx| self.client.poll_flush(cx)).is_ready());
        received.extend(self.pump());
        received
    }
}

fn data(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 7 + at / 251) as u8).collect()
}

#[test]
fn bytes_pass_both_ways_whatever_the_sizes_of_reads_and_writes() {
    for version in VERSIONS {
        for (limit, length, size) in [(1, 40_000, 1), (7, 40_000, 5000), (30_000, 400_000, 777)] {
            let mut pair = Pair::new(tls(), version, limit);
            let sent = data(length);
            pair.server_sends(&sent);
            assert!(pair.client_reads(size) == sent, "{limit}");
            assert!(pair.client_writes(&sent) == sent, "{limit}");
        }
    }
}

#[test]
fn one_read_takes_many_records() {
    for version in VERSIONS {
        let mut pair = Pair::new(tls(), version, usize::MAX);
        let sent = data(4 * 1024 * 1024);
        pair.server_sends(&sent);
        let before = pair.wire.lock().unwrap().reads;
        assert!(pair.client_reads(256 * 1024) == sent);
        let reads = pair.wire.lock().unwrap().reads - before;
        assert!(reads <= 40, "{reads} reads of 256 records");
    }
}

#[test]
fn a_write_between_reads_loses_nothing() {
    for version in VERSIONS {
        let mut pair = Pair::new(tls(), version, usize::MAX);
        let sent = data(100_000);
        pair.server_sends(&sent);
        let mut first = [0];
        assert!(matches!(
            polled(|cx| pair.client.poll_read(cx, &mut first)),
            Poll::Ready(Ok(1))
        ));
        assert_eq!(pair.client_writes(b"CANCEL"), b"CANCEL");
        assert!([&first[..], &pair.client_reads(9999)].concat() == sent);
    }
}

#[test]
fn output_that_the_transport_does_not_take_is_bounded_and_goes_out_later() {
    let mut pair = Pair::new(tls(), &rustls::version::TLS13, usize::MAX);
    pair.wire.lock().unwrap().blocked = true;
    let sent = data(200_000);
    let slices = [IoSlice::new(&sent)];
    let wrote = polled(|cx| pair.client.poll_write_vectored(cx, &slices));
    let Poll::Ready(Ok(count)) = wrote else {
        panic!("{wrote:?}");
    };
    assert_eq!(count, 64 * 1024);
    assert!(polled(|cx| pair.client.poll_write_vectored(cx, &slices)).is_pending());
    assert!(polled(|cx| pair.client.poll_flush(cx)).is_pending());
    pair.wire.lock().unwrap().blocked = false;
    let received = pair.client_writes(&sent[count..]);
    assert!(received == sent);
}

#[test]
fn the_server_may_update_its_keys_and_request_an_update() {
    let mut pair = Pair::new(tls(), &rustls::version::TLS13, usize::MAX);
    let mut sent = data(50_000);
    pair.server_sends(&sent);
    pair.server.refresh_traffic_keys().unwrap();
    pair.server_sends(&sent);
    sent.extend_from_within(..);
    assert!(pair.client_reads(1000) == sent);
    assert!(pair.client_writes(&sent) == sent);
}

#[test]
fn t1_an_end_with_close_notify_differs_from_one_without() {
    for version in VERSIONS {
        let mut closed = Pair::new(tls(), version, usize::MAX);
        closed.server.send_close_notify();
        closed.pump();
        closed.wire.lock().unwrap().ended = true;
        for _ in 0..2 {
            assert!(matches!(closed.client_read(), Poll::Ready(Ok(0))));
        }
        // S11: writing is still possible.
        assert!(polled(|cx| closed.client.poll_close(cx)).is_ready());
        closed.pump();
        let io = closed.server.process_new_packets().unwrap();
        assert!(io.peer_has_closed());

        let mut cut = Pair::new(tls(), version, usize::MAX);
        cut.wire.lock().unwrap().ended = true;
        let read = cut.client_read();
        assert!(
            matches!(&read, Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof),
            "{read:?}"
        );
    }
}

#[test]
fn s11_reading_continues_after_close() {
    let mut pair = Pair::new(tls(), &rustls::version::TLS13, usize::MAX);
    assert!(polled(|cx| pair.client.poll_close(cx)).is_ready());
    let sent = data(30_000);
    pair.server_sends(&sent);
    assert!(pair.client_reads(4096) == sent);
}

#[test]
fn a_broken_record_is_an_error_after_the_bytes_before_it_and_the_server_gets_an_alert() {
    for version in VERSIONS {
        let mut pair = Pair::new(tls(), version, usize::MAX);
        let sent = data(1000);
        pair.server_sends(&sent);
        pair.client_reads(1000);
        pair.server_sends(&sent);
        pair.server_sends(&sent);
        *pair.wire.lock().unwrap().to_client.back_mut().unwrap() ^= 1;
        // The buffer has room for the broken record, too.
        let mut buf = [0; 3000];
        let read = polled(|cx| pair.client.poll_read(cx, &mut buf));
        assert!(matches!(read, Poll::Ready(Ok(1000))), "{read:?}");
        assert_eq!(buf[..1000], sent);
        let Poll::Ready(Err(error)) = pair.client_read() else {
            panic!("no error");
        };
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let cause = error.get_ref().and_then(|error| error.downcast_ref());
        assert_eq!(cause, Some(&rustls::Error::DecryptError));
        assert_eq!(
            pump(&mut pair.server, &pair.wire),
            Err(rustls::Error::AlertReceived(AlertDescription::BadRecordMac))
        );
    }
}

#[test]
fn a_handshake_message_may_span_records() {
    let names = (0..700).map(|number| format!("{number:060}.example"));
    let tls = Tls::of(names.chain(["localhost".to_owned()]).collect());
    for version in VERSIONS {
        for limit in [100, usize::MAX] {
            let mut pair = Pair::new(&tls, version, limit);
            pair.server_sends(b"welcome");
            assert_eq!(pair.client_reads(100), b"welcome");
        }
    }
}
