//! The timeouts of both ends. The one under test is short, the others have their defaults; the error or close reason
//! shows which one fired. Timeouts that need a slow client are in `raw_timeouts`.

use super::LARGE;
use crate::suite::script::{
    ClientAction, MEDIUM, SHORT, Script, Selection, ServerAction, png, trigger,
};

crate::suite::each_pair! { client_response_timeout, server_write_timeout, watch_has_no_timeout }

/// T6: the client's timeout fires; the server has none for its store.
fn client_response_timeout() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 9)])
        .gate("a.png", 256 * 1024)
        .setup(|setup| setup.client = setup.client.with_response_timeout(MEDIUM))
        .or_longer(|setup| {
            let longer = MEDIUM.map(|timeout| 10 * timeout);
            setup.client = setup.client.with_response_timeout(longer);
        })
        .setup(|setup| setup.unshaped = true)
        .list_and_get()
        .expect_log("interrupted")
        .expect_log("error: protocol: the server did not answer in time")
}

/// T4: output waits for longer than the write timeout.
fn server_write_timeout() -> Script {
    Script::of([png("a.png", 8 * LARGE)])
        .setup(|setup| setup.server = setup.server.with_write_timeout(MEDIUM))
        .setup(|setup| setup.unshaped = true)
        .fetch(
            Selection::All,
            [
                trigger("a.png", 1, ClientAction::Do(ServerAction::Stall)),
                trigger("a.png", 1, ClientAction::Do(ServerAction::AwaitClosed)),
                trigger("a.png", 1, ClientAction::Drop),
            ],
        )
        .expect_log("1: end: timed out: the peer accepted no output")
}

/// N4 T6: neither the server's idle timeout nor the client's response timeout applies.
fn watch_has_no_timeout() -> Script {
    use crate::suite::script::WatchAction::{Do, Receive};

    Script::of([])
        .later([png("a.png", 5)])
        .setup(|setup| {
            setup.server = setup.server.with_idle_timeout(SHORT);
            setup.client = setup.client.with_response_timeout(MEDIUM);
            setup.unshaped = true;
        })
        .watch([
            Do(ServerAction::Wait(MEDIUM.unwrap() + SHORT.unwrap())),
            Do(ServerAction::Add("a.png")),
            Receive(1),
        ])
        .expect_log("(a.png)")
}
