//! The simulated world: its clock, the faults that it injects, and the final checks.

mod client;
mod connection;
mod network;
mod store;

use std::ops::AddAssign;
use std::time::Duration;

use jtp_core::Time;
use jtp_kit::Rng;

use client::SimClient;
use store::SimStore;

/// Counts of what happened, to check that every kind of event occurred.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Counts {
    pub(crate) connections: u64,
    pub(crate) images: u64,
    pub(crate) answers: u64,
    pub(crate) cancels: u64,
    pub(crate) events: u64,
    pub(crate) resets: u64,
    pub(crate) stalls: u64,
    pub(crate) vanished: u64,
    pub(crate) timeouts: u64,
    pub(crate) restarts: u64,
    pub(crate) half_closes: u64,
    pub(crate) refusals: u64,
    /// Simulated time.
    pub(crate) seconds: u64,
}

impl Counts {
    /// In the order of the fields.
    fn numbers(&mut self) -> [&mut u64; 13] {
        let Counts {
            connections,
            images,
            answers,
            cancels,
            events,
            resets,
            stalls,
            vanished,
            timeouts,
            restarts,
            half_closes,
            refusals,
            seconds,
        } = self;
        [
            connections,
            images,
            answers,
            cancels,
            events,
            resets,
            stalls,
            vanished,
            timeouts,
            restarts,
            half_closes,
            refusals,
            seconds,
        ]
    }

    pub(crate) fn all_above_zero(mut self) -> bool {
        self.numbers().iter().all(|count| **count > 0)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, mut other: Counts) {
        for (count, more) in self.numbers().into_iter().zip(other.numbers()) {
            *count += *more;
        }
    }
}

/// Faults are injected for this long; after that every client must finish.
const FAULT_TIME: Duration = Duration::from_secs(90);

/// Every client must be done by this time. Detecting a dead connection takes the longest.
const END: Duration = Duration::from_secs(90 + 600);

pub(crate) fn run(seed: u64) -> Counts {
    let mut rng = Rng::new(seed);
    let mut counts = Counts::default();
    let mut store = SimStore::new(&mut rng);
    let mut clients: Vec<SimClient> = (0..3 + rng.below(9))
        .map(|_| SimClient::new(&mut rng))
        .collect();
    let (mut now, mut next_change) = (Time::ZERO, Time::ZERO);
    let fault_end = Time::ZERO + FAULT_TIME;
    let mut stable = false;
    loop {
        if now >= fault_end && !std::mem::replace(&mut stable, true) {
            store.publish();
        }
        if !stable && now >= next_change {
            inject_fault(&mut store, &mut clients, now, &mut rng, &mut counts);
            // Sometimes many changes follow each other closely.
            let longest = *rng.pick(&[20, 200, 3_000]);
            next_change = now + Duration::from_millis(rng.below(longest));
        }
        for client in &mut clients {
            let mut rounds = 0;
            while client.advance(&store, now, stable, &mut rng, &mut counts) {
                rounds += 1;
                assert!(rounds < 1_000_000, "does not become idle: {client:?}");
            }
        }
        if stable && clients.iter().all(|client| client.is_done(&store)) {
            break;
        }
        assert!(
            now < Time::ZERO + END,
            "not done before the end: {:?}",
            clients.iter().find(|client| !client.is_done(&store))
        );
        let soonest = clients
            .iter()
            .filter_map(|client| client.next_wakeup(now))
            .min();
        let change = (!stable).then_some(next_change);
        let next_time = soonest.into_iter().chain(change).min();
        let unfinished = || clients.iter().find(|client| !client.is_done(&store));
        now = next_time.unwrap_or_else(|| {
            panic!(
                "no future event, but a client is not done: {:?}",
                unfinished()
            )
        });
    }
    for client in &mut clients {
        client.check(&store);
    }
    drop(clients);
    store.check_memory();
    counts.seconds = now.elapsed().as_secs();
    counts
}

fn inject_fault(
    store: &mut SimStore,
    clients: &mut [SimClient],
    now: Time,
    rng: &mut Rng,
    counts: &mut Counts,
) {
    match rng.below(10) {
        0..4 => {
            for _ in 0..rng.below(4) {
                store.change(rng);
            }
            store.publish();
        }
        4 => counts.vanished += u64::from(store.remove_file(rng)),
        // The catalog catches up with the files.
        5 => store.publish(),
        6 if rng.one_in(3) => {
            counts.restarts += 1;
            clients
                .iter_mut()
                .for_each(|client| client.server_shutdown(now));
        }
        _ => {
            let at = rng.below(u32::try_from(clients.len()).unwrap()) as usize;
            match rng.below(3) {
                0 => counts.resets += u64::from(clients[at].reset(now)),
                1 => counts.stalls += u64::from(clients[at].stall(now, rng)),
                _ => {}
            }
        }
    }
}
