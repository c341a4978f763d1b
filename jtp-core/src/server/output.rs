//! What goes to the client.

use alloc::sync::Arc;
use core::ops::Range;

use super::packets::Source;
use super::watching::Ending;
use super::{CloseReason, RequestOutcome, ServerConnection, State};
use crate::catalog::Catalog;
use crate::connection::Misuse;
use crate::image::Image;
use crate::time::Time;
use crate::wire::packet;
use crate::wire::response::{ErrorCode, Header};

/// What to send next: some bytes, then a piece of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Transmit<'a> {
    /// Frames, to be sent first. May be empty.
    pub bytes: &'a [u8],
    /// The piece of an image that follows them.
    pub body: Option<BodySpan>,
}

impl Transmit<'_> {
    /// How many bytes that is altogether.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() + self.body.map_or(0, |span| span.range().len())
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A piece of an image's body: the bytes that are loaded and not acknowledged. // S6
///
/// The connection alone counts body bytes. A driver keeps the chunks that it loaded, each with its offset in the
/// body. Those that end at or before `offset` are sent and can be dropped; without a `BodySpan` all are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodySpan {
    /// The image.
    pub image: Image,
    /// Where in the body the piece begins: the first byte that is not acknowledged.
    pub offset: u32,
    /// Number of bytes in the piece; at least 1.
    pub length: u32,
}

impl BodySpan {
    /// The piece as a range of the image's bytes as they travel.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
        at(self.offset)..at(self.offset).saturating_add(at(self.length))
    }
}

/// The part of a body that the connection needs next.
///
/// [`ServerConnection::body_loaded`] and [`ServerConnection::body_failed`] answer both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a driver that leaves a request unanswered stalls, so a new one must not compile unnoticed"
)]
pub enum BodyRequest {
    /// Open the image, and check that it is the one that the catalog names: the packet begins with the answer.
    /// Any number of its bytes, also 0, can be loaded with it. // S13
    Open {
        /// The image as its packet's head describes it.
        image: Image,
    },
    /// Load more of the image that was opened last.
    Read {
        /// The image.
        image: Image,
        /// Number of bytes loaded before: the position in the body of the next one.
        offset: u32,
    },
}

impl BodyRequest {
    /// The image.
    #[must_use]
    pub const fn image(self) -> Image {
        match self {
            BodyRequest::Open { image } | BodyRequest::Read { image, .. } => image,
        }
    }

    /// The position in the body of the first byte to load.
    #[must_use]
    pub const fn offset(self) -> u32 {
        match self {
            BodyRequest::Open { .. } => 0,
            BodyRequest::Read { offset, .. } => offset,
        }
    }

    /// Number of bytes from [`offset`](Self::offset) to the end of the body.
    #[must_use]
    pub const fn remaining(self) -> u32 {
        self.image().length - self.offset()
    }
}

/// A response under way.
#[derive(Debug)]
pub(super) struct Responding {
    pub(super) keep_alive: bool,
    /// Whether its CANCEL has come.
    pub(super) cancelled: bool,
    pub(super) what: What,
}

#[derive(Debug)]
pub(super) enum What {
    /// One frame, all of it queued.
    Frame,
    /// A catalog, from its own encoding. Nothing else can come inside. // C2 S12
    List {
        catalog: Arc<Catalog>,
        piece: usize,
        offset: usize,
    },
    /// Packets.
    Packets {
        source: Source,
        /// The image of the packet that comes next.
        next: Option<Image>,
        /// The packet that is being sent; its head is queued.
        current: Option<Current>,
        /// Whether the rest of it cannot be had.
        failed: bool,
    },
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Current {
    image: Image,
    loaded: u32,
    sent: u32,
}

impl ServerConnection {
    /// What to send next. Looking again shows the same, or the same and more; nothing any more once the
    /// connection [is closed](Self::is_closed).
    pub fn transmit(&self) -> Transmit<'_> {
        let queued = self.out.get(self.out_sent..).unwrap_or_default();
        let (bytes, body) = match &self.state {
            State::Responding(responding) => match &responding.what {
                What::Frame => (queued, None),
                What::List {
                    catalog,
                    piece,
                    offset,
                } => (
                    catalog
                        .list_piece(*piece)
                        .and_then(|p| p.get(*offset..))
                        .unwrap_or(&[]),
                    None,
                ),
                What::Packets { current, .. } => (queued, current.and_then(Current::span)),
            },
            State::Watching(watching) => (watching.output(), None),
            // After a write timeout there may be something left, and nobody to take it. // T4
            State::Closed => (&[][..], None),
            _ => (queued, None),
        };
        Transmit { bytes, body }
    }

