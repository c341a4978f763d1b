//! S8: BATCH requests of the maximum size from many clients at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{HonestClient, Mib, measuring_time, report, runtime, scale};
use crate::support::bytes::*;
use crate::support::files::images_in;
use crate::support::peer::Peer;
use crate::support::process::{WorkDir, peak_memory, wait_until};

#[test]
fn s8_repeated_million_id_batches_need_no_memory() {
    let workdir = WorkDir::samples();
    let server = workdir.server("--no-tls --compression-threshold 0");
    let honest = HonestClient::of(&server, &workdir);
    let baseline = honest.fetch_for(measuring_time());
    let before = peak_memory(server.id()).unwrap();
    let samples = images_in(&workdir.images());
    // The IDs of all images but two are spread over the list.
    let (connections, ids) = (scale(12, 300), scale(100_000, 1_000_000));
    let mut have: Vec<u64> = (1..=ids as u64).collect();
    for (n, image) in samples[2..].iter().enumerate() {
        have[n * ids / 13] = image.id;
    }
    let request: Arc<[u8]> = batch(1, &have).into();
    let answer: Arc<[u8]> = images_of(b"JTPB", &samples[..2]).into();
    let (go_on, sent) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let runtime = runtime();
    let attackers: Vec<_> = (0..connections)
        .map(|_| {
            let (request, answer) = (request.clone(), answer.clone());
            let (go_on, sent) = (go_on.clone(), sent.clone());
            let address = server.addr();
            runtime.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let mut got = vec![0; answer.len()];
                loop {
                    // In pieces, so that all requests are in progress at once.
                    for piece in request.chunks(64 * 1024) {
                        stream.write_all(piece).await.unwrap();
                        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                    stream.read_exact(&mut got).await.unwrap();
                    assert!(got == *answer, "S8: exactly the missing images");
                    if !go_on.load(Ordering::Relaxed) {
                        return;
                    }
                }
            })
        })
        .collect();
    wait_until("every attacker has sent some IDs", || {
        sent.load(Ordering::Relaxed) > (connections * 64 * 1024) as u64
    });
    let start = (Instant::now(), sent.load(Ordering::Relaxed));
    let under_attack = honest.fetch_for(measuring_time());
    let rate = sent.load(Ordering::Relaxed) - start.1;
    let rate = rate as f64 / start.0.elapsed().as_secs_f64();
    go_on.store(false, Ordering::Relaxed);
    for attacker in attackers {
        runtime.block_on(attacker).unwrap();
    }
    let what = format!(
        "{connections} connections repeating BATCH with {ids} IDs, {} in total, {}/s during the measurement",
        Mib(sent.load(Ordering::Relaxed)),
        Mib(rate as u64),
    );
    report(&what, &server, before, baseline, under_attack);
    // A connection needs its buffers and one bit for each of 14 images.
    let most = before + connections as u64 * (192 << 10) + (8 << 20);
    assert!(
        peak_memory(server.id()).unwrap() < most,
        "S8: {}",
        Mib(peak_memory(server.id()).unwrap())
    );

    // One ID over the limit: refused before any ID is sent.
    for _ in 0..scale(20, 1_000) {
        let mut peer = Peer::connect(server.addr());
        peer.send([&[BATCH, 1][..], &varint(1_000_001)].concat());
        peer.expect_error(INVALID_REQUEST);
    }
    honest.fetch();
}
