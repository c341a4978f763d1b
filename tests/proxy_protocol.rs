//! The PROXY protocol, version 2, on each runtime.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use jtp_driver::TLS_REQUIRED;
use jtp_tokio::ShutdownSignal;
use jtp_tokio::server::proxy::MAX_HEADER;
use jtp_tokio::server::{Counters, PlainPolicy};
use jtp_tokio::store::MemoryStore;
use socket2::{Domain, Socket, Type};

use crate::support::bytes::*;
use crate::support::peer::Peer;
use crate::support::process::wait_until;
use crate::support::tls::tls;

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The proxy; the other addresses of loopback are none.
const PROXY: u8 = 1;
const STRANGER: u8 = 2;

fn header(version_command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[version_command, family], &length, rest].concat()
}

/// A header that names this client.
fn proxied(client: &str) -> Vec<u8> {
    let client: SocketAddr = client.parse().unwrap();
    let ports = [client.port().to_be_bytes(), [0x20, 0xfb]].concat();
    match client.ip() {
        IpAddr::V4(ip) => header(
            0x21,
            0x11,
            &[&ip.octets()[..], &[10, 0, 0, 1], &ports].concat(),
        ),
        IpAddr::V6(ip) => header(0x21, 0x21, &[&ip.octets()[..], &[9; 16], &ports].concat()),
    }
}

fn local() -> Vec<u8> {
    header(0x20, 0, &[])
}

/// Connects from 127.0.0.`last`.
fn connect_from(last: u8, to: SocketAddr) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from(([127, 0, 0, last], 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    Peer::on(TcpStream::from(socket))
}

/// Expects the end of the connection, or a reset, and no byte.
#[track_caller]
fn expect_disconnect(mut peer: Peer) {
    assert!(peer.read_up_to_or_gone(1).is_empty());
}

/// The address of a request's peer, and that of its proxy.
type Seen = (Option<SocketAddr>, Option<SocketAddr>);

#[derive(Clone, Copy, Default)]
struct Setup {
    max: Option<usize>,
    max_per_ip: Option<usize>,
    rate: Option<u32>,
    first_byte: Option<Duration>,
    tls: Option<PlainPolicy>,
}

/// A server of an empty catalog, with a proxy at 127.0.0.1.
struct Running {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    counters: Box<dyn Fn() -> Counters>,
    stop: ShutdownSignal,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn through_proxy(&self, header: &[u8]) -> Peer {
        let mut peer = connect_from(PROXY, self.address);
        peer.send(header);
        peer
    }

    fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn closed(&self, reason: &str) -> u64 {
        let closed = (self.counters)().connections_closed;
        closed.get(reason).copied().unwrap_or(0)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.begin();
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            assert!(ended.is_ok() || thread::panicking());
        }
    }
}

macro_rules! start {
    ($server:ty, $store:ty, $setup:expr, $serve:expr) => {{
        let setup: Setup = $setup;
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let seen_by_handler = Arc::clone(&seen);
        let mut builder = <$server>::builder(Arc::new(<$store>::new()))
            .proxy_protocol(|ip| ip == IpAddr::from([127, 0, 0, PROXY]))
            .drain_timeout(Some(Duration::from_secs(1)))
            .on_request(move |request| {
                let peer = request.peer();
                let seen = (peer.address, peer.proxy);
                seen_by_handler.lock().unwrap().push(seen);
                async move { request.accept() }
            });
        if let Some(max) = setup.max {
            builder = builder.max_connections(max);
        }
        if let Some(max) = setup.max_per_ip {
            builder = builder.max_connections_per_ip(max);
        }
        if let Some(rate) = setup.rate {
            builder = builder.rate_limit(rate, Duration::from_secs(3600));
        }
        if let Some(limit) = setup.first_byte {
            builder = builder.first_byte_timeout(Some(limit));
        }
        if let Some(plain) = setup.tls {
            builder = builder.tls(tls().server.clone()).plain(plain);
        }
        let server = builder.build();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = ShutdownSignal::new();
        let (stopped, counting) = (stop.clone(), server.clone());
        let thread = thread::spawn(move || $serve(server, listener, stopped));
        Running {
            address,
            seen,
            counters: Box::new(move || counting.counters()),
            stop,
            thread: Some(thread),
        }
    }};
}

/// Runs the test on each runtime.
fn on_each_runtime(setup: Setup, test: impl Fn(&Running)) {
    test(&start!(
        jtp_tokio::Server,
        MemoryStore,
        setup,
        |server: jtp_tokio::Server, listener: std::net::TcpListener, stop: ShutdownSignal| {
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                listener.set_nonblocking(true).unwrap();
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                server.serve(listener, stop.wait()).await.unwrap();
            });
        }
    ));
    test(&start!(
        jtp_async_std::Server,
        MemoryStore,
        setup,
        |server: jtp_async_std::Server, listener: std::net::TcpListener, stop: ShutdownSignal| {
            async_std::task::block_on(async {
                let listener = async_std::net::TcpListener::from(listener);
                server.serve(listener, stop.wait()).await.unwrap();
            });
        }
    ));
    test(&start!(
        jtp_blocking::Server,
        MemoryStore,
        setup,
        |server: jtp_blocking::Server, listener: std::net::TcpListener, stop: ShutdownSignal| {
            server.serve(listener, &stop).unwrap();
        }
    ));
}

