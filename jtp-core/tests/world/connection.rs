//! A connection: both state machines, the network between them, and the server's application.

use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

use jtp_core::client::{ClientConfig, ClientConnection, Event, Request, ResponseKind};
use jtp_core::server::{CloseReason, ServerConfig, ServerConnection};
use jtp_core::wire::response::ErrorCode;
use jtp_core::{Image, ImageId, Time};
use jtp_kit::Rng;

use super::Counts;
use super::network::Pipe;
use super::store::{SimStore, Snapshot};

/// An event of the client connection, checked and reduced to what [`SimClient`](super::client::SimClient) needs.
#[derive(Debug)]
pub(crate) enum ClientEvent {
    /// A catalog entry.
    Entry(ImageId),
    /// A complete image with the right bytes.
    Image(ImageId),
    NewImage(ImageId),
    /// A response, computed from this snapshot, is complete.
    End(Rc<Snapshot>),
    Cancelled,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: ClientConnection,
    server: ServerConnection,
    up: Pipe,
    down: Pipe,
    input: Vec<u8>,
    /// When the application decides on the request.
    decision_at: Option<Time>,
    /// When the current body read completes, and its length.
    load: Option<(Time, u32)>,
    generation: usize,
    was_reset: bool,
    /// Where in the history a WATCH directly after the current LIST starts. // N5
    watch_start: Option<usize>,
    pub(crate) view: ClientView,
}

/// The expected events: what the client requested, and how far it was answered.
#[derive(Debug, Default)]
pub(crate) struct ClientView {
    requested: VecDeque<ResponseKind>,
    /// The snapshot of each accepted request.
    snapshots: VecDeque<Rc<Snapshot>>,
    entries: usize,
    body: Vec<u8>,
    /// CANCELs not answered yet.
    cancels: usize,
    /// Position in the history of the next event of the WATCH. // N1 N5
    pub(crate) watch_from: Option<usize>,
}

impl Connection {
    pub(crate) fn new(pipeline: bool, rng: &mut Rng, now: Time) -> Connection {
        Connection {
            client: ClientConnection::new(ClientConfig::new().with_pipeline(pipeline), now),
            server: ServerConnection::new(ServerConfig::new(), now),
            up: Pipe::new(rng, now),
            down: Pipe::new(rng, now),
            input: Vec::new(),
            decision_at: None,
            load: None,
            generation: 0,
            was_reset: false,
            watch_start: None,
            view: ClientView::default(),
        }
    }

    pub(crate) fn request(&mut self, request: Request, now: Time) {
        let kind = request.kind();
        if self.client.request(request, true, now).is_ok() {
            self.view.requested.push_back(kind);
        }
    }

    pub(crate) fn cancel(&mut self, now: Time) {
        if self.client.cancel(now).is_ok() {
            self.view.cancels += 1;
        }
    }

    /// Whether every request but WATCH was answered. // S1
    pub(crate) fn is_answered(&self) -> bool {
        let ClientView {
            requested, cancels, ..
        } = &self.view;
        requested.iter().all(|kind| *kind == ResponseKind::Watch) && *cancels == 0
    }

    /// Whether the client can receive nothing more on this connection.
    pub(crate) fn is_lost(&self) -> bool {
        self.client.fault().is_some() || self.down.is_end_reported() || self.was_reset
    }

    pub(crate) fn reset(&mut self, now: Time) {
        self.was_reset = true;
        let _ = self.client.receive_eof(now);
    }

    pub(crate) fn was_reset(&self) -> bool {
        self.was_reset
    }

    pub(crate) fn stall(&mut self, time: Duration, both: bool, now: Time) {
        self.down.stalled = self.down.stalled.max(now + time);
        if both {
            self.up.stalled = self.up.stalled.max(now + time);
        }
    }

    pub(crate) fn shut_down(&mut self, now: Time) {
        self.server.shutdown(now);
    }

    /// Closes the client's side if all output was sent. // T5
    pub(crate) fn half_close(&mut self, now: Time) -> bool {
        let done = self.client.transmit().is_empty() && !self.up.is_finished();
        if done {
            self.up.finish(now);
        }
        done
    }

