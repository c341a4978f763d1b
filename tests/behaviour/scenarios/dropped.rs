//! The client goes: its futures are dropped at every await, or, where there are none, its stream is closed from
//! outside at every step. What the server makes of it is what the bare machine makes of the same bytes.

use crate::suite::adapters::Adapter;
use crate::suite::reference::{self, Mode};
use crate::suite::run;
use crate::suite::script::Watching::{Do, Next};
use crate::suite::script::{Act, Deed, Script, Which, png, when};

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

crate::suite::each_pair_by! { super::over_the_only_stream: given_up_in_the_middle, given_up_and_fetched }

/// What is left of the response is not taken for the answer to the next request.
fn given_up_in_the_middle() -> Script {
    Script::of([png("a.png", 30), png("b.png", 10)])
        .fetch(Which::All, [when("a.png", 10, Act::Leave)])
        .list()
        .must("1: request LIST_AND_GET (0) keep-alive")
        .must("error: misuse: the connection has ended")
}

fn given_up_and_fetched() -> Script {
    Script::of([png("a.png", 30), png("b.png", 10)])
        .fetch(Which::All, [when("a.png", 10, Act::Leave)])
        .get(["b.png"])
        .must("error: misuse: the connection has ended")
}

pub(super) fn over_the_only_stream(name: &str, script: &Script, server: Adapter, client: Adapter) {
    let expected = reference::recall(name, script, Mode::Over);
    for line in &script.must {
        assert!(
            expected.log.has(line),
            "{name}: no {line:?} in {expected:#?}"
        );
    }
    run::check_cut(name, script, server, client, &expected.log);
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
