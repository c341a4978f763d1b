//! The client's side of a connection as a state machine, without I/O.
//!
//! # Receiving
//!
//! ```text
//!                 JTPE ┌───────┐
//!          ┌──────────►│ Error │ message ► ClientError::Server, sticky
//!          │           └───────┘
//!          │               ▲ JTPE
//!          │               │                    ┌─────────────────────────────┐
//!    ┌─────┴────┐ JTPL ┌───┴───┐ count ┌────────┴┐ entry ► Entry              │
//! ──►│          ├─────►│       ├──────►│ Entries │◄───────────────────────────┘
//!    │          │ JTPD │ Count │ Begin └────────┬┘
//!    │          │ JTPB │       │       ┌────────┴┐ head ► Image    ┌──────┐ bytes ► Data
//!    │          │ JTPG │       ├──────►│ Packets ├────────────────►│ Body │
//!    │ Boundary │      └───────┘ Begin │         │◄────────────────┤      │
//!    │          │                      └────┬────┘ ImageEnd        └──────┘
//!    │          │ none left ► End, or JTPC ► Cancelled
//!    │          │◄──────────────────────────┘
//!    │          │ JTPW ┌────────────┐
//!    │          ├─────►│ WatchEntry │ entry ► NewImage
//!    │          │◄─────┤            │
//!    │          │      └────────────┘
//!    │          ├──┐
//!    └──────────┘◄─┘ JTPC ► Cancelled
//! ```
//!
//! | state | accepted input | error otherwise |
//! |---|---|---|
//! | Boundary, no request was sent that is unanswered | `JTPE` | [`PeerError::UnexpectedData`] |
//! | Boundary, a response is due | its header, `JTPE`; `JTPC` after CANCEL | [`PeerError::UnexpectedResponse`] |
//! | Boundary, the response is complete and CANCEL was sent | `JTPC`, `JTPE` | [`PeerError::UnexpectedResponse`] |
//! | Boundary, during WATCH | `JTPW`, `JTPE`; `JTPC` after CANCEL | [`PeerError::UnexpectedResponse`] |
//! | Count, Entries, `WatchEntry`, Error | that field | [`PeerError::Wire`] |
//! | Packets | a packet's head, `JTPE` (S12); `JTPC` after CANCEL | [`PeerError::NotAPacket`] |
//! | Body | any bytes; a bad image is reported at its end | |
//!
//! An image that is [left undecoded](ClientConnection::leave_undecoded) has a Body whose bytes are passed on
//! unchanged, and ends with `PacketEnd`.
//!
//! # Sending
//!
//! Each request goes through these states. Its response is accepted from Sent on.
//!
//! ```text
//! Queued ──► Encoding (IDs, 16 KiB at a time) ──► Sent ──► answered, removed
//!    waits for                                     │ cancel()
//!    the one before, if that is                    ▼
//!    a WATCH (N3), a GET_BY_ID (R7),            CANCEL sent ──► JTPC, removed
//!    or cancelled
//! ```
//!
//! # Calls
//!
//! The calls fall in four groups, and any order of them is valid:
//!
//! - requests: [`request`](ClientConnection::request), [`cancel`](ClientConnection::cancel),
//!   [`leave_undecoded`](ClientConnection::leave_undecoded);
//! - output: [`transmit`](ClientConnection::transmit), [`transmitted`](ClientConnection::transmitted);
//! - input: [`receive`](ClientConnection::receive), [`data`](ClientConnection::data),
//!   [`receive_eof`](ClientConnection::receive_eof);
//! - time: [`deadline`](ClientConnection::deadline), [`handle_timeout`](ClientConnection::handle_timeout),
//!   [`wait`](ClientConnection::wait).
//!
//! A call that does not fit the state returns [`Misuse`] and changes nothing. A fault of the peer or
//! the network is a [`ClientError`], which ends the connection.

mod clock;
mod config;
mod error;
mod event;
mod receive;
mod request;
mod send;
mod transfer;

