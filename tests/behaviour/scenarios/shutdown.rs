//! The server shuts down. // S16

use super::LARGE;
use crate::suite::script::{
    ClientAction, Script, Selection, ServerAction, png, small_images, trigger,
};

crate::suite::each_pair! {
    idle, during_a_response, while_a_body_is_read, with_pipelined_requests,
}

fn idle() -> Script {
    Script::of([png("a.png", 9)])
        .setup(|setup| {
            setup.connects = true;
            setup.retries = 1; // The client may or may not see the end before it sends.
        })
        .list()
        .then(ServerAction::Shutdown)
        .list()
        .expect_log("1: end: the server is shutting down")
        .expect_log("error: cannot connect")
}

/// The response in progress is completed.
fn during_a_response() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 9)])
        .fetch(
            Selection::All,
            [trigger(
                "a.png",
                1,
                ClientAction::Do(ServerAction::Shutdown),
            )],
        )
        .expect_log("verified: 9 bytes")
        .expect_log("1: end: the server is shutting down")
}

fn while_a_body_is_read() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 9)])
        .gate("a.png", 256 * 1024)
        .fetch(
            Selection::All,
            [
                trigger(
                    "a.png",
                    128 * 1024,
                    ClientAction::Do(ServerAction::Shutdown),
                ),
                trigger(
                    "a.png",
                    128 * 1024,
                    ClientAction::Do(ServerAction::OpenGate("a.png")),
                ),
            ],
        )
        .expect_log("verified: 9 bytes")
        .expect_log("1: end: the server is shutting down")
}

/// Requests behind the response in progress are dropped.
fn with_pipelined_requests() -> Script {
    let mut images = vec![png("0000.jpg", LARGE)];
    images.extend(small_images(300));
    Script::of_all(images)
        .pipelining()
        .get_each([trigger(
            "0000.jpg",
            1,
            ClientAction::Do(ServerAction::Shutdown),
        )])
        .expect_log("error: protocol: the connection ended before the response was complete")
        .expect_log("1: request GET_BY_ID (255) keep-alive")
        .expect_log("1: end: the server is shutting down")
}
