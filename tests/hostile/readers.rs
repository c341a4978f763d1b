//! T4 T8: clients that send requests and do not read. What the server and the system keep for them is bounded.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Attacked, Mib, connect_from, is_full, report_line, scale, sockets};
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::peer::Peer;
use crate::support::process::{WorkDir, wait_until};

/// The bytes in the system's send queues of connections from this port, also of those that no process holds any more.
fn send_queues(of: SocketAddr) -> u64 {
    let port = format!(":{:04X}", of.port());
    let sockets = fs::read_to_string("/proc/net/tcp").unwrap();
    let queue = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (queues, _) = fields.get(4)?.split_once(':')?;
        let is_ours = fields.get(1)?.ends_with(&port);
        is_ours.then(|| u64::from_str_radix(queues, 16).unwrap())
    };
    sockets.lines().filter_map(queue).sum()
}

#[test]
fn t4_t8_c6_stalled_readers_need_bounded_memory_and_are_closed() {
    let images: Vec<TestImage> = (0..8)
        .map(|n| TestImage::new(&format!("{n}.png"), noise(1 << 20, n)))
        .collect();
    let workdir = WorkDir::of(&images);
    let server = workdir.server("--no-tls --compression-threshold 0");
    let quiet = sockets(server.id());
    let attacked = Attacked::new(&server, &workdir);
    let (count, start) = (scale(40, 600), Instant::now());
    let stopped: Vec<Peer> = (0..count)
        .map(|n| {
            // No address exceeds its share of the connections.
            let last = u8::try_from(2 + n / 400).unwrap();
            let mut peer = Peer::on(connect_from(last, server.addr()));
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
    // Until nothing moves: the clients' receive buffers are full, and so are the queues.
    let mut queued = 0;
    wait_until("the queues are full", || {
        let last = std::mem::replace(&mut queued, send_queues(server.addr()));
        queued > 0 && queued == last
    });
    let each = queued / count as u64;
    report_line!(
        "{count} clients that do not read: {} in send queues",
        Mib(queued)
    );
    // The limit of unsent data, what is on its way to a closed window, and one more write.
    assert!(each < 512 * 1024, "{each} bytes each");
    // Each connection's buffers, two small pieces of a body, and a piece of the next image; at most 64 have large pieces.
    let large = 64.min(count as u64) * (1 << 20);
    let most = attacked.before + large + count as u64 * (160 << 10) + (16 << 20);
    attacked.report(&format!("{count} stalled readers"), most);
    if is_full() {
        while sockets(server.id()) > quiet {
            assert!(start.elapsed() < Duration::from_secs(60), "T4: not closed");
            std::thread::sleep(Duration::from_millis(20));
        }
        report_line!("all closed after {:.1} s", start.elapsed().as_secs_f64());
        assert!(start.elapsed() > Duration::from_secs(29), "T4: too early");
        wait_until("the system gives the memory back", || {
            send_queues(server.addr()) == 0
        });
        drop(stopped);
    } else {
        drop(stopped);
        wait_until("all connections are closed", || {
            sockets(server.id()) <= quiet
        });
    }
    attacked.honest.fetch();
}
