//! T8: many watchers from one address. A WATCH is two bytes, and has no idle timeout (N4).

use std::net::TcpStream;

use super::{
    HonestClient, connect_from, is_full, measuring_time, report, report_line, scale, sockets,
};
use crate::support::bytes::*;
use crate::support::peer::{Peer, await_read};
use crate::support::process::{Process, WorkDir, peak_memory, wait_until};

/// Connections from 127.0.0.2 that watch, or try to.
fn flood(server: &Process, count: usize) -> Vec<TcpStream> {
    (0..count)
        .map(|_| {
            let stream = connect_from(2, server.addr());
            // Those over a limit may be closed before this.
            let _ = Peer::on(stream.try_clone().unwrap()).try_send(WATCH);
            stream
        })
        .collect()
}

#[test]
fn t8_watchers_of_one_address_do_not_lock_others_out() {
    let workdir = WorkDir::samples();
    let mut args = vec!["--no-tls", "--compression-threshold", "0"];
    if !is_full() {
        args.extend(["--max-connections", "64"]);
    }
    let (count, allowed) = (scale(200, 4_096), scale(8, 512));
    let server = workdir.server(&args);
    let quiet = sockets(server.id());
    let honest = HonestClient::of(&server, &workdir);
    let baseline = honest.fetch_for(measuring_time());
    let before = peak_memory(server.id()).unwrap();
    let flood = flood(&server, count);
    wait_until("the server has seen the flood", || {
        sockets(server.id()) == quiet + allowed
    });
    let mut watcher = Peer::on(connect_from(3, server.addr()));
    watcher.send(WATCH);
    let under_attack = honest.fetch_for(measuring_time());
    report(
        &format!("{count} watchers from one address, {allowed} admitted"),
        &server,
        before,
        baseline,
        under_attack,
    );
    let new = workdir.add("new.png", b"a new image");
    watcher.expect(b"JTPW");
    assert_eq!(watcher.entry().2, new.name);
    drop(flood);
}

#[test]
fn t8_over_the_limit_the_address_with_the_most_watchers_loses_its_oldest() {
    let workdir = WorkDir::samples();
    let (limit, count) = (scale(20, 200), scale(100, 1_000));
    let (limit_arg, connections) = (limit.to_string(), (4 * count).to_string());
    let server = workdir.server(&[
        "--no-tls",
        "--compression-threshold",
        "0",
        "--max-connections",
        &connections,
        "--max-connections-per-ip",
        "0",
        "--max-watchers",
        &limit_arg,
    ]);
    let mut early: Vec<Peer> = (3..6)
        .map(|last| Peer::on(connect_from(last, server.addr())))
        .collect();
    for peer in &mut early {
        peer.send_and_be_read(WATCH);
    }
    let flood = flood(&server, count);
    flood.iter().for_each(await_read);
    // Connected after the limit was reached.
    let mut late = Peer::on(connect_from(6, server.addr()));
    late.send_and_be_read(WATCH);
    let new = workdir.add("new.png", b"a new image");
    let expect_event = |peer: &mut Peer| {
        peer.expect(b"JTPW");
        assert_eq!(peer.entry().2, new.name);
    };
    early.iter_mut().for_each(expect_event);
    expect_event(&mut late);
    let mut flood: Vec<Peer> = flood.into_iter().map(Peer::on).collect();
    let ended = flood.iter_mut().filter_map(|peer| {
        let begun = peer.read_up_to(4);
        // An orderly end, not a reset.
        begun.is_empty().then_some(())
    });
    let (ended, expected) = (ended.count(), count + 3 + 1 - limit);
    report_line!(
        "{count} watchers from one address beside 4 others, {limit} allowed: {ended} ended, all of that address"
    );
    assert_eq!(ended, expected);
}
