//! Simulated clients: they fetch missing images, watch, or cancel requests, and reconnect when a connection is
//! lost.

use std::collections::BTreeSet;

use jtp_core::client::{HaveSet, Request, Retry, Transfer};
use std::time::Duration;

use jtp_core::{ImageId, Time};
use jtp_kit::Rng;

use super::Counts;
use super::connection::{ClientEvent, Connection};
use super::store::SimStore;

#[derive(Debug)]
enum Job {
    /// Runs several transfers.
    Fetch {
        transfer: Transfer,
        received: BTreeSet<ImageId>,
        /// The IDs of a transfer by ID, else empty.
        requested: Vec<ImageId>,
        left: u32,
    },
    /// Lists the catalog and follows it. // N5
    Watch {
        known: BTreeSet<ImageId>,
        listed: bool,
    },
    /// Makes requests and cancels them.
    Cancel { left: u32, at: Option<Time> },
}

#[derive(Debug)]
pub(crate) struct SimClient {
    connection: Option<Connection>,
    pipeline: bool,
    retry: Retry,
    next_try: Time,
    job: Job,
}

impl SimClient {
    pub(crate) fn new(rng: &mut Rng) -> SimClient {
        let job = match rng.below(4) {
            0 | 1 => Job::Fetch {
                transfer: Transfer::all(),
                received: BTreeSet::new(),
                requested: Vec::new(),
                left: 1 + rng.below(4),
            },
            2 => Job::Watch {
                known: BTreeSet::new(),
                listed: false,
            },
            _ => Job::Cancel {
                left: 2 + rng.below(6),
                at: None,
            },
        };
        SimClient {
            connection: None,
            pipeline: matches!(job, Job::Cancel { .. }) || rng.one_in(2),
            retry: Retry::new(3),
            next_try: Time::ZERO + Duration::from_millis(rng.below(3_000)),
            job,
        }
    }

    /// Whether the client has finished its job.
    pub(crate) fn is_done(&self, store: &SimStore) -> bool {
        match &self.job {
            Job::Fetch { left, .. } | Job::Cancel { left, .. } => *left == 0,
            Job::Watch { listed, .. } => {
                let at = self
                    .connection
                    .as_ref()
                    .and_then(|connection| connection.view.watch_from);
                *listed && at == Some(store.history.len())
            }
        }
    }

    pub(crate) fn next_wakeup(&self, now: Time) -> Option<Time> {
        let own = match &self.job {
            Job::Cancel { at, .. } => *at,
            _ => None,
        };
        let connection = match &self.connection {
            Some(connection) => connection.next_wakeup(now),
            None => Some(self.next_try),
        };
        own.into_iter()
            .chain(connection)
            .filter(|at| *at > now)
            .min()
    }

    // Faults. Each returns whether there was a connection to apply it to.

    pub(crate) fn reset(&mut self, now: Time) -> bool {
        self.connection
            .as_mut()
            .map(|connection| connection.reset(now))
            .is_some()
    }

    pub(crate) fn stall(&mut self, now: Time, rng: &mut Rng) -> bool {
        let (time, both) = (Duration::from_millis(rng.below(70_000)), rng.one_in(2));
        self.connection
            .as_mut()
            .map(|connection| connection.stall(time, both, now))
            .is_some()
    }

    pub(crate) fn server_shutdown(&mut self, now: Time) {
        if let Some(connection) = &mut self.connection {
            connection.shut_down(now);
        }
    }

    /// Does everything that can happen now; returns whether anything did.
    pub(crate) fn advance(
        &mut self,
        store: &SimStore,
        now: Time,
        stable: bool,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> bool {
        let Some(connection) = &mut self.connection else {
            if now < self.next_try || self.is_done(store) {
                return false;
            }
            counts.connections += 1;
            self.connection = Some(Connection::new(self.pipeline, rng, now));
            self.start_requests(now, rng);
            return true;
        };
        let mut moved = false;
        if let Some(events) = connection.advance(store, now, rng, counts) {
            moved = true;
            for event in events {
                self.handle_event(event, now, rng, stable, counts);
            }
        }
        moved |= self.cancel_if_due(now);
        if self.connection.as_ref().is_some_and(Connection::is_lost) {
            self.handle_disconnect(now);
            return true;
        }
        moved
    }

    fn start_requests(&mut self, now: Time, rng: &mut Rng) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        match &mut self.job {
            Job::Fetch { transfer, .. } => {
                while let Some(request) = transfer.next_request() {
                    connection.request(request, now);
                }
            }
            Job::Watch { listed, .. } => {
                *listed = false;
                connection.request(Request::List, now);
                connection.request(Request::Watch, now);
            }
            Job::Cancel { left: 0, .. } => {}
            Job::Cancel { at, .. } => {
                let request = match rng.below(4) {
                    0 => Request::List,
                    1 => Request::Watch,
                    2 => Request::Batch(HaveSet::new()),
                    _ => Request::ListAndGet,
                };
                connection.request(request, now);
                *at = Some(now + Duration::from_millis(rng.below(800)));
            }
        }
    }

