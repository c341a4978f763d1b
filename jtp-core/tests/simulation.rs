//! Seeded simulations of both state machines in memory, on simulated time. Models of a server and a client follow each
//! connection: each response is the right one, each request on a surviving connection is answered exactly once, each
//! watcher receives every event exactly once, each event of a client is what it received, and all memory is freed.
//!
//! A failing seed is printed. `JTP_SEED=17 cargo test -p jtp-core --test simulation pair` runs one seed of `pair`,
//! `JTP_SEEDS=100000` the first 100,000.

#[allow(dead_code)] // Some of it is for the fuzz targets and the vectors.
#[path = "simulation/mod.rs"]
mod simulation;

use jtp_kit::{Allocations, Rng, for_each_seed};
use simulation::{calls, pair, world};

#[global_allocator]
static ALLOCATOR: Allocations = Allocations::new();

/// Many clients and a server that are called in any order.
#[test]
fn s1_s3_s5_s6_s7_s8_c1_n2_n5_t5_pair() {
    for_each_seed(2_000, |seed| {
        let connections = [1, 3, 12][(seed % 3) as usize];
        pair::run(connections, 200, &mut Rng::new(seed));
    });
}

/// Any order of calls is valid, on either state machine and for any input.
#[test]
fn s10_s11_s12_s13_s16_c1_c2_c3_c4_c5_n3_n6_calls_of_a_server() {
    for_each_seed(1_000, |seed| calls::server(150, &mut Rng::new(seed)));
}

#[test]
fn r1_r2_r7_calls_of_a_client() {
    for_each_seed(1_000, |seed| calls::client(150, &mut Rng::new(seed)));
}

/// Clients that come back, over a network with delays and faults.
#[test]
fn s1_s13_c1_n2_n5_r2_r6_world() {
    let mut total = world::Counts::default();
    let all = for_each_seed(40, |seed| {
        let before = ALLOCATOR.of_thread();
        world::run(&mut Rng::new(seed), &mut total);
        assert_eq!(ALLOCATOR.of_thread(), before, "memory was not freed");
    });
    // Every kind of event occurred at least once.
    assert!(!all || total.is_complete(), "{total:?}");
    println!("{total:?}");
}

#[test]
fn t3_neither_side_sends_a_preface() {
    use jtp_core::Time;
    use jtp_core::client::{ClientConfig, ClientConnection, Request};
    use jtp_core::server::{ServerConfig, ServerConnection};

    let mut client = ClientConnection::new(ClientConfig::new(), Time::ZERO);
    let mut server = ServerConnection::new(ServerConfig::new(), Time::ZERO);
    assert!(client.transmit().is_empty() && server.transmit().is_empty());
    // The first bytes are the type and flags of a request.
    client.request(Request::List, true, Time::ZERO).unwrap();
    assert_eq!(client.transmit(), [1, 1]);
    let received = server.receive(client.transmit(), Time::ZERO);
    assert!(received.used == 2 && received.event.is_some());
}
