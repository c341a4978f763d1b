//! More connections than are allowed, in all and from one address.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use socket2::{Domain, Socket, Type};

use super::{Honest, a_while, report, scale, sockets, tell};
use crate::support::bytes::*;
use crate::support::files::pictures;
use crate::support::peer::Peer;
use crate::support::process::{Place, eventually};

/// A connection from one of the addresses of this machine.
fn connect_from(last: u8, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let from = SocketAddr::from(([127, 0, 0, last], 0));
    socket.bind(&from.into()).unwrap();
    socket.connect(&to.into()).unwrap();
    socket.into()
}

/// How many of these the server has closed. Nothing was asked, so nothing else can come.
fn closed(flood: &mut [TcpStream]) -> usize {
    let is_closed = |stream: &mut TcpStream| {
        stream.set_nonblocking(true).unwrap();
        match stream.read(&mut [0]) {
            Ok(0) => true,
            Err(error) => error.kind() != ErrorKind::WouldBlock,
            Ok(_) => panic!("a byte that nobody asked for"),
        }
    };
    flood
        .iter_mut()
        .filter_map(|s| is_closed(s).then_some(()))
        .count()
}

#[test]
fn a_flood_over_the_limit_is_closed_at_accept_and_open_connections_work_on() {
    let place = Place::samples();
    let (limit, held, tried) = (scale(60, 600), scale(40, 400), scale(400, 5_000));
    let limit_arg = limit.to_string();
    let args = [
        "--no-tls",
        "--compression-threshold",
        "0",
        "--max-connections",
        &limit_arg,
    ];
    let server = place.server(&args);
    let quiet = sockets(server.pid());
    let honest = Honest::of(&server, &place);
    let samples = pictures(&place.images());
    let peace = honest.fetch_for(a_while());
    let before = server.peak_memory();
    let mut open: Vec<Peer> = (0..held).map(|_| Peer::connect(server.address)).collect();
    let ask = |open: &mut [Peer]| {
        for peer in open {
            peer.send([LIST, 1]);
            peer.expect(list_of(&samples));
        }
    };
    ask(&mut open);
    let mut flood = Vec::new();
    for n in 0..tried {
        flood.push(connect_from(1, server.address));
        if n % 100 == 0 {
            ask(&mut open[..1]);
        }
    }
    eventually("what is over the limit is closed", || {
        closed(&mut flood) == tried - (limit - held)
    });
    assert!(sockets(server.pid()) <= quiet + limit);
    tell!(
        "{tried} connections beside {held} of {limit}: {} closed at accept",
        closed(&mut flood)
    );
    ask(&mut open);
    // Once there is room again everybody is let in.
    drop(flood);
    eventually("there is room", || sockets(server.pid()) <= quiet + held);
    ask(&mut open);
    let attacked = honest.fetch_for(a_while());
    report("after the flood", &server, before, peace, attacked);
}

#[test]
fn a_flood_from_one_address_leaves_the_others_alone() {
    let place = Place::samples();
    let (limit, tried) = (20, scale(300, 3_000));
    let args = [
        "--no-tls",
        "--compression-threshold",
        "0",
        "--max-connections-per-ip",
        "20",
    ];
    let server = place.server(&args);
    let honest = Honest::of(&server, &place);
    let peace = honest.fetch_for(a_while());
    let before = server.peak_memory();
    let mut flood: Vec<TcpStream> = (0..tried)
        .map(|_| connect_from(2, server.address))
        .collect();
    let attacked = honest.fetch_for(a_while());
    eventually("what is over the limit is closed", || {
        closed(&mut flood) == tried - limit
    });
    report(
        &format!("{tried} connections from one address, {limit} allowed"),
        &server,
        before,
        peace,
        attacked,
    );
    // Those that are in are served.
    let samples = pictures(&place.images());
    let mut inside = 0;
    for stream in flood {
        stream.set_nonblocking(false).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let mut peer = Peer::on(stream);
        if peer.try_send([LIST, 0]).is_ok() && peer.read_up_to_or_gone(4) == b"JTPL" {
            peer.expect(&list_of(&samples)[4..]);
            inside += 1;
        }
    }
    assert_eq!(inside, limit);
}
