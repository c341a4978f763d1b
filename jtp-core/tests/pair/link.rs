//! One connection: a client's machine and a server's, two pipes between them, and what has to hold after
//! every call.

use std::collections::VecDeque;
use std::time::Duration;

use jtp_core::client::{ClientConfig, ClientConnection, ClientError, Event, HaveSet, Request};
use jtp_core::server::{CloseReason, ServerConfig, ServerConnection, Timeout};
use jtp_core::wire::response::ErrorCode;
use jtp_core::{ImageId, Time};

use super::Dice;
use super::model::Model;
use super::store::Store;

const REFUSALS: [ErrorCode; 3] = [
    ErrorCode::ServerError,
    ErrorCode::RateLimited,
    ErrorCode::NotFound,
];

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
struct Pipe {
    bytes: VecDeque<u8>,
    capacity: usize,
    ended: bool,
    end_told: bool,
}

impl Pipe {
    fn room(&self) -> usize {
        self.capacity - self.bytes.len()
    }
}

/// What was done to the connection: what may excuse an ending.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Causes {
    refused: Option<ErrorCode>,
    body: bool,
    reset: bool,
    half_closed: bool,
    shutdown: bool,
}

#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) client: ClientConnection,
    pub(crate) server: ServerConnection,
    pub(crate) model: Model,
    up: Pipe,
    down: Pipe,
    /// What the server has read and not used.
    input: Vec<u8>,
    deciding: bool,
    causes: Causes,
    max_have: u32,
    watch: bool,
    max_lag: u64,
    /// The client leaves images as they travel.
    undecoded: bool,
    /// What the server showed to send, as bytes.
    shown: Vec<u8>,
    /// When a byte of it went out last, or waiting for that began at the earliest.
    moved: Time,
}

impl Link {
    pub(crate) fn new(dice: &mut Dice<'_>, now: Time) -> Link {
        let pipeline = dice.one_in(2);
        let max_have = if dice.one_in(8) { 2 } else { 1_000_000 };
        let watch = !dice.one_in(12);
        let max_lag = if dice.one_in(8) { 2 } else { 1_000_000 };
        let server = ServerConfig::new()
            .with_max_have(max_have)
            .with_watch(watch)
            .with_max_watch_lag(max_lag);
        let capacity = [1, 30, 1_000, 70_000][dice.index(4)];
        let undecoded = dice.one_in(3);
        let pipe = || Pipe {
            capacity,
            ..Pipe::default()
        };
        Link {
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
            shown: Vec::new(),
            moved: now,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.causes.reset || (self.server.is_closed() && self.down.end_told)
    }

    pub(crate) fn is_deciding(&self) -> bool {
        self.deciding
    }

    // What the client's application does.

    pub(crate) fn ask(&mut self, store: &Store, dice: &mut Dice<'_>, now: Time) {
        let ids = |dice: &mut Dice<'_>, most: u32| -> Vec<ImageId> {
            let count = dice.below(most);
            (0..count).map(|_| store.some_id(dice)).collect()
        };
        let request = match dice.below(10) {
            0..2 => Request::List,
            2..5 => Request::GetById(ids(dice, 6)),
            5..7 => Request::Batch(HaveSet::try_from(ids(dice, 8)).unwrap()),
            7 if dice.one_in(4) => {
                // More than one window of output.
                let many = (0..2_500).map(|n| ImageId(1_000 + n));
                let ids = ids(dice, 8).into_iter().chain(many);
                Request::Batch(HaveSet::try_from_iter(ids).unwrap())
            }
            7 => Request::ListAndGet,
            _ => Request::Watch,
        };
        let keep_alive = !dice.one_in(10);
        if self
            .client
            .request(request.clone(), keep_alive, now)
            .is_ok()
        {
            self.model.asks(request, keep_alive);
        }
        self.check();
    }

    /// What a client does that wants everything. // N5
    pub(crate) fn list_and_watch(&mut self, now: Time) {
        if self.client.request(Request::List, true, now).is_ok() {
            self.model.asks(Request::List, true);
            if self.client.request(Request::Watch, true, now).is_ok() {
                self.model.asks(Request::Watch, true);
            }
        }
        self.check();
    }

