//! The server's side of a connection as a state machine, without I/O.
//!
//! # Calls
//!
//! The calls fall in four groups. Any order of them is valid; a call that does not fit the state returns
//! [`Misuse`] and changes nothing.
//!
//! * **Input.** The caller owns the bytes that it has read and that are not used.
//!   [`receive`](ServerConnection::receive) uses some of them and returns a request that needs a decision; call it
//!   again after every other call that may have changed the state. [`wants_read`](ServerConnection::wants_read)
//!   says whether to read more, [`receive_eof`](ServerConnection::receive_eof) notes the end of the stream.
//! * **Decisions.** A request is answered by [`accept`](ServerConnection::accept) with a snapshot of a catalog, by
//!   [`refuse`](ServerConnection::refuse), or held until later. [`wants_body`](ServerConnection::wants_body) names
//!   the part of an image to load next; [`body_loaded`](ServerConnection::body_loaded) and
//!   [`body_failed`](ServerConnection::body_failed) answer it. The connection counts body bytes and never touches
//!   them.
//! * **Output.** [`transmit`](ServerConnection::transmit) shows what to send, any number of times;
//!   [`transmitted`](ServerConnection::transmitted) acknowledges what was sent. Bytes that were shown stay the next
//!   to send; more may be added behind them. [`wants_finish`](ServerConnection::wants_finish) asks for the
//!   half-close.
//! * **Time.** [`deadline`](ServerConnection::deadline) and
//!   [`handle_timeout`](ServerConnection::handle_timeout). The other calls take the current time.
//!
//! [`take_completed`](ServerConnection::take_completed) reports requests that have ended, for counters and traces.
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
//! | state | input | output | timeout (T4) | CANCEL | other request | end of stream |
//! |---|---|---|---|---|---|---|
//! | Head | read | none | first request, idle, or request rate | JTPC (C3), or InvalidRequest (C4) | Deciding | close |
//! | Deciding | looked at (S1) | none | none | remembered | left unread | after the response |
//! | Ids | read | none | request rate | is an ID | is an ID | close |
//! | Responding | looked at (S1) | response | write | at the next boundary: JTPC (C2), InvalidRequest (C4) | left unread | after the response (T5) |
//! | Watching | read | events | write, CANCEL | JTPC at the next event boundary (N3) | InvalidRequest (N3) | close at the next event boundary (N6) |
//! | Flushing | left unread | rest of it | write | | | |
//! | Finishing | left unread | half-close | write | | | |
//! | Lingering | discarded (S11) | none | linger | | | Closed |

mod clock;
mod completed;
mod config;
mod error;
mod input;
mod output;
mod packets;
#[cfg(test)]
mod tests;
mod transmit;
mod variant;
mod watching;

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;

use crate::catalog::{Catalog, Cursor};
use crate::connection::Misuse;
use crate::image::Image;
use crate::time::Time;
use crate::wire::request::{self, RequestHead, RequestKind};
use crate::wire::response::{ErrorCode, ErrorFrame, Header};

use clock::RequestClock;
use completed::RequestLog;
pub use completed::{CompletedRequest, RequestOutcome};
pub use config::ServerConfig;
pub use error::{CloseReason, Timeout};
use input::RequestIds;
use output::{Responding, ResponseBody};
use packets::ImageQueue;
pub use transmit::{BodyRequest, BodySpan, Transmit};
use watching::{WatchEnd, Watching};

/// The server's side of one connection. The [module](self) describes how to drive it.
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
///     if received.event.is_some() {
///         connection.accept(&writer.publish(), now)?;
///     }
///     if let Some(body) = connection.wants_body() {
///         connection.body_loaded(body.remaining(), now)?;
///     }
///     let output = connection.transmit();
///     sent.extend_from_slice(output.bytes);
///     if let Some(span) = output.body {
///         sent.extend_from_slice(&pixels[span.range()]);
///     }
///     let length = output.len();
///     connection.transmitted(length, now)?;
///     if connection.wants_finish() {
///         break; // A driver half-closes here, calls `finished`, and reads until the peer closes.
///     }
/// }
/// assert!(sent.starts_with(b"JTPG\x01") && sent.ends_with(pixels));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct ServerConnection {
    config: ServerConfig,
    state: State,
    /// Queued frames, of which the first `out_sent` bytes are acknowledged.
    out: Vec<u8>,
    out_sent: usize,
    input_ended: bool,
    /// Whether any byte was received.
    received_any: bool,
    /// Whether a keep-alive request or a WATCH was received before. // C4
    cancellable: bool,
    /// Whether the server is shutting down. // S16
    draining: bool,
    /// The start of a WATCH that directly follows a LIST and was in the input when the LIST was accepted. // N5
    watch_from: Option<Cursor>,
    /// When the current wait began: for input, for the peer to accept output, or for the end of lingering. Never
    /// decreases.
    since: Time,
    request_clock: RequestClock,
    requests: RequestLog,
    reason: Option<CloseReason>,
}

