//! The server's side of a connection, as a state machine without I/O.
//!
//! # How it is driven
//!
//! The calls fall in four groups, and no group needs another to be finished first: any order is valid, and
//! a call that does not fit answers [`Misuse`] and changes nothing.
//!
//! * **Input.** The caller owns the bytes it has read and not used. [`receive`](ServerConnection::receive)
//!   looks at them, says how many it used, and returns a request that needs a decision; call it again after
//!   every other call that may have changed something. [`wants_read`](ServerConnection::wants_read) tells
//!   whether to read more, [`receive_eof`](ServerConnection::receive_eof) that nothing more will come.
//! * **Decisions.** A request is answered by [`accept`](ServerConnection::accept) with a snapshot, by
//!   [`refuse`](ServerConnection::refuse), or held until later. [`wants_body`](ServerConnection::wants_body)
//!   names the bytes of an image to get ready next, [`body_loaded`](ServerConnection::body_loaded) and
//!   [`body_failed`](ServerConnection::body_failed) answer it. The machine counts those bytes and never
//!   touches them.
//! * **Output.** [`transmit`](ServerConnection::transmit) shows what to send, as often as one looks;
//!   [`transmitted`](ServerConnection::transmitted) says how much of it was sent. What was shown once is only
//!   ever added to. [`wants_finish`](ServerConnection::wants_finish) asks for the half-close.
//! * **Time.** [`deadline`](ServerConnection::deadline) and
//!   [`handle_timeout`](ServerConnection::handle_timeout); every other call is told the time.
//!
//! # States
//!
//! ```text
//!            ┌──────────────────────────── keep-alive, response sent ───────────────────────────┐
//!            ▼                                                                                  │
//!   ┌──► Head ──request──► Deciding ──accept──► Ids ──all read──► Responding ──no keep-alive──┐ │
//!   │      │                 │  │   (no IDs: straight on) ────────►   │  ▲                    │ │
//!   │      │                 │  └─accept WATCH─► Watching ─CANCEL─►JTPC │                     │ │
//!   │      └─CANCEL─► JTPC ──┼────────────────────────────────────────┘ └── CANCEL: JTPC ─────┼─┘
//!   │                        └─refuse─► JTPE ─┐                                               │
//!   └ new                 any error ─► JTPE ──┴─► Flushing ─► Finishing ─► Lingering ─► Closed ◄ write timeout
//! ```
//!
//! | state | input | output | clock (T4) | CANCEL | other request | EOF |
//! |---|---|---|---|---|---|---|
//! | Head | read | none | first byte, idle, or request rate | JTPC (C3), or InvalidRequest (C4) | Deciding | close |
//! | Deciding | looked at (S1) | none | none | remembered | left unread | after the response |
//! | Ids | read | none | request rate | is an ID | is an ID | close |
//! | Responding | looked at (S1) | response | write | at the next boundary: JTPC (C2), InvalidRequest (C4) | left unread | after the response (T5) |
//! | Watching | read | events | write, CANCEL | JTPC at the next event boundary (N3) | InvalidRequest (N3) | close at the next event boundary (N6) |
//! | Flushing | left unread | rest of it | write | | | |
//! | Finishing | left unread | half-close | write | | | |
//! | Lingering | thrown away (S11) | none | linger | | | Closed |

mod clock;
mod config;
mod error;
mod input;
mod output;
mod packets;
mod port;
#[cfg(test)]
mod tests;
mod watching;

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::catalog::{Catalog, Cursor};
use crate::image::Image;
use crate::time::Time;
use crate::wire::request::{self, RequestHead, RequestKind};
use crate::wire::response::{ErrorCode, ErrorFrame, Header};

use clock::RequestClock;
pub use config::ServerConfig;
pub use error::{CloseReason, Misuse, Timeout};
use input::Ids;
pub use output::{BodySpan, BodyWanted, Transmit};
use output::{Responding, What};
use packets::Source;
pub use port::{Opening, PlainPolicy, TLS_NEEDED};
use watching::{Ending, Watching};

/// What [`ServerConnection::receive`] made of the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Received {
    /// How many bytes it used. The rest stays with the caller.
    pub used: usize,
    /// A request that waits for [`ServerConnection::accept`] or [`ServerConnection::refuse`]. It counts for
    /// the rate limit (S15); CANCEL never appears here.
    pub request: Option<RequestHead>,
}

