//! The client's side of a connection as a state machine.
//!
//! # Receiving
//!
//! ```text
//!                 JTPE ┌───────┐
//!          ┌──────────►│ Error │ the message ► ClientError::Server, sticky
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
//!    │          │ JTPW ┌──────┐
//!    │          ├─────►│ News │ entry ► NewImage
//!    │          │◄─────┤      │
//!    │          │      └──────┘
//!    │          ├──┐
//!    └──────────┘◄─┘ JTPC ► Cancelled
//! ```
//!
//! | state | what may come | anything else |
//! |---|---|---|
//! | Boundary, nothing sent that is unanswered | `JTPE` | [`PeerError::UnexpectedData`] |
//! | Boundary, a response is due | its header, `JTPE`; `JTPC` after CANCEL | [`PeerError::UnexpectedResponse`] |
//! | Boundary, the response is complete and CANCEL was sent | `JTPC`, `JTPE` | [`PeerError::UnexpectedResponse`] |
//! | Boundary, watching | `JTPW`, `JTPE`; `JTPC` after CANCEL | [`PeerError::UnexpectedResponse`] |
//! | Count, Entries, News, Error | just that | [`PeerError::Wire`] |
//! | Packets | a packet's head, `JTPE` (S12); `JTPC` after CANCEL | [`PeerError::NotAPacket`] |
//! | Body | any bytes; a bad image is told at its end | |
//!
//! (An image that is [left undecoded](ClientConnection::leave_undecoded) has a Body whose bytes are told as they
//! are, and a `PacketEnd`.)
//!
//! # Sending
//!
//! Each request goes through these states; the response can come from Sent on.
//!
//! ```text
//! Queued ──► Encoding (IDs, 16 KiB at a time) ──► Sent ──► answered, gone
//!    waits for                                     │ cancel()
//!    the one before, if that is                    ▼
//!    a WATCH (N3), a GET_BY_ID (R7),            CANCEL sent ──► JTPC, gone
//!    or cancelled
//! ```
//!
//! # Calls
//!
//! They come in four classes, and any order of them is valid:
//!
//! - what the application wants: [`request`](ClientConnection::request), [`cancel`](ClientConnection::cancel),
//!   [`leave_undecoded`](ClientConnection::leave_undecoded);
//! - bytes out: [`transmit`](ClientConnection::transmit), [`transmitted`](ClientConnection::transmitted);
//! - bytes in: [`receive`](ClientConnection::receive), [`receive_eof`](ClientConnection::receive_eof);
//! - time: [`deadline`](ClientConnection::deadline), [`handle_timeout`](ClientConnection::handle_timeout),
//!   [`wait`](ClientConnection::wait).
//!
//! Misuse is reported as [`Misuse`](crate::Misuse) and changes nothing. What the peer or the network did wrong is a
//! [`ClientError`], which ends the connection for good.

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

pub use config::{ClientConfig, DEFAULT_RESPONSE_TIMEOUT};
pub use error::{ClientError, Location, PeerError, ServerError};
pub use event::{CatalogEntry, Event, ResponseKind};
pub use request::{HaveSet, HaveSetTooLarge, Request};
pub use transfer::{DEFAULT_RETRIES, Retry, Transfer};

use crate::body::BodyReceiver;
use crate::image::Image;
use crate::time::Time;
use request::Pending;
use send::Output;

/// One connection to a server.
///
/// It holds no body and no catalog: what comes is told as an [`Event`] that borrows the caller's bytes. Its
/// own memory is some 16 KiB of output, a frame's head that came in pieces (an entry with a long name: 64
/// KiB), and for compressed images what [`BodyReceiver`] needs.
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
/// // What a server answers: one raw PNG.
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
///         Some(Event::ImageEnd { verdict, .. }) => drop(verdict?),
///         Some(_) => {}
///         None => break, // all was used: here a program would read, or be done
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
    /// The requests that are not wholly answered, in order.
    pending: VecDeque<Pending>,
    /// The first of them that has not wholly become output.
    next: usize,
    output: Output,
    state: State,
    /// A frame that has not wholly come; shorter than the longest frame.
    head: Vec<u8>,
    body: BodyReceiver,
    /// Where in its input the last event's data stood; `None` if they are in the body's buffer.
    data_at: Option<Range<usize>>,
    /// A request without keep-alive was made. // S2
    last: bool,
    /// CANCEL was asked for, at any time. // R7
    cancelled: bool,
    eof: bool,
    fault: Option<ClientError>,
    /// When a byte moved last, or waiting began. // T6
    moved: Time,
}

/// What the next bytes are; see the diagram.
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
    /// A packet's head has been told; who is to decode its data shows at the next call.
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
    /// A connection on which nothing has happened yet.
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
            moved: now,
        }
    }

    /// When [`handle_timeout`](ClientConnection::handle_timeout) has something to do; it moves with every
    /// byte. `None` while nothing is due, while watching, or without a timeout. // T6
    #[must_use]
    pub fn deadline(&self) -> Option<Time> {
        if self.is_over() || !self.is_due() {
            return None;
        }
        Some(self.moved + self.config.response_timeout()?)
    }

    /// Looks at the clock.
    ///
    /// # Errors
    ///
    /// [`ClientError::TimedOut`] if the deadline has passed, or the error that ended the connection before.
    pub fn handle_timeout(&mut self, now: Time) -> Result<(), ClientError> {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.fail(ClientError::TimedOut);
        }
        match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => Ok(()),
        }
    }

    /// Says that the caller begins to wait for the server only now: the time before it was the application's,
    /// which kept the connection from being read. // T6
    pub fn wait(&mut self, now: Time) {
        self.progress(now);
    }

    /// Whether nothing is under way: no request unanswered, nothing to send, no frame half there.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.fault.is_none()
            && self.pending.is_empty()
            && self.output.is_empty()
            && self.is_at_boundary()
    }

    /// Whether the connection may take another request, now or when what is under way is done. A pool wants
    /// this and [`is_idle`](ClientConnection::is_idle). // S2 R7
    #[must_use]
    pub fn is_reusable(&self) -> bool {
        !self.is_over() && !self.last && (!self.cancelled || self.config.pipeline())
    }

    /// How many requests are not wholly answered, the `JTPC` of a cancelled one included; after an error,
    /// how many were not.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.pending.len()
    }

    /// The error that ended the connection.
    #[must_use]
    pub const fn fault(&self) -> Option<&ClientError> {
        self.fault.as_ref()
    }

    /// Whether nothing can be sent any more.
    fn is_over(&self) -> bool {
        self.eof || self.fault.is_some()
    }

    /// Whether the server owes something, or is owed something. // T6
    fn is_due(&self) -> bool {
        // A WATCH that is not wholly sent shows in the output.
        !self.output.is_empty() || self.pending.front().is_some_and(|p| !p.is_watching())
    }

    fn progress(&mut self, now: Time) {
        self.moved = self.moved.max(now);
    }

    /// Begins to wait, unless that goes on already: to ask for more does not make the server quicker.
    fn start_clock(&mut self, now: Time) {
        if !self.is_due() {
            self.progress(now);
        }
    }

    fn fail(&mut self, error: ClientError) {
        self.fault = Some(error);
        // Nothing more is sent, and nothing more will come. // R1
        self.output.clear();
        self.head = Vec::new();
    }
}

#[cfg(test)]
mod tests;