use alloc::collections::VecDeque;
use alloc::vec::Vec;
use core::ops::Range;

pub use config::{ClientConfig, DEFAULT_MINIMUM_BYTES, DEFAULT_RESPONSE_TIMEOUT};
pub use error::{ClientError, Location, PeerError, ServerError};
pub use event::{CatalogEntry, Event, ResponseKind};
pub use request::{HaveSet, HaveSetTooLarge, Request};
pub use transfer::{DEFAULT_RETRIES, Retry, Transfer};

use crate::body::BodyReceiver;
use crate::connection::Misuse;
use crate::image::Image;
use crate::time::Time;
use crate::wire::response::ErrorCode;
use clock::ResponseClock;
use request::Pending;
use send::Output;

/// One connection to a server.
///
/// It keeps no body and no catalog: it returns each [`Event`] when it is received, and that borrows the caller's
/// bytes. Its own memory is some 16 KiB of output, the head of a frame that arrives in several pieces (at most
/// 64 KiB, for an entry with a long name), and for compressed images the memory of a [`BodyReceiver`].
///
/// ```
/// use jtp_core::{ImageId, Time};
/// use jtp_core::client::{ClientConfig, ClientConnection, Event, Request};
///
/// let now = Time::ZERO;
/// let mut connection = ClientConnection::new(ClientConfig::default(), now);
/// connection.request(Request::GetById(vec![ImageId::of(b"an image")]), false, now)?;
///
/// let sent = connection.transmit().len();
/// assert_eq!(connection.transmit()[..3], [0, 0, 1]);
/// connection.transmitted(sent, now)?;
///
/// // The server's answer: one raw PNG.
/// let mut answer = b"JTPD\x01\x00\x08".to_vec();
/// answer.extend(ImageId::of(b"an image").to_be_bytes());
/// answer.extend(b"an image");
///
/// let (mut input, mut image) = (&answer[..], Vec::new());
/// loop {
///     let received = connection.receive(input, now)?;
///     input = &input[received.used..];
///     match received.event {
///         Some(Event::Data(bytes)) => image.extend_from_slice(bytes),
///         Some(Event::ImageEnd { verdict, .. }) => {
///             verdict?;
///         }
///         Some(_) => {}
///         None => break, // All input is used: a program would read more here, or be done.
///     }
/// }
/// assert_eq!(image, b"an image");
/// assert!(connection.is_idle());
/// connection.receive_eof(now)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ClientConnection {
    config: ClientConfig,
    /// The requests that are not completely answered, in order.
    pending: VecDeque<Pending>,
    /// The index in `pending` of the first request that is not completely encoded.
    next: usize,
    output: Output,
    state: State,
    /// A frame that is not completely received; shorter than the longest frame.
    head: Vec<u8>,
    body: BodyReceiver,
    /// The position of the last event's data in the input; `None` if they are in the body receiver's buffer.
    data_at: Option<Range<usize>>,
    /// A request without keep-alive was made. // S2
    last: bool,
    /// A request was cancelled before. // R7
    cancelled: bool,
    eof: bool,
    fault: Option<ClientError>,
    clock: ResponseClock,
    /// Whether any byte was received.
    heard: bool,
    /// Whether any event was returned.
    answered: bool,
}

/// What the next bytes are; see the module's diagram.
#[derive(Debug, Clone, Copy)]
enum State {
    Boundary,
    Count {
        kind: ResponseKind,
    },
    Entries {
        left: u32,
    },
    WatchEntry,
    Packets {
        left: u32,
    },
    /// A packet's head was returned. Whether its data are decoded here is known at the next call.
    Begun {
        left: u32,
        image: Image,
    },
    Body {
        left: u32,
        image: Image,
    },
    /// A packet's data that the caller decodes.
    Undecoded {
        left: u32,
        image: Image,
        remaining: u32,
    },
    Error,
}

