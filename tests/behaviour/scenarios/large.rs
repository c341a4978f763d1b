//! Large requests and images.

use crate::suite::script::{Script, Selection, compressed, png};

crate::suite::each_pair! { a_million_ids, large_images }

/// S8: 8 MB of IDs up, 6 MB of bodies down.
fn a_million_ids() -> Script {
    Script::of([png("a.png", 3_000_000), png("b.png", 3_000_000)])
        .setup(|setup| {
            setup.unshaped = true;
            setup.connects = true;
        })
        .fetch(Selection::BatchOf(vec!["unknown"], 999_999), [])
        .expect_log("1: request BATCH (1000000) keep-alive")
        .expect_log("verified: 3000000 bytes")
}

fn large_images() -> Script {
    Script::of([
        png("a.png", 2_000_001),
        compressed("b.bmp", 9_000_000),
        png("c.png", 262_144),
        png("d.png", 262_145),
        compressed("e.bmp", 300_000),
    ])
    .list()
    .list_and_get()
    .expect_log("verified: 9000000 bytes")
}
