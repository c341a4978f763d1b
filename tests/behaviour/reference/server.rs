//! The server's machine, its application, and the two pipes of a connection.

use std::collections::VecDeque;
use std::net::SocketAddr;

use jtp_core::client::ClientConnection;
use jtp_core::server::{BodyWanted, ServerConnection};
use jtp_core::wire::response::ErrorCode;
use jtp_core::{RateLimiter, Time};
use jtp_store::{ImageBody, ImageStore};

use crate::suite::court::Court;
use crate::suite::script::Setup;
use crate::suite::store::Store;

/// How much is on its way in one direction at most. Far less than a body that a script is in the middle of.
const PIPE: usize = 4096;

/// The grain of bodies: an adapter sends nothing of a piece before all of it is there.
const PIECE: u32 = 256 * 1024;

/// What an adapter says when a body fails.
const UNREADABLE: &str = "an image cannot be read";

/// What it says to whoever asks too much.
const TOO_MANY: &str = "too many requests from this address: try again later";

/// One direction.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) ended: bool,
    /// How many bytes went in, and how many may.
    pub(crate) passed: u64,
    cut: Option<u64>,
}

impl Pipe {
    pub(crate) fn room(&self) -> usize {
        PIPE - self.bytes.len()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.ended {
            return; // Nobody is there.
        }
        let left = self.cut.map_or(u64::MAX, |cut| cut - self.passed);
        let count = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        self.bytes.extend(&bytes[..count]);
        self.passed += u64::try_from(count).unwrap();
        self.check_cut();
    }

    fn check_cut(&mut self) {
        self.ended |= self.cut.is_some_and(|cut| self.passed >= cut);
    }

    /// Whether there is nothing more to come.
    pub(crate) fn is_at_end(&self) -> bool {
        self.ended && self.bytes.is_empty()
    }
}

pub(crate) struct Conn {
    pub(crate) server: ServerConnection,
    address: SocketAddr,
    pub(crate) up: Pipe,
    pub(crate) down: Pipe,
    /// What the server has read and not used.
    input: Vec<u8>,
    end_told: bool,
    drain_told: bool,
    /// The catalog that the machine has seen.
    seen: u64,
    body: Option<Box<dyn ImageBody>>,
    /// What was loaded and not sent.
    loaded: Vec<u8>,
    closed: bool,
}

impl Conn {
    pub(crate) fn new(setup: &Setup, address: SocketAddr, now: Time) -> Conn {
        let pipe = |cut| {
            let mut pipe = Pipe {
                cut,
                ..Pipe::default()
            };
            pipe.check_cut();
            pipe
        };
        Conn {
            server: ServerConnection::new(setup.server, now),
            address,
            up: pipe(setup.cut.up),
            down: pipe(setup.cut.down),
            input: Vec::new(),
            end_told: false,
            drain_told: false,
            seen: 0,
            body: None,
            loaded: Vec::new(),
            closed: false,
        }
    }

    /// Moves what the client has to send.
    pub(crate) fn client_sends(&mut self, client: &mut ClientConnection, now: Time) -> bool {
        let count = client.transmit().len().min(self.up.room());
        self.up.push(&client.transmit()[..count]);
        client.transmitted(count, now).unwrap();
        count > 0
    }

    /// Everything that the server can do now; whether it did anything.
    pub(crate) fn turn(
        &mut self,
        store: &Store,
        court: &Court,
        rate: &mut Option<RateLimiter>,
        now: Time,
        draining: bool,
    ) -> bool {
        if self.closed {
            return false;
        }
        let mut moved = false;
        if draining && !self.drain_told {
            self.drain_told = true;
            self.server.shutdown(now);
            moved = true;
        }
        let catalog = store.catalog().snapshot();
        if self.server.is_watching() && self.seen != catalog.generation() {
            self.seen = catalog.generation();
            self.server.catalog_changed(&catalog, now);
            moved = true;
        }
        moved |= self.reads();
        moved |= self.looks(store, court, rate, now);
        moved |= self.loads(store, now);
        moved |= self.sends(now);
        if self.server.wants_finish() {
            self.down.ended = true;
            self.server.finished(now).unwrap();
            moved = true;
        }
        if self.server.is_closed() {
            self.closed = true;
            self.down.ended = true;
            let reason = self.server.close_reason().map(|reason| reason.to_string());
            court.ends(self.address, reason.as_deref().unwrap_or("none"));
            moved = true;
        }
        moved
    }

