//! T8: many watchers from one address. A WATCH is two bytes, and has no idle timeout (N4).

use super::{connect_from, report_line, scale};
use crate::support::bytes::*;
use crate::support::peer::Peer;
use crate::support::process::WorkDir;

#[test]
fn t8_over_the_limit_the_address_with_the_most_watchers_loses_its_oldest() {
    let workdir = WorkDir::samples();
    let (limit, count) = (scale(20, 200), scale(100, 1_000));
    let server = workdir.server(&format!(
        "--no-tls --max-connections {} --max-connections-per-ip 0 --max-watchers {limit}",
        4 * count
    ));
    let mut early: Vec<Peer> = (3..6)
        .map(|last| Peer::on(connect_from(last, server.addr())))
        .collect();
    for peer in &mut early {
        peer.send_and_be_read(WATCH);
    }
    let mut flood: Vec<Peer> = (0..count)
        .map(|_| Peer::on(connect_from(2, server.addr())))
        .collect();
    for peer in &mut flood {
        // Those over the limit may be closed before this.
        let _ = peer.try_send(WATCH);
    }
    flood.iter().for_each(Peer::await_read);
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
