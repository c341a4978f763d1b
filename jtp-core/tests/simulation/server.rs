//! A server's connection, followed by the model: each call is checked.

use std::time::Duration;

use jtp_core::server::{BodyRequest, CloseReason, ServerConfig, ServerConnection, Timeout};
use jtp_core::wire::response::ErrorCode;
use jtp_core::{Flags, Image, ImageId, Time};
use jtp_kit::{Rng, model};

use super::store::{Store, modelled};

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) machine: ServerConnection,
    pub(crate) model: model::Server,
    config: ServerConfig,
    /// What was read and is not used.
    pub(crate) input: Vec<u8>,
    /// How much of it the machine has seen. // N5
    seen: usize,
    /// A request waits for a decision.
    pub(crate) is_deciding: bool,
    /// The output that is shown and not sent, with bodies as bytes.
    pub(crate) offered: Vec<u8>,
    /// The body of the image that was opened last.
    body: Vec<u8>,
    reason: Option<CloseReason>,
    pub(crate) has_ended: bool,
    is_shutting_down: bool,
    has_failed: bool,
    /// When output was last sent, or the earliest time at which the wait for that began.
    last_sent: Time,
}

impl Server {
    pub(crate) fn new(config: ServerConfig, now: Time) -> Server {
        Server {
            machine: ServerConnection::new(config, now),
            model: model::Server::new(config.watch(), config.max_have()),
            config,
            input: Vec::new(),
            seen: 0,
            is_deciding: false,
            offered: Vec::new(),
            body: Vec::new(),
            reason: None,
            has_ended: false,
            is_shutting_down: false,
            has_failed: false,
            last_sent: now,
        }
    }

    /// A server with low limits or without time limits now and then.
    pub(crate) fn random(rng: &mut Rng, now: Time) -> Server {
        let mut some = |seconds| (!rng.one_in(8)).then_some(Duration::from_secs(seconds));
        let config = ServerConfig::new()
            .with_first_request_timeout(some(60))
            .with_idle_timeout(some(30))
            .with_request_grace(some(10))
            .with_write_timeout(some(30))
            .with_cancel_timeout(some(10))
            .with_watch(!rng.one_in(12))
            .with_max_have(if rng.one_in(8) { 2 } else { 1_000_000 })
            .with_max_watch_lag(if rng.one_in(8) { 2 } else { 1_000_000 });
        Server::new(config, now)
    }

    /// Passes the first `count` bytes of the input to the machine. Returns whether it did anything.
    pub(crate) fn receive(&mut self, count: usize, now: Time) -> bool {
        let is_open = self.reason.is_none();
        let received = self.machine.receive(&self.input[..count], now);
        assert!(received.used <= count);
        let used: Vec<u8> = self.input.drain(..received.used).collect();
        self.seen = count - received.used;
        if is_open {
            self.model.read(&used);
        }
        if let Some(head) = received.event {
            assert!(!self.is_deciding, "two requests at once");
            assert!(
                is_open && self.offered.is_empty(),
                "S1: a request before its turn"
            );
            assert!(!self.is_shutting_down, "S16");
            self.is_deciding = true;
            let head = model::Head {
                code: head.kind.code(),
                keep_alive: head.keep_alive,
                ids: head.kind.ids(),
            };
            assert_eq!(self.model.waiting(), Some(head));
        }
        let waiting = self.model.waiting().is_some();
        assert_eq!(self.is_deciding, waiting, "{:?}", self.model);
        self.check();
        received.event.is_some() || !used.is_empty()
    }

    /// Passes the input until the machine uses nothing more.
    pub(crate) fn receive_all(&mut self, now: Time) -> bool {
        let mut moved = false;
        while self.receive(self.input.len(), now) {
            moved = true;
        }
        moved
    }

    pub(crate) fn accept(&mut self, store: &Store, now: Time) {
        self.model.accept(store.current(), &self.input[..self.seen]);
        self.machine.accept(store.catalog(), now).unwrap();
        self.is_deciding = false;
        self.check();
    }

