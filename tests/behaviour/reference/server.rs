//! The bare server state machine, its application, and the two pipes of a connection.

use std::collections::VecDeque;
use std::net::SocketAddr;

use jtp_core::Time;
use jtp_core::client::ClientConnection;
use jtp_core::server::{BodyRequest, ServerConnection};
use jtp_core::wire::response::ErrorCode;
use jtp_tokio::bytes::Bytes;
use jtp_tokio::server::limits::RateLimiter;
use jtp_tokio::store::{ImageStore, StoreError};

use crate::suite::script::Setup;
use crate::suite::store::SimulatedStore;
use crate::suite::stub::ServerStub;

/// The capacity of a pipe in bytes: far less than a body that a script interrupts.
const PIPE_CAPACITY: usize = 4096;

/// How many bytes of a body are read at once. An adapter sends nothing of a piece before it has read all of it.
const PIECE: u32 = 256 * 1024;

/// An adapter's error message for a body that cannot be read.
const UNREADABLE: &str = "an image cannot be read";

/// An adapter's error message for the rate limit.
const TOO_MANY: &str = "too many requests from this address: try again later";

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct SimPipe {
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) ended: bool,
    /// The number of bytes written so far.
    pub(crate) passed: u64,
    /// The number of bytes after which the pipe ends.
    cut: Option<u64>,
}

impl SimPipe {
    pub(crate) fn room(&self) -> usize {
        PIPE_CAPACITY - self.bytes.len()
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        if self.ended {
            return; // The reader has closed.
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

    /// Whether the pipe has ended and everything has been read.
    pub(crate) fn is_at_end(&self) -> bool {
        self.ended && self.bytes.is_empty()
    }
}

pub(crate) struct SimConnection {
    pub(crate) server: ServerConnection,
    address: SocketAddr,
    pub(crate) up: SimPipe,
    pub(crate) down: SimPipe,
    /// Bytes that the server has read and not consumed.
    input: Vec<u8>,
    eof_reported: bool,
    shutdown_reported: bool,
    /// The generation of the catalog that the state machine has seen.
    seen_generation: u64,
    /// Body bytes that were loaded and not sent.
    loaded: Vec<u8>,
    closed: bool,
}

impl SimConnection {
    pub(crate) fn new(setup: &Setup, address: SocketAddr, now: Time) -> SimConnection {
        let pipe = |cut| {
            let mut pipe = SimPipe {
                cut,
                ..SimPipe::default()
            };
            pipe.check_cut();
            pipe
        };
        SimConnection {
            server: ServerConnection::new(setup.server, now),
            address,
            up: pipe(setup.cut.up),
            down: pipe(setup.cut.down),
            input: Vec::new(),
            eof_reported: false,
            shutdown_reported: false,
            seen_generation: 0,
            loaded: Vec::new(),
            closed: false,
        }
    }

    /// Transfers the client's output; returns whether any bytes moved.
    pub(crate) fn transmit_client(&mut self, client: &mut ClientConnection, now: Time) -> bool {
        let count = client.transmit().len().min(self.up.room());
        self.up.push(&client.transmit()[..count]);
        client.transmitted(count, now).unwrap();
        count > 0
    }

    /// Lets the server do everything it can at `now`; returns whether it did anything.
    pub(crate) fn step(
        &mut self,
        store: &SimulatedStore,
        stub: &ServerStub,
        rate: &mut Option<RateLimiter>,
        now: Time,
        draining: bool,
    ) -> bool {
        if self.closed {
            return false;
        }
        let mut moved = false;
        if draining && !self.shutdown_reported {
            self.shutdown_reported = true;
            self.server.shutdown(now);
            moved = true;
        }
        let catalog = ImageStore::catalog(store).snapshot();
        if self.server.is_watching() && self.seen_generation != catalog.generation() {
            self.seen_generation = catalog.generation();
            self.server.catalog_changed(&catalog, now);
            moved = true;
        }
        moved |= self.read_input();
        moved |= self.handle_requests(store, stub, rate, now);
        moved |= self.load_body(store, now);
        moved |= self.send_output(now);
        if self.server.wants_finish() {
            self.down.ended = true;
            self.server.finished(now).unwrap();
            moved = true;
        }
        if self.server.is_closed() {
            self.closed = true;
            self.down.ended = true;
            let reason = self.server.close_reason().map(|reason| reason.to_string());
            stub.record_close(self.address, reason.as_deref().unwrap_or("none"));
            moved = true;
        }
        moved
    }

    fn read_input(&mut self) -> bool {
        if !self.server.wants_read(&self.input) {
            return false;
        }
        if self.up.is_at_end() && !self.eof_reported {
            self.eof_reported = true;
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

    fn handle_requests(
        &mut self,
        store: &SimulatedStore,
        stub: &ServerStub,
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
                stub.decide(Some(self.address), &head)
            };
            match refusal {
                Some((code, message)) => self.server.refuse(code, message, now).unwrap(),
                None => {
                    let catalog = ImageStore::catalog(store).snapshot();
                    self.seen_generation = catalog.generation();
                    self.server.accept(&catalog, now).unwrap();
                }
            }
        }
    }

    fn load_body(&mut self, store: &SimulatedStore, now: Time) -> bool {
        let Some(request) = self.server.wants_body().filter(|_| self.loaded.is_empty()) else {
            return false;
        };
        let count = request.remaining().min(PIECE);
        let end = u64::from(request.offset() + count);
        // An empty body is ready at once, unless its image is gated at 0.
        if !store.is_ready(request.image().id, end) {
            return false;
        }
        match read_body(store, request, usize::try_from(count).unwrap()) {
            Ok(bytes) => {
                self.loaded = bytes.to_vec();
                self.server.body_loaded(count, now).unwrap();
            }
            Err(_) => self.server.body_failed(UNREADABLE, now).unwrap(),
        }
        true
    }

    fn send_output(&mut self, now: Time) -> bool {
        let shown = self.server.transmit();
        let room = if self.down.ended {
            usize::MAX // A client that has closed accepts everything.
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

fn read_body(
    store: &SimulatedStore,
    request: BodyRequest,
    count: usize,
) -> Result<Bytes, StoreError> {
    let id = request.image().id;
    if let BodyRequest::Open { .. } = request {
        store.check_open(id)?;
    }
    store.read_ready(id, u64::from(request.offset()), count)
}
