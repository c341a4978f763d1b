//! Bodies that are late, broken, or missing.

use super::LARGE;
use crate::suite::script::{
    ClientAction, Script, Selection, ServerAction, compressed, png, trigger, wrong_id,
};

crate::suite::each_pair! {
    body_waits_for_the_store, image_cannot_be_opened, image_cannot_be_opened_and_is_retried, read_fails_inside_a_body, bytes_do_not_match_the_id, image_over_the_size_limit,
    zstd_window_over_the_limit,
}

/// The first piece is sent before the second can be read; the next response waits for both.
fn body_waits_for_the_store() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 3)])
        .gate("a.png", 256 * 1024)
        .fetch(
            Selection::All,
            [trigger(
                "a.png",
                128 * 1024,
                ClientAction::Do(ServerAction::OpenGate("a.png")),
            )],
        )
        .list()
        .expect_log("verified: 1000000 bytes")
}

/// S12: the error frame takes the place of the packet.
fn image_cannot_be_opened() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 3), png("c.png", 4)])
        .setup(|setup| setup.broken.push(("b.png", None)))
        .list_and_get()
        .expect_log("verified: 1000000 bytes")
        .expect_log("the server reports ServerError")
        .expect_log("1: end: an image could not be read")
}

/// R6: complete images are kept; the rest is requested again.
fn image_cannot_be_opened_and_is_retried() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 3), png("c.png", 4)])
        .setup(|setup| {
            setup.broken.push(("b.png", None));
            setup.connects = true;
            setup.retries = 1;
        })
        .list_and_get()
        .expect_log("2: request BATCH (1) keep-alive")
        .expect_log("the server reports ServerError")
}

/// S12 S13: the connection ends early.
fn read_fails_inside_a_body() -> Script {
    Script::of([png("a.png", LARGE), png("b.png", 3)])
        .setup(|setup| setup.broken.push(("a.png", Some(2 * 256 * 1024))))
        .list_and_get()
        .expect_log("interrupted after 524288 bytes")
        .expect_log("error: protocol: the connection ended before the response was complete")
}

/// R2: requested once more before it counts as failed.
fn bytes_do_not_match_the_id() -> Script {
    Script::of([png("a.png", 50), wrong_id("b.bmp", 6_000), png("c.png", 70)])
        .list_and_get()
        .list()
        .expect_log("(last: false)")
        .expect_log("(last: true)")
        .expect_log("1: request GET_BY_ID (1) keep-alive")
}

/// R4
fn image_over_the_size_limit() -> Script {
    Script::of([
        png("a.png", 5_000),
        compressed("b.bmp", 90_000),
        png("c.png", 70),
    ])
    .setup(|setup| setup.client = setup.client.with_max_image_size(4_999))
    .list_and_get()
    .expect_log("the image is longer than 4999 bytes (last: true)")
    .expect_log("verified: 70 bytes")
}

/// W8
fn zstd_window_over_the_limit() -> Script {
    Script::of([
        png("a.png", 50),
        compressed("b.bmp", 90_000),
        png("c.png", 70),
    ])
    .setup(|setup| setup.client = setup.client.with_max_window(64 * 1024))
    .list_and_get()
    .expect_log("the window is too large (last: true)")
    .expect_log("verified: 70 bytes")
}
