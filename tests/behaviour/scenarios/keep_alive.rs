//! Keep-alive, and its end by either side.

use crate::suite::script::{Deed, SOON, Script, png};

crate::suite::each_pair! {
    without_keep_alive, the_client_closes_between_requests, the_server_closes_between_requests,
    the_server_closes_before_any_request,
}

/// S2
fn without_keep_alive() -> Script {
    Script::of([png("a.png", 300), png("b.png", 70_000)])
        .setup(|setup| {
            setup.keep_alive = false;
            setup.connects = true;
        })
        .list()
        .get(["a.png"])
        .batch(["a.png"])
        .list_and_get()
        .must("1: request LIST (0)")
        .must("4: end: the request did not ask for keep-alive")
}

fn the_client_closes_between_requests() -> Script {
    Script::of([png("a.png", 300)])
        .setup(|setup| setup.connects = true)
        .list()
        .close()
        .get(["a.png"])
        .close()
        .must("1: end: the peer closed the connection")
        .must("2: request GET_BY_ID (1) keep-alive")
}

/// R6 T4: that the connection is gone shows only when it is to be used again.
fn the_server_closes_between_requests() -> Script {
    Script::of([png("a.png", 300)])
        .setup(|setup| {
            setup.connects = true;
            setup.retries = 3;
            setup.server = setup
                .server
                .with_idle_timeout(SOON)
                .with_linger(SOON.unwrap(), 1 << 20);
        })
        .get(["a.png"])
        .then(Deed::AwaitEnd)
        .list()
        .then(Deed::AwaitEnd)
        .must("1: end: timed out: no request came")
        .must("2: request LIST (0) keep-alive")
}

/// T4
fn the_server_closes_before_any_request() -> Script {
    Script::of([png("a.png", 300)])
        .setup(|setup| {
            let server = setup.server.with_first_request_timeout(SOON);
            setup.server = server.with_linger(SOON.unwrap(), 1 << 20);
        })
        .then(Deed::AwaitEnd)
        .close()
}
