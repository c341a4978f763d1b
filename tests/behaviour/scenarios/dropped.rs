//! The client goes: its futures are dropped at every await, or, where there are none, its stream is closed from
//! outside at every step. What the server makes of it is what the bare machine makes of the same bytes.

use crate::suite::adapters::Adapter;
use crate::suite::run;
use crate::suite::script::Watching::{Do, Next};
use crate::suite::script::{Deed, Script, png};

crate::suite::each_pair_by! { super::each_await: at_every_await, at_every_await_of_a_watch }

fn at_every_await() -> Script {
    Script::of([png("a.png", 40), png("b.png", 3_000)])
        .list()
        .get(["a.png", "b.png"])
        .batch(["b.png"])
}

fn at_every_await_of_a_watch() -> Script {
    Script::of([png("a.png", 40)])
        .later([png("b.png", 5), png("c.png", 6)])
        .setup(|setup| setup.on_request.push(("WATCH", Deed::Add("b.png"))))
        .setup(|setup| setup.unshaped = true)
        .watching(true, false, [Next(1), Do(Deed::Add("c.png")), Next(1)])
}

pub(super) fn each_await(name: &str, script: &Script, server: Adapter, client: Adapter) {
    for at in 0.. {
        assert!(at < 2_000, "{name}: it does not come to an end");
        if !run::check_dropped(name, script, server, client, at) {
            assert!(at > 0, "{name}: it never waited");
            return;
        }
    }
}
