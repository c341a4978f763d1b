//! The catalog changes while requests are served.

use super::LARGE;
use crate::suite::script::WatchAction::{Cancel, Do, Receive};
use crate::suite::script::{ClientAction, Script, Selection, ServerAction, png, trigger};

crate::suite::each_pair! {
    each_response_has_its_own_snapshot, changed_while_the_request_is_handled, image_added_during_a_response,
}

fn album() -> Script {
    Script::of([png("a.png", LARGE), png("c.png", 70)]).later([png("b.png", 40), png("d.png", 0)])
}

/// S3
fn each_response_has_its_own_snapshot() -> Script {
    album()
        .fetch(
            Selection::All,
            [
                trigger("a.png", 1, ClientAction::Do(ServerAction::Add("b.png"))),
                trigger(
                    "a.png",
                    1,
                    ClientAction::Do(ServerAction::Rename("a.png", "z.png")),
                ),
                trigger("c.png", 70, ClientAction::Do(ServerAction::Add("d.png"))),
            ],
        )
        .list()
        .batch(["a.png"])
        .expect_log("2 promised")
        .expect_log("4 entries")
}

/// S3: a change before the handler returns is in the snapshot.
fn changed_while_the_request_is_handled() -> Script {
    album()
        .setup(|setup| {
            setup.on_request.push(("LIST", ServerAction::Add("b.png")));
            setup.on_request.push(("BATCH", ServerAction::Add("d.png")));
        })
        .list()
        .batch(["a.png"])
        .expect_log("3 entries")
        .expect_log("3 promised")
}

/// N1: an image added during an earlier response is no event for a WATCH that follows.
fn image_added_during_a_response() -> Script {
    album()
        .fetch(
            Selection::All,
            [trigger(
                "a.png",
                1,
                ClientAction::Do(ServerAction::Add("b.png")),
            )],
        )
        .watch([Do(ServerAction::Add("d.png")), Receive(1), Cancel])
        .expect_log("new:   ef46db3751d8e999 d.png")
}