#[derive(Debug)]
enum State {
    /// Between requests, or inside a request's head.
    Head {
        bytes: [u8; request::MAX_HEAD_LEN],
        len: usize,
    },
    /// A request waits for the application's decision.
    Deciding {
        head: RequestHead,
        cancelled: bool,
        watch_follows: bool,
    },
    /// The request's IDs are being read.
    Ids(RequestIds),
    /// A response is in progress.
    Responding(Responding),
    /// A WATCH is active.
    Watching(Watching),
    /// The connection is closing: queued frames are being sent. // S11
    Flushing,
    /// Everything is sent, and the half-close is due.
    Finishing,
    /// Half-closed: input is discarded.
    Lingering { bytes: u64 },
    /// Nothing is left to do.
    Closed,
}

impl State {
    const IDLE: State = State::Head {
        bytes: [0; request::MAX_HEAD_LEN],
        len: 0,
    };
}

impl ServerConnection {
    /// A new connection.
    #[must_use]
    pub fn new(config: ServerConfig, now: Time) -> ServerConnection {
        ServerConnection {
            config,
            state: State::IDLE,
            out: Vec::new(),
            out_sent: 0,
            input_ended: false,
            received_any: false,
            cancellable: false,
            draining: false,
            watch_from: None,
            since: now,
            request_clock: RequestClock::default(),
            requests: RequestLog::default(),
            reason: None,
        }
    }

    /// A new connection that is refused before any request: it sends `JTPE`, and closes as after any error.
    #[must_use]
    pub fn refused(config: ServerConfig, code: ErrorCode, message: &str, now: Time) -> Self {
        let mut connection = ServerConnection::new(config, now);
        connection.error(code, message, CloseReason::Refused(code), now);
        connection
    }

