//! What each server does before there is a connection that a machine knows of: limits at accept, and the clocks
//! of TLS. // T2 T4

use std::time::Duration;

use crate::suite::adapters::{Adapter, BLOCKING};
use crate::suite::run::{Run, Scene, Transport};
use crate::suite::script::{SOON, Script, Setup};
use crate::suite::transport::Shape;
use crate::support::bytes::*;
use crate::support::peer::Peer;
use crate::support::tls::tls;

crate::suite::each_adapter! {
    one_connection_too_many, one_too_many_from_an_address, no_handshake_begins, a_handshake_does_not_end,
    plain_and_tls_on_one_port,
}

fn scene(server: Adapter, tls: bool, change: impl FnOnce(&mut Setup)) -> Scene {
    let run = Run {
        server,
        client: BLOCKING, // It has no part in this.
        transport: if tls { Transport::Tls } else { Transport::Tcp },
        shape: Shape::Whole,
        impatient: false,
    };
    Scene::new(&Script::of([]).setup(change), run)
}

fn served(peer: &mut Peer) {
    peer.send([LIST, KEEP]);
    peer.expect(list_of(&[]));
}

/// While one connection is open another is closed; once it is gone there is room again.
fn only_one(scene: Scene) {
    for _ in 0..2 {
        let mut first = Peer::on(scene.connect());
        served(&mut first);
        let mut second = Peer::on(scene.uninvited());
        second.expect_end();
        drop(first);
        scene.court.await_ends();
    }
    let one = [
        "request LIST (0) keep-alive",
        "end: the peer closed the connection",
    ];
    let log = [1, 2]
        .map(|n| one.map(|line| format!("{n}: {line}")))
        .concat();
    assert_eq!(scene.end(), log);
}

fn one_connection_too_many(server: Adapter) {
    only_one(scene(server, false, |setup| {
        setup.max_connections = Some(1);
    }));
}

fn one_too_many_from_an_address(server: Adapter) {
    only_one(scene(server, false, |setup| {
        setup.max_per_address = Some(1);
    }));
}

const LONG: Option<Duration> = Some(Duration::from_secs(3600));

fn no_handshake_begins(server: Adapter) {
    let scene = scene(server, true, |setup| setup.handshake = (LONG, SOON));
    Peer::on(scene.connect()).expect_end();
    let log = scene.end();
    assert!(log.len() == 1 && log[0].contains("timed out"), "{log:?}");
}

fn a_handshake_does_not_end(server: Adapter) {
    let scene = scene(server, true, |setup| setup.handshake = (SOON, LONG));
    let mut peer = Peer::on(scene.connect());
    peer.send([0x16, 3, 1]); // The beginning of a record.
    peer.expect_end();
    let log = scene.end();
    assert!(log.len() == 1 && log[0].contains("timed out"), "{log:?}");
}

/// T2: from loopback.
fn plain_and_tls_on_one_port(server: Adapter) {
    let scene = scene(server, true, |_| {});
    for _ in 0..2 {
        served(&mut Peer::on(scene.connect()));
        scene.court.await_ends();
        served(&mut Peer::on(scene.connect()).tls(tls().client()));
        scene.court.await_ends();
    }
    assert_eq!(scene.end().len(), 8);
}
