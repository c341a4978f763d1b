//! Keep-alive, and either side ending it.

use crate::suite::script::{SHORT, Script, ServerAction, png};

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
        .expect_log("1: request LIST (0)")
        .expect_log("4: end: the request did not ask for keep-alive")
}

fn the_client_closes_between_requests() -> Script {
    Script::of([png("a.png", 300)])
        .setup(|setup| setup.connects = true)
        .list()
        .close()
        .get(["a.png"])
        .close()
        .expect_log("1: end: the peer closed the connection")
        .expect_log("2: request GET_BY_ID (1) keep-alive")
}

/// R6 T4: the client notices the closed connection when it sends the next request, and reconnects.
fn the_server_closes_between_requests() -> Script {
    Script::of([png("a.png", 300)])
        .setup(|setup| {
            setup.connects = true;
            setup.retries = 3;
            setup.server = setup
                .server
                .with_idle_timeout(SHORT)
                .with_linger_timeout(SHORT.unwrap())
                .with_linger_bytes(1 << 20);
        })
        .get(["a.png"])
        .then(ServerAction::AwaitClosed)
        .list()
        .then(ServerAction::AwaitClosed)
        .expect_log("1: end: timed out: the peer sent no further request")
        .expect_log("2: request LIST (0) keep-alive")
}

/// T4
fn the_server_closes_before_any_request() -> Script {
    Script::of([png("a.png", 300)])
        .setup(|setup| {
            let server = setup.server.with_first_request_timeout(SHORT);
            setup.server = server
                .with_linger_timeout(SHORT.unwrap())
                .with_linger_bytes(1 << 20);
        })
        .then(ServerAction::AwaitClosed)
        .close()
}
