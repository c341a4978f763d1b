//! The catalog changes while it is served.

use super::LARGE;
use crate::suite::script::Watching::{Cancel, Do, Next};
use crate::suite::script::{Act, Deed, Script, Which, png, when};

crate::suite::each_pair! {
    each_response_has_its_snapshot, changed_when_the_request_was_read, news_during_bodies,
    removed_before_it_was_sent,
}

fn album() -> Script {
    Script::of([png("a.png", LARGE), png("c.png", 70)]).later([png("b.png", 40), png("d.png", 0)])
}

/// S3
fn each_response_has_its_snapshot() -> Script {
    album()
        .fetch(
            Which::All,
            [
                when("a.png", 1, Act::Do(Deed::Add("b.png"))),
                when("a.png", 1, Act::Do(Deed::Rename("a.png", "z.png"))),
                when("c.png", 70, Act::Do(Deed::Add("d.png"))),
            ],
        )
        .list()
        .batch(["a.png"])
        .must("2 promised")
        .must("4 entries")
}

/// S3: the last moment at which a change counts.
fn changed_when_the_request_was_read() -> Script {
    album()
        .setup(|setup| {
            setup.on_request.push(("LIST", Deed::Add("b.png")));
            setup.on_request.push(("BATCH", Deed::Add("d.png")));
        })
        .list()
        .batch(["a.png"])
        .must("3 entries")
        .must("3 promised")
}

/// N1: what comes before the WATCH is no news to it, though a response was under way.
fn news_during_bodies() -> Script {
    album()
        .fetch(Which::All, [when("a.png", 1, Act::Do(Deed::Add("b.png")))])
        .watch([Do(Deed::Add("d.png")), Next(1), Cancel])
        .must("new:   ef46db3751d8e999 d.png")
}

/// What a snapshot promised is sent.
fn removed_before_it_was_sent() -> Script {
    album()
        .fetch(
            Which::Get(vec!["a.png", "c.png"]),
            [when("a.png", 1, Act::Do(Deed::Remove("c.png")))],
        )
        .get(["c.png"])
        .must("good: 70 bytes")
        .must("absent: [(")
}