    /// Answers the waiting request from this snapshot of a catalog. // S3
    ///
    /// The IDs of `GET_BY_ID` and BATCH are read next, and matched against it (S8). Requests may be answered from
    /// different catalogs: a WATCH sends the events after its own, or after that of the LIST directly before it (N5)
    /// if both belong to one history.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoRequest`] if no request waits.
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
        let body = match head.kind {
            RequestKind::GetById { .. } | RequestKind::Batch { .. } => {
                self.state = State::Ids(RequestIds::new(&head, cancelled, catalog));
                self.ids_complete(now);
                return Ok(());
            }
            RequestKind::Watch => {
                // N5 applies within one history.
                let from = watch_from
                    .filter(|from| from.same_history(catalog.latest()))
                    .unwrap_or_else(|| catalog.latest().clone());
                let lag = from.behind(catalog.latest()).unwrap_or(0);
                let mut watching = if lag > self.config.max_watch_lag() {
                    Watching::ended(from, WatchEnd::Close(CloseReason::WatchLag)) // N2
                } else {
                    Watching::new(from)
                };
                if cancelled {
                    watching.end.get_or_insert(WatchEnd::Cancel);
                }
                if self.draining {
                    // S16: the shutdown came before the decision.
                    let reason = CloseReason::Shutdown;
                    watching.end.get_or_insert(WatchEnd::Close(reason));
                }
                self.state = State::Watching(watching);
                self.progress(now);
                return Ok(());
            }
            RequestKind::List => {
                // N5: a WATCH behind this LIST sends the images that are added after this snapshot.
                self.watch_from =
                    (watch_follows && head.keep_alive).then(|| catalog.latest().clone());
                ResponseBody::List {
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
                    ImageQueue::All(catalog, Default::default()),
                )
            }
            // Not reached: CANCEL needs no decision.
            RequestKind::Cancel => return Err(Misuse::NoRequest),
        };
        self.respond(head.keep_alive, cancelled, body, now);
        Ok(())
    }

    /// Refuses the waiting request with `JTPE`, and closes the connection. // S11
    ///
    /// # Errors
    ///
    /// [`Misuse::NoRequest`] if no request waits.
    pub fn refuse(&mut self, code: ErrorCode, message: &str, now: Time) -> Result<(), Misuse> {
        let State::Deciding { .. } = self.state else {
            return Err(Misuse::NoRequest);
        };
        self.requests.end(RequestOutcome::Refused(code));
        self.error(code, message, CloseReason::Refused(code), now);
        Ok(())
    }

    /// Whether a WATCH is active. While it is, call [`catalog_changed`](Self::catalog_changed) after each change of
    /// the catalog that it was accepted with.
    #[must_use]
    pub fn is_watching(&self) -> bool {
        matches!(self.state, State::Watching(_))
    }

    /// Notes a new snapshot of the catalog that a WATCH was accepted with. Any number of snapshots may have been
    /// published since the last call. // N1 N2
    pub fn catalog_changed(&mut self, catalog: &Catalog, now: Time) {
        let max_lag = self.config.max_watch_lag();
        if let State::Watching(watching) = &mut self.state {
            let idle = watching.output().is_empty();
            let lag = watching.cursor().behind(catalog.latest());
            if lag.is_some_and(|lag| lag > max_lag) {
                watching
                    .end
                    .get_or_insert(WatchEnd::Close(CloseReason::WatchLag));
            }
            watching.advance();
            if idle {
                self.since = self.since.max(now);
            }
            self.progress(now);
        }
    }

    /// Ends a WATCH at the next event boundary, and closes the connection: the server has too many watchers. It does
    /// nothing unless a WATCH is active. // T8
    pub fn end_watch(&mut self, now: Time) {
        if let State::Watching(watching) = &mut self.state {
            watching
                .end
                .get_or_insert(WatchEnd::Close(CloseReason::TooManyWatchers));
            self.progress(now);
        }
    }

    /// Begins a graceful shutdown: the connection closes at once if it is idle, during WATCH at the next event
    /// boundary, and otherwise after the current response. // S16
    pub fn shutdown(&mut self, now: Time) {
        self.draining = true;
        match &mut self.state {
            State::Head { .. } => self.close(CloseReason::Shutdown, now),
            State::Watching(watching) => {
                watching
                    .end
                    .get_or_insert(WatchEnd::Close(CloseReason::Shutdown));
                self.progress(now);
            }
            _ => {}
        }
    }

    /// Ends the connection at once: the transport failed, or the caller gives up. Nothing more is sent.
    pub fn abort(&mut self) {
        self.end(CloseReason::Aborted);
    }

    /// Whether nothing is left to do, so that the transport can be dropped.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// Why the connection ends; `None` before that.
    #[must_use]
    pub fn close_reason(&self) -> Option<CloseReason> {
        self.reason
    }

    /// Queues a `JTPE`, and closes the connection. // S11
    fn error(&mut self, code: ErrorCode, message: &str, reason: CloseReason, now: Time) {
        ErrorFrame::new(code, Cow::Borrowed(message)).encode(&mut self.out);
        self.close(reason, now);
    }

    /// Closes the connection after the queued frames are sent. // S11
    fn close(&mut self, reason: CloseReason, now: Time) {
        self.note_end(reason);
        self.since = self.since.max(now);
        self.state = if self.out_sent < self.out.len() {
            State::Flushing
        } else {
            State::Finishing
        };
    }

    /// Closes the connection without sending the queued frames.
    fn end(&mut self, reason: CloseReason) {
        self.note_end(reason);
        self.state = State::Closed;
    }

    fn note_end(&mut self, reason: CloseReason) {
        let reason = *self.reason.get_or_insert(reason);
        self.requests.end(RequestOutcome::Aborted(reason));
    }

    /// Begins a response, which consists of the frames in `out` and of `body`.
    fn respond(&mut self, keep_alive: bool, cancelled: bool, body: ResponseBody, now: Time) {
        self.since = self.since.max(now);
        self.state = State::Responding(Responding {
            keep_alive,
            cancelled,
            body,
        });
        self.packet_boundary(now);
    }

    /// Queues a header with its count. Returns the packets that follow it.
    fn packets(&mut self, header: Header, count: u32, mut images: ImageQueue) -> ResponseBody {
        match (header, u8::try_from(count)) {
            (Header::Data, Ok(count)) => {
                crate::wire::response::encode_data_head(count, &mut self.out);
            }
            _ => crate::wire::response::encode_head(header, count, &mut self.out),
        }
        let next = images.next();
        ResponseBody::Packets {
            images,
            next,
            current: None,
            failed: false,
        }
    }

    /// Number of images that were looked up for the current BATCH since the last call: work that no bytes show, for a
    /// scheduler that shares the processor between connections. A call of another method adds at most some 1,000. // T8
    pub fn take_lookups(&mut self) -> usize {
        match &mut self.state {
            State::Responding(Responding {
                body: ResponseBody::Packets { images, .. },
                ..
            }) => images.take_lookups(),
            _ => 0,
        }
    }

    /// The images of the current response that are not begun, in order, for reading ahead. Of a BATCH the next ones, at
    /// least one if any is left.
    pub fn upcoming(&self) -> impl Iterator<Item = Image> + '_ {
        let (next, images) = match &self.state {
            State::Responding(Responding {
                body: ResponseBody::Packets { next, images, .. },
                cancelled: false,
                ..
            }) => (*next, Some(images)),
            _ => (None, None),
        };
        next.into_iter()
            .chain(images.into_iter().flat_map(ImageQueue::peek))
    }
}
