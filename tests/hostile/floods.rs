//! More connections than allowed, in total and from one address.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use super::{Attacked, connect_from, report_line, scale, sockets};
use crate::support::bytes::*;
use crate::support::files::images_in;
use crate::support::peer::Peer;
use crate::support::process::{WorkDir, wait_until};

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
    let (limit, held, attempts) = (scale(60, 600), scale(40, 400), scale(400, 5_000));
    // In total, and of one address, which another one does not notice.
    for (option, other) in [
        ("--max-connections-per-ip 0 --max-connections", None),
        ("--max-connections-per-ip", Some(2)),
    ] {
        let workdir = WorkDir::samples();
        let server = workdir.server(&format!(
            "--no-tls --compression-threshold 0 {option} {limit}"
        ));
        let quiet = sockets(server.id());
        let attacked = Attacked::new(&server, &workdir);
        let list = list_of(&images_in(&workdir.images()));
        let mut open: Vec<Peer> = (0..held)
            .map(|_| Peer::on(connect_from(1, server.addr())))
            .collect();
        let list_on = |open: &mut [Peer]| {
            for peer in open {
                peer.send([LIST, 1]);
                peer.expect(&list);
            }
        };
        list_on(&mut open);
        let mut flood: Vec<TcpStream> = (0..attempts)
            .map(|_| connect_from(1, server.addr()))
            .collect();
        wait_until("connections over the limit are closed", || {
            closed(&mut flood) == attempts - (limit - held)
        });
        assert!(sockets(server.id()) <= quiet + limit);
        report_line!(
            "{attempts} connections beside {held} of {limit}, {option}: the others were closed"
        );
        list_on(&mut open);
        if let Some(other) = other {
            list_on(&mut [Peer::on(connect_from(other, server.addr()))]);
        }
        // Once the flood has ended, new connections are accepted.
        drop(flood);
        wait_until("the flood's connections are gone", || {
            sockets(server.id()) <= quiet + held
        });
        list_on(&mut open);
        attacked.report("after the flood", u64::MAX);
    }
}
