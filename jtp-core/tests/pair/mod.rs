//! Many clients and one server in memory, on simulated time. The test `pair` draws the calls from a seeded
//! generator, the fuzz target `pair` from its input.

mod checks;
mod connection;
mod model;
mod store;

use std::time::Duration;

use jtp_core::client::Request;
use jtp_core::server::BodyRequest;
use jtp_core::{Flags, Image, ImageId, Time};

use connection::Connection;
use store::Store;

/// A source of random numbers: calls a function that returns a number below its argument.
pub(crate) struct Rng<'a>(pub(crate) &'a mut dyn FnMut(u32) -> u32);

impl Rng<'_> {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        if limit <= 1 { 0 } else { (self.0)(limit) }
    }

    pub(crate) fn index(&mut self, limit: usize) -> usize {
        self.below(u32::try_from(limit).unwrap()) as usize
    }

    /// True once in `count` calls on average; never if the source returns only 0.
    pub(crate) fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == count - 1
    }
}

/// The limits of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Maximum number of simultaneous connections.
    pub(crate) connections: usize,
    pub(crate) steps: u32,
}

struct Simulation {
    now: Time,
    store: Store,
    connections: Vec<Connection>,
}

/// Runs one simulation to its end. Panics if a check fails.
pub(crate) fn run(plan: Plan, rng: &mut Rng<'_>) {
    let mut simulation = Simulation {
        now: Time::ZERO,
        store: Store::new(),
        connections: Vec::new(),
    };
    for _ in 0..rng.below(6) {
        simulation.store.change(rng);
    }
    simulation.store.publish();
    for _ in 0..plan.steps {
        simulation.step(plan, rng);
    }
    simulation.settle();
    for connection in &simulation.connections {
        connection.check_settled(&simulation.store);
    }
    for connection in &mut simulation.connections {
        connection.close_client();
    }
    simulation.settle();
    for connection in &simulation.connections {
        connection.check_closed();
    }
    simulation.connections.clear();
    simulation.store.check_memory();
}

impl Simulation {
    fn step(&mut self, plan: Plan, rng: &mut Rng<'_>) {
        if self.connections.is_empty()
            || (self.connections.len() < plan.connections && rng.one_in(12))
        {
            self.connections.push(Connection::new(rng, self.now));
        }
        let store = &self.store;
        // The machines must accept a time earlier than the last one.
        let now = if rng.one_in(20) { Time::ZERO } else { self.now };
        let at = rng.index(self.connections.len());
        let connection = &mut self.connections[at];
        match rng.below(28) {
            0..3 => connection.request(store, rng, now),
            3 => connection.list_and_watch(now),
            4 => connection.cancel(now),
            5..8 => drop(connection.client_sends(size(rng), now)),
            8..11 => drop(connection.server_reads(size(rng), now)),
            11..13 => drop(connection.decide(store, rng, now)),
            13..15 => drop(connection.server_loads(store, rng, now)),
            15..18 => drop(connection.server_sends(store, size(rng), now)),
            18..21 => drop(connection.client_reads(store, size(rng), now)),
            21 => connection.catalog_changed(store, now),
            22..24 => {
                self.store.change(rng);
                if !rng.one_in(3) {
                    self.store.publish();
                }
            }
            24 => self.advance_time(rng),
            25 => check_misuse(connection, rng, now),
            26 => match rng.below(12) {
                1 => connection.half_close(),
                2 => connection.reset(now),
                3 => connection.shut_down(now),
                4..7 => self.store.replace_writer(),
                _ => {}
            },
            _ => {
                // Everything that one connection can do at this time.
                for _ in 0..rng.below(8) {
                    pump(connection, store, rng, now);
                }
            }
        }
        // Remove closed connections.
        let store = &self.store;
        self.connections.retain(|connection| {
            if connection.is_finished() {
                connection.check_settled(store);
            }
            !connection.is_finished()
        });
    }

