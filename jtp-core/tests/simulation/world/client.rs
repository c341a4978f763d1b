//! Simulated clients: they fetch missing images, watch, or cancel requests, and reconnect when a connection is
//! lost.

use std::collections::BTreeSet;

use jtp_core::client::{HaveSet, Request, Retry, Transfer};
use std::time::Duration;

use jtp_core::{ImageId, Time};
use jtp_kit::Rng;
use jtp_kit::model::Event;

use super::super::link::Link;
use super::super::store::Store;
use super::Counts;
use super::connection::Connection;

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
    pub(crate) fn is_done(&self, store: &Store) -> bool {
        match &self.job {
            Job::Fetch { left, .. } | Job::Cancel { left, .. } => *left == 0,
            // N1 N5: every image is listed or announced.
            Job::Watch { known, listed } => {
                let ids = store
                    .current()
                    .entries
                    .iter()
                    .map(|entry| ImageId(entry.image.id));
                *listed && ids.into_iter().all(|id| known.contains(&id))
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
        let connection = self.connection.as_mut();
        connection
            .map(|connection| connection.link.reset(now))
            .is_some()
    }

    pub(crate) fn stall(&mut self, now: Time, rng: &mut Rng) -> bool {
        let (time, both) = (Duration::from_millis(rng.below(70_000)), rng.one_in(2));
        let connection = self.connection.as_mut();
        connection
            .map(|connection| connection.stall(time, both, now))
            .is_some()
    }

    pub(crate) fn server_shutdown(&mut self, now: Time) {
        if let Some(connection) = &mut self.connection {
            connection.link.server.shut_down(now);
        }
    }

    /// Does everything that can happen now; returns whether anything did.
    pub(crate) fn advance(
        &mut self,
        store: &Store,
        now: Time,
        stable: bool,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> bool {
        let Some(connection) = &mut self.connection else {
            if now < self.next_try || self.is_done(store) {
                return false;
            }
            counts.note("connections", true);
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
                    connection.request(&request, now);
                }
            }
            Job::Watch { listed, .. } => {
                *listed = false;
                connection.request(&Request::List, now);
                connection.request(&Request::Watch, now);
            }
            Job::Cancel { left: 0, .. } => {}
            Job::Cancel { at, .. } => {
                let request = match rng.below(4) {
                    0 => Request::List,
                    1 => Request::Watch,
                    2 => Request::Batch(HaveSet::new()),
                    _ => Request::ListAndGet,
                };
                connection.request(&request, now);
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
        connection.link.client.cancel(now);
        true
    }

    fn handle_event(
        &mut self,
        event: Event,
        now: Time,
        rng: &mut Rng,
        stable: bool,
        counts: &mut Counts,
    ) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        let snapshot = match &event {
            Event::End { .. } => connection.snapshots.pop_front(),
            // Unless the response was complete already. // C3
            Event::Cancelled { .. } if !connection.snapshots.is_empty() => {
                connection.snapshots.pop_front()
            }
            _ => None,
        };
        match (&mut self.job, event) {
            (_, Event::Begin { .. } | Event::Image(_)) => return,
            (
                Job::Fetch {
                    transfer, received, ..
                },
                Event::Body { image, .. },
            ) => {
                counts.note("images", true);
                let id = ImageId(image.id);
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
                Event::End { .. },
            ) => {
                counts.note("answers", true);
                transfer.response_end();
                if !transfer.is_done() {
                    self.retry.progress();
                    self.start_requests(now, rng);
                    return;
                }
                let snapshot = snapshot.expect("an accepted request");
                let ids = || snapshot.entries.iter().map(|entry| ImageId(entry.image.id));
                let is_missing = |id: &ImageId| !received.contains(id);
                if requested.is_empty() {
                    let missing = ids().find(is_missing);
                    assert!(missing.is_none(), "R6: {missing:?} was not received");
                } else {
                    let missing = requested.iter().filter(|id| is_missing(id));
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
                        requested.extend(ids().filter(|id| !received.contains(id)));
                        requested.push(ImageId(7));
                        Transfer::of(requested.iter().copied())
                    }
                };
                if *left == 0 || rng.one_in(3) {
                    counts.note("half-closes", connection.link.half_close(now));
                } else {
                    self.start_requests(now, rng);
                }
            }
            (Job::Watch { known, .. }, Event::Entry(entry)) => {
                known.insert(ImageId(entry.image.id));
            }
            (Job::Watch { known, .. }, Event::NewImage(entry)) => {
                counts.note("events", true);
                known.insert(ImageId(entry.image.id));
                if !stable && rng.one_in(30) {
                    // A slow watcher.
                    connection.stall(Duration::from_millis(rng.below(40_000)), false, now);
                }
            }
            (Job::Watch { listed, .. }, Event::End { .. }) => *listed = true,
            (Job::Cancel { left, at }, Event::Cancelled { .. }) => {
                counts.note("cancels", true);
                *left = left.saturating_sub(1);
                *at = None;
                self.start_requests(now, rng);
            }
            (Job::Cancel { .. }, _) => {}
            (job, event) => panic!("{event:?} for {job:?}"),
        }
        self.retry.progress();
    }

    fn handle_disconnect(&mut self, now: Time) {
        let Some(connection) = self.connection.take() else {
            return;
        };
        let Link {
            client,
            server,
            was_reset,
            ..
        } = &connection.link;
        if client.machine.fault().is_none() && !was_reset {
            // S2 S16: the server closed in order, so every request was answered.
            let reason = server.machine.close_reason();
            assert!(
                !client.model.is_due(),
                "closed with unanswered requests: {reason:?}"
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

    pub(crate) fn check(&self) {
        if let (Job::Fetch { .. } | Job::Cancel { .. }, Some(connection)) =
            (&self.job, &self.connection)
        {
            assert!(
                !connection.link.client.model.is_due() || connection.is_lost(),
                "S1"
            );
        }
    }
}
