//! CANCEL and WATCH as our clients never send them. // C1–C5 N3 N6

use super::LARGE;
use crate::suite::raw::{RawScript, test_image};
use crate::suite::script::{ScriptImage, ServerAction, png};
use crate::support::bytes::*;

crate::suite::raw::each_server! {
    before_any_request, after_the_response, during_the_response, twice_during_the_response,
    during_the_last_response, behind_a_pipelined_request, after_a_watch, half_closed_during_a_watch,
    list_and_watch_frames,
}

fn album() -> [ScriptImage; 2] {
    [png("a.png", LARGE), png("b.png", 5)]
}

/// C4
fn before_any_request() -> RawScript {
    RawScript::of([])
        .send(CANCEL)
        .expect_error(INVALID_REQUEST)
        .expect_end()
        .expect_log("1: end: CANCEL without a request to cancel")
}

/// C1 C3
fn after_the_response() -> RawScript {
    RawScript::of([])
        .send([&[LIST, KEEP][..], &CANCEL, &CANCEL, &[LIST, KEEP]].concat())
        .expect([list_of(&[]), b"JTPCJTPC".to_vec(), list_of(&[])].concat())
        .send(CANCEL)
        .expect(b"JTPC")
        .send([LIST, 0])
        .expect(list_of(&[]))
        .expect_end()
}

/// C2: the packet is completed, and no further one begun.
fn during_the_response() -> RawScript {
    let [a, b] = album();
    let answer = [head(b"JTPG", 2), test_image(&a).packet(), b"JTPC".to_vec()].concat();
    RawScript::of([a, b])
        .send([LIST_AND_GET, KEEP])
        .expect(&answer[..100])
        .send_and_await_received(CANCEL)
        .expect(&answer[100..])
        .send([GET, KEEP, 0])
        .expect(data_of(&[]))
}

/// C1: the second CANCEL is answered in order.
fn twice_during_the_response() -> RawScript {
    let [a, b] = album();
    let answer = [
        head(b"JTPG", 2),
        test_image(&a).packet(),
        b"JTPCJTPC".to_vec(),
    ]
    .concat();
    RawScript::of([a, b])
        .send([LIST_AND_GET, KEEP])
        .expect(&answer[..100])
        .send_and_await_received(CANCEL)
        .send(CANCEL)
        .expect(&answer[100..])
}

/// C4
fn during_the_last_response() -> RawScript {
    let [a, b] = album();
    let answer = [head(b"JTPG", 2), test_image(&a).packet()].concat();
    RawScript::of([a, b])
        .send([LIST_AND_GET, 0])
        .expect(&answer[..100])
        .send_and_await_received(CANCEL)
        .expect(&answer[100..])
        .expect_error(INVALID_REQUEST)
        .expect_end()
        .expect_log("1: end: CANCEL without a request to cancel")
}

/// C5: it cancels the request directly before it.
fn behind_a_pipelined_request() -> RawScript {
    let [a, b] = album();
    let whole = images_of(b"JTPG", &[test_image(&a), test_image(&b)]);
    RawScript::of([a, b])
        .setup(|setup| setup.unshaped = true)
        .send([&[LIST_AND_GET, KEEP, LIST_AND_GET, KEEP][..], &CANCEL].concat())
        .expect([whole, head(b"JTPG", 2), b"JTPC".to_vec()].concat())
}

/// N3 C3
fn after_a_watch() -> RawScript {
    RawScript::of([])
        .send([WATCH, CANCEL, CANCEL].concat())
        .expect(b"JTPCJTPC")
        .send([4, 1, 3, 1]) // S10: bit 0 is ignored.
        .expect(b"JTPC")
        .send([LIST, 0])
        .expect(list_of(&[]))
        .expect_end()
}

/// N6
fn half_closed_during_a_watch() -> RawScript {
    RawScript::of([])
        .send(WATCH)
        .half_close()
        .expect_end()
        .expect_log("1: end: the peer closed the connection")
}

/// N1 N5
fn list_and_watch_frames() -> RawScript {
    let [a, b] = [png("a.png", 50), png("b.png", 5)];
    let (x, y) = (test_image(&a), test_image(&b));
    RawScript::of([a])
        .with(|script| script.later([b]))
        .setup(|setup| setup.unshaped = true)
        .send([&[LIST, KEEP][..], &WATCH].concat())
        .expect(list_of(std::slice::from_ref(&x)))
        .then(ServerAction::Add("b.png"))
        .expect(y.event())
        .send(CANCEL)
        .expect(b"JTPC")
        .send([LIST, 0])
        .expect(list_of(&[x, y]))
        .expect_end()
}
