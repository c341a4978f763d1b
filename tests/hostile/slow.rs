//! T4: clients that send slowly, or begin and never go on.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};

use super::{Honest, a_while, is_full, report, runtime, scale, sockets, tell};
use crate::support::bytes::*;
use crate::support::process::{Place, eventually};

struct Kind {
    what: &'static str,
    sends: Vec<u8>,
    /// Whether it goes on, a byte a second.
    drips: bool,
    /// When the server is to close it, in seconds since its first bytes.
    due: u64,
}

/// A request of every kind that never becomes whole, at every clock.
fn kinds() -> Vec<Kind> {
    let kind = |what, sends: &[u8], drips, due| Kind {
        what,
        sends: sends.to_vec(),
        drips,
        due,
    };
    vec![
        kind("not a byte", &[], false, 60),
        kind("half a LIST", &[LIST], false, 10),
        kind("half a LIST_AND_GET", &[LIST_AND_GET], false, 10),
        kind("half a WATCH", &[4], false, 10),
        kind("GET_BY_ID without its IDs", &[GET, 1, 255], false, 10),
        kind("GET_BY_ID, a byte a second", &[GET, 1, 255], true, 10),
        kind("BATCH inside its count", &[BATCH, 1, 0x80], false, 10),
        kind(
            "BATCH, a byte a second",
            &[BATCH, 1, 0xc0, 0x84, 0x3d],
            true,
            10,
        ),
        kind(
            "BATCH, 16 KiB and no more",
            &[&[BATCH, 1, 0xc0, 0x84, 0x3d][..], &[7; 16 * 1024]].concat(),
            false,
            11,
        ),
        kind("WATCH and half a CANCEL", &[4, 0, 3], false, 10),
        kind("LIST, and half of another", &[LIST, 1, LIST], false, 10),
        kind("LIST, then nothing", &[LIST, 1], false, 30),
        kind("the first byte of TLS", &[0x16], false, 10),
        kind(
            "half a ClientHello",
            &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
            false,
            10,
        ),
        kind(
            "a ClientHello, a byte a second",
            &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
            true,
            10,
        ),
    ]
}

/// How long until the server closes it.
async fn attack(address: SocketAddr, sends: Vec<u8>, drips: bool) -> Duration {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let begun = Instant::now();
    let _ = stream.write_all(&sends).await;
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return begun.elapsed(),
                Ok(_) => {}
            },
            _ = tick.tick(), if drips => drop(stream.write_all(&[1]).await),
        }
    }
}

#[test]
fn t4_n3_slow_senders_are_closed_at_each_deadline_and_hold_up_nobody() {
    let place = Place::samples();
    let server = place.server(&["--compression-threshold", "0"]);
    let quiet = sockets(server.pid());
    let honest = Honest::of(&server, &place);
    let peace = honest.fetch_for(a_while());
    let before = server.peak_memory();
    let runtime = runtime();
    let count = scale(4, 100);
    let crowds: Vec<_> = kinds()
        .into_iter()
        .map(|kind| {
            let attackers: Vec<_> = (0..count)
                .map(|_| runtime.spawn(attack(server.address, kind.sends.clone(), kind.drips)))
                .collect();
            (kind, attackers)
        })
        .collect();
    let all = crowds.len() * count;
    eventually("all of them are connected", || {
        sockets(server.pid()) >= quiet + all
    });
    let attacked = honest.fetch_for(a_while());
    report(
        &format!("{all} slow senders"),
        &server,
        before,
        peace,
        attacked,
    );
    if is_full() {
        for (kind, attackers) in crowds {
            let took: Vec<f64> = attackers
                .into_iter()
                .map(|attacker| runtime.block_on(attacker).unwrap().as_secs_f64())
                .collect();
            let (first, last) = took
                .iter()
                .fold((f64::MAX, 0f64), |(a, b), t| (a.min(*t), b.max(*t)));
            tell!(
                "{count} x {}: due after {} s, closed after {first:.1} to {last:.1} s",
                kind.what,
                kind.due
            );
            let due = kind.due as f64;
            assert!(first > due - 0.5 && last < due + 4.0, "T4: {}", kind.what);
        }
        eventually("all are gone", || sockets(server.pid()) <= quiet);
    } else {
        // S16: they do not hold up the end either.
        assert_eq!(server.stop().code(), Some(0));
    }
}