    /// So many bytes of [`transmit`](Self::transmit) were sent.
    ///
    /// # Errors
    ///
    /// [`Misuse::Overacknowledged`] if it showed fewer.
    pub fn transmitted(&mut self, count: usize, now: Time) -> Result<(), Misuse> {
        let shown = self.transmit();
        if count > shown.len() {
            return Err(Misuse::Overacknowledged {
                acknowledged: count,
                shown: shown.len(),
            });
        }
        if count == 0 {
            return Ok(());
        }
        let frames = shown.bytes.len().min(count);
        self.since = self.since.max(now);
        let body = u32::try_from(count - frames).unwrap_or(u32::MAX);
        match &mut self.state {
            State::Responding(Responding {
                what:
                    What::List {
                        catalog,
                        piece,
                        offset,
                    },
                ..
            }) => {
                *offset += frames;
                if catalog
                    .list_piece(*piece)
                    .is_none_or(|bytes| *offset >= bytes.len())
                {
                    (*piece, *offset) = (*piece + 1, 0);
                }
            }
            State::Watching(watching) => watching.sent(frames),
            state => {
                self.out_sent += frames;
                if self.out_sent == self.out.len() {
                    self.out.clear();
                    self.out_sent = 0;
                }
                if let State::Responding(Responding {
                    what:
                        What::Packets {
                            current: Some(packet),
                            ..
                        },
                    ..
                }) = state
                {
                    packet.sent += body;
                    self.requests.count_body(body);
                }
            }
        }
        self.progress(now);
        Ok(())
    }

    /// The part of an image that the response needs next; none while there is no response that needs one.
    ///
    /// It may be asked for before all that was loaded is sent: whoever reads ahead keeps several pieces.
    #[must_use]
    pub fn wants_body(&self) -> Option<BodyRequest> {
        match &self.state {
            State::Responding(Responding {
                what:
                    What::Packets {
                        next,
                        current,
                        failed: false,
                        ..
                    },
                ..
            }) => match current {
                Some(Current { image, loaded, .. }) => {
                    (*loaded < image.length).then_some(BodyRequest::Read {
                        image: *image,
                        offset: *loaded,
                    })
                }
                None => next.map(|image| BodyRequest::Open { image }),
            },
            _ => None,
        }
    }

    /// So many bytes of what [`wants_body`](Self::wants_body) asked for are ready to be sent; the image's
    /// last byte only after a second look at what it was read from. // S13
    ///
    /// For [`BodyRequest::Open`] this begins the packet: its head is queued.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoBody`] if no body is wanted, [`Misuse::ExcessBody`] if fewer bytes of it are missing.
    pub fn body_loaded(&mut self, count: u32, now: Time) -> Result<(), Misuse> {
        let waiting = self.transmit().is_empty();
        let missing = self.wants_body().ok_or(Misuse::NoBody)?.remaining();
        if count > missing {
            let loaded = count;
            return Err(Misuse::ExcessBody { loaded, missing });
        }
        if let State::Responding(Responding {
            what:
                What::Packets {
                    source,
                    next,
                    current,
                    ..
                },
            ..
        }) = &mut self.state
        {
            match (current, *next) {
                (Some(packet), _) => packet.loaded += count,
                (current, Some(image)) => {
                    packet::encode_head(&image, &mut self.out);
                    *current = Some(Current {
                        image,
                        loaded: count,
                        sent: 0,
                    });
                    *next = source.next();
                }
                (None, None) => {}
            }
        }
        if waiting {
            self.since = self.since.max(now); // The disk's time is not the peer's. // T4
        }
        Ok(())
    }

    /// What [`wants_body`](Self::wants_body) asked for cannot be had: the file vanished, changed, or cannot
    /// be read. Where a packet would begin the client is told (S12); inside one the connection closes short,
    /// after what was loaded (S13).
    ///
    /// # Errors
    ///
    /// [`Misuse::NoBody`] if no body is wanted.
    pub fn body_failed(&mut self, message: &str, now: Time) -> Result<(), Misuse> {
        if self.wants_body().is_none() {
            return Err(Misuse::NoBody);
        }
        match &mut self.state {
            State::Responding(Responding {
                what:
                    What::Packets {
                        current: Some(_),
                        failed,
                        ..
                    },
                ..
            }) => {
                *failed = true;
                self.progress(now);
            }
            _ => self.error(
                ErrorCode::ServerError,
                message,
                CloseReason::BodyFailed,
                now,
            ),
        }
        Ok(())
    }

