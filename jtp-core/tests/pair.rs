//! Seeded simulation of both state machines, joined in memory on simulated time: many clients, one server, and
//! calls in random order. Each delivered image has the right bytes, each request on a surviving connection is
//! answered exactly once, each watcher receives every event exactly once, and all snapshots are freed.
//!
//! A failing seed is printed. `JTP_SEED=17 cargo test -p jtp-core --test pair` runs one seed,
//! `JTP_SEEDS=100000` runs the first 100,000.

#[path = "pair/mod.rs"]
mod simulation;

use jtp_kit::for_each_seed;
use simulation::{Plan, Rng};

/// Number of seeds of a default run.
const SEEDS: u64 = 2_000;

#[test]
fn s1_s3_s5_s6_s7_s8_c1_n2_n5_t5_every_seeded_simulation_matches_the_model() {
    for_each_seed(SEEDS, |seed| {
        let plan = Plan {
            connections: [1, 3, 12][(seed % 3) as usize],
            steps: 200,
        };
        let mut rng = jtp_kit::Rng::new(seed);
        simulation::run(plan, &mut Rng(&mut |limit| rng.below(limit)));
    });
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
