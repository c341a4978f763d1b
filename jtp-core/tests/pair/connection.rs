//! One connection: the state machines of client and server, and two pipes between them. Its checks are in
//! [`checks`](super::checks).

use std::collections::VecDeque;
use std::time::Duration;

use jtp_core::client::{ClientConfig, ClientConnection, Event, Request};
use jtp_core::server::{BodyRequest, CloseReason, ServerConfig, ServerConnection, Timeout};
use jtp_core::wire::request::RequestKind;
use jtp_core::wire::response::ErrorCode;
use jtp_core::{ImageId, Time};

use super::Rng;
use super::model::Model;
use super::store::Store;

const REFUSALS: [ErrorCode; 3] = [
    ErrorCode::ServerError,
    ErrorCode::RateLimited,
    ErrorCode::NotFound,
];

/// Bytes in flight in one direction.
#[derive(Debug, Default)]
pub(super) struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    pub(super) ended: bool,
    pub(super) end_reported: bool,
}

impl Pipe {
    fn room(&self) -> usize {
        self.capacity - self.bytes.len()
    }
}

/// What was done to the connection and may explain its end.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Causes {
    pub(super) refused: Option<ErrorCode>,
    pub(super) body_failed: bool,
    pub(super) reset: bool,
    pub(super) half_closed: bool,
    pub(super) shutdown: bool,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    pub(crate) model: Model,
    pub(super) up: Pipe,
    down: Pipe,
    /// What the server has read and not consumed.
    pub(super) input: Vec<u8>,
    pub(super) deciding: bool,
    pub(super) causes: Causes,
    pub(super) max_have: u32,
    pub(super) watch: bool,
    pub(super) max_lag: u64,
    /// The client leaves images undecoded.
    undecoded: bool,
    /// The output that the server offered last, with bodies as bytes.
    pub(super) offered: Vec<u8>,
    /// When output was last sent, or the earliest time at which the wait for that began.
    last_sent: Time,
}

impl Connection {
    pub(crate) fn new(rng: &mut Rng<'_>, now: Time) -> Connection {
        let pipeline = rng.one_in(2);
        let max_have = if rng.one_in(8) { 2 } else { 1_000_000 };
        let watch = !rng.one_in(12);
        let max_lag = if rng.one_in(8) { 2 } else { 1_000_000 };
        let server = ServerConfig::new()
            .with_max_have(max_have)
            .with_watch(watch)
            .with_max_watch_lag(max_lag);
        let capacity = [1, 30, 1_000, 70_000][rng.index(4)];
        let undecoded = rng.one_in(3);
        let pipe = || Pipe {
            capacity,
            ..Pipe::default()
        };
        Connection {
            client: ClientConnection::new(ClientConfig::new().with_pipeline(pipeline), now),
            server: ServerConnection::new(server, now),
            model: Model::new(pipeline),
            up: pipe(),
            down: pipe(),
            input: Vec::new(),
            deciding: false,
            causes: Causes::default(),
            max_have,
            watch,
            max_lag,
            undecoded,
            offered: Vec::new(),
            last_sent: now,
        }
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.causes.reset || (self.server.is_closed() && self.down.end_reported)
    }

    pub(crate) fn is_deciding(&self) -> bool {
        self.deciding
    }

    // Calls of the client's application.