    /// Whether the half-close is due: send FIN, over TLS `close_notify` first, then call
    /// [`finished`](Self::finished). // S11
    #[must_use]
    pub fn wants_finish(&self) -> bool {
        matches!(self.state, State::Finishing)
    }

    /// The half-close is done.
    ///
    /// # Errors
    ///
    /// [`Misuse::NoFinish`] if it was not due.
    pub fn finished(&mut self, now: Time) -> Result<(), Misuse> {
        if !self.wants_finish() {
            return Err(Misuse::NoFinish);
        }
        self.since = self.since.max(now);
        self.state = if self.input_ended {
            State::Closed
        } else {
            State::Lingering { bytes: 0 }
        };
        Ok(())
    }

    /// Moves on after output was acknowledged or an ending was noted.
    pub(super) fn progress(&mut self, now: Time) {
        let queued = self.out_sent < self.out.len();
        match &mut self.state {
            State::Responding(Responding { what, .. }) => match what {
                What::Frame if !queued => self.complete(now),
                What::List { catalog, piece, .. } if catalog.list_piece(*piece).is_none() => {
                    self.complete(now);
                }
                What::Packets {
                    current: Some(packet),
                    failed,
                    ..
                } if !queued => {
                    if packet.sent == packet.image.length {
                        self.packet_sent(now);
                    } else if *failed && packet.sent == packet.loaded {
                        self.close(CloseReason::BodyFailed, now); // S13
                    }
                }
                What::Packets { current: None, .. } => self.boundary(now),
                _ => {}
            },
            State::Watching(watching) if watching.output().is_empty() => {
                if let Some(ending) = watching.ending {
                    self.watch_ended(ending, now);
                }
            }
            State::Flushing if !queued => self.state = State::Finishing,
            _ => {}
        }
    }

    fn packet_sent(&mut self, now: Time) {
        if let State::Responding(Responding {
            what: What::Packets { current, .. },
            ..
        }) = &mut self.state
        {
            *current = None;
            self.requests.count_image();
        }
        self.boundary(now);
    }

    /// Between two packets: the place where a CANCEL takes effect, and where the response ends.
    pub(super) fn boundary(&mut self, now: Time) {
        let queued = self.out_sent < self.out.len();
        match &self.state {
            State::Responding(Responding {
                cancelled,
                what:
                    What::Packets {
                        current: None,
                        next,
                        ..
                    },
                ..
            }) if *cancelled || (next.is_none() && !queued) => self.complete(now),
            _ => {}
        }
    }

    /// The response is over, or stopped by CANCEL.
    fn complete(&mut self, now: Time) {
        let State::Responding(Responding {
            keep_alive,
            cancelled,
            ..
        }) = self.state
        else {
            return;
        };
        match (keep_alive, cancelled) {
            (true, true) => {
                self.requests.end(RequestOutcome::Cancelled);
                self.cancel_answered(now); // C1 C2
            }
            (false, true) => {
                let reason = CloseReason::StrayCancel; // C4
                let message = "CANCEL during a response without keep-alive";
                self.error(ErrorCode::InvalidRequest, message, reason, now);
            }
            (false, false) => {
                self.requests.end(RequestOutcome::Answered);
                self.close(CloseReason::NoKeepAlive, now); // S2
            }
            (true, false) if self.draining => {
                self.requests.end(RequestOutcome::Answered);
                self.close(CloseReason::Shutdown, now); // S16
            }
            (true, false) => {
                self.requests.end(RequestOutcome::Answered);
                self.state = State::IDLE;
                self.since = self.since.max(now);
            }
        }
    }

    /// Answers a CANCEL; after that the connection is ready for the next request. // C1
    pub(super) fn cancel_answered(&mut self, now: Time) {
        self.out.extend_from_slice(&Header::Cancelled.bytes());
        self.respond(true, false, What::Frame, now);
    }

    /// At an event boundary.
    fn watch_ended(&mut self, ending: Ending, now: Time) {
        match ending {
            Ending::Cancel => {
                self.requests.end(RequestOutcome::Cancelled);
                self.cancel_answered(now); // N3
            }
            Ending::Close(
                reason @ (CloseReason::RequestDuringWatch | CloseReason::InvalidRequest(_)),
            ) => {
                let message = alloc::format!("{reason}");
                self.error(ErrorCode::InvalidRequest, &message, reason, now); // N3
            }
            Ending::Close(reason) => self.close(reason, now),
        }
    }
}

impl Current {
    fn span(self) -> Option<BodySpan> {
        let length = self.loaded - self.sent;
        (length > 0).then_some(BodySpan {
            image: self.image,
            offset: self.sent,
            length,
        })
    }
}
