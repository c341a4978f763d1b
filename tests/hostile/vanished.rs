//! T4 N4: peers that vanish without closing the connection.

use std::fs;
use std::future::pending;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jtp_tokio::store::MemoryStore;

use super::{is_full, report_line, runtime, scale, sockets};
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::peer::Peer;
use crate::support::process::{WorkDir, wait_until};

/// Set if the test runs in its own network namespace, which it may cut off.
const INSIDE: &str = "JTP_HOSTILE_NETWORK";

/// Whether TCP keep-alive is enabled on the server's socket.
fn has_keep_alive_timer(server: SocketAddr, peer: SocketAddr) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |field: &str| u16::from_str_radix(field.split(':').nth(1)?, 16).ok();
    let is_match = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ports = (port(fields[1]), port(fields[2]));
        // The active timer: 2 is keep-alive.
        ports == (Some(server.port()), Some(peer.port())) && fields[5].starts_with("02:")
    };
    table.lines().skip(1).any(is_match)
}

#[test]
fn n4_every_adapter_enables_tcp_keep_alive() {
    let store = || Arc::new(MemoryStore::new());
    let listeners: [TcpListener; 3] =
        std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").unwrap());
    let addresses = [0, 1, 2].map(|n| listeners[n].local_addr().unwrap());
    let [tokio, async_std, blocking] = listeners;
    let runtime = runtime();
    runtime.spawn(async move {
        tokio.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(tokio).unwrap();
        let server = jtp_tokio::Server::builder(store()).build();
        server.serve(listener, pending()).await
    });
    async_std::task::spawn(async move {
        let server = jtp_async_std::Server::builder(store()).build();
        server.serve(async_std.into(), pending()).await
    });
    let shutdown = jtp_blocking::ShutdownSignal::new();
    let end = shutdown.clone();
    let blocking = thread::spawn(move || {
        let server = jtp_blocking::Server::builder(store()).build();
        server.serve(blocking, &end)
    });
    for address in addresses {
        let peer = TcpStream::connect(address).unwrap();
        let own = peer.local_addr().unwrap();
        wait_until("TCP keep-alive is enabled", || {
            has_keep_alive_timer(address, own)
        });
    }
    shutdown.begin();
    blocking.join().unwrap().unwrap();
}

/// The `unshare` options for a separate network namespace; `None` if it is not allowed.
fn network() -> Option<&'static [&'static str]> {
    let ways: [&[&str]; 2] = [&["-n"], &["-U", "-r", "-n"]];
    ways.into_iter().find(|way| {
        let mut command = Command::new("unshare");
        command.args(*way).args(["ip", "link", "set", "lo", "up"]);
        command.stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    })
}

fn loopback(state: &str) {
    let status = Command::new("ip")
        .args(["link", "set", "lo", state])
        .status();
    assert!(status.unwrap().success());
}

#[test]
fn t4_n4_vanished_peers_are_closed() {
    if std::env::var_os(INSIDE).is_some() {
        return cut();
    }
    if !is_full() {
        return; // It takes as long as the longest timeout.
    }
    let Some(way) = network() else {
        report_line!("skipped: no network namespace can be created here");
        return;
    };
    let name = "hostile::vanished::t4_n4_vanished_peers_are_closed";
    let status = Command::new("unshare")
        .args(way)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(INSIDE, "1")
        .status();
    assert!(status.unwrap().success());
}

fn cut() {
    loopback("up");
    let images: Vec<TestImage> = (0..8)
        .map(|n| TestImage::new(&format!("{n}.png"), noise(1 << 20, n)))
        .collect();
    let workdir = WorkDir::of(&images);
    let quiet_workdir = WorkDir::of(&images);
    let args = ["--no-tls", "--compression-threshold", "0"];
    let (server, quiet_server) = (workdir.server(&args), quiet_workdir.server(&args));
    let quiet = sockets(server.id());
    let count = scale(4, 50);
    let connect_peers = |server: SocketAddr, sends: &[u8]| -> Vec<Peer> {
        let peer = |_| {
            let mut peer = Peer::connect(server);
            if !sends.is_empty() {
                peer.send_and_be_read(sends);
            }
            peer
        };
        (0..count).map(peer).collect()
    };
    // Each with its deadline in seconds: its timeout, plus the linger time of S11.
    let cases: [(&str, &[u8], u64); 6] = [
        ("half a LIST", &[LIST], 10 + 5),
        ("a reader that stopped", &[LIST_AND_GET, 1], 30),
        ("between requests", &[LIST, 1], 30 + 5),
        ("no bytes", &[], 60 + 5),
        ("a watcher with unsent events", &[4, 0], 90),
        ("a watcher", &[4, 0], 90),
    ];
    let mut groups: Vec<(&str, u64, Vec<Peer>)> = Vec::new();
    for (n, (what, sends, deadline)) in cases.into_iter().enumerate() {
        let server = if n < 5 { &server } else { &quiet_server };
        groups.push((what, deadline, connect_peers(server.addr(), sends)));
    }
    wait_until("all peers are connected", || {
        sockets(server.id()) == quiet + 5 * count && sockets(quiet_server.id()) == quiet + count
    });
    let start = Instant::now();
    loopback("down");
    let moment = Duration::from_millis(200);
    let connected = TcpStream::connect_timeout(&server.addr(), moment);
    assert!(connected.is_err(), "the network is down");
    workdir.add("new.png", &noise(1_000, 9));
    // The number of kinds that remain connected.
    let mut left = 5;
    for (what, deadline, _) in &groups {
        let (server, after) = if left > 0 {
            left -= 1;
            (&server, quiet + left * count)
        } else {
            (&quiet_server, quiet)
        };
        while sockets(server.id()) > after {
            let late = start.elapsed() > Duration::from_secs(deadline + 20);
            assert!(!late, "T4: {what} is still connected");
            thread::sleep(Duration::from_millis(20));
        }
        let elapsed = start.elapsed().as_secs_f64();
        // The timeouts started while the peers connected, before the cut.
        assert!(
            elapsed > *deadline as f64 * 0.6 - 5.0,
            "T4: {what} was closed too early"
        );
        report_line!(
            "{count} x {what}: due after {deadline} s, closed {elapsed:.1} s after the cut"
        );
    }
}