    pub(crate) fn request(&mut self, store: &Store, rng: &mut Rng<'_>, now: Time) {
        let ids = |rng: &mut Rng<'_>, limit: u32| -> Vec<ImageId> {
            let count = rng.below(limit);
            (0..count).map(|_| store.some_id(rng)).collect()
        };
        let kind = RequestKind::ALL[rng.index(RequestKind::ALL.len())];
        let mut ids = ids(rng, 8);
        if matches!(kind, RequestKind::Batch { .. }) && rng.one_in(6) {
            // Larger than one output window.
            ids.extend((0..2_500).map(|n| ImageId(1_000 + n)));
        }
        let Some(request) = Request::of(kind, ids) else {
            return; // CANCEL is a call of its own.
        };
        let keep_alive = !rng.one_in(10);
        if self
            .client
            .request(request.clone(), keep_alive, now)
            .is_ok()
        {
            self.model.request(request, keep_alive);
        }
        self.check();
    }

    /// Lists the catalog and follows it. // N5
    pub(crate) fn list_and_watch(&mut self, now: Time) {
        if self.client.request(Request::List, true, now).is_ok() {
            self.model.request(Request::List, true);
            if self.client.request(Request::Watch, true, now).is_ok() {
                self.model.request(Request::Watch, true);
            }
        }
        self.check();
    }

    pub(crate) fn cancel(&mut self, now: Time) {
        if !self.up.ended && self.client.cancel(now).is_ok() {
            self.model.cancel_accepted();
        }
        self.check();
    }

    /// Closes the client's side if all output was sent. // T5
    pub(crate) fn half_close(&mut self) {
        if self.client.transmit().is_empty() && !self.up.ended {
            self.up.ended = true;
            self.causes.half_closed = true;
        }
    }

    /// Resets the connection for both sides.
    pub(crate) fn reset(&mut self, now: Time) {
        self.causes.reset = true;
        self.up.bytes.clear();
        self.down.bytes.clear();
        let _ = self.client.receive_eof(now);
        self.check();
    }

    // The transport. Each returns whether anything moved.

    pub(crate) fn client_sends(&mut self, max: usize, now: Time) -> bool {
        if self.up.ended {
            return false;
        }
        let output = self.client.transmit().to_vec();
        let count = output.len().min(max).min(self.up.room());
        self.model.sent(&output[..count]);
        self.up.bytes.extend(&output[..count]);
        self.client.transmitted(count, now).unwrap();
        if self.client.fault().is_none() {
            assert!(
                self.client.transmit().starts_with(&output[count..]),
                "offered output was withdrawn"
            );
        }
        self.check();
        count > 0
    }

    pub(crate) fn server_reads(&mut self, max: usize, now: Time) -> bool {
        let mut moved = false;
        if self.server.wants_read(&self.input) {
            let count = self.up.bytes.len().min(max);
            self.input.extend(self.up.bytes.drain(..count));
            moved = count > 0;
            if self.up.bytes.is_empty() && self.up.ended && !self.up.end_reported {
                self.up.end_reported = true;
                self.server.receive_eof();
                moved = true;
            }
        }
        self.process_input(now) || moved
    }

    /// Passes the input to the server until it consumes nothing more.
    fn process_input(&mut self, now: Time) -> bool {
        let mut moved = false;
        loop {
            let received = self.server.receive(&self.input, now);
            assert!(received.used <= self.input.len());
            self.input.drain(..received.used);
            if self.server.close_reason().is_none() {
                let server = &self.server;
                self.model
                    .consumed(received.used, || server.upcoming().next().is_none());
            }
            if let Some(head) = received.event {
                assert!(!self.deciding, "two requests at once");
                self.model.head_received(head);
                self.deciding = true;
            } else if received.used == 0 {
                break;
            }
            moved = true;
        }
        let again = self.server.receive(&self.input, now);
        assert!(again.used == 0 && again.event.is_none(), "not idle");
        self.check_server();
        moved
    }

    pub(crate) fn decide(&mut self, store: &Store, rng: &mut Rng<'_>, now: Time) -> bool {
        if !std::mem::take(&mut self.deciding) {
            return false;
        }
        if rng.one_in(60) {
            let code = REFUSALS[rng.index(3)];
            self.server.refuse(code, "no", now).unwrap();
            self.causes.refused = Some(code);
        } else {
            self.model.accept(store.current(), &self.input);
            self.server.accept(&store.catalog(), now).unwrap();
        }
        self.process_input(now);
        true
    }

    /// Loads a piece of a body: the whole rest if the generator returns 0.
    pub(crate) fn server_loads(&mut self, store: &Store, rng: &mut Rng<'_>, now: Time) -> bool {
        let Some(wanted) = self.server.wants_body() else {
            return false;
        };
        let opens = matches!(wanted, BodyRequest::Open { .. });
        // S6: the packet describes the variant that was opened.
        let other = (opens && rng.one_in(4)).then(|| store.other_variant(wanted.image()));
        let image = other.unwrap_or(wanted.image());
        assert_eq!(store.wire(image).len(), image.length as usize);
        if rng.one_in(80) {
            self.server.body_failed("the file is gone", now).unwrap();
            self.causes.body_failed = true;
        } else {
            let rest = image.length - wanted.offset();
            let count = match rng.below(4) {
                0 => rest,
                1 => rest.min(1),
                2 => rest.min(rng.below(200)),
                _ => rest.min(rng.below(60_000)),
            };
            if opens {
                self.model.open(wanted.image(), image);
            }
            match other {
                Some(image) => self.server.body_opened(image, count, now).unwrap(),
                None => self.server.body_loaded(count, now).unwrap(),
            }
        }
        self.process_input(now);
        true
    }

    pub(crate) fn server_sends(&mut self, store: &Store, max: usize, now: Time) -> bool {
        if self.server.is_closed() {
            // Unsent output is dropped.
            let moved = !self.down.ended;
            self.down.ended = true;
            return moved;
        }
        let output = self.server.transmit();
        let mut bytes = output.bytes.to_vec();
        if let Some(span) = output.body {
            bytes.extend_from_slice(&store.wire(span.image)[span.range()]);
        }
        assert_eq!(bytes.len(), output.len());
        assert!(
            bytes.starts_with(&self.offered),
            "offered output was withdrawn"
        );
        let count = bytes.len().min(max).min(self.down.room());
        self.down.bytes.extend(&bytes[..count]);
        if count > 0 {
            self.last_sent = self.last_sent.max(now);
        }
        self.server.transmitted(count, now).unwrap();
        self.offered = bytes.split_off(count);
        self.process_input(now);
        let mut moved = count > 0;
        if self.server.wants_finish() {
            self.server.finished(now).unwrap();
            self.down.ended = true;
            moved = true;
            self.process_input(now);
        }
        moved
    }

    pub(crate) fn client_reads(&mut self, store: &Store, max: usize, now: Time) -> bool {
        if self.causes.reset {
            return false;
        }
        let count = self.down.bytes.len().min(max);
        let piece: Vec<u8> = self.down.bytes.drain(..count).collect();
        let mut rest = &piece[..];
        loop {
            let event = match self.client.receive(rest, now) {
                Ok(received) => {
                    rest = &rest[received.used..];
                    let is_begin = matches!(received.event, Some(Event::Image(_)));
                    let event = received.event.map(|event| self.model.event(store, event));
                    if is_begin && self.undecoded {
                        self.client.leave_undecoded().unwrap();
                    }
                    event
                }
                Err(fault) => {
                    assert_eq!(self.client.fault(), Some(&fault));
                    break;
                }
            };
            if event.is_none() {
                assert!(rest.is_empty(), "no event, but input is left");
                break;
            }
            self.model.check_outstanding(self.client.outstanding());
        }
        let mut moved = count > 0;
        if self.down.bytes.is_empty() && self.down.ended && !self.down.end_reported {
            self.down.end_reported = true;
            let _ = self.client.receive_eof(now);
            moved = true;
        }
        // The client stops sending once the connection has ended.
        if (self.client.fault().is_some() || self.down.end_reported) && !self.up.ended {
            self.up.ended = true;
            moved = true;
        }
        self.check();
        moved
    }

    // Time and the catalog.

    pub(crate) fn catalog_changed(&mut self, store: &Store, now: Time) {
        if self.server.is_watching() {
            self.server.catalog_changed(&store.catalog(), now);
        }
        self.process_input(now);
    }

    pub(crate) fn shut_down(&mut self, now: Time) {
        self.server.shutdown(now);
        self.causes.shutdown = true;
        self.process_input(now);
    }

    pub(crate) fn advance_time(&mut self, now: Time) {
        if self.causes.reset {
            return;
        }
        for _ in 0..4 {
            if self.server.deadline().is_none_or(|deadline| deadline > now) {
                break;
            }
            self.server.handle_timeout(now);
            self.process_input(now);
        }
        assert!(
            self.server.deadline().is_none_or(|deadline| deadline > now),
            "the deadline does not move"
        );
        if self.server.close_reason() == Some(CloseReason::Timeout(Timeout::Write)) {
            let still = now.saturating_since(self.last_sent);
            assert!(
                still >= Duration::from_secs(30),
                "T4: closed after only {still:?} without a byte"
            );
        }
        let _ = self.client.handle_timeout(now);
        self.check();
    }

    /// Makes both pipes large enough for everything.
    pub(crate) fn enlarge_pipes(&mut self) {
        (self.up.capacity, self.down.capacity) = (1 << 20, 1 << 20);
    }

    /// Closes the client's side; the server must notice and close.
    pub(crate) fn close_client(&mut self) {
        self.up.ended = true;
    }
}
