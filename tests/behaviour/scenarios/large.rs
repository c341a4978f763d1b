//! Much of everything.

use crate::suite::script::{Script, Which, packed, png};

crate::suite::each_pair! { a_million_ids, large_images }

/// S8: 8 MB go up, and 6 MB come down.
fn a_million_ids() -> Script {
    Script::of([png("a.png", 3_000_000), png("b.png", 3_000_000)])
        .setup(|setup| {
            setup.unshaped = true;
            setup.connects = true;
        })
        .fetch(Which::BatchOf(vec!["nobody"], 999_999), [])
        .must("1: request BATCH (1000000) keep-alive")
        .must("good: 3000000 bytes")
}

fn large_images() -> Script {
    Script::of([
        png("a.png", 2_000_001),
        packed("b.bmp", 9_000_000),
        png("c.png", 262_144),
        png("d.png", 262_145),
        packed("e.bmp", 300_000),
    ])
    .list()
    .list_and_get()
    .must("good: 9000000 bytes")
}
