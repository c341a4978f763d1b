//! Exact bytes: pipelining, half-close, and what is no request. // S1 S2 S10 T5

use super::LARGE;
use crate::suite::raw::{RawScript, known};
use crate::suite::script::{Deed, many, png};
use crate::support::bytes::*;

crate::suite::raw::each_server! {
    pipelined, behind_the_last_request, half_closed_behind_requests, half_closed_inside_a_request,
    half_closed_in_the_middle_of_a_response, half_closed_behind_every_byte, nothing_at_all, no_requests,
    more_requests_than_are_read_ahead, two_batches_of_a_million, requests_behind_a_shutdown,
    a_body_that_is_gone, shutdown_before_any_request,
}

fn pipelined() -> RawScript {
    let [a, b] = [png("a.png", 300), png("b.png", 5)];
    let (x, y) = (known(&a), known(&b));
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
        .end()
        .must("1: end: the request did not ask for keep-alive")
}

/// S2: thrown away.
fn behind_the_last_request() -> RawScript {
    let a = png("a.png", 300);
    let x = known(&a);
    RawScript::of([a])
        .send([LIST, 0, LIST, KEEP, 77, 77, 77])
        .expect(list_of(&[x]))
        .end()
}

/// T5
fn half_closed_behind_requests() -> RawScript {
    let a = png("a.png", 300);
    let x = known(&a);
    RawScript::of([a])
        .send([LIST, KEEP, LIST_AND_GET, KEEP])
        .half_close()
        .expect([list_of(std::slice::from_ref(&x)), images_of(b"JTPG", &[x])].concat())
        .end()
        .must("1: end: the peer closed the connection")
}

/// S10: what is before it is answered.
fn half_closed_inside_a_request() -> RawScript {
    let a = png("a.png", 300);
    let x = known(&a);
    let torn = get(KEEP, &[x.id, x.id]);
    RawScript::of([a])
        .send([&[LIST, KEEP][..], &torn[..torn.len() - 1]].concat())
        .half_close()
        .expect(list_of(&[x]))
        .end()
        .must("1: end: the peer closed the connection inside a request")
}

/// T5: it is no abort.
fn half_closed_in_the_middle_of_a_response() -> RawScript {
    let a = png("a.png", LARGE);
    let answer = images_of(b"JTPG", &[known(&a)]);
    RawScript::of([a])
        .send([LIST_AND_GET, KEEP])
        .expect(&answer[..1000])
        .half_close()
        .expect(&answer[1000..])
        .end()
        .must("1: end: the peer closed the connection")
}

/// S10 T5: what is whole is answered, and what is torn is not.
fn half_closed_behind_every_byte() -> Vec<RawScript> {
    let a = png("a.png", 30);
    let x = known(&a);
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
        script.half_close().expect(answers).end()
    };
    (1..=requests.len()).map(torn_at).collect()
}

fn nothing_at_all() -> RawScript {
    RawScript::of([])
        .plain_only()
        .half_close()
        .end()
        .must("1: end: the peer closed the connection")
}

/// S10: behind a good request, and, but for CANCEL, as the first one.
fn no_requests() -> Vec<RawScript> {
    let have = |varint: &[u8]| [&[BATCH, KEEP], varint].concat();
    let all = [
        (vec![6, 0], UNSUPPORTED_FEATURE),
        (vec![255, 255], UNSUPPORTED_FEATURE), // The type is judged first.
        (vec![LIST, 2], INVALID_REQUEST),
        (vec![LIST_AND_GET, 0x41], INVALID_REQUEST),
        (vec![GET, 0x80, 0], INVALID_REQUEST),
        (vec![CANCEL[0], 2], INVALID_REQUEST),
        (vec![WATCH[0], 0x41], INVALID_REQUEST),
        (have(&[0x80, 0x00]), INVALID_REQUEST), // W2: longer than needed
        (have(&[0xff, 0xff, 0xff, 0xff, 0x1f]), INVALID_REQUEST), // W2: over a u32
        (have(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00]), INVALID_REQUEST), // W2: a sixth byte
        (have(&varint(1_000_001)), INVALID_REQUEST), // S8
    ];
    let both = all.into_iter().flat_map(|(bytes, code)| {
        let behind = [&[LIST, KEEP], &bytes[..]].concat();
        let first = RawScript::of([]).send(bytes).error(code).end();
        let second = RawScript::of([]).send(behind).expect(list_of(&[]));
        [
            first,
            second
                .error(code)
                .end()
                .must("1: request LIST (0) keep-alive"),
        ]
    });
    both.collect()
}

/// S1: over 64 KiB of requests, and as much in answers, so both directions are full at once.
fn more_requests_than_are_read_ahead() -> RawScript {
    let a = png("a.png", 300);
    let x = known(&a);
    let requests = get(KEEP, &[x.id; 255]).repeat(60);
    let answers = data_of(&[&x; 255]).repeat(60);
    RawScript::of([a])
        .setup(|setup| setup.unshaped = true)
        .both(requests, answers)
        .send([LIST, 0])
        .expect(list_of(&[x]))
        .end()
}

/// S8: the second one's 8 MB wait behind a response of 6 MB, which its own client has to take meanwhile.
fn two_batches_of_a_million() -> RawScript {
    let a = png("a.png", 4 * LARGE);
    let x = known(&a);
    let ids: Vec<u64> = (0..1_000_000).map(|n| n << 20).collect();
    RawScript::of([a])
        .setup(|setup| setup.unshaped = true)
        .both(
            batch(KEEP, &ids).repeat(2),
            images_of(b"JTPB", &[x]).repeat(2),
        )
        .send([9])
        .error(UNSUPPORTED_FEATURE)
        .end()
}

/// S16: what is behind the response under way is dropped.
fn requests_behind_a_shutdown() -> RawScript {
    let a = png("a.png", LARGE);
    let answer = images_of(b"JTPG", &[known(&a)]);
    RawScript::of([a])
        .send([LIST_AND_GET, KEEP, LIST, KEEP, LIST, KEEP])
        .expect(&answer[..1000])
        .then(Deed::Shutdown)
        .expect(&answer[1000..])
        .end()
        .must("1: end: the server is shutting down")
}

fn shutdown_before_any_request() -> RawScript {
    RawScript::of([])
        .send([LIST, KEEP])
        .expect(list_of(&[]))
        .then(Deed::Shutdown)
        .end()
        .must("1: end: the server is shutting down")
}

/// S12: told where the packet would begin.
fn a_body_that_is_gone() -> RawScript {
    let [a, b] = [png("a.png", LARGE), png("b.png", 5)];
    let head = [head(b"JTPG", 2), known(&a).packet()].concat();
    RawScript::of([a, b])
        .setup(|setup| setup.broken.push(("b.png", None)))
        .send([LIST_AND_GET, KEEP])
        .expect(head)
        .error(SERVER_ERROR)
        .end()
        .must("1: end: an image could not be read")
}

#[test]
fn the_pictures_of_scripts_are_those_of_the_wire() {
    for picture in many(50) {
        assert_eq!(known(&picture).id, jtp_core::ImageId::of(&picture.bytes).0);
    }
}
