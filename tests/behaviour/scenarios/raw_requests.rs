//! Exact bytes: pipelining, half-close, and invalid requests. // S1 S2 S10 T5

use super::LARGE;
use crate::suite::raw::{RawScript, test_image};
use crate::suite::script::{ServerAction, png, small_images};
use crate::support::bytes::*;

crate::suite::raw::each_server! {
    pipelined, half_closed_during_a_response, half_closed_behind_every_byte, half_closed_without_a_request,
    invalid_requests, more_requests_than_are_read_ahead, two_batches_of_a_million, requests_behind_a_shutdown,
}

fn pipelined() -> RawScript {
    let [a, b] = [png("a.png", 300), png("b.png", 5)];
    let (x, y) = (test_image(&a), test_image(&b));
    let requests = [
        vec![LIST, KEEP],
        get(KEEP, &[y.id, 7, x.id, y.id]),
        batch(KEEP, &[x.id, 9, x.id]),
        vec![LIST_AND_GET, KEEP],
        get(KEEP, &[]),
        vec![LIST, 0],
    ];
    let answers = [
        list_of(&[x.clone(), y.clone()]),
        data_of(&[&y, &x, &y]),
        images_of(b"JTPB", std::slice::from_ref(&y)),
        images_of(b"JTPG", &[x.clone(), y.clone()]),
        data_of(&[]),
        list_of(&[x, y]),
    ];
    RawScript::of([a, b])
        .send(requests.concat())
        .expect(answers.concat())
        .expect_end()
        .expect_log("1: end: the request did not ask for keep-alive")
}

/// T5: a half-close does not abort the response.
fn half_closed_during_a_response() -> RawScript {
    let a = png("a.png", LARGE);
    let answer = images_of(b"JTPG", &[test_image(&a)]);
    RawScript::of([a])
        .send([LIST_AND_GET, KEEP])
        .expect(&answer[..1000])
        .half_close()
        .expect(&answer[1000..])
        .expect_end()
        .expect_log("1: end: the peer closed the connection")
}

/// S10 T5: complete requests are answered, an incomplete one is not.
fn half_closed_behind_every_byte() -> Vec<RawScript> {
    let a = png("a.png", 30);
    let x = test_image(&a);
    let conversation = [
        (vec![LIST, KEEP], list_of(std::slice::from_ref(&x))),
        (CANCEL.to_vec(), b"JTPC".to_vec()),
        (get(KEEP, &[x.id]), data_of(&[&x])),
        (batch(KEEP, &[x.id, 7]), images_of(b"JTPB", &[])),
        (vec![LIST_AND_GET, KEEP], images_of(b"JTPG", &[x])),
    ];
    let requests: Vec<u8> = conversation.iter().flat_map(|c| c.0.clone()).collect();
    let torn_at = |cut: usize| {
        let (mut at, mut answers) = (0, Vec::new());
        for (request, answer) in &conversation {
            at += request.len();
            if at <= cut {
                answers.extend_from_slice(answer);
            }
        }
        let script = RawScript::of([a.clone()]).send(&requests[..cut]);
        script.half_close().expect(answers).expect_end()
    };
    (1..=requests.len()).map(torn_at).collect()
}

fn half_closed_without_a_request() -> RawScript {
    RawScript::of([])
        .plain_only()
        .half_close()
        .expect_end()
        .expect_log("1: end: the peer closed the connection")
}

/// S10: each as the first request, and behind a valid one. More of them are vectors.
fn invalid_requests() -> Vec<RawScript> {
    let all = [
        (vec![255, 0], UNSUPPORTED_FEATURE),
        (vec![LIST, 2], INVALID_REQUEST),
        (
            [vec![BATCH, KEEP], varint(1_000_001)].concat(),
            INVALID_REQUEST,
        ), // S8
    ];
    let both = all.into_iter().flat_map(|(bytes, code)| {
        let behind = [&[LIST, KEEP], &bytes[..]].concat();
        let first = RawScript::of([])
            .send(bytes)
            .expect_error(code)
            .expect_end();
        let second = RawScript::of([]).send(behind).expect(list_of(&[]));
        [
            first,
            second
                .expect_error(code)
                .expect_end()
                .expect_log("1: request LIST (0) keep-alive"),
        ]
    });
    both.collect()
}

/// S1: more than 64 KiB of requests and of responses, so that both directions are full at once.
fn more_requests_than_are_read_ahead() -> RawScript {
    let a = png("a.png", 300);
    let x = test_image(&a);
    let requests = get(KEEP, &[x.id; 255]).repeat(60);
    let answers = data_of(&[&x; 255]).repeat(60);
    RawScript::of([a])
        .setup(|setup| setup.unshaped = true)
        .send_and_expect(requests, answers)
        .send([LIST, 0])
        .expect(list_of(&[x]))
        .expect_end()
}

/// S8: the second request's 8 MB wait behind a response of 4 MB, which the client has to read meanwhile.
fn two_batches_of_a_million() -> RawScript {
    let a = png("a.png", 4 * LARGE);
    let x = test_image(&a);
    let ids: Vec<u64> = (0..1_000_000).map(|n| n << 20).collect();
    RawScript::of([a])
        .setup(|setup| setup.unshaped = true)
        .send_and_expect(
            batch(KEEP, &ids).repeat(2),
            images_of(b"JTPB", &[x]).repeat(2),
        )
        .send([9])
        .expect_error(UNSUPPORTED_FEATURE)
        .expect_end()
}

/// S16: requests behind the response in progress are dropped.
fn requests_behind_a_shutdown() -> RawScript {
    let a = png("a.png", LARGE);
    let answer = images_of(b"JTPG", &[test_image(&a)]);
    RawScript::of([a])
        .send([LIST_AND_GET, KEEP, LIST, KEEP, LIST, KEEP])
        .expect(&answer[..1000])
        .then(ServerAction::Shutdown)
        .expect(&answer[1000..])
        .expect_end()
        .expect_log("1: end: the server is shutting down")
}

#[test]
fn script_images_have_the_ids_of_their_bytes() {
    for image in small_images(50) {
        assert_eq!(test_image(&image).id, jtp_core::ImageId::of(&image.bytes).0);
    }
}
