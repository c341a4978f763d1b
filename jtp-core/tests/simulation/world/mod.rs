//! A server, a network and many clients: bytes arrive late and in pieces, connections stall, break and are reopened,
//! files vanish, the catalog changes, watchers are slow, the server shuts down and restarts. In the end every client
//! finishes its job.

mod client;
mod connection;

use std::collections::BTreeMap;
use std::time::Duration;

use jtp_core::Time;
use jtp_kit::Rng;

use super::store::Store;
use client::SimClient;

/// How often what happened, to check that everything did.
#[derive(Debug)]
pub(crate) struct Counts(BTreeMap<&'static str, u64>);

impl Default for Counts {
    fn default() -> Counts {
        Counts(Counts::KINDS.map(|kind| (kind, 0)).into())
    }
}

impl Counts {
    const KINDS: [&'static str; 13] = [
        "answers",
        "cancels",
        "connections",
        "events",
        "half-closes",
        "images",
        "refusals",
        "resets",
        "restarts",
        "seconds",
        "stalls",
        "timeouts",
        "vanished",
    ];

    fn add(&mut self, kind: &'static str, count: u64) {
        *self.0.get_mut(kind).expect("one of the kinds") += count;
    }

    fn note(&mut self, kind: &'static str, happened: bool) {
        self.add(kind, u64::from(happened));
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.0.values().all(|count| *count > 0)
    }
}

/// Faults are injected for this long; after that every client must finish.
const FAULT_TIME: Duration = Duration::from_secs(90);

/// Every client must be done by this time. Detecting a dead connection takes the longest.
const END: Duration = Duration::from_secs(90 + 600);

pub(crate) fn run(rng: &mut Rng, counts: &mut Counts) {
    let changes = rng.below(30);
    let mut store = Store::new(changes, rng);
    let mut clients: Vec<SimClient> = (0..3 + rng.below(9)).map(|_| SimClient::new(rng)).collect();
    let (mut now, mut next_change) = (Time::ZERO, Time::ZERO);
    let fault_end = Time::ZERO + FAULT_TIME;
    let mut stable = false;
    loop {
        if now >= fault_end && !std::mem::replace(&mut stable, true) {
            store.publish();
        }
        if !stable && now >= next_change {
            inject_fault(&mut store, &mut clients, now, rng, counts);
            // Sometimes many changes follow each other closely.
            let longest = *rng.pick(&[20, 200, 3_000]);
            next_change = now + Duration::from_millis(rng.below(longest));
        }
        for client in &mut clients {
            let mut rounds = 0;
            while client.advance(&store, now, stable, rng, counts) {
                rounds += 1;
                assert!(rounds < 1_000_000, "does not become idle: {client:?}");
            }
        }
        let unfinished = clients.iter().find(|client| !client.is_done(&store));
        if stable && unfinished.is_none() {
            break;
        }
        assert!(
            now < Time::ZERO + END,
            "not done before the end: {unfinished:?}"
        );
        let soonest = clients
            .iter()
            .filter_map(|client| client.next_wakeup(now))
            .min();
        let change = (!stable).then_some(next_change);
        let next_time = soonest.into_iter().chain(change).min();
        now = next_time.unwrap_or_else(|| panic!("no future event, but not done: {unfinished:?}"));
    }
    clients.iter().for_each(SimClient::check);
    drop(clients);
    store.check_memory();
    counts.add("seconds", now.elapsed().as_secs());
}

fn inject_fault(
    store: &mut Store,
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
        4 => counts.note("vanished", store.lose(rng)),
        // The catalog catches up with the files.
        5 => store.publish(),
        6 if rng.one_in(3) => {
            counts.note("restarts", true);
            clients
                .iter_mut()
                .for_each(|client| client.server_shutdown(now));
        }
        _ => {
            let at = rng.below(clients.len());
            match rng.below(3) {
                0 => counts.note("resets", clients[at].reset(now)),
                1 => counts.note("stalls", clients[at].stall(now, rng)),
                _ => {}
            }
        }
    }
}
