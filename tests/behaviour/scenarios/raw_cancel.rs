//! CANCEL and WATCH as no client of ours would use them. // C1–C5 N3 N6

use super::LARGE;
use crate::suite::raw::{RawScript, known};
use crate::suite::script::{Deed, Picture, png};
use crate::support::bytes::*;

crate::suite::raw::each_server! {
    before_anything, after_the_response, during_the_response, twice_during_the_response,
    during_the_last_response, behind_a_pipelined_request, during_a_list, after_a_watch,
    anything_else_during_a_watch, with_a_bad_flag_during_a_watch, a_watch_half_closed, a_watch_exactly,
    a_watch_behind_a_response,
}

fn album() -> [Picture; 2] {
    [png("a.png", LARGE), png("b.png", 5)]
}

/// C4
fn before_anything() -> RawScript {
    RawScript::of([])
        .send(CANCEL)
        .error(INVALID_REQUEST)
        .end()
        .must("1: end: CANCEL without a request to cancel")
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
        .end()
}

/// C2: the packet is completed, and no other begun.
fn during_the_response() -> RawScript {
    let [a, b] = album();
    let answer = [head(b"JTPG", 2), known(&a).packet(), b"JTPC".to_vec()].concat();
    RawScript::of([a, b])
        .send([LIST_AND_GET, KEEP])
        .expect(&answer[..100])
        .send_read(CANCEL)
        .expect(&answer[100..])
        .send([GET, KEEP, 0])
        .expect(data_of(&[]))
}

/// C1: the second one is answered when its turn comes.
fn twice_during_the_response() -> RawScript {
    let [a, b] = album();
    let answer = [head(b"JTPG", 2), known(&a).packet(), b"JTPCJTPC".to_vec()].concat();
    RawScript::of([a, b])
        .send([LIST_AND_GET, KEEP])
        .expect(&answer[..100])
        .send_read(CANCEL)
        .send(CANCEL)
        .expect(&answer[100..])
}

/// C4
fn during_the_last_response() -> RawScript {
    let [a, b] = album();
    let answer = [head(b"JTPG", 2), known(&a).packet()].concat();
    RawScript::of([a, b])
        .send([LIST_AND_GET, 0])
        .expect(&answer[..100])
        .send_read(CANCEL)
        .expect(&answer[100..])
        .error(INVALID_REQUEST)
        .end()
        .must("1: end: CANCEL without a request to cancel")
}

/// C5: it waits for the request that it follows, and cancels that.
fn behind_a_pipelined_request() -> RawScript {
    let [a, b] = album();
    let whole = images_of(b"JTPG", &[known(&a), known(&b)]);
    RawScript::of([a, b])
        .setup(|setup| setup.unshaped = true)
        .send([&[LIST_AND_GET, KEEP, LIST_AND_GET, KEEP][..], &CANCEL].concat())
        .expect([whole, head(b"JTPG", 2), b"JTPC".to_vec()].concat())
}

/// C2: a catalog is finished.
fn during_a_list() -> RawScript {
    let [a, b] = album();
    let list = list_of(&[known(&a), known(&b)]);
    RawScript::of([a, b])
        .send([&[LIST, KEEP][..], &CANCEL].concat())
        .expect([&list[..], b"JTPC"].concat())
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
        .end()
}

/// N3
fn anything_else_during_a_watch() -> RawScript {
    RawScript::of([])
        .send([&WATCH[..], &[LIST, KEEP]].concat())
        .error(INVALID_REQUEST)
        .end()
        .must("1: end: a request other than CANCEL during WATCH")
}

fn with_a_bad_flag_during_a_watch() -> RawScript {
    RawScript::of([])
        .send([&WATCH[..], &[CANCEL[0], 2]].concat())
        .error(INVALID_REQUEST)
        .end()
        .must("1: end: invalid request")
}

/// N6
fn a_watch_half_closed() -> RawScript {
    RawScript::of([])
        .send(WATCH)
        .half_close()
        .end()
        .must("1: end: the peer closed the connection")
}

/// N1 N5
fn a_watch_exactly() -> RawScript {
    let [a, b] = [png("a.png", 50), png("b.png", 5)];
    let (x, y) = (known(&a), known(&b));
    RawScript::of([a])
        .with(|script| script.later([b]))
        .setup(|setup| setup.unshaped = true)
        .send([&[LIST, KEEP][..], &WATCH].concat())
        .expect(list_of(std::slice::from_ref(&x)))
        .then(Deed::Add("b.png"))
        .expect([&b"JTPW"[..], &y.entry()].concat())
        .send(CANCEL)
        .expect(b"JTPC")
        .send([LIST, 0])
        .expect(list_of(&[x, y]))
        .end()
}

/// N1: what comes during the bodies before it is not told.
fn a_watch_behind_a_response() -> RawScript {
    let [a, b] = album();
    let answer = images_of(b"JTPG", &[known(&a)]);
    RawScript::of([a])
        .with(|script| script.later([b]))
        .send([&[LIST_AND_GET, KEEP][..], &WATCH].concat())
        .expect(&answer[..100])
        .then(Deed::Add("b.png"))
        .expect(&answer[100..])
        .send(CANCEL)
        .expect(b"JTPC")
}