impl ClientConnection {
    /// A new connection.
    #[must_use]
    pub fn new(config: ClientConfig, now: Time) -> ClientConnection {
        ClientConnection {
            config,
            pending: VecDeque::new(),
            next: 0,
            output: Output::default(),
            state: State::Boundary,
            head: Vec::new(),
            body: BodyReceiver::new(config.max_image_size(), config.max_window()),
            data_at: None,
            last: false,
            cancelled: false,
            eof: false,
            fault: None,
            clock: ResponseClock::new(now),
            heard: false,
            answered: false,
        }
    }

    /// When to call [`handle_timeout`](ClientConnection::handle_timeout). It moves later with the bytes sent and received,
    /// see [`ClientConfig::with_response_timeout`]. `None` while nothing is due, during WATCH, or without a timeout. // T6
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if self.is_over() || !self.is_due() {
            return None;
        }
        let timeout = self.config.response_timeout()?;
        Some(self.clock.deadline(timeout))
    }

    /// Ends the connection if the deadline has passed; otherwise it does nothing.
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`] if the deadline has passed, or the error that ended the connection earlier.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), ClientError> {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.fail(ClientError::TimedOut);
        }
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }

    /// The caller begins to wait for the server now. The time since it last passed or acknowledged bytes was spent by
    /// the application, and does not count for the response timeout. A call of [`receive`](ClientConnection::receive)
    /// without input notes that the caller still waits. // T6
    pub fn wait(&mut self, now: Time) {
        self.clock.resume(now);
    }

    /// Whether the server refused this connection rather than a request: a response is due, and the connection ended
    /// before any byte was received, or the first answer was `RateLimited`. Servers that limit the number of
    /// connections do this. When the transport fails, the caller asks this before it drops the connection.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        match &self.fault {
            None | Some(ClientError::EarlyEof) => !self.heard && self.is_due(),
            Some(ClientError::Server(error)) => {
                !self.answered && error.code == ErrorCode::RateLimited
            }
            Some(ClientError::Peer(_) | ClientError::TimedOut) => false,
        }
    }

    /// Whether nothing is in progress: no unanswered request, no output, no incomplete frame.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.fault.is_none()
            && self.pending.is_empty()
            && self.output.is_empty()
            && self.is_at_boundary()
    }

    /// Whether [`request`](ClientConnection::request) accepts another request, which is sent now or after those in
    /// progress. During WATCH it does not. A pool checks this and
    /// [`is_idle`](ClientConnection::is_idle). // S2 N3 R7
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        self.refusal().is_none()
    }

    /// Why another request cannot follow the earlier ones.
    fn refusal(&self) -> Option<Misuse> {
        if self.is_over() {
            return Some(Misuse::Closed);
        }
        if self.last {
            return Some(Misuse::LastRequest); // S2
        }
        if self.cancelled && !self.config.pipeline() {
            return Some(Misuse::AfterCancel); // R7
        }
        let is_watching = self.pending.back().is_some_and(Pending::is_watching);
        is_watching.then_some(Misuse::Watching) // N3
    }

    /// Number of requests that are not completely answered. A cancelled one counts until its `JTPC` is received.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// The error that ended the connection.
    #[must_use]
    pub const fn fault(&self) -> Option<&ClientError> {
        self.fault.as_ref()
    }

    /// Whether nothing can be sent any longer.
    fn is_over(&self) -> bool {
        self.eof || self.fault.is_some()
    }

    /// Whether output waits to be sent, or a response is due. // T6
    fn is_due(&self) -> bool {
        // A WATCH that is not completely sent is in the output.
        !self.output.is_empty() || self.pending.front().is_some_and(|p| !p.is_watching())
    }

    /// Starts the response timeout unless it runs already: another request does not extend it.
    fn start_clock(&mut self, now: Time) {
        if !self.is_due() {
            self.clock.restart(now);
        }
    }

    fn fail(&mut self, error: ClientError) {
        self.fault = Some(error);
        // Nothing more is sent or received. // R1
        self.output.clear();
        self.head = Vec::new();
    }
}

#[cfg(test)]
mod tests;