/// The server's side of one connection. The module's docs say how to drive it.
///
/// ```
/// use jtp_core::server::{ServerConfig, ServerConnection};
/// use jtp_core::{CatalogWriter, FileType, Flags, Image, ImageId, Time};
///
/// let pixels = b"not quite a PNG";
/// let mut writer = CatalogWriter::new();
/// let flags = Flags::new(FileType::Png, false);
/// writer.insert("a.png", Image::new(ImageId::of(pixels), flags, 15))?;
///
/// let now = Time::ZERO;
/// let mut connection = ServerConnection::new(ServerConfig::new(), now);
/// let mut sent = Vec::new();
/// let mut input: &[u8] = &[5, 0]; // LIST_AND_GET, no keep-alive
/// loop {
///     let received = connection.receive(input, now);
///     input = &input[received.used..];
///     if received.request.is_some() {
///         connection.accept(&writer.publish(), now)?;
///     }
///     if let Some(body) = connection.wants_body() {
///         connection.body_loaded(body.image.length - body.offset, now)?;
///     }
///     let output = connection.transmit();
///     sent.extend_from_slice(output.bytes);
///     if let Some(span) = output.body {
///         sent.extend_from_slice(&pixels[span.range()]);
///     }
///     let length = output.len();
///     connection.transmitted(length, now)?;
///     if connection.wants_finish() {
///         break; // Half-close here, go on with `finished`, and read until the peer closes.
///     }
/// }
/// assert!(sent.starts_with(b"JTPG\x01") && sent.ends_with(pixels));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ServerConnection {
    config: ServerConfig,
    state: State,
    /// Frames to send; acknowledged up to `out_sent`.
    out: Vec<u8>,
    out_sent: usize,
    input_ended: bool,
    /// Whether any byte ever came.
    heard: bool,
    /// Whether a keep-alive request or a WATCH came before. // C4
    cancellable: bool,
    /// Whether the server is shutting down. // S16
    draining: bool,
    /// Where a WATCH begins that was in the input when the LIST before it began. // N5
    watch_from: Option<Cursor>,
    /// When the present wait began: for input, for output to move, for the end of the lingering.
    /// Never goes back.
    since: Time,
    request_clock: RequestClock,
    reason: Option<CloseReason>,
}

#[derive(Debug)]
enum State {
    /// Between requests, or inside a request's head.
    Head {
        bytes: [u8; request::MAX_HEAD_LEN],
        len: usize,
    },
    /// The application has a request and has not decided.
    Deciding {
        head: RequestHead,
        cancelled: bool,
        watch_follows: bool,
    },
    /// The request's IDs are being read.
    Ids(Ids),
    /// A response is under way.
    Responding(Responding),
    /// WATCH.
    Watching(Watching),
    /// The connection is ending: what is due is sent. // S11
    Flushing,
    /// All is sent, the half-close is due.
    Finishing,
    /// Half-closed: what comes is thrown away.
    Lingering { bytes: u64 },
    /// Over.
    Closed,
}

impl State {
    const IDLE: State = State::Head {
        bytes: [0; request::MAX_HEAD_LEN],
        len: 0,
    };
}

impl ServerConnection {
    /// A new connection, to which nothing has come yet.
    #[must_use]
    pub fn new(config: ServerConfig, now: Time) -> ServerConnection {
        ServerConnection {
            config,
            state: State::IDLE,
            out: Vec::new(),
            out_sent: 0,
            input_ended: false,
            heard: false,
            cancellable: false,
            draining: false,
            watch_from: None,
            since: now,
            request_clock: RequestClock::default(),
            reason: None,
        }
    }

    /// A new connection that is refused before any request: it sends `JTPE` and closes in the orderly way.
    #[must_use]
    pub fn refused(config: ServerConfig, code: ErrorCode, message: &str, now: Time) -> Self {
        let mut connection = ServerConnection::new(config, now);
        connection.error(code, message, CloseReason::Refused(code), now);
        connection
    }

    /// Answers the request that waits from one snapshot of the catalog. // S3
    ///
    /// For `GET_BY_ID` and BATCH their IDs are read next and matched against it. // S8
    ///
    /// # Errors
    ///
    /// [`Misuse::NoRequest`].
    pub fn accept(&mut self, catalog: &Arc<Catalog>, now: Time) -> Result<(), Misuse> {
        let State::Deciding {
            head,
            cancelled,
            watch_follows,
        } = self.state
        else {
            return Err(Misuse::NoRequest);
        };
        self.request_clock.resume(now);
        self.since = self.since.max(now);
        let watch_from = self.watch_from.take();
        let catalog = Arc::clone(catalog);
        let what = match head.kind {
            RequestKind::GetById { .. } | RequestKind::Batch { .. } => {
                self.state = State::Ids(Ids::new(&head, cancelled, catalog));
                self.ids_complete(now);
                return Ok(());
            }
            RequestKind::Watch => {
                let from = watch_from.unwrap_or_else(|| catalog.latest().clone());
                let lag = from.behind(catalog.latest()).unwrap_or(0);
                let mut watching = if lag > self.config.max_watch_lag {
                    Watching::ending(from, Ending::Close(CloseReason::Lag)) // N2
                } else {
                    Watching::new(from)
                };
                if cancelled {
                    watching.ending.get_or_insert(Ending::Cancel);
                }
                self.state = State::Watching(watching);
                self.progress(now);
                return Ok(());
            }
            RequestKind::List => {
                // N5: the WATCH behind this LIST tells what enters after this snapshot.
                self.watch_from =
                    (watch_follows && head.keep_alive).then(|| catalog.latest().clone());
                What::List {
                    catalog,
                    piece: 0,
                    offset: 0,
                }
            }
            RequestKind::ListAndGet => {
                let count = u32::try_from(catalog.len()).unwrap_or(u32::MAX);
                self.packets(
                    Header::ListAndGet,
                    count,
                    Source::All(catalog, Default::default()),
                )
            }
            // A CANCEL is answered by itself.
            RequestKind::Cancel => return Err(Misuse::NoRequest),
        };
        self.respond(head.keep_alive, cancelled, what, now);
        Ok(())
    }

