//! T8: what the system buffers for clients that do not read.

use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Mib, connect_from, is_full, report_line, scale, sockets};
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

/// The memory of all TCP sockets of this machine.
fn tcp_memory() -> u64 {
    let statistics = fs::read_to_string("/proc/net/sockstat").unwrap();
    let line = statistics.lines().find(|line| line.starts_with("TCP:"));
    let pages = line.unwrap().rsplit_once("mem ").unwrap().1;
    pages.trim().parse::<u64>().unwrap() * 4096
}

#[test]
fn t8_the_system_buffers_little_for_clients_that_do_not_read() {
    let images: Vec<TestImage> = (0..8)
        .map(|n| TestImage::new(&format!("{n}.png"), noise(1 << 20, n)))
        .collect();
    let workdir = WorkDir::of(&images);
    let server = workdir.server("--no-tls --compression-threshold 0");
    let quiet = sockets(server.id());
    let (count, before) = (scale(40, 1_000), tcp_memory());
    let start = Instant::now();
    let stopped: Vec<Peer> = (0..count)
        .map(|n| {
            // No address exceeds its share of the connections.
            let last = u8::try_from(2 + n / 400).unwrap();
            let mut peer = Peer::on(connect_from(last, server.addr()));
            peer.send([LIST_AND_GET, 1]);
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
        "{count} clients that do not read: {} in send queues, {} each; TCP memory of the machine {} (before: {})",
        Mib(queued),
        Mib(each),
        Mib(tcp_memory()),
        Mib(before)
    );
    // The limit of unsent data, what is on its way to a closed window, and one more write.
    assert!(each < 512 * 1024, "{each} bytes each");
    if is_full() {
        while sockets(server.id()) > quiet {
            assert!(start.elapsed() < Duration::from_secs(60), "T4: not closed");
            std::thread::sleep(Duration::from_millis(20));
        }
        wait_until("the system gives the memory back", || {
            send_queues(server.addr()) == 0
        });
        report_line!(
            "given back after {:.1} s; TCP memory of the machine {}",
            start.elapsed().as_secs_f64(),
            Mib(tcp_memory())
        );
    }
    drop(stopped);
}
