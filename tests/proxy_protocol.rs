//! The PROXY protocol, version 2. No adapter has code of its own for it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jtp_driver::TLS_REQUIRED;
use jtp_tokio::ServerBuilder;
use jtp_tokio::server::proxy::MAX_HEADER;
use jtp_tokio::server::{Counters, PlainPolicy};
use jtp_tokio::store::MemoryStore;

use crate::support::bytes::*;
use crate::support::peer::{Peer, connect_from};
use crate::support::process::wait_until;
use crate::support::serve::TestServer;
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

/// Expects the end of the connection, or a reset, and no byte.
#[track_caller]
fn expect_disconnect(mut peer: Peer) {
    assert!(peer.read_up_to_or_gone(1).is_empty());
}

/// The address of a request's peer, and that of its proxy.
type Seen = (Option<SocketAddr>, Option<SocketAddr>);

/// A server of an empty catalog, with a proxy at 127.0.0.1.
struct Running {
    served: TestServer<MemoryStore>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Running {
    fn new(setup: impl FnOnce(ServerBuilder) -> ServerBuilder) -> Running {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let seen_by_handler = Arc::clone(&seen);
        let served = TestServer::store(MemoryStore::new(), |server| {
            let server = server
                .proxy_protocol(|ip| ip == IpAddr::from([127, 0, 0, PROXY]))
                .on_request(move |request| {
                    let peer = request.peer();
                    let seen = (peer.address, peer.proxy);
                    seen_by_handler.lock().unwrap().push(seen);
                    async move { request.accept() }
                });
            setup(server)
        });
        Running { served, seen }
    }

    fn through_proxy(&self, header: &[u8]) -> Peer {
        let mut peer = self.connect_from(PROXY);
        peer.send(header);
        peer
    }

    /// Connects from 127.0.0.`last`.
    fn connect_from(&self, last: u8) -> Peer {
        Peer::on(connect_from(last, self.served.address))
    }

    fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    fn counters(&self) -> Counters {
        self.served.server.counters()
    }

    fn closed(&self, reason: &str) -> u64 {
        let closed = self.counters().connections_closed;
        closed.get(reason).copied().unwrap_or(0)
    }
}

/// Sends a LIST, which is answered.
#[track_caller]
fn list(peer: &mut Peer) {
    peer.send([LIST, KEEP]);
    peer.expect(empty_list());
}

fn empty_list() -> Vec<u8> {
    head(b"JTPL", 0)
}

#[test]
fn the_address_in_the_header_is_that_of_the_peer() {
    let server = Running::new(|server| server);
    for client in ["192.0.2.7:4711", "[2001:db8::7]:4711", "0.0.0.0:0"] {
        let mut peer = server.through_proxy(&proxied(client));
        list(&mut peer);
        let seen = server.take_seen();
        let proxy = seen[0].1.unwrap();
        assert_eq!(seen[0].0, Some(client.parse().unwrap()));
        assert_eq!(proxy.ip(), IpAddr::from([127, 0, 0, PROXY]));
    }
    // LOCAL is the proxy itself.
    let mut peer = server.through_proxy(&local());
    list(&mut peer);
    let (address, proxy) = server.take_seen()[0];
    assert_eq!(address.unwrap().ip(), IpAddr::from([127, 0, 0, PROXY]));
    assert_eq!(proxy, None);
}

#[test]
fn header_and_request_may_share_a_segment_or_come_byte_by_byte() {
    let server = Running::new(|server| server);
    let extension = [&[0xea, 0, 5][..], b"hello"].concat();
    let header = header(
        0x21,
        0x11,
        &[&[192, 0, 2, 7, 10, 0, 0, 1, 0, 5, 0, 6], &extension[..]].concat(),
    );
    let mut peer = server.through_proxy(&[&header[..], &[LIST, KEEP, LIST, 0]].concat());
    peer.expect([empty_list(), empty_list()].concat());
    peer.expect_end();
    let mut peer = server.connect_from(PROXY);
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
}

#[test]
fn tls_follows_the_header() {
    let server = Running::new(|server| server.tls(tls().server.clone()).plain(PlainPolicy::Refuse));
    let peer = server.through_proxy(&proxied("192.0.2.7:4711"));
    let mut peer = peer.tls(tls().client());
    list(&mut peer);
    assert_eq!(
        server.take_seen()[0].0,
        Some("192.0.2.7:4711".parse().unwrap())
    );
}

#[test]
fn t2_a_client_behind_a_proxy_is_never_local() {
    let server = Running::new(|server| {
        server
            .tls(tls().server.clone())
            .plain(PlainPolicy::Loopback)
    });
    // An address of the proxy's machine, or of the Internet.
    for client in ["127.0.0.1:4711", "[::1]:4711", "192.0.2.7:4711"] {
        let mut peer = server.through_proxy(&proxied(client));
        peer.send([LIST, KEEP]);
        assert_eq!(peer.expect_error(UNSUPPORTED_FEATURE), TLS_REQUIRED);
    }
    assert!(server.take_seen().is_empty());
    // The proxy itself is on this machine, and so is a stranger.
    let mut peer = server.through_proxy(&local());
    list(&mut peer);
    let mut peer = server.connect_from(STRANGER);
    list(&mut peer);
}

#[test]
fn a_proxy_without_a_valid_header_is_disconnected() {
    let server = Running::new(|server| server);
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
}

#[test]
fn t4_a_header_that_does_not_come_ends_the_connection() {
    let server = Running::new(|server| server.first_byte_timeout(Some(Duration::from_millis(100))));
    expect_disconnect(server.through_proxy(&[]));
    expect_disconnect(server.through_proxy(&proxied("192.0.2.7:4711")[..27]));
    wait_until("the errors are counted", || {
        server.closed("transport_error") == 2
    });
}

#[test]
fn t8_connections_count_by_the_address_in_the_header() {
    let server = Running::new(|server| server.max_connections(8).max_connections_per_ip(2));
    // Without headers they count in total only.
    let mut waiting: Vec<Peer> = (0..8).map(|_| server.through_proxy(&[])).collect();
    let over = server.through_proxy(&[]);
    expect_disconnect(over);
    assert_eq!(server.counters().connections_refused, 1);
    let mut open = Vec::new();
    for client in [
        "192.0.2.7:1",
        "192.0.2.7:2",
        "192.0.2.8:1",
        "[2001:db8::7]:1",
    ] {
        let mut peer = waiting.pop().unwrap();
        peer.send(proxied(client));
        list(&mut peer);
        open.push(peer);
    }
    // A third connection of one client, by another address of its network as well.
    for (client, refused) in [("192.0.2.7:3", true), ("[2001:db8::8]:1", false)] {
        let mut peer = waiting.pop().unwrap();
        peer.send(proxied(client));
        if refused {
            expect_disconnect(peer);
        } else {
            list(&mut peer);
            open.push(peer);
        }
    }
    let counters = server.counters();
    assert_eq!(counters.connections_refused, 2);
    assert_eq!(counters.connections_refused_per_client, 1);
    assert_eq!(counters.connections_open, 5);
    // A permit of the client is returned.
    drop(open.remove(0));
    wait_until("a connection ends", || {
        server.counters().connections_open == 4
    });
    let mut peer = server.through_proxy(&proxied("192.0.2.7:4"));
    list(&mut peer);
    // The proxy's own connections count as those of its address.
    let mut own = waiting;
    for peer in &mut own {
        peer.send(local());
        list(peer);
    }
    assert_eq!(own.len(), 2);
    drop(peer);
    wait_until("a connection ends", || {
        server.counters().connections_open == 6
    });
    expect_disconnect(server.through_proxy(&local()));
}

#[test]
fn s15_requests_are_limited_by_the_address_in_the_header() {
    let server = Running::new(|server| server.rate_limit(1, Duration::from_secs(3600)));
    for client in ["192.0.2.7", "192.0.2.8"] {
        let mut peer = server.through_proxy(&proxied(&format!("{client}:1")));
        list(&mut peer);
        let mut peer = server.through_proxy(&proxied(&format!("{client}:2")));
        peer.send([LIST, KEEP]);
        peer.expect_error(RATE_LIMITED);
    }
}

#[test]
fn s16_a_connection_without_a_header_does_not_delay_the_shutdown() {
    let mut server = Running::new(|server| server);
    let peer = server.through_proxy(&SIGNATURE[..5]);
    // Accepted before the shutdown.
    let mut served = server.through_proxy(&local());
    list(&mut served);
    server.served.shut_down();
    expect_disconnect(peer);
}
