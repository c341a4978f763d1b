//! T4 N4: peers that vanish: the cable is pulled, and no word of an end comes.

use std::fs;
use std::future::pending;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use jtp_store::MemoryStore;

use super::{is_full, runtime, scale, sockets, tell};
use crate::support::bytes::*;
use crate::support::files::noise;
use crate::support::peer::Peer;
use crate::support::process::{Place, eventually};

/// Says to the test that it runs in a network of its own, which it may cut.
const INSIDE: &str = "JTP_HOSTILE_NETWORK";

/// Whether the system will ask, after some silence, whether the peer of the server's socket is still there.
fn is_looked_after(server: SocketAddr, peer: SocketAddr) -> bool {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    let port = |field: &str| u16::from_str_radix(field.split(':').nth(1)?, 16).ok();
    let is_it = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let ports = (port(fields[1]), port(fields[2]));
        // The timer that runs: 2 is keep-alive.
        ports == (Some(server.port()), Some(peer.port())) && fields[5].starts_with("02:")
    };
    table.lines().skip(1).any(is_it)
}

#[test]
fn n4_every_adapter_has_the_system_look_after_its_peers() {
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
    let shutdown = jtp_blocking::server::Shutdown::new().unwrap();
    let end = shutdown.clone();
    let blocking = thread::spawn(move || {
        let server = jtp_blocking::Server::builder(store()).build();
        server.serve(blocking, &end)
    });
    for address in addresses {
        let peer = TcpStream::connect(address).unwrap();
        let own = peer.local_addr().unwrap();
        eventually("the option is on", || is_looked_after(address, own));
    }
    shutdown.begin();
    blocking.join().unwrap().unwrap();
}

/// How to get a network of one's own; `None` where that is not allowed.
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
fn t4_n4_peers_that_vanish_are_given_up_whatever_they_were_at() {
    if std::env::var_os(INSIDE).is_some() {
        return cut();
    }
    if !is_full() {
        return; // It takes the time of the longest clock.
    }
    let Some(way) = network() else {
        tell!("left out: no network of one's own is to be had");
        return;
    };
    let name = "hostile::vanished::t4_n4_peers_that_vanish_are_given_up_whatever_they_were_at";
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
    let pictures: Vec<Picture> = (0..8)
        .map(|n| Picture::new(&format!("{n}.png"), noise(1 << 20, n)))
        .collect();
    let place = Place::of(&pictures);
    let silent = Place::of(&pictures);
    let args = ["--no-tls", "--compression-threshold", "0"];
    let (server, silent_server) = (place.server(&args), silent.server(&args));
    let quiet = sockets(server.pid());
    let count = scale(4, 50);
    let crowd = |server: SocketAddr, sends: &[u8]| -> Vec<Peer> {
        let peer = |_| {
            let mut peer = Peer::connect(server);
            if !sends.is_empty() {
                peer.send_and_be_read(sends);
            }
            peer
        };
        (0..count).map(peer).collect()
    };
    // Each with when it is to be gone at the latest: its clock, and the lingering of S11.
    let kinds: [(&str, &[u8], u64); 6] = [
        ("half a LIST", &[LIST], 10 + 5),
        ("a reader that stopped", &[LIST_AND_GET, 1], 30),
        ("between requests", &[LIST, 1], 30 + 5),
        ("not a byte", &[], 60 + 5),
        ("a watcher, with news on their way", &[4, 0], 90),
        ("a watcher", &[4, 0], 90),
    ];
    let mut crowds: Vec<(&str, u64, Vec<Peer>)> = Vec::new();
    for (n, (what, sends, due)) in kinds.into_iter().enumerate() {
        let server = if n < 5 { &server } else { &silent_server };
        crowds.push((what, due, crowd(server.address, sends)));
    }
    eventually("all are there", || {
        sockets(server.pid()) == quiet + 5 * count && sockets(silent_server.pid()) == quiet + count
    });
    let begun = Instant::now();
    loopback("down");
    let moment = Duration::from_millis(200);
    let connected = TcpStream::connect_timeout(&server.address, moment);
    assert!(connected.is_err(), "it is cut");
    place.add("news.png", &noise(1_000, 9));
    // As many as are left when each kind has gone.
    let mut left = 5;
    for (what, due, _) in &crowds {
        let (server, after) = if left > 0 {
            left -= 1;
            (&server, quiet + left * count)
        } else {
            (&silent_server, quiet)
        };
        while sockets(server.pid()) > after {
            let late = begun.elapsed() > Duration::from_secs(due + 20);
            assert!(!late, "T4: {what} is still there");
            thread::sleep(Duration::from_millis(20));
        }
        let took = begun.elapsed().as_secs_f64();
        // The clocks ran already while the crowds gathered, which takes a moment.
        assert!(
            took > *due as f64 * 0.6 - 5.0,
            "T4: {what} was not waited for"
        );
        tell!("{count} x {what}: due after {due} s, gone {took:.1} s after the cut");
    }
}
