//! Images that the client takes as they travel, and decodes itself: told as if the connection had done it.

use super::LARGE;
use crate::suite::script::{Act, Script, Which, packed, png, when};

crate::suite::each_pair! {
    raw_and_packed, cancelled_within, left_within, lost_within,
}

fn script() -> Script {
    Script::of([
        png("a.png", 0),
        png("b.png", LARGE),
        packed("c.bmp", 300_000),
        png("d.png", 3),
    ])
    .setup(|setup| setup.undecoded = true)
}

fn raw_and_packed() -> Script {
    script()
        .list_and_get()
        .list()
        .must("good: 1000000 bytes")
        .must("good: 300000 bytes")
        .must("good: 3 bytes")
}

/// C7
fn cancelled_within() -> Script {
    script()
        .fetch(Which::All, [when("b.png", 128 * 1024, Act::Cancel)])
        .list()
}

/// What is left of it is skipped.
fn left_within() -> Script {
    script()
        .fetch(Which::All, [when("b.png", 128 * 1024, Act::Skip)])
        .list()
        .must("good: 300000 bytes")
}

/// R6: it comes again.
fn lost_within() -> Script {
    script()
        .setup(|setup| {
            setup.broken.push(("b.png", Some(2 * 256 * 1024)));
            setup.connects = true;
            setup.retries = 1;
        })
        .list_and_get()
        .must("interrupted after 524288 bytes")
        .must("2: request BATCH (1) keep-alive")
}