    pub(crate) fn cancel(&mut self, now: Time) {
        if !self.up.ended && self.client.cancel(now).is_ok() {
            self.model.agreed_to_cancel();
        }
        self.check();
    }

    /// Everything it wants is sent: it closes its side. // T5
    pub(crate) fn half_close(&mut self) {
        if self.client.transmit().is_empty() && !self.up.ended {
            self.up.ended = true;
            self.causes.half_closed = true;
        }
    }

    /// Both sides are cut off.
    pub(crate) fn reset(&mut self, now: Time) {
        self.causes.reset = true;
        self.up.bytes.clear();
        self.down.bytes.clear();
        let _ = self.client.receive_eof(now);
        self.check();
    }

    // The transport. Each says whether anything moved.

    pub(crate) fn client_sends(&mut self, most: usize, now: Time) -> bool {
        if self.up.ended {
            return false;
        }
        let shown = self.client.transmit().to_vec();
        let count = shown.len().min(most).min(self.up.room());
        self.model.sends(&shown[..count]);
        self.up.bytes.extend(&shown[..count]);
        self.client.transmitted(count, now).unwrap();
        if self.client.fault().is_none() {
            assert!(
                self.client.transmit().starts_with(&shown[count..]),
                "output taken back"
            );
        }
        self.check();
        count > 0
    }

    pub(crate) fn server_reads(&mut self, most: usize, now: Time) -> bool {
        let mut moved = false;
        if self.server.wants_read(&self.input) {
            let count = self.up.bytes.len().min(most);
            self.input.extend(self.up.bytes.drain(..count));
            moved = count > 0;
            if self.up.bytes.is_empty() && self.up.ended && !self.up.end_told {
                self.up.end_told = true;
                self.server.receive_eof();
                moved = true;
            }
        }
        self.server_looks(now) || moved
    }

    /// Lets the server look at its input until nothing more comes of it.
    fn server_looks(&mut self, now: Time) -> bool {
        let mut moved = false;
        loop {
            let received = self.server.receive(&self.input, now);
            assert!(received.used <= self.input.len());
            self.input.drain(..received.used);
            if self.server.close_reason().is_none() {
                let server = &self.server;
                self.model
                    .used(received.used, || server.upcoming().next().is_none());
            }
            if let Some(head) = received.event {
                assert!(!self.deciding, "two requests at once");
                self.model.requested(head);
                self.deciding = true;
            } else if received.used == 0 {
                break;
            }
            moved = true;
        }
        let again = self.server.receive(&self.input, now);
        assert!(again.used == 0 && again.request.is_none(), "not at rest");
        self.look();
        moved
    }

    pub(crate) fn server_decides(&mut self, store: &Store, dice: &mut Dice<'_>, now: Time) -> bool {
        if !std::mem::take(&mut self.deciding) {
            return false;
        }
        if dice.one_in(60) {
            let code = REFUSALS[dice.index(3)];
            self.server.refuse(code, "no", now).unwrap();
            self.causes.refused = Some(code);
        } else {
            self.model.accepted(store.shown(), &self.input);
            self.server.accept(&store.catalog(), now).unwrap();
        }
        self.server_looks(now);
        true
    }

    /// Gets a piece of a body ready, the whole rest for 0 of the dice.
    pub(crate) fn server_loads(&mut self, store: &Store, dice: &mut Dice<'_>, now: Time) -> bool {
        let Some(wanted) = self.server.wants_body() else {
            return false;
        };
        let rest = wanted.remaining();
        assert_eq!(
            store.wire(wanted.image()).len(),
            wanted.image().length as usize
        );
        if dice.one_in(80) {
            self.server.body_failed("the file is gone", now).unwrap();
            self.causes.body = true;
        } else {
            let count = match dice.below(4) {
                0 => rest,
                1 => rest.min(1),
                2 => rest.min(dice.below(200)),
                _ => rest.min(dice.below(60_000)),
            };
            self.server.body_loaded(count, now).unwrap();
        }
        self.server_looks(now);
        true
    }

