//! More connections than allowed, in total and from one address.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use super::{HonestClient, connect_from, measuring_time, report, report_line, scale, sockets};
use crate::support::bytes::*;
use crate::support::files::images_in;
use crate::support::peer::Peer;
use crate::support::process::{WorkDir, peak_memory, wait_until};

/// The number of these connections that the server has closed. No request was sent, so no bytes may arrive.
fn closed(flood: &mut [TcpStream]) -> usize {
    let is_closed = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        match stream.read(&mut [0]) {
            Ok(0) => true,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
            Ok(_) => panic!("a byte without a request"),
        }
    };
    flood
        .iter_mut()
        .filter_map(|s| is_closed(s).then_some(()))
        .count()
}

#[test]
fn connections_over_the_limit_are_closed_at_accept() {
    let workdir = WorkDir::samples();
    let (limit, held, attempts) = (scale(60, 600), scale(40, 400), scale(400, 5_000));
    let limit_arg = limit.to_string();
    let args = [
        "--no-tls",
        "--compression-threshold",
        "0",
        "--max-connections",
        &limit_arg,
        "--max-connections-per-ip",
        "0",
    ];
    let server = workdir.server(&args);
    let quiet = sockets(server.id());
    let honest = HonestClient::of(&server, &workdir);
    let samples = images_in(&workdir.images());
    let baseline = honest.fetch_for(measuring_time());
    let before = peak_memory(server.id()).unwrap();
    let mut open: Vec<Peer> = (0..held).map(|_| Peer::connect(server.addr())).collect();
    let list_on = |open: &mut [Peer]| {
        for peer in open {
            peer.send([LIST, 1]);
            peer.expect(list_of(&samples));
        }
    };
    list_on(&mut open);
    let mut flood = Vec::new();
    for n in 0..attempts {
        flood.push(connect_from(1, server.addr()));
        if n % 100 == 0 {
            list_on(&mut open[..1]);
        }
    }
    wait_until("connections over the limit are closed", || {
        closed(&mut flood) == attempts - (limit - held)
    });
    assert!(sockets(server.id()) <= quiet + limit);
    report_line!(
        "{attempts} connections beside {held} of {limit}: {} closed at accept",
        closed(&mut flood)
    );
    list_on(&mut open);
    // Once the flood has ended, new connections are accepted.
    drop(flood);
    wait_until("the flood's connections are gone", || {
        sockets(server.id()) <= quiet + held
    });
    list_on(&mut open);
    let under_attack = honest.fetch_for(measuring_time());
    report("after the flood", &server, before, baseline, under_attack);
}

#[test]
fn flood_from_one_address_does_not_affect_others() {
    let workdir = WorkDir::samples();
    let (limit, attempts) = (20, scale(300, 3_000));
    let args = [
        "--no-tls",
        "--compression-threshold",
        "0",
        "--max-connections-per-ip",
        "20",
    ];
    let server = workdir.server(&args);
    let honest = HonestClient::of(&server, &workdir);
    let baseline = honest.fetch_for(measuring_time());
    let before = peak_memory(server.id()).unwrap();
    let mut flood: Vec<TcpStream> = (0..attempts)
        .map(|_| connect_from(2, server.addr()))
        .collect();
    let under_attack = honest.fetch_for(measuring_time());
    wait_until("connections over the limit are closed", || {
        closed(&mut flood) == attempts - limit
    });
    report(
        &format!("{attempts} connections from one address, {limit} allowed"),
        &server,
        before,
        baseline,
        under_attack,
    );
    // The accepted ones are served.
    let samples = images_in(&workdir.images());
    let mut served = 0;
    for stream in flood {
        stream.set_nonblocking(false).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut peer = Peer::on(stream);
        if peer.try_send([LIST, 0]).is_ok() && peer.read_up_to_or_gone(4) == b"JTPL" {
            peer.expect(&list_of(&samples)[4..]);
            served += 1;
        }
    }
    assert_eq!(served, limit);
}