    fn reads(&mut self) -> bool {
        if !self.server.wants_read(&self.input) {
            return false;
        }
        if self.up.is_at_end() && !self.end_told {
            self.end_told = true;
            self.server.receive_eof();
            return true;
        }
        let moved = !self.up.bytes.is_empty();
        let (first, second) = self.up.bytes.as_slices();
        self.input.extend_from_slice(first);
        self.input.extend_from_slice(second);
        self.up.bytes.clear();
        moved
    }

    fn looks(
        &mut self,
        store: &Store,
        court: &Court,
        rate: &mut Option<RateLimiter>,
        now: Time,
    ) -> bool {
        let mut moved = false;
        loop {
            let received = self.server.receive(&self.input, now);
            self.input.drain(..received.used);
            moved |= received.used > 0;
            let Some(head) = received.event else {
                return moved;
            };
            let too_many = rate
                .as_mut()
                .is_some_and(|rate| !rate.allow(self.address.ip(), now));
            let refusal = if too_many {
                Some((ErrorCode::RateLimited, TOO_MANY))
            } else {
                court.decide(Some(self.address), &head)
            };
            match refusal {
                Some((code, message)) => self.server.refuse(code, message, now).unwrap(),
                None => {
                    let catalog = store.catalog().snapshot();
                    self.seen = catalog.generation();
                    self.server.accept(&catalog, now).unwrap();
                }
            }
        }
    }

    fn loads(&mut self, store: &Store, now: Time) -> bool {
        let Some(wanted) = self.server.wants_body().filter(|_| self.loaded.is_empty()) else {
            return false;
        };
        let count = (wanted.remaining()).min(PIECE);
        let end = u64::from(wanted.offset() + count);
        // An empty body is there at once, unless its image is held back as a whole.
        if !store.is_ready(wanted.image().id, end) {
            return false;
        }
        match self.load(store, wanted, usize::try_from(count).unwrap()) {
            Some(bytes) => {
                self.loaded = bytes;
                self.server.body_loaded(count, now).unwrap();
            }
            None => self.server.body_failed(UNREADABLE, now).unwrap(),
        }
        true
    }

    fn load(&mut self, store: &Store, wanted: BodyWanted, count: usize) -> Option<Vec<u8>> {
        if wanted.offset() == 0 {
            self.body = Some(store.open(&wanted.image()).ok()?);
        }
        let body = self.body.as_mut().unwrap();
        let mut bytes = vec![0; count];
        let mut at = 0;
        while at < count {
            let offset = u64::from(wanted.offset()) + u64::try_from(at).unwrap();
            at += body.read_at(offset, &mut bytes[at..]).ok()?;
        }
        Some(bytes)
    }

    fn sends(&mut self, now: Time) -> bool {
        let shown = self.server.transmit();
        let room = if self.down.ended {
            usize::MAX // Whoever has gone takes everything.
        } else {
            self.down.room()
        };
        let frames = shown.bytes.len().min(room);
        self.down.push(&shown.bytes[..frames]);
        let mut count = frames;
        if shown.body.is_some() && frames == shown.bytes.len() {
            let body = self.loaded.len().min(room - frames);
            self.down.push(&self.loaded[..body]);
            self.loaded.drain(..body);
            count += body;
        }
        self.server.transmitted(count, now).unwrap();
        count > 0
    }
}