    pub(crate) fn refuse(&mut self, code: ErrorCode, now: Time) {
        self.model.fail(code.code());
        self.machine.refuse(code, "no", now).unwrap();
        self.is_deciding = false;
        self.check();
    }

    /// Loads `count` bytes of the body that is wanted, at most those that are missing, sometimes of another variant of
    /// the image. // S6
    pub(crate) fn load(&mut self, store: &Store, other: bool, count: u32, now: Time) {
        let wanted = self.machine.wants_body().expect("a body is wanted");
        if let BodyRequest::Open { image } = wanted {
            let opened = if other {
                store.other_variant(image)
            } else {
                image
            };
            self.body = store.wire(opened).to_vec();
            self.model
                .open(modelled(image), modelled(opened), &self.body);
            let count = count.min(opened.length);
            if opened == image {
                self.machine.body_loaded(count, now).unwrap();
            } else {
                self.machine.body_opened(opened, count, now).unwrap();
            }
        } else {
            let count = count.min(wanted.remaining());
            self.machine.body_loaded(count, now).unwrap();
        }
        self.check();
    }

    pub(crate) fn fail_body(&mut self, now: Time) {
        self.has_failed = true;
        self.model.body_failed();
        self.machine.body_failed("the file is gone", now).unwrap();
        self.check();
    }

    /// Loads a random part of the body that is wanted, or fails to. Returns whether one was wanted.
    pub(crate) fn load_some(&mut self, store: &Store, rng: &mut Rng, now: Time) -> bool {
        if self.machine.wants_body().is_none() {
            return false;
        }
        if rng.one_in(80) {
            self.fail_body(now);
        } else {
            let most = *rng.pick(&[u32::MAX, 1, 200, 60_000]);
            let count = if most == u32::MAX {
                most
            } else {
                rng.below(most + 1)
            };
            self.load(store, rng.one_in(4), count, now);
        }
        true
    }

    /// Sends at most `max` bytes of what is offered.
    pub(crate) fn send(&mut self, max: usize, now: Time) -> Vec<u8> {
        let count = self.offered.len().min(max);
        self.machine.transmitted(count, now).unwrap();
        if count > 0 {
            self.last_sent = self.last_sent.max(now);
        }
        let sent = self.offered.drain(..count).collect();
        self.check();
        sent
    }

    /// Does the half-close if it is due, and returns whether it was.
    pub(crate) fn finish(&mut self, now: Time) -> bool {
        let is_due = self.machine.wants_finish();
        if is_due {
            assert!(self.offered.is_empty(), "S11: unsent output");
            self.machine.finished(now).unwrap();
            self.check();
        }
        is_due
    }

    pub(crate) fn end(&mut self) {
        self.has_ended = true;
        self.machine.receive_eof();
        self.check();
    }

    pub(crate) fn shut_down(&mut self, now: Time) {
        self.is_shutting_down = true;
        self.machine.shutdown(now);
        self.check();
    }

    pub(crate) fn catalog_changed(&mut self, store: &Store, now: Time) {
        self.machine.catalog_changed(store.catalog(), now);
        self.check();
    }

    pub(crate) fn advance_time(&mut self, now: Time) {
        for _ in 0..4 {
            self.machine.handle_timeout(now);
            self.check();
        }
        let deadline = self.machine.deadline();
        assert!(
            deadline.is_none_or(|at| at > now),
            "the deadline does not move"
        );
        if self.reason == Some(CloseReason::Timeout(Timeout::Write)) {
            let still = now.saturating_since(self.last_sent);
            assert!(
                still >= Duration::from_secs(30),
                "T4: closed after {still:?} without a byte"
            );
        }
    }

