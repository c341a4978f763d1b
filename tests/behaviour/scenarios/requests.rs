//! Every request, one after another, over one connection and over many.

use crate::suite::script::{Script, packed, png};

crate::suite::each_pair! { every_request }

fn album() -> Script {
    Script::of([png("a.png", 300), packed("b.bmp", 5_000), png("empty.png", 0)])
}

/// S5 S7 S8
fn every_request() -> Script {
    album()
        .list()
        .get(["b.bmp", "nobody", "a.png", "b.bmp"])
        .batch(["a.png", "nobody"])
        .list_and_get()
        .get([])
        .list()
}
