//! Clocks that no machine knows of: the drain time of each server, and what each client gives a connection until
//! there is one. All other clocks are longer than a test may take. // S16 T6

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::LARGE;
use crate::suite::PATIENCE;
use crate::suite::adapters::{Adapter, BLOCKING};
use crate::suite::ends::{Stage, Then};
use crate::suite::run::{Run, Scene, Transport};
use crate::suite::script::{SOON, Script, png};
use crate::suite::transport::Shape;
use crate::support::bytes::*;
use crate::support::peer::Peer;
use crate::support::tls::tls;

crate::suite::each_adapter! {
    the_drain_time_runs_out, nobody_accepts, nobody_shakes_hands, a_handshake_is_broken_off,
}

/// S16: one client takes nothing of its response, the other is in the middle of its request.
fn the_drain_time_runs_out(server: Adapter) {
    for secure in [false, true] {
        let run = Run {
            server,
            client: BLOCKING, // It has no part in this.
            transport: if secure {
                Transport::Tls
            } else {
                Transport::Tcp
            },
            shape: Shape::Whole,
            impatient: false,
        };
        let script = Script::of([png("a.png", 8 * LARGE)]);
        let scene = Scene::new(&script.setup(|setup| setup.drain = SOON.unwrap()), run);
        scene.call_witness();
        let connect = || {
            let peer = Peer::on(scene.connect());
            if secure {
                peer.tls(tls().client())
            } else {
                peer
            }
        };
        let mut peer = connect();
        peer.send([LIST_AND_GET, KEEP]);
        peer.expect(head(b"JTPG", 1));
        scene.shutdown();
        scene.court.await_ends();
        let log = scene.end();
        assert_eq!(log.last().unwrap(), "1: end: the server is shutting down");
        drop(peer);
    }
}

/// What the client says, at the latest after a test's patience.
fn list(client: Adapter, address: SocketAddr, secure: bool) -> String {
    let (done, told) = channel();
    std::thread::spawn(move || {
        let script = Script::of([]).setup(|setup| setup.connect_timeout = SOON);
        let mut client = (client.client)(&script.setup, address, secure);
        let first = client.list().unwrap_err();
        let again = client.watch(false, &mut |_| Then::Leave).unwrap_err();
        assert_eq!(first, again);
        done.send(first).unwrap();
    });
    told.recv_timeout(PATIENCE).expect("it gives up")
}

/// T6: a listener whose queue is full, and that takes nobody from it.
fn nobody_accepts(client: Adapter) {
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

/// T6: it takes the connection, and says nothing.
fn nobody_shakes_hands(client: Adapter) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let told = list(client, address, true);
    assert!(told.contains("TLS") && told.contains("timed out"), "{told}");
}

fn a_handshake_is_broken_off(client: Adapter) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..2 {
                let mut peer = Peer::on(listener.accept().unwrap().0);
                peer.send([0x16, 3, 3, 0, 90, 2]); // The beginning of its hello.
                peer.half_close();
                while !peer.read_up_to(64).is_empty() {}
            }
        });
        let told = list(client, address, true);
        assert!(told.contains("TLS"), "{told}");
    });
}
