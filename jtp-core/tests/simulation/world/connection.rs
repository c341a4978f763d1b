//! A connection over a network, and the server's application.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use jtp_core::Time;
use jtp_core::client::{ClientConfig, Request};
use jtp_core::server::ServerConfig;
use jtp_core::wire::response::ErrorCode;
use jtp_kit::Rng;
use jtp_kit::model::{Event, Snapshot};

use super::super::client::Client;
use super::super::link::Link;
use super::super::network::Pipe;
use super::super::server::Server;
use super::super::store::Store;
use super::Counts;

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) link: Link,
    /// When the application decides on the request.
    decision_at: Option<Time>,
    /// When the current body read completes, and its length.
    load: Option<(Time, u32)>,
    /// The events that were given to the server.
    announced: usize,
    /// The snapshot of each accepted request that is not answered. // S3
    pub(crate) snapshots: VecDeque<Rc<Snapshot>>,
}

impl Connection {
    pub(crate) fn new(pipeline: bool, rng: &mut Rng, now: Time) -> Connection {
        let config = ClientConfig::new().with_pipeline(pipeline);
        let server = Server::new(ServerConfig::new(), now);
        let (up, down) = (Pipe::slow(rng), Pipe::slow(rng));
        Connection {
            link: Link::new(Client::new(config, now), server, up, down),
            decision_at: None,
            load: None,
            announced: usize::MAX,
            snapshots: VecDeque::new(),
        }
    }

    pub(crate) fn request(&mut self, request: &Request, now: Time) {
        self.link.client.request(request, true, now);
    }

    /// Whether the client can receive nothing more on this connection.
    pub(crate) fn is_lost(&self) -> bool {
        let link = &self.link;
        link.client.machine.fault().is_some() || link.down.is_end_reported() || link.was_reset
    }

    pub(crate) fn stall(&mut self, time: Duration, both: bool, now: Time) {
        let Link { up, down, .. } = &mut self.link;
        down.stalled = down.stalled.max(now + time);
        if both {
            up.stalled = up.stalled.max(now + time);
        }
    }

    /// When this connection has something to do next.
    pub(crate) fn next_wakeup(&self, now: Time) -> Option<Time> {
        let link = &self.link;
        if link.was_reset {
            return None;
        }
        let load = self.load.map(|(at, _)| at);
        let deadlines = [
            link.server.machine.deadline(),
            link.client.machine.deadline(),
        ];
        let arrivals = [
            link.up.next_arrival(),
            link.down.next_arrival(),
            self.decision_at,
            load,
        ];
        let all = arrivals.into_iter().chain(deadlines).flatten();
        // Bytes that arrived but cannot be read yet wait for another event.
        all.filter(|at| *at > now).min()
    }

    /// Does everything that can happen now. Returns the client's events, or `None` if nothing happened.
    pub(crate) fn advance(
        &mut self,
        store: &Store,
        now: Time,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Option<Vec<Event>> {
        if self.link.was_reset {
            return None;
        }
        let mut moved = self.link.client_sends(usize::MAX, now);
        moved |= self.advance_server(store, now, rng, counts);
        let (has_read, events) = self
            .link
            .client_reads(*rng.pick(&[1, 500, 9_000, 1 << 20]), now);
        moved |= has_read;
        if self
            .link
            .client
            .machine
            .deadline()
            .is_some_and(|at| at <= now)
        {
            counts.note("timeouts", true);
            moved |= self.link.client.advance_time(now);
        }
        moved.then_some(events)
    }

    fn advance_server(
        &mut self,
        store: &Store,
        now: Time,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> bool {
        let link = &mut self.link;
        let mut moved = false;
        if link.server.machine.deadline().is_some_and(|at| at <= now) {
            link.server.advance_time(now);
            counts.note("timeouts", true);
            moved = true;
        }
        moved |= link.server_reads(*rng.pick(&[1, 500, 9_000, 1 << 20]), now);
        if link.server.machine.is_watching() && self.announced != store.current().events {
            self.announced = store.current().events;
            link.server.catalog_changed(store, now);
            moved = true;
        }
        if link.server.is_deciding {
            let at = *self
                .decision_at
                .get_or_insert_with(|| now + Duration::from_millis(rng.below(20)));
            if at <= now {
                self.decision_at = None;
                moved = true;
                if rng.one_in(150) {
                    counts.note("refusals", true);
                    link.server.refuse(ErrorCode::RateLimited, now);
                } else {
                    self.snapshots.push_back(Rc::clone(store.current()));
                    link.server.accept(store, now);
                    self.announced = usize::MAX;
                }
            }
        }
        moved |= self.load(store, now, rng);
        moved | self.link.server_sends(usize::MAX, now)
    }

    fn load(&mut self, store: &Store, now: Time, rng: &mut Rng) -> bool {
        let server = &mut self.link.server;
        let Some(wanted) = server.machine.wants_body() else {
            self.load = None;
            return false;
        };
        match self.load {
            None => {
                let count = *rng.pick(&[100, 60_000]);
                self.load = Some((now + Duration::from_micros(rng.below(3_000)), count));
            }
            Some((at, count)) if at <= now => {
                self.load = None;
                // S13: checked before every piece, so also before the last byte is sent.
                if store.is_readable(wanted.image().id) {
                    server.load(store, rng.one_in(8), count, now);
                } else {
                    server.fail_body(now);
                }
            }
            Some(_) => return false,
        }
        true
    }
}
