//! The server's timeouts with a slow client. The one under test is short, the others have their defaults.
//! // T4 S11 N3

use crate::suite::raw::RawScript;
use crate::suite::script::{SHORT, ServerAction, png};
use crate::support::bytes::*;

crate::suite::raw::each_server! {
    no_first_byte, no_next_request, slow_request, incomplete_cancel, linger_timeout, linger_byte_limit,
}

fn no_first_byte() -> RawScript {
    RawScript::of([])
        .setup(|setup| setup.server = setup.server.with_first_request_timeout(SHORT))
        .expect_end()
        .expect_log("1: end: timed out: the peer sent nothing")
}

fn no_next_request() -> RawScript {
    RawScript::of([])
        .setup(|setup| setup.server = setup.server.with_idle_timeout(SHORT))
        .send([LIST, KEEP])
        .expect(list_of(&[]))
        .expect_end()
        .expect_log("1: end: timed out: the peer sent no further request")
}

fn slow_request() -> RawScript {
    RawScript::of([])
        .setup(|setup| {
            setup.server = setup
                .server
                .with_request_grace(SHORT)
                .with_request_rate(1 << 20);
        })
        .send([LIST])
        .expect_end()
        .expect_log("1: end: timed out: a request arrived too slowly")
}

fn incomplete_cancel() -> RawScript {
    RawScript::of([])
        .setup(|setup| setup.server = setup.server.with_cancel_timeout(SHORT))
        .send([WATCH[0], WATCH[1], CANCEL[0]])
        .expect_end()
        .expect_log("1: end: timed out: a CANCEL was not completed")
}

/// The client has received the end of the stream and does not close.
fn linger_timeout() -> RawScript {
    RawScript::of([])
        .setup(|setup| {
            setup.server = setup
                .server
                .with_linger_timeout(SHORT.unwrap())
                .with_linger_bytes(1 << 20);
        })
        .send([LIST, 0])
        .expect(list_of(&[]))
        .expect_end()
        .then(ServerAction::AwaitClosed)
        .expect_log("1: end: the request did not ask for keep-alive")
}

/// The client sends more than the server discards.
fn linger_byte_limit() -> RawScript {
    let long = std::time::Duration::from_secs(3600);
    RawScript::of([png("a.png", 5)])
        .setup(|setup| {
            setup.server = setup
                .server
                .with_linger_timeout(long)
                .with_linger_bytes(100);
        })
        .send([LIST, 0])
        .expect(list_of(&[TestImage::new("a.png", png("a.png", 5).bytes)]))
        .expect_end()
        .send([7; 101])
        .then(ServerAction::AwaitClosed)
        .expect_log("1: end: the request did not ask for keep-alive")
}
