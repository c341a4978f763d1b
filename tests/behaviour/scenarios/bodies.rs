//! Bodies that come late, broken, or not at all.

use super::LARGE;
use crate::suite::script::{Act, Deed, Script, Which, forged, packed, png, when};

crate::suite::each_pair! {
    held_back, gone, gone_and_tried_again, broken_in_the_middle, not_what_the_id_says, over_the_limit,
    over_the_window,
}

/// The first piece goes out while the second is not there; the answer to the next request waits for both.
fn held_back() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 3)])
        .gate("a.png", 256 * 1024)
        .fetch(
            Which::All,
            [when("a.png", 128 * 1024, Act::Do(Deed::Open("a.png")))],
        )
        .list()
        .must("good: 1000000 bytes")
}

/// S12: said where the packet would begin.
fn gone() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 3), png("c.png", 4)])
        .setup(|setup| setup.broken.push(("b.png", None)))
        .list_and_get()
        .must("good: 1000000 bytes")
        .must("the server reports ServerError")
        .must("1: end: an image could not be read")
}

/// R6: what was complete stands; the rest is asked for again.
fn gone_and_tried_again() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 3), png("c.png", 4)])
        .setup(|setup| {
            setup.broken.push(("b.png", None));
            setup.connects = true;
            setup.retries = 1;
        })
        .list_and_get()
        .must("2: request BATCH (1) keep-alive")
        .must("the server reports ServerError")
}

/// S12 S13: the connection closes short.
fn broken_in_the_middle() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 3)])
        .setup(|setup| setup.broken.push(("a.png", Some(2 * 256 * 1024))))
        .list_and_get()
        .must("interrupted after 524288 bytes")
        .must("error: protocol: the connection ended before the response was complete")
}

/// R2: asked for once more before it counts.
fn not_what_the_id_says() -> Script {
    Script::of([png("a.png", 50), forged("b.png", 60), png("c.png", 70)])
        .list_and_get()
        .list()
        .must("(last: false)")
        .must("(last: true)")
        .must("1: request GET_BY_ID (1) keep-alive")
}

/// R4
fn over_the_limit() -> Script {
    Script::of([
        png("a.png", 5_000),
        packed("b.bmp", 90_000),
        png("c.png", 70),
    ])
    .setup(|setup| setup.client = setup.client.with_max_image_size(4_999))
    .list_and_get()
    .must("the image is longer than 4999 bytes (last: true)")
    .must("good: 70 bytes")
}

/// W8
fn over_the_window() -> Script {
    Script::of([png("a.png", 50), packed("b.bmp", 90_000), png("c.png", 70)])
        .setup(|setup| setup.client = setup.client.with_max_window(64 * 1024))
        .list_and_get()
        .must("the window is too large (last: true)")
        .must("good: 70 bytes")
}
