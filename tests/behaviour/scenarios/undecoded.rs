//! The application receives images undecoded and decodes them itself. The log must be the same as with decoding by
//! the client.

use super::LARGE;
use crate::suite::script::{ClientAction, Script, Selection, compressed, png, trigger};

crate::suite::each_pair! {
    raw_and_compressed, cancelled_inside_an_image, dropped_inside_an_image, lost_inside_an_image,
}

fn script() -> Script {
    Script::of([
        png("a.png", 0),
        png("b.png", LARGE),
        compressed("c.bmp", 300_000),
        png("d.png", 3),
    ])
    .setup(|setup| setup.undecoded = true)
}

fn raw_and_compressed() -> Script {
    script()
        .list_and_get()
        .list()
        .expect_log("verified: 1000000 bytes")
        .expect_log("verified: 300000 bytes")
        .expect_log("verified: 3 bytes")
}

/// C7
fn cancelled_inside_an_image() -> Script {
    script()
        .fetch(
            Selection::All,
            [trigger("b.png", 128 * 1024, ClientAction::Cancel)],
        )
        .list()
}

/// The rest of the image is skipped.
fn dropped_inside_an_image() -> Script {
    script()
        .fetch(
            Selection::All,
            [trigger("b.png", 128 * 1024, ClientAction::Skip)],
        )
        .list()
        .expect_log("verified: 300000 bytes")
}

/// R6: it is requested again.
fn lost_inside_an_image() -> Script {
    script()
        .setup(|setup| {
            setup.broken.push(("b.png", Some(2 * 256 * 1024)));
            setup.connects = true;
            setup.retries = 1;
        })
        .list_and_get()
        .expect_log("interrupted after 524288 bytes")
        .expect_log("2: request BATCH (1) keep-alive")
}