    fn cancel_if_due(&mut self, now: Time) -> bool {
        let (Some(connection), Job::Cancel { at, .. }) = (&mut self.connection, &mut self.job)
        else {
            return false;
        };
        if at.is_none_or(|at| at > now) {
            return false;
        }
        *at = None;
        connection.cancel(now);
        true
    }

    fn handle_event(
        &mut self,
        event: ClientEvent,
        now: Time,
        rng: &mut Rng,
        stable: bool,
        counts: &mut Counts,
    ) {
        self.retry.progress();
        let Some(connection) = &mut self.connection else {
            return;
        };
        match (&mut self.job, event) {
            (
                Job::Fetch {
                    transfer, received, ..
                },
                ClientEvent::Image(id),
            ) => {
                assert!(transfer.image_end(id, true));
                received.insert(id);
            }
            (
                Job::Fetch {
                    transfer,
                    received,
                    requested,
                    left,
                },
                ClientEvent::End(snapshot),
            ) => {
                transfer.response_end();
                if !transfer.is_done() {
                    self.start_requests(now, rng);
                    return;
                }
                let is_missing = |id: &&ImageId| !received.contains(id);
                if requested.is_empty() {
                    let missing = snapshot.ids.iter().find(is_missing);
                    assert!(missing.is_none(), "R6: {missing:?} was not received");
                } else {
                    let missing = requested.iter().filter(is_missing);
                    assert!(
                        missing.eq(transfer.absent()),
                        "S7: an image is neither received nor absent"
                    );
                }
                *left -= 1;
                // The next transfer: new images, all images again, or given IDs.
                requested.clear();
                *transfer = match rng.below(3) {
                    0 => {
                        Transfer::missing(HaveSet::try_from_iter(received.iter().copied()).unwrap())
                    }
                    1 => {
                        received.clear();
                        Transfer::all()
                    }
                    _ => {
                        received.retain(|_| rng.one_in(2));
                        let unreceived = snapshot.ids.iter().filter(|id| !received.contains(id));
                        *requested = unreceived.copied().collect();
                        requested.push(ImageId(7));
                        Transfer::of(requested.iter().copied())
                    }
                };
                if *left == 0 || rng.one_in(3) {
                    counts.half_closes += u64::from(connection.half_close(now));
                } else {
                    self.start_requests(now, rng);
                }
            }
            (Job::Watch { known, .. }, ClientEvent::Entry(id)) => {
                known.insert(id);
            }
            (Job::Watch { known, .. }, ClientEvent::NewImage(id)) => {
                known.insert(id);
                if !stable && rng.one_in(30) {
                    // A slow watcher.
                    connection.stall(Duration::from_millis(rng.below(40_000)), false, now);
                }
            }
            (Job::Watch { listed, .. }, ClientEvent::End(_)) => *listed = true,
            (Job::Cancel { left, at }, ClientEvent::Cancelled) => {
                *left = left.saturating_sub(1);
                *at = None;
                self.start_requests(now, rng);
            }
            (Job::Cancel { .. }, _) => {}
            (job, event) => panic!("{event:?} for {job:?}"),
        }
    }

    fn handle_disconnect(&mut self, now: Time) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        if connection.client.fault().is_none() && !connection.was_reset() {
            // S2 S16: the server closed in order, so every request was answered.
            assert!(
                connection.is_answered(),
                "closed with unanswered requests: {:?}",
                connection.close_reason()
            );
        }
        if let Job::Fetch { transfer, .. } = &mut self.job {
            transfer.connection_lost();
        }
        if let Job::Cancel { at, .. } = &mut self.job {
            *at = None;
        }
        let pause = self.retry.pause(false).unwrap_or_else(|| {
            // The retries are used up; the user starts again.
            self.retry = Retry::new(3);
            std::time::Duration::from_secs(5)
        });
        self.next_try = now + pause;
    }

    pub(crate) fn check(&mut self, store: &SimStore) {
        match &self.job {
            Job::Watch { known, .. } => {
                let missing = store.current.ids.iter().find(|id| !known.contains(id));
                assert!(missing.is_none(), "N5: {missing:?} was never announced");
            }
            Job::Fetch { .. } | Job::Cancel { .. } => {
                if let Some(connection) = &self.connection {
                    assert!(connection.is_answered() || connection.is_lost(), "S1");
                }
            }
        }
    }
}
