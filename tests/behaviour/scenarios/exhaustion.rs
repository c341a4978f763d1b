//! What one host cannot exhaust, on each adapter: watchers, TLS handshakes, and the system's buffers. // T8

use std::io::{ErrorKind, Read};

use super::accepting::{fixture, list_empty};
use crate::suite::adapters::Adapter;
use crate::suite::script::{SHORT, Setup, png};
use crate::support::bytes::*;
use crate::support::peer::Peer;
use crate::support::process::wait_until;
use crate::support::tls::tls;

crate::suite::each_adapter! {
    t8_write_timeout_resets_the_connection, t8_watchers_over_the_limit_are_ended,
    t8_handshakes_over_the_limit_wait_for_their_turn,
}

/// What the client did not read is not delivered after the timeout.
fn is_reset(server: Adapter, secure: bool) {
    let change = |setup: &mut Setup| {
        setup.images = vec![png("a.png", 8_000_000)];
        setup.initial = 1;
        setup.server = setup.server.with_write_timeout(SHORT);
    };
    let fixture = fixture(server, secure, change);
    let stream = fixture.connect();
    let mut unread = stream.try_clone().unwrap();
    let mut peer = Peer::on(stream);
    if secure {
        peer = peer.tls(tls().client());
    }
    peer.send([LIST_AND_GET, 1]);
    fixture.stub.await_closed();
    let mut received = Vec::new();
    let error = unread.read_to_end(&mut received).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(received.len() < 8_000_000);
    let log = fixture.end();
    assert_eq!(
        log.last().unwrap(),
        "1: end: timed out: the peer accepted no output"
    );
}

fn t8_write_timeout_resets_the_connection(server: Adapter) {
    is_reset(server, false);
    is_reset(server, true);
}

fn t8_watchers_over_the_limit_are_ended(server: Adapter) {
    let fixture = fixture(server, false, |setup| setup.max_watchers = Some(2));
    let mut watchers: Vec<Peer> = (0..4).map(|_| Peer::on(fixture.connect())).collect();
    for peer in &mut watchers {
        peer.send(WATCH);
    }
    wait_until("two watchers are ended", || {
        let log = fixture.stub.log();
        let ended = log
            .iter()
            .filter(|line| line.ends_with("end: too many watchers"));
        ended.count() == 2
    });
    let answered = watchers.iter_mut().filter_map(|peer| {
        // One that is ended is closed in order, and not reset.
        let _ = peer.try_send(CANCEL);
        let answer = peer.read_up_to(4);
        (answer == b"JTPC").then_some(())
    });
    assert_eq!(answered.count(), 2);
    drop(watchers);
    assert_eq!(fixture.end().len(), 8);
}

fn t8_handshakes_over_the_limit_wait_for_their_turn(server: Adapter) {
    let fixture = fixture(server, true, |setup| setup.max_handshakes = Some(1));
    let mut slow = Peer::on(fixture.connect());
    slow.send([0x16, 3, 1]); // The beginning of a TLS record.
    let mut peers: Vec<Peer> = (0..4)
        .map(|_| Peer::on(fixture.connect()).tls(tls().client()))
        .collect();
    std::thread::scope(|scope| {
        for peer in &mut peers {
            scope.spawn(|| list_empty(peer));
        }
    });
    assert!(slow.look().is_none(), "it is still open");
    drop((slow, peers));
    assert_eq!(fixture.end().len(), 9);
}
