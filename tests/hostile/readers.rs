//! T4: clients that ask and do not read.

use std::time::{Duration, Instant};

use super::{Honest, Mib, a_while, is_full, report, scale, sockets, tell};
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::peer::Peer;
use crate::support::process::{Place, eventually};

#[test]
fn t4_c6_readers_that_stop_cost_no_memory_and_are_closed() {
    let pictures: Vec<Picture> = (0..8)
        .map(|n| Picture::new(&format!("{n}.png"), noise(1 << 20, n)))
        .collect();
    let place = Place::of(&pictures);
    let server = place.server(&["--no-tls", "--compression-threshold", "0"]);
    let quiet = sockets(server.pid());
    let honest = Honest::of(&server, &place);
    let peace = honest.fetch_for(a_while());
    let before = server.peak_memory();
    let count = scale(20, 300);
    let begun = Instant::now();
    let stopped: Vec<Peer> = (0..count)
        .map(|n| {
            let mut peer = Peer::connect(server.address);
            match n % 3 {
                // Some have closed their side, which is no abort. // T5
                0 => {
                    peer.send([LIST_AND_GET, 1]);
                    peer.half_close();
                }
                // Some ask again and again.
                1 => drop(peer.try_send([LIST_AND_GET, 1].repeat(1_000))),
                _ => peer.send([LIST_AND_GET, 1]),
            }
            peer
        })
        .collect();
    let attacked = honest.fetch_for(a_while());
    report(
        &format!("{count} readers that stop"),
        &server,
        before,
        peace,
        attacked,
    );
    // What a connection needs, two small pieces of a body, and one of the images that follow; 64 have large ones.
    let most = before + (64 * (1 << 20)).min(count as u64 * (1 << 20)) + count as u64 * (160 << 10);
    let most = most + (16 << 20);
    assert!(server.peak_memory() < most, "{}", Mib(server.peak_memory()));
    if is_full() {
        while sockets(server.pid()) > quiet {
            assert!(begun.elapsed() < Duration::from_secs(60), "T4: not closed");
            std::thread::sleep(Duration::from_millis(20));
        }
        tell!("all closed after {:.1} s", begun.elapsed().as_secs_f64());
        assert!(begun.elapsed() > Duration::from_secs(29), "T4: too early");
        drop(stopped);
    } else {
        drop(stopped);
        eventually("all are gone", || sockets(server.pid()) <= quiet);
    }
    honest.fetch();
}
