//! T4: clients that send requests and do not read.

use std::time::{Duration, Instant};

use super::{HonestClient, Mib, is_full, measuring_time, report, report_line, scale, sockets};
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::peer::Peer;
use crate::support::process::{WorkDir, peak_memory, wait_until};

#[test]
fn t4_c6_stalled_readers_need_bounded_memory_and_are_closed() {
    let images: Vec<TestImage> = (0..8)
        .map(|n| TestImage::new(&format!("{n}.png"), noise(1 << 20, n)))
        .collect();
    let workdir = WorkDir::of(&images);
    let server = workdir.server("--no-tls --compression-threshold 0");
    let quiet = sockets(server.id());
    let honest = HonestClient::of(&server, &workdir);
    let baseline = honest.fetch_for(measuring_time());
    let before = peak_memory(server.id()).unwrap();
    let count = scale(20, 300);
    let start = Instant::now();
    let stopped: Vec<Peer> = (0..count)
        .map(|n| {
            let mut peer = Peer::connect(server.addr());
            match n % 3 {
                // Some half-close, which does not abort the response. // T5
                0 => {
                    peer.send([LIST_AND_GET, 1]);
                    peer.half_close();
                }
                // Some send many requests.
                1 => drop(peer.try_send([LIST_AND_GET, 1].repeat(1_000))),
                _ => peer.send([LIST_AND_GET, 1]),
            }
            peer
        })
        .collect();
    let under_attack = honest.fetch_for(measuring_time());
    report(
        &format!("{count} stalled readers"),
        &server,
        before,
        baseline,
        under_attack,
    );
    // Each connection's buffers, two small pieces of a body, and a piece of the next image; at most 64 have large pieces.
    let most = before + (64 * (1 << 20)).min(count as u64 * (1 << 20)) + count as u64 * (160 << 10);
    let most = most + (16 << 20);
    assert!(
        peak_memory(server.id()).unwrap() < most,
        "{}",
        Mib(peak_memory(server.id()).unwrap())
    );
    if is_full() {
        while sockets(server.id()) > quiet {
            assert!(start.elapsed() < Duration::from_secs(60), "T4: not closed");
            std::thread::sleep(Duration::from_millis(20));
        }
        report_line!("all closed after {:.1} s", start.elapsed().as_secs_f64());
        assert!(start.elapsed() > Duration::from_secs(29), "T4: too early");
        drop(stopped);
    } else {
        drop(stopped);
        wait_until("all connections are closed", || {
            sockets(server.id()) <= quiet
        });
    }
    honest.fetch();
}
