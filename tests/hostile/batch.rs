//! S8: the largest BATCH there is, from many at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Honest, Mib, a_while, report, runtime, scale};
use crate::support::bytes::*;
use crate::support::files::pictures;
use crate::support::peer::Peer;
use crate::support::process::{Place, eventually};

#[test]
fn s8_a_million_ids_without_end_from_hundreds_are_matched_and_not_held() {
    let place = Place::samples();
    let server = place.server(&["--no-tls", "--compression-threshold", "0"]);
    let honest = Honest::of(&server, &place);
    let peace = honest.fetch_for(a_while());
    let before = server.peak_memory();
    let samples = pictures(&place.images());
    // All but two of the images are among the IDs, each in a place of its own.
    let (connections, ids) = (scale(12, 300), scale(100_000, 1_000_000));
    let mut have: Vec<u64> = (1..=ids as u64).collect();
    for (n, picture) in samples[2..].iter().enumerate() {
        have[n * ids / 13] = picture.id;
    }
    let request: Arc<[u8]> = batch(1, &have).into();
    let answer: Arc<[u8]> = images_of(b"JTPB", &samples[..2]).into();
    let (go_on, sent) = (Arc::new(AtomicBool::new(true)), Arc::new(AtomicU64::new(0)));
    let runtime = runtime();
    let attackers: Vec<_> = (0..connections)
        .map(|_| {
            let (request, answer) = (request.clone(), answer.clone());
            let (go_on, sent) = (go_on.clone(), sent.clone());
            let address = server.address;
            runtime.spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let mut got = vec![0; answer.len()];
                loop {
                    // So that all are under way at once, in pieces.
                    for piece in request.chunks(64 * 1024) {
                        stream.write_all(piece).await.unwrap();
                        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                        tokio::task::yield_now().await;
                    }
                    stream.read_exact(&mut got).await.unwrap();
                    assert!(got == *answer, "S8: what lacks, and nothing else");
                    if !go_on.load(Ordering::Relaxed) {
                        return;
                    }
                }
            })
        })
        .collect();
    eventually("they are in it", || {
        sent.load(Ordering::Relaxed) > (connections * 64 * 1024) as u64
    });
    let begun = (Instant::now(), sent.load(Ordering::Relaxed));
    let attacked = honest.fetch_for(a_while());
    let rate = sent.load(Ordering::Relaxed) - begun.1;
    let rate = rate as f64 / begun.0.elapsed().as_secs_f64();
    go_on.store(false, Ordering::Relaxed);
    for attacker in attackers {
        runtime.block_on(attacker).unwrap();
    }
    let what = format!(
        "{connections} connections with BATCHes of {ids} IDs, again and again, {} in all, {}/s meanwhile",
        Mib(sent.load(Ordering::Relaxed)),
        Mib(rate as u64),
    );
    report(&what, &server, before, peace, attacked);
    // What a connection needs: its buffers, and a bit for each of 14 images.
    let most = before + connections as u64 * (192 << 10) + (8 << 20);
    assert!(
        server.peak_memory() < most,
        "S8: {}",
        Mib(server.peak_memory())
    );

    // One ID too many: refused before any of them comes.
    for _ in 0..scale(20, 1_000) {
        let mut peer = Peer::connect(server.address);
        peer.send([&[BATCH, 1][..], &varint(1_000_001)].concat());
        peer.expect_error(INVALID_REQUEST);
    }
    honest.fetch();
}
