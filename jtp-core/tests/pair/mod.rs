//! Many clients and a server in memory, on simulated time, driven by dice: the test beside this folder rolls
//! them from a seed, the fuzz target `pair` (in `fuzz/`) from its input.

mod link;
mod model;
mod store;

use std::time::Duration;

use jtp_core::client::Request;
use jtp_core::{ImageId, Time};

use link::Link;
use store::Store;

/// A source of choices.
pub(crate) struct Dice<'a>(pub(crate) &'a mut dyn FnMut(u32) -> u32);

impl Dice<'_> {
    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        if limit <= 1 { 0 } else { (self.0)(limit) }
    }

    pub(crate) fn index(&mut self, limit: usize) -> usize {
        self.below(u32::try_from(limit).unwrap()) as usize
    }

    /// Whether something happens that is to happen once in `count` times; never for dice that roll only 0.
    pub(crate) fn one_in(&mut self, count: u32) -> bool {
        self.below(count) == count - 1
    }
}

/// What a run may do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// The most connections at once.
    pub(crate) links: usize,
    pub(crate) steps: u32,
}

struct World {
    now: Time,
    store: Store,
    links: Vec<Link>,
}

/// Runs one world to its end; panics where something does not hold. `more` says whether to go on.
pub(crate) fn run(plan: Plan, dice: &mut Dice<'_>) {
    let mut world = World {
        now: Time::ZERO,
        store: Store::new(),
        links: Vec::new(),
    };
    for _ in 0..dice.below(6) {
        world.store.change(dice);
    }
    world.store.publish();
    for _ in 0..plan.steps {
        world.step(plan, dice);
    }
    world.settle();
    for link in &world.links {
        link.check_settled(&world.store);
    }
    for link in &mut world.links {
        link.leave();
    }
    world.settle();
    for link in &world.links {
        link.check_gone();
    }
    world.links.clear();
    world.store.check_memory();
}

impl World {
    fn step(&mut self, plan: Plan, dice: &mut Dice<'_>) {
        if self.links.is_empty() || (self.links.len() < plan.links && dice.one_in(12)) {
            self.links.push(Link::new(dice, self.now));
        }
        let store = &self.store;
        // An earlier time is to be harmless.
        let now = if dice.one_in(20) {
            Time::ZERO
        } else {
            self.now
        };
        let at = dice.index(self.links.len());
        let link = &mut self.links[at];
        match dice.below(28) {
            0..3 => link.ask(store, dice, now),
            3 => link.list_and_watch(now),
            4 => link.cancel(now),
            5..8 => drop(link.client_sends(size(dice), now)),
            8..11 => drop(link.server_reads(size(dice), now)),
            11..13 => drop(link.server_decides(store, dice, now)),
            13..15 => drop(link.server_loads(store, dice, now)),
            15..18 => drop(link.server_sends(store, size(dice), now)),
            18..21 => drop(link.client_reads(store, size(dice), now)),
            21 => link.catalog_changed(store, now),
            22..24 => {
                self.store.change(dice);
                if !dice.one_in(3) {
                    self.store.publish();
                }
            }
            24 => self.time_passes(dice),
            25 => misuse(link, dice, now),
            26 => match dice.below(12) {
                1 => link.half_close(),
                2 => link.reset(now),
                3 => link.shut_down(now),
                _ => {}
            },
            _ => {
                // All that one connection can do at once.
                for _ in 0..dice.below(8) {
                    pump(link, store, dice, now);
                }
            }
        }
        // Those that are done make place.
        let store = &self.store;
        self.links.retain(|link| {
            if link.is_over() {
                link.check_settled(store);
            }
            !link.is_over()
        });
    }

    fn time_passes(&mut self, dice: &mut Dice<'_>) {
        let millis = match dice.below(12) {
            11 => 31_000,
            10 => 11_000,
            _ => dice.below(200),
        };
        self.now = self.now + Duration::from_millis(u64::from(millis));
        for link in &mut self.links {
            link.time_passes(self.now);
        }
    }

    /// Lets everything happen that needs no time.
    fn settle(&mut self) {
        self.store.publish();
        let (store, now) = (&self.store, self.now);
        let plain = &mut |_: u32| 0;
        for link in &mut self.links {
            link.widen();
            link.catalog_changed(store, now);
            let mut rounds = 0;
            while pump(link, store, &mut Dice(plain), now) {
                rounds += 1;
                assert!(rounds < 1_000_000, "no rest");
            }
            link.catalog_changed(store, now);
            while pump(link, store, &mut Dice(plain), now) {}
        }
    }
}

/// How much of something: 0 of the dice is all.
fn size(dice: &mut Dice<'_>) -> usize {
    match dice.below(4) {
        0 => usize::MAX,
        1 => 1,
        2 => dice.index(40),
        _ => dice.index(3_000),
    }
}

fn pump(link: &mut Link, store: &Store, dice: &mut Dice<'_>, now: Time) -> bool {
    let steps = [
        link.client_sends(size(dice), now),
        link.server_reads(size(dice), now),
        link.server_decides(store, dice, now),
        link.server_loads(store, dice, now),
        link.server_sends(store, size(dice), now),
        link.client_reads(store, size(dice), now),
    ];
    steps.contains(&true)
}

/// A call that does not fit: it is refused, and changes nothing.
fn misuse(link: &mut Link, dice: &mut Dice<'_>, now: Time) {
    let server = format!("{:?}", link.server);
    let client = format!("{:?}", link.client);
    let more = link.server.transmit().len() + 1 + dice.index(9);
    let wanted = link.server.wants_body();
    match dice.below(9) {
        0 if !link.is_deciding() => {
            assert!(
                link.server
                    .refuse(jtp_core::wire::response::ErrorCode::NotFound, "", now)
                    .is_err()
            );
        }
        1 => assert!(link.server.transmitted(more, now).is_err()),
        2 => {
            let count = wanted.map_or(0, |wanted| wanted.remaining() + 1);
            assert!(link.server.body_loaded(count, now).is_err());
        }
        3 if wanted.is_none() => assert!(link.server.body_failed("", now).is_err()),
        4 if !link.server.wants_finish() => assert!(link.server.finished(now).is_err()),
        5 if link.client.fault().is_none() && link.client.is_reusable() => {
            let more = link.client.transmit().len() + 1 + dice.index(9);
            assert!(link.client.transmitted(more, now).is_err());
        }
        6 => {
            let ids = vec![ImageId(0); 256];
            assert!(
                link.client
                    .request(Request::GetById(ids), true, now)
                    .is_err()
            );
        }
        7 if link.client.outstanding() == 0 => assert!(link.client.cancel(now).is_err()),
        8 if link.server.deadline().is_none_or(|deadline| deadline > now) => {
            link.server.handle_timeout(now);
        }
        _ => {}
    }
    assert_eq!(
        format!("{:?}", link.server),
        server,
        "misuse changed something"
    );
    assert_eq!(
        format!("{:?}", link.client),
        client,
        "misuse changed something"
    );
}
