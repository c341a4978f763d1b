//! The client is dropped at every await; the stream of the blocking client is closed at every read and write instead.
//! The server's log must equal that of the bare state machine for the same bytes.

use crate::suite::adapters::Adapter;
use crate::suite::reference::{self, Mode};
use crate::suite::run;
use crate::suite::script::WatchAction::{Do, Receive};
use crate::suite::script::{ClientAction, Script, Selection, ServerAction, png, trigger};

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
        .setup(|setup| setup.on_request.push(("WATCH", ServerAction::Add("b.png"))))
        .setup(|setup| setup.unshaped = true)
        .watch_with(
            true,
            false,
            [Receive(1), Do(ServerAction::Add("c.png")), Receive(1)],
        )
}

crate::suite::each_pair_by! { super::over_the_only_stream: list_after_an_abandoned_response, get_after_an_abandoned_response }

/// The rest of the response is discarded, and not read as the answer to the next request.
fn list_after_an_abandoned_response() -> Script {
    Script::of([png("a.png", 30), png("b.png", 10)])
        .fetch(Selection::All, [trigger("a.png", 10, ClientAction::Drop)])
        .list()
        .expect_log("1: request LIST_AND_GET (0) keep-alive")
        .expect_log("1: request LIST (0) keep-alive")
        .expect_log("2 entries")
}

fn get_after_an_abandoned_response() -> Script {
    Script::of([png("a.png", 30), png("b.png", 10)])
        .fetch(Selection::All, [trigger("a.png", 10, ClientAction::Drop)])
        .get(["b.png"])
        .expect_log("1: request GET_BY_ID (1) keep-alive")
        .expect_log("verified: 10 bytes")
}

pub(super) fn over_the_only_stream(name: &str, script: &Script, server: Adapter, client: Adapter) {
    let expected = reference::cached_run(name, script, Mode::Stream);
    script.check_expected(name, &expected.log);
    run::check_cut(name, script, server, client, &expected.log);
}

pub(super) fn each_await(name: &str, script: &Script, server: Adapter, client: Adapter) {
    for at in 0.. {
        assert!(at < 2_000, "{name}: does not end");
        if !run::check_dropped(name, script, server, client, at) {
            assert!(at > 0, "{name}: never waited");
            return;
        }
    }
}
