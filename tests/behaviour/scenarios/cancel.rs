//! CANCEL by the client's application. CANCELs that the API cannot send are in `raw_cancel`.

use super::LARGE;
use crate::suite::script::{
    ClientAction, Script, Selection, WatchAction, compressed, png, small_images, trigger,
};

crate::suite::each_pair! {
    during_a_get, after_the_last_byte, behind_a_pipelined_request, without_pipelining,
    request_dropped_inside_an_image, cancel_watch, cancel_watch_without_pipelining,
    before_the_first_body_byte, no_request_in_progress, cancel_watch_immediately,
}

fn album() -> Script {
    Script::of([
        png("a.png", LARGE),
        png("b.png", 10),
        compressed("c.bmp", 900),
    ])
    .pipelining()
}

/// C1 C2: the packet in flight is the last.
fn during_a_get() -> Script {
    album()
        .fetch(
            Selection::Get(vec!["b.png", "a.png", "c.bmp"]),
            [trigger("a.png", 1, ClientAction::Cancel)],
        )
        .list()
        .expect_log("cancelled, 3 promised")
        .expect_log("3 entries")
        .expect_log("1: end: the peer closed the connection")
}

/// C3: the CANCEL is answered even if the response is complete when the server reads it.
fn after_the_last_byte() -> Script {
    album()
        .fetch(
            Selection::Get(vec!["b.png", "a.png"]),
            [trigger("a.png", LARGE, ClientAction::Cancel)],
        )
        .list()
        .expect_log("cancelled, 2 promised")
        .expect_log("3 entries")
}

/// C5: requests before the cancelled one are answered in full.
fn behind_a_pipelined_request() -> Script {
    Script::of_all(small_images(300))
        .pipelining()
        .get_each([trigger("0001.png", 0, ClientAction::CancelUnread)])
        .list()
        .expect_log("1: request GET_BY_ID (45) keep-alive")
        .expect_log("cancelled")
        .expect_log("300 entries")
}

/// R7: the client closes the connection instead; the next request uses a new one.
fn without_pipelining() -> Script {
    album()
        .small_first()
        .setup(|setup| {
            setup.client = setup.client.with_pipeline(false);
            setup.connects = true;
        })
        .fetch(Selection::All, [trigger("b.png", 10, ClientAction::Cancel)])
        .list()
        .expect_log("2: request LIST (0) keep-alive")
}

/// The application drops the request without a CANCEL.
fn request_dropped_inside_an_image() -> Script {
    album()
        .small_first()
        .setup(|setup| setup.connects = true)
        .fetch(Selection::All, [trigger("b.png", 10, ClientAction::Drop)])
        .list()
        .expect_log("2: request LIST (0) keep-alive")
}

/// N3
fn cancel_watch() -> Script {
    album()
        .list_and_watch([WatchAction::Cancel])
        .get(["b.png"])
        .watch([WatchAction::Cancel])
        .list()
        .expect_log("1: request WATCH (0)")
        .expect_log("verified: 10 bytes")
}

/// R7
fn cancel_watch_without_pipelining() -> Script {
    Script::of([png("a.png", 10)])
        .setup(|setup| setup.connects = true)
        .watch([WatchAction::Cancel])
        .list()
        .expect_log("1: end: the peer closed the connection")
        .expect_log("2: request LIST (0) keep-alive")
}

/// Only the head of the first packet has arrived.
fn before_the_first_body_byte() -> Script {
    album()
        .fetch(Selection::All, [trigger("a.png", 0, ClientAction::Cancel)])
        .list()
        .expect_log("cancelled")
}

/// Nothing is sent, and the connection remains usable.
fn no_request_in_progress() -> Script {
    album()
        .cancel_before(Selection::All)
        .list()
        .cancel_after(Selection::Get(vec!["b.png", "c.bmp"]))
        .cancel_before(Selection::Batch(vec![]))
        .list()
        .cancel_after(Selection::Get(vec![]))
        .get(["b.png"])
        .expect_log("1: request GET_BY_ID (1) keep-alive")
        .expect_log("verified: 10 bytes")
}

/// N3: WATCH and CANCEL in one write.
fn cancel_watch_immediately() -> Script {
    album()
        .watch_with(false, false, [WatchAction::Cancel])
        .watch_with(true, false, [WatchAction::Cancel])
        .list()
        .expect_log("1: request WATCH (0)")
        .expect_log("cancelled")
}
