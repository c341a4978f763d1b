//! T4: clients that send slowly or stop inside a request.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};

use super::{Attacked, is_full, report_line, runtime, scale, sockets};
use crate::support::bytes::*;
use crate::support::process::{WorkDir, wait_until};

struct Case {
    what: &'static str,
    sends: Vec<u8>,
    /// Sends one more byte per second.
    sends_more: bool,
    /// When the server must close the connection, in seconds after the first bytes.
    deadline: u64,
}

/// Incomplete requests of every kind, for every timeout.
fn cases() -> Vec<Case> {
    let case = |what, sends: &[u8], sends_more, deadline| Case {
        what,
        sends: sends.to_vec(),
        sends_more,
        deadline,
    };
    vec![
        case("no bytes", &[], false, 60),
        case("half a LIST", &[LIST], false, 10),
        case("half a LIST_AND_GET", &[LIST_AND_GET], false, 10),
        case("half a WATCH", &[4], false, 10),
        case("GET_BY_ID without its IDs", &[GET, 1, 255], false, 10),
        case("GET_BY_ID, a byte a second", &[GET, 1, 255], true, 10),
        case("BATCH inside its count", &[BATCH, 1, 0x80], false, 10),
        case(
            "BATCH, a byte a second",
            &[BATCH, 1, 0xc0, 0x84, 0x3d],
            true,
            10,
        ),
        case(
            "BATCH, 16 KiB and no more",
            &[&[BATCH, 1, 0xc0, 0x84, 0x3d][..], &[7; 16 * 1024]].concat(),
            false,
            11,
        ),
        case("WATCH and half a CANCEL", &[4, 0, 3], false, 10),
        case("LIST, then half of another", &[LIST, 1, LIST], false, 10),
        case("LIST, then nothing", &[LIST, 1], false, 30),
        case("the first byte of TLS", &[0x16], false, 10),
        case(
            "half a ClientHello",
            &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
            false,
            10,
        ),
        case(
            "a ClientHello, a byte a second",
            &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3],
            true,
            10,
        ),
    ]
}

/// Returns how long it takes until the server closes the connection.
async fn attack(address: SocketAddr, sends: Vec<u8>, sends_more: bool) -> Duration {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let start = Instant::now();
    let _ = stream.write_all(&sends).await;
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    tick.tick().await;
    let mut buffer = [0; 4096];
    loop {
        tokio::select! {
            read = stream.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return start.elapsed(),
                Ok(_) => {}
            },
            _ = tick.tick(), if sends_more => drop(stream.write_all(&[1]).await),
        }
    }
}

#[test]
fn t4_n3_slow_senders_are_closed_and_do_not_delay_others() {
    let workdir = WorkDir::samples();
    // At full scale there are more than one address may have.
    let server = workdir.server("--compression-threshold 0 --max-connections-per-ip 0");
    let quiet = sockets(server.id());
    let attacked = Attacked::new(&server, &workdir);
    let runtime = runtime();
    let count = scale(4, 100);
    let groups: Vec<_> = cases()
        .into_iter()
        .map(|case| {
            let attackers: Vec<_> = (0..count)
                .map(|_| runtime.spawn(attack(server.addr(), case.sends.clone(), case.sends_more)))
                .collect();
            (case, attackers)
        })
        .collect();
    let all = groups.len() * count;
    wait_until("all attackers are connected", || {
        sockets(server.id()) >= quiet + all
    });
    attacked.report(&format!("{all} slow senders"), u64::MAX);
    if is_full() {
        for (case, attackers) in groups {
            let elapsed: Vec<f64> = attackers
                .into_iter()
                .map(|attacker| runtime.block_on(attacker).unwrap().as_secs_f64())
                .collect();
            let (first, last) = elapsed
                .iter()
                .fold((f64::MAX, 0f64), |(a, b), t| (a.min(*t), b.max(*t)));
            report_line!(
                "{count} x {}: due after {} s, closed after {first:.1} to {last:.1} s",
                case.what,
                case.deadline
            );
            let deadline = case.deadline as f64;
            assert!(
                first > deadline - 0.5 && last < deadline + 4.0,
                "T4: {}",
                case.what
            );
        }
        wait_until("all connections are closed", || {
            sockets(server.id()) <= quiet
        });
    } else {
        // S16: they do not delay the shutdown either.
        server.stop().assert_exit(0);
    }
}