    /// Refuses the request that waits: `JTPE`, and the connection ends. // S11
    ///
    /// # Errors
    ///
    /// [`Misuse::NoRequest`].
    pub fn refuse(&mut self, code: ErrorCode, message: &str, now: Time) -> Result<(), Misuse> {
        let State::Deciding { .. } = self.state else {
            return Err(Misuse::NoRequest);
        };
        self.error(code, message, CloseReason::Refused(code), now);
        Ok(())
    }

    /// Whether this connection is told of new images: call
    /// [`catalog_changed`](Self::catalog_changed) after each publishing while it is.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        matches!(self.state, State::Watching(_))
    }

    /// A new snapshot was published. Between two calls any number may have been. // N1 N2
    pub fn catalog_changed(&mut self, catalog: &Catalog, now: Time) {
        let max_lag = self.config.max_watch_lag;
        if let State::Watching(watching) = &mut self.state {
            let idle = watching.output().is_empty();
            let lag = watching.cursor().behind(catalog.latest());
            if lag.is_some_and(|lag| lag > max_lag) {
                watching
                    .ending
                    .get_or_insert(Ending::Close(CloseReason::Lag));
            }
            watching.advance();
            if idle {
                self.since = self.since.max(now);
            }
            self.progress(now);
        }
    }

    /// Begins the graceful end: at once when idle, at an event boundary during WATCH, after the response
    /// that is under way otherwise. // S16
    pub fn shutdown(&mut self, now: Time) {
        self.draining = true;
        match &mut self.state {
            State::Head { .. } => self.close(CloseReason::Shutdown, now),
            State::Watching(watching) => {
                watching
                    .ending
                    .get_or_insert(Ending::Close(CloseReason::Shutdown));
                self.progress(now);
            }
            _ => {}
        }
    }

    /// Whether nothing is left to do: drop the transport.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Why the connection ends, once it does.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.reason
    }

    /// Queues a `JTPE` and ends the connection. // S11
    fn error(&mut self, code: ErrorCode, message: &str, reason: CloseReason, now: Time) {
        ErrorFrame::new(code, Cow::Borrowed(message)).encode(&mut self.out);
        self.close(reason, now);
    }

    /// Ends the connection once what is queued is sent. // S11
    fn close(&mut self, reason: CloseReason, now: Time) {
        self.reason.get_or_insert(reason);
        self.since = self.since.max(now);
        self.state = if self.out_sent < self.out.len() {
            State::Flushing
        } else {
            State::Finishing
        };
    }

    /// Begins a response. What it consists of is in `what` and in `out`.
    fn respond(&mut self, keep_alive: bool, cancelled: bool, what: What, now: Time) {
        self.since = self.since.max(now);
        self.state = State::Responding(Responding {
            keep_alive,
            cancelled,
            what,
        });
        self.boundary(now);
    }

    /// Queues a header with its count, and the packets to follow.
    fn packets(&mut self, header: Header, count: u32, mut source: Source) -> What {
        match (header, u8::try_from(count)) {
            (Header::Data, Ok(count)) => {
                crate::wire::response::encode_data_head(count, &mut self.out);
            }
            _ => crate::wire::response::encode_head(header, count, &mut self.out),
        }
        let next = source.next();
        What::Packets {
            source,
            next,
            current: None,
            failed: false,
        }
    }

    /// The images that the response under way still has to begin, in order: for reading ahead.
    pub fn upcoming(&self) -> impl Iterator<Item = Image> + '_ {
        let (next, source) = match &self.state {
            State::Responding(Responding {
                what: What::Packets { next, source, .. },
                cancelled: false,
                ..
            }) => (*next, Some(source)),
            _ => (None, None),
        };
        next.into_iter()
            .chain(source.into_iter().flat_map(Source::peek))
    }
}
