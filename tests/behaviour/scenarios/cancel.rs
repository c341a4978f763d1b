//! CANCEL by the client's application. What no application can do is in `raw_cancel`.

use super::LARGE;
use crate::suite::script::{Act, Script, Watching, Which, many, packed, png, when};

crate::suite::each_pair! {
    during_a_get, during_a_batch, during_everything, with_the_last_byte_seen, twice_in_a_row,
    behind_a_pipelined_request, without_pipelining, left_in_the_middle, of_a_watch,
    of_a_watch_without_pipelining, before_the_first_byte, where_nothing_is_under_way, of_a_watch_at_once,
}

fn album() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 10), packed("c.bmp", 900)]).pipelining()
}

/// C1 C2: the packet under way is the last.
fn during_a_get() -> Script {
    album()
        .fetch(
            Which::Get(vec!["b.png", "a.png", "c.bmp"]),
            [when("a.png", 1, Act::Cancel)],
        )
        .list()
        .must("cancelled, 3 promised")
        .must("3 entries")
        .must("1: end: the peer closed the connection")
}

fn during_a_batch() -> Script {
    album()
        .fetch(Which::Batch(vec!["b.png"]), [when("a.png", 1, Act::Cancel)])
        .get(["b.png"])
        .must("cancelled, 2 promised")
        .must("good: 10 bytes")
}

fn during_everything() -> Script {
    album()
        .fetch(Which::All, [when("a.png", 700, Act::Cancel)])
        .list_and_get()
        .must("cancelled, 3 promised")
}

/// C3: the response may be complete when the server reads the CANCEL; it is answered all the same.
fn with_the_last_byte_seen() -> Script {
    album()
        .fetch(
            Which::Get(vec!["b.png", "a.png"]),
            [when("a.png", LARGE, Act::Cancel)],
        )
        .list()
        .must("cancelled, 2 promised")
        .must("3 entries")
}

fn twice_in_a_row() -> Script {
    album()
        .fetch(Which::All, [when("a.png", 1, Act::Cancel)])
        .fetch(Which::All, [when("a.png", 1, Act::Cancel)])
        .get(["c.bmp"])
        .must("good: 900 bytes")
}

/// C5: what is before it is answered in full.
fn behind_a_pipelined_request() -> Script {
    Script::of_all(many(300))
        .pipelining()
        .get_each([when("0001.png", 0, Act::CancelFromAfar)])
        .list()
        .must("1: request GET_BY_ID (45) keep-alive")
        .must("cancelled")
        .must("300 entries")
}

/// R7: the connection is closed instead, and the next request has one of its own.
fn without_pipelining() -> Script {
    album()
        .small_first()
        .setup(|setup| {
            setup.client = setup.client.with_pipeline(false);
            setup.connects = true;
        })
        .fetch(Which::All, [when("b.png", 10, Act::Cancel)])
        .list()
        .must("2: request LIST (0) keep-alive")
}

/// The same without a CANCEL: the request is dropped.
fn left_in_the_middle() -> Script {
    album()
        .small_first()
        .setup(|setup| setup.connects = true)
        .fetch(Which::All, [when("b.png", 10, Act::Leave)])
        .list()
        .must("2: request LIST (0) keep-alive")
}

/// N3
fn of_a_watch() -> Script {
    album()
        .list_and_watch([Watching::Cancel])
        .get(["b.png"])
        .watch([Watching::Cancel])
        .list()
        .must("1: request WATCH (0)")
        .must("good: 10 bytes")
}

/// R7
fn of_a_watch_without_pipelining() -> Script {
    Script::of([png("a.png", 10)])
        .setup(|setup| setup.connects = true)
        .watch([Watching::Cancel])
        .list()
        .must("1: end: the peer closed the connection")
        .must("2: request LIST (0) keep-alive")
}

/// The head of the first packet has come, and nothing of its body.
fn before_the_first_byte() -> Script {
    album()
        .fetch(Which::All, [when("a.png", 0, Act::Cancel)])
        .list()
        .must("cancelled")
}

/// Nothing is sent for it, and the connection is as good as before.
fn where_nothing_is_under_way() -> Script {
    album()
        .cancel_before(Which::All)
        .list()
        .cancel_after(Which::Get(vec!["b.png", "c.bmp"]))
        .cancel_before(Which::Batch(vec![]))
        .list()
        .cancel_after(Which::Get(vec![]))
        .get(["b.png"])
        .must("1: request GET_BY_ID (1) keep-alive")
        .must("good: 10 bytes")
}

/// N3: WATCH and CANCEL in one write.
fn of_a_watch_at_once() -> Script {
    album()
        .watching(false, false, [Watching::Cancel])
        .watching(true, false, [Watching::Cancel])
        .list()
        .must("1: request WATCH (0)")
        .must("cancelled")
}