    /// Calls that do not fit the state return an error and change nothing.
    pub(crate) fn misuse(&mut self, store: &Store, now: Time) {
        let before = format!("{:?}", self.machine);
        let machine = &mut self.machine;
        if !self.is_deciding {
            assert!(machine.accept(store.catalog(), now).is_err());
            assert!(machine.refuse(ErrorCode::NotFound, "", now).is_err());
        }
        let shown = machine.transmit().len();
        assert!(machine.transmitted(shown + 1, now).is_err());
        let wanted = machine.wants_body();
        let excess = wanted.map_or(0, |wanted| wanted.remaining() + 1);
        assert!(machine.body_loaded(excess, now).is_err());
        if wanted.is_none() {
            assert!(machine.body_failed("", now).is_err());
        }
        if !matches!(wanted, Some(BodyRequest::Open { .. })) {
            let unknown = Image::new(ImageId(0), Flags::from_bits(0), 0);
            let image = wanted.map_or(unknown, BodyRequest::image);
            assert!(machine.body_opened(image, 0, now).is_err());
        }
        if !machine.wants_finish() {
            assert!(machine.finished(now).is_err());
        }
        assert_eq!(format!("{machine:?}"), before, "misuse changed the state");
    }

    /// What holds after every call.
    fn check(&mut self) {
        let machine = &self.machine;
        let output = machine.transmit();
        let mut bytes = output.bytes.to_vec();
        if let Some(span) = output.body {
            bytes.extend_from_slice(&self.body[span.range()]);
        }
        assert_eq!(bytes.len(), output.len());
        // C6: frames, and at most one body.
        assert!(output.bytes.len() <= 80 * 1024 && bytes.len() <= 160 * 1024);
        let wanted = machine.wants_body();
        if machine.is_closed() {
            assert!(bytes.is_empty() && wanted.is_none() && machine.deadline().is_none());
            assert!(!machine.wants_read(&[]) && !machine.wants_finish());
            self.offered.clear();
        } else {
            assert!(
                bytes.starts_with(&self.offered),
                "offered output was withdrawn"
            );
            self.model.shown(&bytes[self.offered.len()..]);
            self.offered = bytes;
            let is_idle = self.offered.is_empty() && wanted.is_none() && !machine.wants_finish();
            if is_idle && !self.is_deciding && !self.has_ended {
                assert!(machine.wants_read(&self.input), "stuck: {machine:?}");
            }
            if is_idle && self.is_shutting_down && !self.is_deciding {
                let is_open = machine.close_reason().is_none();
                assert!(
                    !is_open || self.model.is_inside_request(),
                    "S16: {:?}",
                    self.model
                );
            }
            if machine.is_watching() && self.offered.is_empty() && self.reason.is_none() {
                let is_cancelling = self.model.is_inside_request();
                assert!(machine.deadline().is_none() || is_cancelling, "N4");
            }
        }
        let reason = machine.close_reason();
        assert!(reason.is_some() || !machine.is_closed());
        if let Some(before) = self.reason {
            assert_eq!(reason, Some(before), "the close reason changed");
        } else if let Some(reason) = reason {
            self.reason = Some(reason);
            self.check_end(reason);
        }
    }

    /// What holds when the connection begins to end: all that is due was shown.
    fn check_end(&self, reason: CloseReason) {
        let model = &self.model;
        let fits = match reason {
            CloseReason::Timeout(_) => true,
            CloseReason::NoKeepAlive => model.is_answered() && model.is_last(), // S2
            CloseReason::PeerClosed => {
                // T5 N6
                let is_whole = model.is_watching() || !model.is_inside_request();
                model.is_answered() && self.has_ended && is_whole
            }
            CloseReason::TruncatedRequest => model.is_inside_request() && self.has_ended, // S10
            CloseReason::Shutdown => model.is_answered() && self.is_shutting_down,        // S16
            CloseReason::WatchLag => model.is_at_boundary() && self.config.max_watch_lag() < 1_000, // N2
            CloseReason::BodyFailed => {
                self.has_failed && (model.is_short() || model.error() == Some(3)) // S12 S13
            }
            // S11: a JTPE, whose code the model knows.
            _ => model.error().is_some(),
        };
        assert!(fits, "{reason:?}: {self:?}");
    }
}
