//! Timeouts outside the state machines: the drain time of each server, and the connect timeouts of each client. All
//! other timeouts are longer than a test. // S16 T6

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::LARGE;
use super::accepting::fixture;
use crate::suite::TEST_TIMEOUT;
use crate::suite::adapters::Adapter;
use crate::suite::script::{SHORT, Script, png};
use crate::suite::traits::{Environment, WatchControl};
use crate::support::bytes::*;
use crate::support::peer::Peer;
use crate::support::tls::tls;

crate::suite::each_adapter! {
    drain_timeout, connect_timeout_without_accept, tls_handshake_timeout, connection_ends_inside_the_handshake,
}

/// S16: a client does not read its response.
fn drain_timeout(server: Adapter) {
    for secure in [false, true] {
        let fixture = fixture(server, secure, |setup| {
            setup.images = vec![png("a.png", 8 * LARGE)];
            setup.initial = 1;
            setup.drain = SHORT.unwrap();
        });
        let mut peer = Peer::on(fixture.connect());
        if secure {
            peer = peer.tls(tls().client());
        }
        peer.send([LIST_AND_GET, KEEP]);
        peer.expect(head(b"JTPG", 1));
        fixture.shutdown();
        fixture.stub.await_closed();
        let log = fixture.end();
        assert_eq!(log.last().unwrap(), "1: end: the server is shutting down");
        drop(peer);
    }
}

/// The client's error, which the next call gets as well.
fn list(client: Adapter, address: SocketAddr, secure: bool) -> String {
    let [first, again] = list_within(SHORT.unwrap(), client, address, secure);
    assert_eq!(first, again);
    first
}

/// The errors of two calls.
fn list_within(
    timeout: Duration,
    client: Adapter,
    address: SocketAddr,
    secure: bool,
) -> [String; 2] {
    let (done, outcome) = channel();
    std::thread::spawn(move || {
        let script = Script::of([]).setup(|setup| setup.connect_timeout = Some(timeout));
        let mut client = (client.client)(&script.setup, address, secure);
        let first = client.list().unwrap_err();
        let again = client
            .watch(false, &mut |_| WatchControl::Drop)
            .unwrap_err();
        done.send([first, again]).unwrap();
    });
    outcome
        .recv_timeout(TEST_TIMEOUT)
        .expect("the client gives up")
}

/// T6: a listener whose queue is full and that accepts nothing.
fn connect_timeout_without_accept(client: Adapter) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().unwrap();
    let moment = Duration::from_millis(100);
    let connect = || TcpStream::connect_timeout(&address, moment).ok();
    let queued: Vec<TcpStream> = std::iter::from_fn(connect).collect();
    assert!(!queued.is_empty());
    assert_eq!(list(client, address, false), "cannot connect");
}

/// T6: the peer connects and sends nothing.
fn tls_handshake_timeout(client: Adapter) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // The timeout is that of connecting, too, for which a busy machine may need longer.
    let timeouts = (0..6).map(|n| SHORT.unwrap() * 4_u32.pow(n));
    let mut errors = timeouts.map(|timeout| list_within(timeout, client, address, true));
    let is_connected = |errors: &[String; 2]| errors.iter().all(|error| error != "cannot connect");
    for error in errors.find(is_connected).unwrap() {
        assert!(
            error.contains("TLS") && error.contains("timed out"),
            "{error}"
        );
    }
}

fn connection_ends_inside_the_handshake(client: Adapter) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                let mut peer = Peer::on(listener.accept().unwrap().0);
                peer.send([0x16, 3, 3, 0, 90, 2]); // The beginning of a ServerHello.
                peer.half_close();
                while !peer.read_up_to(64).is_empty() {}
            }
        });
        let error = list(client, address, true);
        assert!(error.contains("TLS"), "{error}");
    });
}
