//! Every request type, one after another, over one connection.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use jtp_core::wire::request::RequestKind;

use crate::suite::reference;
use crate::suite::script::{
    ClientAction, Script, WatchAction, compressed, png, small_images, trigger,
};

crate::suite::each_pair! {
    every_request, an_empty_catalog, more_ids_than_a_request_holds, pipelined_requests,
    dropped_images_are_skipped, a_name_that_is_not_nfc,
}

/// S5 S6 S7 S8
fn every_request() -> Script {
    Script::of([
        png("a.png", 300),
        compressed("b.bmp", 5_000),
        png("empty.png", 0),
    ])
    .list()
    .get(["b.bmp", "unknown", "a.png", "b.bmp"])
    .batch(["a.png", "unknown"])
    .list_and_get()
    .get([])
    .list()
    .expect_log("3 entries")
    .expect_log("verified: 5000 bytes")
    .expect_log("1: request BATCH (2) keep-alive")
}

fn an_empty_catalog() -> Script {
    Script::of([])
        .list()
        .list_and_get()
        .batch([])
        .get(["unknown"])
        .expect_log("0 entries")
        .expect_log("end, 0 promised, absent: []")
}

/// R7: without pipelining, one request after the other.
fn more_ids_than_a_request_holds() -> Script {
    Script::of_all(small_images(300))
        .get_each([])
        .list()
        .expect_log("1: request GET_BY_ID (255) keep-alive")
        .expect_log("1: request GET_BY_ID (45) keep-alive")
}

/// S1: two requests in flight.
fn pipelined_requests() -> Script {
    Script::of_all(small_images(600))
        .pipelining()
        .get_each([])
        .list()
        .expect_log("1: request GET_BY_ID (90) keep-alive")
        .expect_log("end, 600 promised")
}

/// The rest of a dropped image is discarded, and the next one follows.
fn dropped_images_are_skipped() -> Script {
    Script::of([
        png("a.png", 900),
        compressed("b.bmp", 90_000),
        png("c.png", 3),
    ])
    .fetch(
        crate::suite::script::Selection::All,
        [
            trigger("a.png", 0, ClientAction::Skip),
            trigger("b.bmp", 1, ClientAction::Skip),
        ],
    )
    .list()
    .expect_log("skip")
    .expect_log("verified: 3 bytes")
}

/// W6
fn a_name_that_is_not_nfc() -> Script {
    Script::of([png("cafe\u{301}.png", 4), png("caf\u{e9}.png", 5)])
        .list()
        .get(["cafe\u{301}.png"])
        .expect_log("caf\u{e9}.png flags 00 size 4")
}

/// The script language has steps for all kinds of requests, and so have the clients that carry them out.
#[test]
fn s10_each_kind_of_request_has_a_step() {
    static SEEN: AtomicU64 = AtomicU64::new(0);
    let script = every_request().watch([WatchAction::Cancel]).setup(|setup| {
        setup.refuse = |head| {
            SEEN.fetch_or(1 << head.kind.code(), Relaxed);
            None
        }
    });
    reference::run(&script, reference::Mode::Stream);
    // The handler does not see CANCEL.
    for kind in RequestKind::ALL {
        let seen = SEEN.load(Relaxed) >> kind.code() & 1 == 1;
        let name = kind.name();
        assert!(
            seen || kind == RequestKind::Cancel,
            "`every_request` has no step for {name}"
        );
    }
}