    /// When this connection has something to do next.
    pub(crate) fn next_wakeup(&self, now: Time) -> Option<Time> {
        if self.was_reset {
            return None;
        }
        let load = self.load.map(|(at, _)| at);
        let deadlines = [self.server.deadline(), self.client.deadline()];
        let arrivals = [
            self.up.next_arrival(),
            self.down.next_arrival(),
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
        store: &SimStore,
        now: Time,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> Option<Vec<ClientEvent>> {
        if self.was_reset {
            return None;
        }
        let mut moved = false;
        let output = self.client.transmit();
        let count = output.len().min(self.up.room());
        if count > 0 && !self.up.is_finished() {
            self.up.send(&output[..count], now);
            self.client.transmitted(count, now).unwrap();
            moved = true;
        }
        moved |= self.advance_server(store, now, rng, counts);
        let mut events = Vec::new();
        moved |= self.client_reads(store, now, rng, counts, &mut events);
        if self.client.deadline().is_some_and(|at| at <= now) {
            counts.timeouts += 1;
            moved |= self.client.handle_timeout(now).is_err();
        }
        moved.then_some(events)
    }

    fn advance_server(
        &mut self,
        store: &SimStore,
        now: Time,
        rng: &mut Rng,
        counts: &mut Counts,
    ) -> bool {
        let mut moved = false;
        if self.server.deadline().is_some_and(|at| at <= now) {
            self.server.handle_timeout(now);
            counts.timeouts += 1;
            moved = true;
        }
        if self.server.is_closed() {
            let open = !self.down.is_finished();
            self.down.finish(now);
            return moved | open;
        }
        if self.server.wants_read(&self.input) {
            let piece = self.up.take(*rng.pick(&[1, 500, 9_000, 1 << 20]), now);
            moved |= !piece.is_empty();
            self.input.extend(piece);
            if self.up.take_end(now) {
                self.server.receive_eof();
                moved = true;
            }
        }
        if self.server.is_watching() && self.generation != store.current.events {
            self.generation = store.current.events;
            self.server.catalog_changed(store.catalog(), now);
            moved = true;
        }
        let received = self.server.receive(&self.input, now);
        self.input.drain(..received.used);
        moved |= received.used > 0;
        if received.event.is_some() {
            self.decision_at = Some(now + Duration::from_millis(rng.below(20)));
        }
        if self.decision_at.is_some_and(|at| at <= now) {
            self.decision_at = None;
            self.decide(store, now, rng, counts);
            moved = true;
        }
        moved |= self.server_loads(store, now, rng);
        moved |= self.server_sends(store, now);
        if self.server.wants_finish() {
            self.down.finish(now);
            self.server.finished(now).unwrap();
            moved = true;
        }
        moved
    }

    fn decide(&mut self, store: &SimStore, now: Time, rng: &mut Rng, counts: &mut Counts) {
        if rng.one_in(150) {
            counts.refusals += 1;
            self.server
                .refuse(ErrorCode::RateLimited, "later", now)
                .unwrap();
            return;
        }
        // Responses come in the order of the requests, so this is the first without a snapshot.
        let watch = self.watch_start.take();
        let kind = self.view.requested.get(self.view.snapshots.len()).copied();
        if kind == Some(ResponseKind::List) && self.input.starts_with(&[4, 0]) {
            self.watch_start = Some(store.current.events); // N5
        }
        if kind == Some(ResponseKind::Watch) {
            self.view.watch_from = Some(watch.unwrap_or(store.current.events));
        }
        self.view.snapshots.push_back(Rc::clone(&store.current));
        self.server.accept(store.catalog(), now).unwrap();
        self.generation = usize::MAX;
    }

    fn server_loads(&mut self, store: &SimStore, now: Time, rng: &mut Rng) -> bool {
        let Some(wanted) = self.server.wants_body() else {
            self.load = None;
            return false;
        };
        let rest = wanted.remaining();
        match self.load {
            None => {
                let count = rest.min(*rng.pick(&[100, 60_000]));
                self.load = Some((now + Duration::from_micros(rng.below(3_000)), count));
                true
            }
            Some((at, count)) if at <= now => {
                self.load = None;
                // S13: checked before every piece, so also before the last byte is sent.
                if store.is_on_disk(wanted.image().id) {
                    self.server.body_loaded(count, now).unwrap();
                } else {
                    self.server.body_failed("the file is gone", now).unwrap();
                }
                true
            }
            Some(_) => false,
        }
    }

    fn server_sends(&mut self, store: &SimStore, now: Time) -> bool {
        let output = self.server.transmit();
        let mut bytes = output.bytes.to_vec();
        if let Some(span) = output.body {
            bytes.extend_from_slice(&store.images[&span.image.id][span.range()]);
        }
        bytes.truncate(self.down.room());
        if bytes.is_empty() {
            return false;
        }
        self.down.send(&bytes, now);
        self.server.transmitted(bytes.len(), now).unwrap();
        true
    }

    fn client_reads(
        &mut self,
        store: &SimStore,
        now: Time,
        rng: &mut Rng,
        counts: &mut Counts,
        events: &mut Vec<ClientEvent>,
    ) -> bool {
        let piece = self.down.take(*rng.pick(&[1, 500, 9_000, 1 << 20]), now);
        let mut moved = !piece.is_empty();
        let mut rest = &piece[..];
        while let Ok(received) = self.client.receive(rest, now) {
            rest = &rest[received.used..];
            let Some(event) = received.event else { break };
            events.extend(self.view.check(store, event, counts));
        }
        if self.down.take_end(now) {
            let _ = self.client.receive_eof(now);
            moved = true;
        }
        if (self.client.fault().is_some() || self.down.is_end_reported()) && !self.up.is_finished()
        {
            self.up.finish(now);
            moved = true;
        }
        if let Some(jtp_core::client::ClientError::Peer(error)) = self.client.fault() {
            panic!("the client blames a correct server: {error}");
        }
        moved
    }

    /// Why the server ended the connection.
    pub(crate) fn close_reason(&self) -> Option<CloseReason> {
        self.server.close_reason()
    }
}

impl ClientView {
    /// Checks that the event is an expected one.
    fn check(
        &mut self,
        store: &SimStore,
        event: Event<'_>,
        counts: &mut Counts,
    ) -> Option<ClientEvent> {
        match event {
            Event::Begin { kind, count } => {
                assert_eq!(
                    self.requested.front(),
                    Some(&kind),
                    "S1: response out of order"
                );
                let max = self.snapshots[0].ids.len();
                assert!(kind == ResponseKind::GetById || count as usize <= max);
                assert!(
                    kind == ResponseKind::Batch
                        || kind == ResponseKind::GetById
                        || count as usize == max
                );
                self.entries = 0;
                None
            }
            Event::Entry(entry) => {
                // S3 S5: the entries of the snapshot, in catalog order.
                assert_eq!(self.snapshots[0].ids[self.entries], entry.id);
                self.entries += 1;
                Some(ClientEvent::Entry(entry.id))
            }
            Event::Image(Image { id, .. }) => {
                assert!(self.snapshots[0].ids.contains(&id), "S3");
                self.body.clear();
                None
            }
            Event::Data(data) => {
                self.body.extend_from_slice(data);
                None
            }
            Event::ImageEnd { image, verdict } => {
                assert_eq!(verdict.map(|verified| verified.image()), Ok(image), "S13");
                assert!(self.body == store.images[&image.id], "R2: wrong bytes");
                counts.images += 1;
                Some(ClientEvent::Image(image.id))
            }
            Event::NewImage(entry) => {
                // N1 N2: each event once, in order, from the start of the WATCH.
                let at = self.watch_from.as_mut().expect("event before a WATCH");
                assert_eq!(store.history[*at], entry.id, "N2");
                *at += 1;
                counts.events += 1;
                Some(ClientEvent::NewImage(entry.id))
            }
            Event::End { kind } => {
                assert_eq!(self.requested.pop_front(), Some(kind));
                counts.answers += 1;
                self.snapshots.pop_front().map(ClientEvent::End)
            }
            Event::Cancelled { kind } => {
                assert!(self.cancels == 1, "C1: JTPC without CANCEL, or twice");
                self.cancels = 0;
                // The response may have been complete already. // C3
                if self.requested.front() == Some(&kind) {
                    self.requested.pop_front();
                    self.snapshots.pop_front();
                }
                counts.cancels += 1;
                Some(ClientEvent::Cancelled)
            }
            other => panic!("{other:?}"),
        }
    }
}
