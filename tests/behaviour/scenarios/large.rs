//! Large requests and images.

use super::LARGE;
use crate::suite::script::{Script, Selection, compressed, png};

crate::suite::each_pair! { many_ids, large_images }

/// S8: 1 MB of IDs up, 2 MB of bodies down. A million is in `raw_requests` and `misbehaving`.
fn many_ids() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", LARGE)])
        .setup(|setup| {
            setup.unshaped = true;
            setup.connects = true;
        })
        .fetch(Selection::BatchOf(vec!["unknown"], 124_999), [])
        .expect_log("1: request BATCH (125000) keep-alive")
        .expect_log("verified: 1000000 bytes")
}

fn large_images() -> Script {
    Script::of([
        png("a.png", LARGE + 1),
        compressed("b.bmp", 2_000_000),
        png("c.png", 262_144),
        png("d.png", 262_145),
        compressed("e.bmp", 300_000),
    ])
    .list()
    .list_and_get()
    .expect_log("verified: 2000000 bytes")
}
