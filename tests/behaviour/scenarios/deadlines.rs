//! The clocks of both ends. Each is set so short that it runs out, the others are as long as they are: which
//! one it was shows in what is told. Those that need a slow client are in `raw_clocks`.

use super::LARGE;
use crate::suite::script::{Act, Deed, LATER, SOON, Script, Which, png, when};

crate::suite::each_pair! { no_body_comes, the_client_takes_nothing, watching_has_no_clock }

/// T6: the server waits for its disk, and for that it has no clock.
fn no_body_comes() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 9)])
        .gate("a.png", 256 * 1024)
        .setup(|setup| setup.client = setup.client.with_response_timeout(LATER))
        .setup(|setup| setup.unshaped = true)
        .list_and_get()
        .must("interrupted")
        .must("error: protocol: the server did not answer in time")
}

/// T4: its bytes wait for longer than allowed.
fn the_client_takes_nothing() -> Script {
    Script::of([png("a.png", 8 * LARGE)])
        .setup(|setup| setup.server = setup.server.with_write_timeout(LATER))
        .setup(|setup| setup.unshaped = true)
        .fetch(
            Which::All,
            [
                when("a.png", 1, Act::Do(Deed::Stall)),
                when("a.png", 1, Act::Do(Deed::AwaitEnd)),
                when("a.png", 1, Act::Leave),
            ],
        )
        .must("1: end: timed out: the peer accepted no output")
}

/// N4 T6: neither the server's idle clock nor the client's.
fn watching_has_no_clock() -> Script {
    use crate::suite::script::Watching::{Do, Next};

    Script::of([])
        .later([png("a.png", 5)])
        .setup(|setup| {
            setup.server = setup.server.with_idle_timeout(SOON);
            setup.client = setup.client.with_response_timeout(LATER);
            setup.unshaped = true;
        })
        .watch([
            Do(Deed::Outlast(LATER.unwrap() + SOON.unwrap())),
            Do(Deed::Add("a.png")),
            Next(1),
        ])
        .must("(a.png)")
}
