//! Many clients and one server in memory, on simulated time: the order of calls is random.

use std::time::Duration;

use jtp_core::client::{ClientConfig, Request};
use jtp_core::wire::request::RequestKind;
use jtp_core::wire::response::ErrorCode;
use jtp_core::{ImageId, Time};
use jtp_kit::Rng;

use super::client::Client;
use super::link::Link;
use super::network::Pipe;
use super::server::Server;
use super::store::Store;

struct Simulation {
    now: Time,
    store: Store,
    links: Vec<Link>,
}

/// Runs one simulation to its end, with this maximum number of simultaneous connections.
pub(crate) fn run(connections: usize, steps: usize, rng: &mut Rng) {
    let changes = rng.below(6);
    let mut simulation = Simulation {
        now: Time::ZERO,
        store: Store::new(changes, rng),
        links: Vec::new(),
    };
    for _ in 0..steps {
        simulation.step(connections, rng);
    }
    simulation.settle();
    for link in &mut simulation.links {
        link.check_settled();
        link.up.finish(simulation.now);
    }
    simulation.settle();
    for link in simulation.links.drain(..) {
        let is_closed = link.was_reset || link.server.machine.is_closed();
        assert!(is_closed, "not closed: {link:?}");
    }
    simulation.store.check_memory();
}

fn connect(rng: &mut Rng, now: Time) -> Link {
    let config = ClientConfig::new().with_pipeline(rng.one_in(2));
    let mut client = Client::new(config, now);
    client.undecoded = rng.one_in(3);
    let capacity = *rng.pick(&[70_000, 1_000, 30, 1]);
    let pipe = || Pipe::new(capacity);
    Link::new(client, Server::random(rng, now), pipe(), pipe())
}

impl Simulation {
    fn step(&mut self, connections: usize, rng: &mut Rng) {
        let is_room = self.links.len() < connections;
        if self.links.is_empty() || (is_room && rng.one_in(12)) {
            self.links.push(connect(rng, self.now));
        }
        // The machines must accept a time earlier than the last one.
        let now = if rng.one_in(20) { Time::ZERO } else { self.now };
        let at = rng.below(self.links.len());
        let (store, link) = (&self.store, &mut self.links[at]);
        match rng.below(28) {
            0..3 => request(link, store, rng, now),
            3 => {
                // N5
                link.client.request(&Request::List, true, now);
                link.client.request(&Request::Watch, true, now);
            }
            4 if !link.up.is_finished() => drop(link.client.cancel(now)),
            5..8 => drop(link.client_sends(size(rng), now)),
            8..11 => drop(link.server_reads(size(rng), now)),
            11..13 => drop(decide(link, store, rng, now)),
            13..15 => drop(load(link, store, rng, now)),
            15..18 => drop(link.server_sends(size(rng), now)),
            18..21 => drop(link.client_reads(size(rng), now)),
            21 => announce(link, store, now),
            22..24 => {
                self.store.change(rng);
                if !rng.one_in(3) {
                    self.store.publish();
                }
            }
            24 => self.advance_time(rng),
            25 => {
                link.server.misuse(store, now);
                link.client.misuse(now);
            }
            26 => match rng.below(12) {
                1 => drop(link.half_close(now)),
                2 => link.reset(now),
                3 => {
                    link.server.shut_down(now);
                    link.server.receive_all(now);
                }
                4..7 => self.store.replace_writer(),
                _ => {}
            },
            _ => {
                // Everything that one connection can do at this time.
                for _ in 0..rng.below(8) {
                    pump(link, store, rng, now);
                }
            }
        }
        self.links.retain(|link| {
            let is_over = link.server.machine.is_closed() && link.down.is_end_reported();
            if is_over {
                link.check_settled();
            }
            !is_over && !link.was_reset
        });
    }

    fn advance_time(&mut self, rng: &mut Rng) {
        let millis = match rng.below(12) {
            11 => 31_000,
            10 => 11_000,
            _ => rng.below(200),
        };
        self.now = self.now + Duration::from_millis(millis);
        for link in &mut self.links {
            link.server.advance_time(self.now);
            link.server.receive_all(self.now);
            link.client.advance_time(self.now);
        }
    }

    /// Runs until nothing more happens without time passing.
    fn settle(&mut self) {
        self.store.publish();
        for link in &mut self.links {
            (link.up.capacity, link.down.capacity) = (1 << 20, 1 << 20);
            // The first time, a WATCH may still be waiting.
            for _ in 0..2 {
                announce(link, &self.store, self.now);
                let mut rounds = 0;
                while pump(link, &self.store, &mut Rng::of_bytes(&[]), self.now) {
                    rounds += 1;
                    assert!(rounds < 1_000_000, "does not become idle");
                }
            }
        }
    }
}

/// A number of bytes.
fn size(rng: &mut Rng) -> usize {
    match rng.below(4) {
        0 => usize::MAX,
        1 => 1,
        2 => rng.below(40),
        _ => rng.below(3_000),
    }
}

fn request(link: &mut Link, store: &Store, rng: &mut Rng, now: Time) {
    let kind = *rng.pick(&RequestKind::ALL);
    let mut ids: Vec<ImageId> = (0..rng.below(8)).map(|_| store.some_id(rng)).collect();
    match kind {
        // Larger than one output window.
        RequestKind::Batch { .. } if rng.one_in(6) => {
            ids.extend((0..2_500).map(|n| ImageId(1_000 + n)));
        }
        // The same one so often that a varint would have two bytes.
        RequestKind::GetById { .. } if rng.one_in(20) => {
            ids.extend(store.smallest().into_iter().cycle().take(200));
        }
        _ => {}
    }
    // CANCEL is a call of its own.
    if let Some(request) = Request::of(kind, ids) {
        link.client.request(&request, !rng.one_in(10), now);
    }
}

fn decide(link: &mut Link, store: &Store, rng: &mut Rng, now: Time) -> bool {
    if !link.server.is_deciding {
        return false;
    }
    if rng.one_in(60) {
        let codes = [
            ErrorCode::ServerError,
            ErrorCode::RateLimited,
            ErrorCode::NotFound,
        ];
        link.server.refuse(*rng.pick(&codes), now);
    } else {
        link.server.accept(store, now);
    }
    link.server.receive_all(now);
    true
}

fn load(link: &mut Link, store: &Store, rng: &mut Rng, now: Time) -> bool {
    let moved = link.server.load_some(store, rng, now);
    link.server.receive_all(now);
    moved
}

fn announce(link: &mut Link, store: &Store, now: Time) {
    link.server.catalog_changed(store, now);
    link.server.receive_all(now);
}

fn pump(link: &mut Link, store: &Store, rng: &mut Rng, now: Time) -> bool {
    let steps = [
        link.client_sends(size(rng), now),
        link.server_reads(size(rng), now),
        decide(link, store, rng, now),
        load(link, store, rng, now),
        link.server_sends(size(rng), now),
        link.client_reads(size(rng), now).0,
    ];
    steps.contains(&true)
}