    pub(crate) fn server_sends(&mut self, store: &Store, most: usize, now: Time) -> bool {
        if self.server.is_closed() {
            // Whatever it still had to send.
            let moved = !self.down.ended;
            self.down.ended = true;
            return moved;
        }
        let shown = self.server.transmit();
        let mut bytes = shown.bytes.to_vec();
        if let Some(span) = shown.body {
            bytes.extend_from_slice(&store.wire(span.image)[span.range()]);
        }
        assert_eq!(bytes.len(), shown.len());
        assert!(bytes.starts_with(&self.shown), "output taken back");
        let count = bytes.len().min(most).min(self.down.room());
        self.down.bytes.extend(&bytes[..count]);
        if count > 0 {
            self.moved = self.moved.max(now);
        }
        self.server.transmitted(count, now).unwrap();
        self.shown = bytes.split_off(count);
        self.server_looks(now);
        let mut moved = count > 0;
        if self.server.wants_finish() {
            self.server.finished(now).unwrap();
            self.down.ended = true;
            moved = true;
            self.server_looks(now);
        }
        moved
    }

    pub(crate) fn client_reads(&mut self, store: &Store, most: usize, now: Time) -> bool {
        if self.causes.reset {
            return false;
        }
        let count = self.down.bytes.len().min(most);
        let piece: Vec<u8> = self.down.bytes.drain(..count).collect();
        let mut rest = &piece[..];
        loop {
            let told = match self.client.receive(rest, now) {
                Ok(received) => {
                    rest = &rest[received.used..];
                    let begun = matches!(received.event, Some(Event::Image(_)));
                    let told = received.event.map(|event| self.model.told(store, event));
                    if begun && self.undecoded {
                        self.client.leave_undecoded().unwrap();
                    }
                    told
                }
                Err(fault) => {
                    assert_eq!(self.client.fault(), Some(&fault));
                    break;
                }
            };
            if told.is_none() {
                assert!(rest.is_empty(), "no event, and input left");
                break;
            }
            self.model.outstanding_is(self.client.outstanding());
        }
        let mut moved = count > 0;
        if self.down.bytes.is_empty() && self.down.ended && !self.down.end_told {
            self.down.end_told = true;
            let _ = self.client.receive_eof(now);
            moved = true;
        }
        // Nobody goes on sending into what has ended.
        if (self.client.fault().is_some() || self.down.end_told) && !self.up.ended {
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
        self.server_looks(now);
    }

    pub(crate) fn shut_down(&mut self, now: Time) {
        self.server.shutdown(now);
        self.causes.shutdown = true;
        self.server_looks(now);
    }

    pub(crate) fn time_passes(&mut self, now: Time) {
        if self.causes.reset {
            return;
        }
        for _ in 0..4 {
            if self.server.deadline().is_none_or(|deadline| deadline > now) {
                break;
            }
            self.server.handle_timeout(now);
            self.server_looks(now);
        }
        assert!(
            self.server.deadline().is_none_or(|deadline| deadline > now),
            "no end of timeouts"
        );
        if self.server.close_reason() == Some(CloseReason::Timeout(Timeout::Write)) {
            let still = now.saturating_since(self.moved);
            assert!(
                still >= Duration::from_secs(30),
                "T4: only {still:?} without a byte"
            );
        }
        let _ = self.client.handle_timeout(now);
        self.check();
    }

    // What has to hold.

    /// Looks at the server's output: what was shown once is only added to.
    fn look(&mut self) {
        let shown = self.server.transmit();
        let frames = shown.bytes.len();
        if !self.server.is_closed() {
            assert!(shown.len() >= self.shown.len(), "output taken back");
            let both = frames.min(self.shown.len());
            assert_eq!(shown.bytes[..both], self.shown[..both], "output changed");
        }
        let nothing_to_do = shown.is_empty()
            && self.server.wants_body().is_none()
            && !self.server.wants_finish()
            && !self.server.is_closed()
            && !self.deciding;
        if nothing_to_do && !self.up.end_told {
            assert!(
                self.server.wants_read(&self.input),
                "stuck: {:?}",
                self.server
            );
        }
        if self.server.is_watching() && nothing_to_do && self.server.close_reason().is_none() {
            let deadline = self.server.deadline();
            assert!(
                deadline.is_none() || self.model.cancel_begun(),
                "N4: {deadline:?}"
            );
        }
        match self.server.close_reason() {
            Some(
                CloseReason::InvalidRequest(_)
                | CloseReason::StrayCancel
                | CloseReason::RequestDuringWatch,
            ) => {
                panic!("a good client refused: {:?}", self.server)
            }
            Some(CloseReason::TooManyIds { have, max }) => {
                assert!(have > max && max == self.max_have);
            }
            Some(CloseReason::WatchDisabled) => assert!(!self.watch),
            Some(CloseReason::WatchLag) => assert!(self.max_lag < 1_000),
            Some(CloseReason::Refused(code)) => assert_eq!(self.causes.refused, Some(code)),
            Some(CloseReason::BodyFailed) => assert!(self.causes.body),
            Some(CloseReason::Shutdown) => assert!(self.causes.shutdown),
            Some(CloseReason::PeerClosed | CloseReason::TruncatedRequest) => assert!(self.up.ended),
            _ => {}
        }
    }

    fn check(&mut self) {
        if let Some(ClientError::Peer(error)) = self.client.fault() {
            panic!("a good server judged bad: {error}");
        }
        if self.client.fault().is_some() {
            assert!(self.client.transmit().is_empty() && self.client.deadline().is_none());
        } else {
            assert_eq!(self.client.outstanding(), self.model.outstanding());
        }
        // Two windows: what is sent, and what a fill adds to the half that is left.
        assert!(
            self.client.transmit().len() <= 40 * 1024,
            "more output than promised"
        );
    }

    /// Everything that can happen without time has happened: is the outcome right?
    pub(crate) fn check_settled(&self, store: &Store) {
        if self.causes.reset {
            return;
        }
        let reason = self.server.close_reason();
        match (self.client.fault(), reason) {
            (Some(ClientError::TimedOut), _) => return,
            (Some(ClientError::Server(error)), Some(CloseReason::Refused(code))) => {
                assert_eq!(error.code, code);
            }
            (Some(ClientError::Server(error)), Some(CloseReason::BodyFailed)) => {
                assert_eq!(error.code, ErrorCode::ServerError);
            }
            (Some(ClientError::Server(error)), Some(CloseReason::TooManyIds { .. })) => {
                assert_eq!(error.code, ErrorCode::InvalidRequest);
            }
            (Some(ClientError::Server(error)), Some(CloseReason::WatchDisabled)) => {
                assert_eq!(error.code, ErrorCode::UnsupportedFeature);
            }
            (Some(ClientError::EarlyEof), Some(CloseReason::NoKeepAlive) | None) => {
                panic!("an early end without a cause: {self:?}")
            }
            (Some(ClientError::EarlyEof), Some(CloseReason::PeerClosed)) => {
                assert!(self.causes.half_closed);
            }
            (Some(ClientError::EarlyEof), Some(_)) => {}
            (None, _) => {}
            (Some(fault), reason) => panic!("{fault:?} for {reason:?}"),
        }
        match reason {
            None | Some(CloseReason::NoKeepAlive) => self.model.check_complete(store),
            Some(CloseReason::PeerClosed | CloseReason::Shutdown) => {
                self.model.check_accepted(false);
            }
            Some(CloseReason::TruncatedRequest) => self.model.check_accepted(true),
            Some(_) => {}
        }
    }

    /// From now on nothing is slow.
    pub(crate) fn widen(&mut self) {
        (self.up.capacity, self.down.capacity) = (1 << 20, 1 << 20);
    }

    /// The client goes; the server is to notice and to be done.
    pub(crate) fn leave(&mut self) {
        self.up.ended = true;
    }

    pub(crate) fn check_gone(&self) {
        assert!(
            self.causes.reset || self.server.is_closed(),
            "not gone: {self:?}"
        );
    }
}
