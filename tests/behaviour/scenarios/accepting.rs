//! What each server does before a state machine exists for a connection: connection limits and the TLS handshake
//! timeouts. // T2 T4

use std::time::Duration;

use crate::suite::adapters::{Adapter, BLOCKING};
use crate::suite::run::{Fixture, RunConfig, Transport};
use crate::suite::script::{SHORT, Script, Setup};
use crate::support::bytes::*;
use crate::support::peer::Peer;
use crate::support::tls::tls;

crate::suite::each_adapter! {
    connections_over_a_limit_are_closed, tls_first_byte_timeout, tls_handshake_timeout,
    plain_and_tls_on_one_port,
}

pub(super) fn fixture(server: Adapter, tls: bool, change: impl FnOnce(&mut Setup)) -> Fixture {
    let transport = if tls { Transport::Tls } else { Transport::Tcp };
    let run = RunConfig::whole(server, BLOCKING, transport); // The client is not used.
    Fixture::new(&Script::of([]).setup(change), run)
}

pub(super) fn list_empty(peer: &mut Peer) {
    peer.send([LIST, KEEP]);
    peer.expect(list_of(&[]));
}

/// While one connection is open, another is closed at once; after it has ended, a new one is served.
fn connections_over_a_limit_are_closed(server: Adapter) {
    // The default for an address is an eighth, and would close it as well.
    for (max, max_per_address) in [(Some(1), Some(0)), (None, Some(1))] {
        second_connection_is_closed(fixture(server, false, |setup| {
            setup.max_connections = max;
            setup.max_per_address = max_per_address;
        }));
    }
}

fn second_connection_is_closed(fixture: Fixture) {
    for _ in 0..2 {
        let mut first = Peer::on(fixture.connect());
        list_empty(&mut first);
        let mut second = Peer::on(fixture.connect_unrecorded());
        second.expect_end();
        drop(first);
        fixture.stub.await_closed();
    }
    let one = [
        "request LIST (0) keep-alive",
        "end: the peer closed the connection",
    ];
    let log = [1, 2]
        .map(|n| one.map(|line| format!("{n}: {line}")))
        .concat();
    assert_eq!(fixture.end(), log);
}

const LONG: Option<Duration> = Some(Duration::from_secs(3600));

fn tls_first_byte_timeout(server: Adapter) {
    let fixture = fixture(server, true, |setup| setup.handshake = (LONG, SHORT));
    Peer::on(fixture.connect()).expect_end();
    let log = fixture.end();
    assert!(log.len() == 1 && log[0].contains("timed out"), "{log:?}");
}

fn tls_handshake_timeout(server: Adapter) {
    let fixture = fixture(server, true, |setup| setup.handshake = (SHORT, LONG));
    let mut peer = Peer::on(fixture.connect());
    peer.send([0x16, 3, 1]); // The beginning of a TLS record.
    peer.expect_end();
    let log = fixture.end();
    assert!(log.len() == 1 && log[0].contains("timed out"), "{log:?}");
}

/// T2: plain clients from loopback are served beside TLS.
fn plain_and_tls_on_one_port(server: Adapter) {
    let fixture = fixture(server, true, |_| {});
    for _ in 0..2 {
        list_empty(&mut Peer::on(fixture.connect()));
        fixture.stub.await_closed();
        list_empty(&mut Peer::on(fixture.connect()).tls(tls().client()));
        fixture.stub.await_closed();
    }
    assert_eq!(fixture.end().len(), 8);
}
