//! The server shuts down. // S16

use super::LARGE;
use crate::suite::script::{Act, Deed, Script, Which, many, png, when};

crate::suite::each_pair! {
    when_idle, in_the_middle_of_a_response, while_a_body_is_awaited, with_requests_behind,
}

fn when_idle() -> Script {
    Script::of([png("a.png", 9)])
        .setup(|setup| {
            setup.connects = true;
            setup.retries = 1; // Whether the end is seen at once is the system's matter.
        })
        .list()
        .then(Deed::Shutdown)
        .list()
        .must("1: end: the server is shutting down")
        .must("error: cannot connect")
}

/// What is under way is finished.
fn in_the_middle_of_a_response() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 9)])
        .fetch(Which::All, [when("a.png", 1, Act::Do(Deed::Shutdown))])
        .must("good: 9 bytes")
        .must("1: end: the server is shutting down")
}

fn while_a_body_is_awaited() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 9)])
        .gate("a.png", 256 * 1024)
        .fetch(
            Which::All,
            [
                when("a.png", 128 * 1024, Act::Do(Deed::Shutdown)),
                when("a.png", 128 * 1024, Act::Do(Deed::Open("a.png"))),
            ],
        )
        .must("good: 9 bytes")
        .must("1: end: the server is shutting down")
}

/// What is behind it is dropped.
fn with_requests_behind() -> Script {
    let mut pictures = vec![png("0000.jpg", LARGE)];
    pictures.extend(many(300));
    Script::of_all(pictures)
        .pipelining()
        .get_each([when("0000.jpg", 1, Act::Do(Deed::Shutdown))])
        .must("error: protocol: the connection ended before the response was complete")
        .must("1: request GET_BY_ID (255) keep-alive")
        .must("1: end: the server is shutting down")
}