fn empty_list() -> Vec<u8> {
    head(b"JTPL", 0)
}

#[test]
fn the_address_in_the_header_is_that_of_the_peer() {
    on_each_runtime(Setup::default(), |server| {
        for client in ["192.0.2.7:4711", "[2001:db8::7]:4711", "0.0.0.0:0"] {
            let mut peer = server.through_proxy(&proxied(client));
            peer.send([LIST, KEEP]);
            peer.expect(empty_list());
            let seen = server.take_seen();
            let proxy = seen[0].1.unwrap();
            assert_eq!(seen[0].0, Some(client.parse().unwrap()));
            assert_eq!(proxy.ip(), IpAddr::from([127, 0, 0, PROXY]));
        }
        // LOCAL is the proxy itself.
        let mut peer = server.through_proxy(&local());
        peer.send([LIST, KEEP]);
        peer.expect(empty_list());
        let (address, proxy) = server.take_seen()[0];
        assert_eq!(address.unwrap().ip(), IpAddr::from([127, 0, 0, PROXY]));
        assert_eq!(proxy, None);
    });
}

#[test]
fn header_and_request_may_share_a_segment_or_come_byte_by_byte() {
    on_each_runtime(Setup::default(), |server| {
        let extension = [&[0xea, 0, 5][..], b"hello"].concat();
        let header = header(
            0x21,
            0x11,
            &[&[192, 0, 2, 7, 10, 0, 0, 1, 0, 5, 0, 6], &extension[..]].concat(),
        );
        let mut peer = server.through_proxy(&[&header[..], &[LIST, KEEP, LIST, 0]].concat());
        peer.expect([empty_list(), empty_list()].concat());
        peer.expect_end();
        let mut peer = connect_from(PROXY, server.address);
        for byte in header {
            peer.send_and_be_read([byte]);
        }
        peer.send([LIST, 0]);
        peer.expect(empty_list());
        let seen = server.take_seen();
        assert!(
            seen.iter()
                .all(|seen| seen.0 == Some("192.0.2.7:5".parse().unwrap())),
            "{seen:?}"
        );
    });
}

#[test]
fn tls_follows_the_header() {
    let setup = Setup {
        tls: Some(PlainPolicy::Refuse),
        ..Setup::default()
    };
    on_each_runtime(setup, |server| {
        let peer = server.through_proxy(&proxied("192.0.2.7:4711"));
        let mut peer = peer.tls(tls().client());
        peer.send([LIST, KEEP]);
        peer.expect(empty_list());
        assert_eq!(
            server.take_seen()[0].0,
            Some("192.0.2.7:4711".parse().unwrap())
        );
    });
}

#[test]
fn t2_a_client_behind_a_proxy_is_never_local() {
    let setup = Setup {
        tls: Some(PlainPolicy::Loopback),
        ..Setup::default()
    };
    on_each_runtime(setup, |server| {
        // An address of the proxy's machine, or of the Internet.
        for client in ["127.0.0.1:4711", "[::1]:4711", "192.0.2.7:4711"] {
            let mut peer = server.through_proxy(&proxied(client));
            peer.send([LIST, KEEP]);
            assert_eq!(peer.expect_error(UNSUPPORTED_FEATURE), TLS_REQUIRED);
        }
        assert!(server.take_seen().is_empty());
        // The proxy itself is on this machine, and so is a stranger.
        let mut peer = server.through_proxy(&local());
        peer.send([LIST, KEEP]);
        peer.expect(empty_list());
        let mut peer = connect_from(STRANGER, server.address);
        peer.send([LIST, KEEP]);
        peer.expect(empty_list());
    });
}

#[test]
fn a_header_from_another_address_is_an_invalid_request() {
    on_each_runtime(Setup::default(), |server| {
        let mut peer = connect_from(STRANGER, server.address);
        peer.send(proxied("192.0.2.7:4711"));
        peer.expect_error(UNSUPPORTED_FEATURE); // S10
        assert!(server.take_seen().is_empty());
    });
}

