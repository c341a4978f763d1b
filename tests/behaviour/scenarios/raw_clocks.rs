//! The server's clocks against a client that is slow on purpose. Each runs out alone: the others are as long as
//! they are by default. // T4 S11 N3

use crate::suite::raw::RawScript;
use crate::suite::script::{Deed, SOON, png};
use crate::support::bytes::*;

crate::suite::raw::each_server! {
    no_first_byte, no_next_request, a_request_too_slow, ids_too_slow, a_cancel_begun, a_lingering_client,
    a_client_that_does_not_stop,
}

fn no_first_byte() -> RawScript {
    RawScript::of([])
        .setup(|setup| setup.server = setup.server.with_first_request_timeout(SOON))
        .end()
        .must("1: end: timed out: no byte came")
}

fn no_next_request() -> RawScript {
    RawScript::of([])
        .setup(|setup| setup.server = setup.server.with_idle_timeout(SOON))
        .send([LIST, KEEP])
        .expect(list_of(&[]))
        .end()
        .must("1: end: timed out: no request came")
}

fn a_request_too_slow() -> RawScript {
    RawScript::of([])
        .setup(|setup| setup.server = setup.server.with_request_clock(SOON, 1 << 20))
        .send([LIST])
        .end()
        .must("1: end: timed out: a request came too slowly")
}

fn ids_too_slow() -> RawScript {
    RawScript::of([])
        .setup(|setup| setup.server = setup.server.with_request_clock(SOON, 1 << 20))
        .send(&batch(KEEP, &[1, 2, 3])[..20])
        .end()
        .must("1: end: timed out: a request came too slowly")
}

fn a_cancel_begun() -> RawScript {
    RawScript::of([])
        .setup(|setup| setup.server = setup.server.with_cancel_timeout(SOON))
        .send([WATCH[0], WATCH[1], CANCEL[0]])
        .end()
        .must("1: end: timed out: a CANCEL was begun and not completed")
}

/// The client has seen the end, and stays.
fn a_lingering_client() -> RawScript {
    RawScript::of([])
        .setup(|setup| setup.server = setup.server.with_linger(SOON.unwrap(), 1 << 20))
        .send([LIST, 0])
        .expect(list_of(&[]))
        .end()
        .then(Deed::AwaitEnd)
        .must("1: end: the request did not ask for keep-alive")
}

/// More than is thrown away.
fn a_client_that_does_not_stop() -> RawScript {
    let long = std::time::Duration::from_secs(3600);
    RawScript::of([png("a.png", 5)])
        .setup(|setup| setup.server = setup.server.with_linger(long, 100))
        .send([LIST, 0])
        .expect(list_of(&[Picture::new("a.png", png("a.png", 5).bytes)]))
        .end()
        .send([7; 101])
        .then(Deed::AwaitEnd)
        .must("1: end: the request did not ask for keep-alive")
}