    fn advance_time(&mut self, rng: &mut Rng<'_>) {
        let millis = match rng.below(12) {
            11 => 31_000,
            10 => 11_000,
            _ => rng.below(200),
        };
        self.now = self.now + Duration::from_millis(u64::from(millis));
        for connection in &mut self.connections {
            connection.advance_time(self.now);
        }
    }

    /// Runs until nothing more happens without time passing.
    fn settle(&mut self) {
        self.store.publish();
        let (store, now) = (&self.store, self.now);
        let zero = &mut |_: u32| 0;
        for connection in &mut self.connections {
            connection.enlarge_pipes();
            connection.catalog_changed(store, now);
            let mut rounds = 0;
            while pump(connection, store, &mut Rng(zero), now) {
                rounds += 1;
                assert!(rounds < 1_000_000, "does not become idle");
            }
            connection.catalog_changed(store, now);
            while pump(connection, store, &mut Rng(zero), now) {}
        }
    }
}

/// A number of bytes: all of them if the generator returns 0.
fn size(rng: &mut Rng<'_>) -> usize {
    match rng.below(4) {
        0 => usize::MAX,
        1 => 1,
        2 => rng.index(40),
        _ => rng.index(3_000),
    }
}

fn pump(connection: &mut Connection, store: &Store, rng: &mut Rng<'_>, now: Time) -> bool {
    let steps = [
        connection.client_sends(size(rng), now),
        connection.server_reads(size(rng), now),
        connection.decide(store, rng, now),
        connection.server_loads(store, rng, now),
        connection.server_sends(store, size(rng), now),
        connection.client_reads(store, size(rng), now),
    ];
    steps.contains(&true)
}

/// An invalid call: it returns an error and changes nothing.
fn check_misuse(connection: &mut Connection, rng: &mut Rng<'_>, now: Time) {
    let server = format!("{:?}", connection.server);
    let client = format!("{:?}", connection.client);
    let too_many = connection.server.transmit().len() + 1 + rng.index(9);
    let wanted = connection.server.wants_body();
    match rng.below(10) {
        0 if !connection.is_deciding() => {
            assert!(
                connection
                    .server
                    .refuse(jtp_core::wire::response::ErrorCode::NotFound, "", now)
                    .is_err()
            );
        }
        1 => assert!(connection.server.transmitted(too_many, now).is_err()),
        2 => {
            let count = wanted.map_or(0, |wanted| wanted.remaining() + 1);
            assert!(connection.server.body_loaded(count, now).is_err());
        }
        3 if wanted.is_none() => assert!(connection.server.body_failed("", now).is_err()),
        4 if !connection.server.wants_finish() => assert!(connection.server.finished(now).is_err()),
        5 if connection.client.fault().is_none() && connection.client.is_reusable() => {
            let too_many = connection.client.transmit().len() + 1 + rng.index(9);
            assert!(connection.client.transmitted(too_many, now).is_err());
        }
        6 => {
            let ids = vec![ImageId(0); 256];
            assert!(
                connection
                    .client
                    .request(Request::GetById(ids), true, now)
                    .is_err()
            );
        }
        7 if connection.client.outstanding() == 0 => {
            assert!(connection.client.cancel(now).is_err());
        }
        8 if connection
            .server
            .deadline()
            .is_none_or(|deadline| deadline > now) =>
        {
            connection.server.handle_timeout(now);
        }
        9 if !matches!(wanted, Some(BodyRequest::Open { .. })) => {
            let unknown = Image::new(ImageId(0), Flags::from_bits(0), 0);
            let image = wanted.map_or(unknown, BodyRequest::image);
            assert!(connection.server.body_opened(image, 0, now).is_err());
        }
        _ => {}
    }
    assert_eq!(
        format!("{:?}", connection.server),
        server,
        "misuse changed the state"
    );
    assert_eq!(
        format!("{:?}", connection.client),
        client,
        "misuse changed the state"
    );
}