#[test]
fn a_proxy_without_a_valid_header_is_disconnected() {
    on_each_runtime(Setup::default(), |server| {
        let valid = proxied("192.0.2.7:4711");
        let bad = [
            vec![LIST, KEEP],
            b"PROXY TCP4 192.0.2.7 192.0.2.1 1 2\r\n".to_vec(),
            header(0x21, 0x31, &[1; 216]),
            header(0x21, 0x11, &[1; 11]),
            header(0x21, 0x11, &vec![1; MAX_HEADER]),
            header(0x11, 0x11, &[1; 12]),
        ];
        let count = u64::try_from(bad.len()).unwrap();
        for bytes in bad {
            let peer = server.through_proxy(&bytes);
            // An end or a reset, and no byte.
            expect_disconnect(peer);
        }
        wait_until("the errors are counted", || {
            server.closed("transport_error") == count
        });
        // Cut short.
        let mut peer = server.through_proxy(&valid[..20]);
        peer.half_close();
        expect_disconnect(peer);
        // A health check without a byte is none.
        let mut peer = server.through_proxy(&[]);
        peer.half_close();
        expect_disconnect(peer);
        wait_until("the ends are counted", || {
            server.closed("transport_error") == count + 1 && server.closed("peer_closed") == 1
        });
        assert!(server.take_seen().is_empty());
    });
}

#[test]
fn t4_a_header_that_does_not_come_ends_the_connection() {
    let setup = Setup {
        first_byte: Some(Duration::from_millis(100)),
        ..Setup::default()
    };
    on_each_runtime(setup, |server| {
        expect_disconnect(server.through_proxy(&[]));
        expect_disconnect(server.through_proxy(&proxied("192.0.2.7:4711")[..27]));
        wait_until("the errors are counted", || {
            server.closed("transport_error") == 2
        });
    });
}

#[test]
fn t8_connections_count_by_the_address_in_the_header() {
    let setup = Setup {
        max: Some(8),
        max_per_ip: Some(2),
        ..Setup::default()
    };
    on_each_runtime(setup, |server| {
        // Without headers they count in total only.
        let mut waiting: Vec<Peer> = (0..8).map(|_| server.through_proxy(&[])).collect();
        let over = server.through_proxy(&[]);
        expect_disconnect(over);
        assert_eq!((server.counters)().connections_refused, 1);
        let mut open = Vec::new();
        for client in [
            "192.0.2.7:1",
            "192.0.2.7:2",
            "192.0.2.8:1",
            "[2001:db8::7]:1",
        ] {
            let mut peer = waiting.pop().unwrap();
            peer.send(proxied(client));
            peer.send([LIST, KEEP]);
            peer.expect(empty_list());
            open.push(peer);
        }
        // A third connection of one client, by another address of its network as well.
        for (client, refused) in [("192.0.2.7:3", true), ("[2001:db8::8]:1", false)] {
            let mut peer = waiting.pop().unwrap();
            peer.send(proxied(client));
            if refused {
                expect_disconnect(peer);
            } else {
                peer.send([LIST, KEEP]);
                peer.expect(empty_list());
                open.push(peer);
            }
        }
        let counters = (server.counters)();
        assert_eq!(counters.connections_refused, 2);
        assert_eq!(counters.connections_refused_per_client, 1);
        assert_eq!(counters.connections_open, 5);
        // A permit of the client is returned.
        drop(open.remove(0));
        wait_until("a connection ends", || {
            (server.counters)().connections_open == 4
        });
        let mut peer = server.through_proxy(&proxied("192.0.2.7:4"));
        peer.send([LIST, KEEP]);
        peer.expect(empty_list());
        // The proxy's own connections count as those of its address.
        let mut own = waiting;
        for peer in &mut own {
            peer.send(local());
            peer.send([LIST, KEEP]);
            peer.expect(empty_list());
        }
        assert_eq!(own.len(), 2);
        drop(peer);
        wait_until("a connection ends", || {
            (server.counters)().connections_open == 6
        });
        expect_disconnect(server.through_proxy(&local()));
    });
}

#[test]
fn s15_requests_are_limited_by_the_address_in_the_header() {
    let setup = Setup {
        rate: Some(1),
        ..Setup::default()
    };
    on_each_runtime(setup, |server| {
        for client in ["192.0.2.7", "192.0.2.8"] {
            let mut peer = server.through_proxy(&proxied(&format!("{client}:1")));
            peer.send([LIST, KEEP]);
            peer.expect(empty_list());
            let mut peer = server.through_proxy(&proxied(&format!("{client}:2")));
            peer.send([LIST, KEEP]);
            peer.expect_error(RATE_LIMITED);
        }
    });
}

#[test]
fn s16_a_connection_without_a_header_does_not_delay_the_shutdown() {
    on_each_runtime(Setup::default(), |server| {
        let peer = server.through_proxy(&SIGNATURE[..5]);
        // Accepted before the shutdown.
        let mut served = server.through_proxy(&local());
        served.send([LIST, KEEP]);
        served.expect(empty_list());
        server.stop.begin();
        expect_disconnect(peer);
    });
}
