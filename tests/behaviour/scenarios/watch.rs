//! WATCH: which changes are notified, and how it ends.

use crate::suite::script::WatchAction::{Cancel, Do, Receive};
use crate::suite::script::{Script, ServerAction, png};

crate::suite::each_pair! {
    one_image_at_a_time, renames_and_removals, list_and_watch_leave_no_gap, event_crosses_cancel,
    ended_by_the_client, ended_by_the_shutdown, ended_by_lag, disabled, repeated,
}

fn album() -> Script {
    Script::of([png("a.png", 30)]).later([
        png("b.png", 40),
        png("c.png", 0),
        png("d.png", 60),
        png("e.png", 70),
        png("f.png", 80),
    ])
}

/// N1
fn one_image_at_a_time() -> Script {
    album()
        .list_and_watch([
            Do(ServerAction::Add("c.png")),
            Receive(1),
            Do(ServerAction::Add("b.png")),
            Receive(1),
            Cancel,
        ])
        .expect_log("new:   ef46db3751d8e999 c.png")
        .expect_log("(b.png)")
}

/// N1: a rename is not notified; an ID that returns after a removal is.
fn renames_and_removals() -> Script {
    album()
        .watch([
            Do(ServerAction::Rename("a.png", "z.png")),
            Do(ServerAction::Remove("a.png")),
            Do(ServerAction::Add("b.png")),
            Do(ServerAction::Remove("b.png")),
            Receive(1),
            Do(ServerAction::Add("a.png")),
            Do(ServerAction::Add("b.png")),
            Receive(2),
            Cancel,
        ])
        .expect_log("(a.png)")
}

/// N5: images added after the LIST's snapshot are notified, although the WATCH is read later.
fn list_and_watch_leave_no_gap() -> Script {
    album()
        .setup(|setup| {
            setup.unshaped = true;
            setup.on_request.push(("WATCH", ServerAction::Add("b.png")));
        })
        .watch_with(
            true,
            false,
            [
                Receive(1),
                Do(ServerAction::Add("c.png")),
                Receive(1),
                Cancel,
            ],
        )
        .expect_log("1 entries")
        .expect_log("(b.png)")
}

/// C7: an event and a CANCEL cross. The server has read the CANCEL before more bytes arrive.
fn event_crosses_cancel() -> Script {
    album()
        .pipelining()
        .watch([
            Do(ServerAction::Add("b.png")),
            Receive(1),
            Do(ServerAction::Hold),
            Cancel,
        ])
        .list()
        .expect_log("2 entries")
}

/// N6
fn ended_by_the_client() -> Script {
    album()
        .list_and_watch([Do(ServerAction::Add("b.png")), Receive(1)])
        .close()
        .expect_log("1: end: the peer closed the connection")
}

/// S16
fn ended_by_the_shutdown() -> Script {
    album()
        .watch([
            Do(ServerAction::AddAll(&["b.png", "c.png"])),
            Receive(2),
            Do(ServerAction::Shutdown),
            Receive(1),
        ])
        .expect_log("error: protocol: the connection ended before the response was complete")
        .expect_log("1: end: the server is shutting down")
}

/// N2: the watch begins further behind than allowed.
fn ended_by_lag() -> Script {
    album()
        .setup(|setup| {
            setup.unshaped = true;
            setup.server = setup.server.with_max_watch_lag(2);
            let three = ServerAction::AddAll(&["b.png", "c.png", "d.png"]);
            setup.on_request.push(("WATCH", three));
        })
        .watch_with(true, false, [Receive(1)])
        .expect_log("error: protocol: the connection ended before the response was complete")
        .expect_log("1: end: the watching client fell too far behind")
}

/// S10
fn disabled() -> Script {
    album()
        .setup(|setup| setup.server = setup.server.with_watch(false))
        .watch([Receive(1)])
        .expect_log("error: protocol: the server reports UnsupportedFeature")
}

fn repeated() -> Script {
    album()
        .pipelining()
        .watch([Do(ServerAction::Add("b.png")), Receive(1), Cancel])
        .list_and_watch([Do(ServerAction::Add("c.png")), Receive(1), Cancel])
        .get(["b.png"])
        .watch([Do(ServerAction::Add("d.png")), Receive(1), Cancel])
        .expect_log("verified: 40 bytes")
}
