//! How connections end: half-closed, cut at every byte, lingering.

use crate::support::bytes::*;
use crate::support::files::{generated, samples};
use crate::support::serve::Served;
use crate::support::tls::tls;

/// Requests, and the answers to each.
fn conversation(served: &Served) -> Vec<(Vec<u8>, Vec<u8>)> {
    let pictures = served.pictures();
    vec![
        (vec![LIST, KEEP], list_of(&pictures)),
        (get(KEEP, &[pictures[2].id]), data_of(&[&pictures[2]])),
        (
            batch(KEEP, &[pictures[0].id, 5]),
            images_of(b"JTPB", &pictures[1..]),
        ),
        // C2: the head of an answer always comes before JTPC.
        (get(KEEP, &[]), data_of(&[])),
        (CANCEL.to_vec(), b"JTPC".to_vec()),
        (vec![LIST_AND_GET, KEEP], images_of(b"JTPG", &pictures)),
        (get(0, &[]), data_of(&[])),
    ]
}

/// The answers to the requests that are whole in the first `cut` bytes.
fn answers(conversation: &[(Vec<u8>, Vec<u8>)], mut cut: usize) -> Vec<u8> {
    let mut answers = Vec::new();
    for (request, answer) in conversation {
        if cut < request.len() {
            break;
        }
        cut -= request.len();
        answers.extend_from_slice(answer);
    }
    answers
}

#[test]
fn t5_s10_the_end_at_every_byte_of_a_conversation() {
    // T5: what was received whole is answered in full; S10: EOF inside a request is no error frame.
    let served = Served::folder_with(generated(3, 700), |s| s.tls(tls().server.clone()));
    let conversation = conversation(&served);
    let requests: Vec<u8> = conversation.iter().flat_map(|(r, _)| r.clone()).collect();
    for cut in 0..=requests.len() {
        let mut peer = served.peer();
        peer.send(&requests[..cut]);
        peer.half_close();
        peer.expect(answers(&conversation, cut));
        peer.expect_end();
    }
    // T1: the same by TLS, whose stream ends without close_notify.
    for cut in (0..=requests.len()).step_by(5) {
        let mut peer = served.peer().tls(tls().client());
        peer.send(&requests[..cut]);
        peer.half_close();
        peer.expect(answers(&conversation, cut));
        peer.expect_end();
    }
}

#[test]
fn s10_gone_at_every_byte_of_a_conversation() {
    let served = Served::folder(generated(3, 100_000));
    let conversation = conversation(&served);
    let requests: Vec<u8> = conversation.iter().flat_map(|(r, _)| r.clone()).collect();
    for cut in 0..=requests.len() {
        let mut peer = served.peer();
        peer.send(&requests[..cut]);
        // Some of the answer was read, and the rest meets a closed socket: a reset for the server.
        peer.read(answers(&conversation, cut).len().min(cut));
        drop(peer);
    }
    let mut peer = served.peer();
    peer.send(&requests);
    peer.expect(answers(&conversation, requests.len()));
    peer.expect_end();
}

#[test]
fn t5_a_large_answer_is_finished_after_a_half_close() {
    let served = Served::folder(generated(8, 1 << 20));
    let pictures = served.pictures();
    let mut peer = served.peer();
    peer.send([LIST_AND_GET, KEEP, LIST, KEEP]);
    peer.half_close();
    peer.expect(images_of(b"JTPG", &pictures));
    peer.expect(list_of(&pictures));
    peer.expect_end();
}

#[test]
fn s11_who_has_sent_megabytes_still_gets_the_error_and_no_reset() {
    let served = Served::folder_with(samples(), |s| s.tls(tls().server.clone()));
    for secure in [false, true] {
        for (request, code) in [
            (vec![255, 0], UNSUPPORTED_FEATURE),
            (vec![LIST, 0x80], INVALID_REQUEST),
            (
                [vec![BATCH, KEEP], varint(2_000_000)].concat(),
                INVALID_REQUEST,
            ), // S8
        ] {
            let peer = served.peer();
            let mut peer = if secure {
                peer.tls(tls().client())
            } else {
                peer
            };
            peer.send(&request);
            // Nothing is read before all of this is sent: more than any buffer of the system holds.
            for _ in 0..12 {
                peer.send(vec![0x55; 1 << 20]);
            }
            assert!(!peer.expect_error(code).is_empty());
        }
    }
}

#[test]
fn s11_s2_after_the_last_response_the_rest_is_thrown_away_and_no_reset() {
    let served = Served::samples();
    let list = list_of(&served.pictures());
    let mut peer = served.peer();
    peer.send([LIST, 0]);
    for _ in 0..12 {
        peer.send(vec![LIST; 1 << 20]);
    }
    peer.expect(list);
    peer.expect_end();
}

#[test]
fn s11_lingering_has_its_limit() {
    // 16 MiB by default; the server does not read for ever what nobody asked for.
    let served = Served::samples();
    let mut peer = served.peer();
    peer.send([6, 0]);
    let chunk = vec![0x55; 1 << 20];
    let sent = (0..64)
        .take_while(|_| peer.try_send(&chunk).is_ok())
        .count();
    assert!((16..40).contains(&sent), "{sent} MiB were taken");
}

#[test]
fn s16_shutdown_finishes_the_response_under_way_and_drops_what_is_behind_it() {
    let served = Served::folder(generated(8, 1 << 20));
    let pictures = served.pictures();
    let answer = images_of(b"JTPG", &pictures);
    let mut idle = served.peer();
    idle.send([LIST, KEEP]);
    idle.expect(list_of(&pictures));
    let mut watching = served.peer();
    watching.send([&[LIST, KEEP][..], &WATCH].concat());
    watching.expect(list_of(&pictures));
    let mut busy = served.peer();
    busy.send([LIST_AND_GET, KEEP, LIST, KEEP]);
    busy.expect(&answer[..100]);
    let stopping = std::thread::spawn(move || drop(served));
    // At once: before the busy one is done.
    idle.expect_end();
    watching.expect_end();
    busy.expect(&answer[100..]);
    busy.expect_end();
    stopping.join().unwrap();
}
