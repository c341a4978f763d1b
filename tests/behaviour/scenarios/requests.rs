//! Every request, one after another, over one connection.

use crate::suite::script::{Act, Script, many, packed, png, when};

crate::suite::each_pair! {
    every_request, an_empty_catalog, more_ids_than_a_request_holds, pipelined_requests,
    an_image_that_nobody_wants_after_all, a_name_that_is_not_nfc,
}

/// S5 S6 S7 S8
fn every_request() -> Script {
    Script::of([
        png("a.png", 300),
        packed("b.bmp", 5_000),
        png("empty.png", 0),
    ])
    .list()
    .get(["b.bmp", "nobody", "a.png", "b.bmp"])
    .batch(["a.png", "nobody"])
    .list_and_get()
    .get([])
    .list()
    .must("3 entries")
    .must("good: 5000 bytes")
    .must("1: request BATCH (2) keep-alive")
}

fn an_empty_catalog() -> Script {
    Script::of([])
        .list()
        .list_and_get()
        .batch([])
        .get(["nobody"])
        .must("0 entries")
        .must("end, 0 promised, absent: []")
}

/// R7: one request after the other.
fn more_ids_than_a_request_holds() -> Script {
    Script::of_all(many(300))
        .get_each([])
        .list()
        .must("1: request GET_BY_ID (255) keep-alive")
        .must("1: request GET_BY_ID (45) keep-alive")
}

/// S1: two requests ahead of their turn.
fn pipelined_requests() -> Script {
    Script::of_all(many(600))
        .pipelining()
        .get_each([])
        .list()
        .must("1: request GET_BY_ID (90) keep-alive")
        .must("end, 600 promised")
}

/// The rest of an image is thrown away, and the next one comes.
fn an_image_that_nobody_wants_after_all() -> Script {
    Script::of([png("a.png", 900), packed("b.bmp", 90_000), png("c.png", 3)])
        .fetch(
            crate::suite::script::Which::All,
            [when("a.png", 0, Act::Skip), when("b.bmp", 1, Act::Skip)],
        )
        .list()
        .must("skip")
        .must("good: 3 bytes")
}

/// W6
fn a_name_that_is_not_nfc() -> Script {
    Script::of([png("cafe\u{301}.png", 4), png("caf\u{e9}.png", 5)])
        .list()
        .get(["cafe\u{301}.png"])
        .must("caf\u{e9}.png flags 00 size 4")
}
