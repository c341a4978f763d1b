//! The sending half: responses, and the end of the connection.

use alloc::sync::Arc;

use super::packets::ImageQueue;
use super::transmit::{BodyRequest, BodySpan, Transmit};
use super::watching::WatchEnd;
use super::{CloseReason, RequestOutcome, ServerConnection, State};
use crate::catalog::Catalog;
use crate::connection::Misuse;
use crate::image::Image;
use crate::time::Time;
use crate::wire::packet;
use crate::wire::response::{ErrorCode, Header};

/// The response in progress.
#[derive(Debug)]
pub(super) struct Responding {
    pub(super) keep_alive: bool,
    /// Whether its CANCEL was received.
    pub(super) cancelled: bool,
    pub(super) body: ResponseBody,
}

/// What a response consists of, apart from the frames queued in `out`.
#[derive(Debug)]
pub(super) enum ResponseBody {
    /// Nothing else: one frame.
    Frame,
    /// A catalog, from its own encoding. No other frame can interrupt it. // C2 S12
    List {
        catalog: Arc<Catalog>,
        piece: usize,
        offset: usize,
    },
    Packets {
        images: ImageQueue,
        /// The image of the packet after the current one.
        next: Option<Image>,
        /// The packet being sent. Its head is queued.
        current: Option<InFlightPacket>,
        /// Whether the rest of its body cannot be loaded.
        failed: bool,
    },
}

/// A packet that is partly sent: the only place where body bytes are counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct InFlightPacket {
    image: Image,
    loaded: u32,
    sent: u32,
}

impl InFlightPacket {
    fn span(self) -> Option<BodySpan> {
        let length = self.loaded - self.sent;
        (length > 0).then_some(BodySpan {
            image: self.image,
            offset: self.sent,
            length,
        })
    }
}

impl ServerConnection {
    /// What to send next. A repeated call shows the same, or the same with more behind it; nothing once the
    /// connection [is closed](Self::is_closed).
    pub fn transmit(&self) -> Transmit<'_> {
        let queued = self.out.get(self.out_sent..).unwrap_or_default();
        match &self.state {
            State::Responding(Responding { body, .. }) => match body {
                ResponseBody::Frame => Transmit::new(queued, None),
                ResponseBody::List {
                    catalog,
                    piece,
                    offset,
                } => {
                    let piece = catalog.list_piece(*piece);
                    let rest = piece.and_then(|piece| piece.get(*offset..));
                    Transmit::new(rest.unwrap_or_default(), None)
                }
                ResponseBody::Packets { current, .. } => {
                    Transmit::new(queued, current.and_then(InFlightPacket::span))
                }
            },
            State::Watching(watching) => Transmit::new(watching.output(), None),
            // After a write timeout, bytes may remain that the peer does not accept. // T4
            State::Closed => Transmit::new(&[], None),
            _ => Transmit::new(queued, None),
        }
    }

    /// Acknowledges that the first `count` bytes of [`transmit`](Self::transmit) were sent.
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
        let frame_bytes = shown.bytes.len().min(count);
        let body_bytes = u32::try_from(count - frame_bytes).unwrap_or(u32::MAX);
        self.since = self.since.max(now);
        match &mut self.state {
            State::Responding(Responding {
                body:
                    ResponseBody::List {
                        catalog,
                        piece,
                        offset,
                    },
                ..
            }) => {
                *offset += frame_bytes;
                if catalog
                    .list_piece(*piece)
                    .is_none_or(|bytes| *offset >= bytes.len())
                {
                    (*piece, *offset) = (*piece + 1, 0);
                }
            }
            State::Watching(watching) => watching.sent(frame_bytes),
            state => {
                self.out_sent += frame_bytes;
                if self.out_sent == self.out.len() {
                    self.out.clear();
                    self.out_sent = 0;
                }
                if let State::Responding(Responding {
                    body:
                        ResponseBody::Packets {
                            current: Some(packet),
                            ..
                        },
                    ..
                }) = state
                {
                    packet.sent += body_bytes;
                    self.requests.count_body(body_bytes);
                }
            }
        }
        self.progress(now);
        Ok(())
    }

    /// The part of a body to load next; `None` while no response needs one.
    ///
    /// More can be requested before all loaded bytes are sent, so a driver that reads ahead keeps several chunks.
    #[must_use]
    pub fn wants_body(&self) -> Option<BodyRequest> {
        let State::Responding(Responding {
            body:
                ResponseBody::Packets {
                    next,
                    current,
                    failed: false,
                    ..
                },
            ..
        }) = &self.state
        else {
            return None;
        };
        match current {
            Some(packet) => (packet.loaded < packet.image.length).then_some(BodyRequest::Read {
                image: packet.image,
                offset: packet.loaded,
            }),
            None => next.map(|image| BodyRequest::Open { image }),
        }
    }

    /// Notes that `count` bytes of the part that [`wants_body`](Self::wants_body) requests are ready to be sent.
    ///
    /// After [`BodyRequest::Open`] this begins the packet: its head is queued. Before the last byte of an image,
    /// check once more that the image is unchanged. // S13
    ///
    /// # Errors
    ///
    /// [`Misuse::NoBody`] if no body is wanted, [`Misuse::ExcessBody`] if fewer bytes of it are missing.
    pub fn body_loaded(&mut self, count: u32, now: Time) -> Result<(), Misuse> {
        let missing = self.wants_body().ok_or(Misuse::NoBody)?.remaining();
        if count > missing {
            let loaded = count;
            return Err(Misuse::ExcessBody { loaded, missing });
        }
        let was_waiting = self.transmit().is_empty();
        if let State::Responding(Responding {
            body:
                ResponseBody::Packets {
                    images,
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
                    *current = Some(InFlightPacket {
                        image,
                        loaded: count,
                        sent: 0,
                    });
                    *next = images.next();
                }
                (None, None) => {}
            }
        }
        if was_waiting {
            self.since = self.since.max(now); // The write timeout does not include loading. // T4
        }
        Ok(())
    }

    /// Notes that the part that [`wants_body`](Self::wants_body) requests cannot be loaded: the image is gone, has
    /// changed, or cannot be read.
    ///
    /// Instead of a packet the client gets a `JTPE` with `message` (S12). Inside a packet the connection closes
    /// early, after the bytes that were loaded (S13).
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
                body:
                    ResponseBody::Packets {
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

    /// Notes that the half-close is done.
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

    /// Changes the state if the acknowledged output, or an end that was requested, allows it.
    pub(super) fn progress(&mut self, now: Time) {
        let queued = self.out_sent < self.out.len();
        match &mut self.state {
            State::Responding(Responding { body, .. }) => match body {
                ResponseBody::Frame if !queued => self.response_ended(now),
                ResponseBody::List { catalog, piece, .. }
                    if catalog.list_piece(*piece).is_none() =>
                {
                    self.response_ended(now);
                }
                ResponseBody::Packets {
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
                ResponseBody::Packets { current: None, .. } => self.packet_boundary(now),
                _ => {}
            },
            State::Watching(watching) if watching.output().is_empty() => {
                if let Some(end) = watching.end {
                    self.watch_ended(end, now);
                }
            }
            State::Flushing if !queued => self.state = State::Finishing,
            _ => {}
        }
    }

    fn packet_sent(&mut self, now: Time) {
        if let State::Responding(Responding {
            body: ResponseBody::Packets { current, .. },
            ..
        }) = &mut self.state
        {
            *current = None;
            self.requests.count_image();
        }
        self.packet_boundary(now);
    }

    /// Between two packets: CANCEL takes effect, or the response ends.
    pub(super) fn packet_boundary(&mut self, now: Time) {
        let queued = self.out_sent < self.out.len();
        match &self.state {
            State::Responding(Responding {
                cancelled,
                body:
                    ResponseBody::Packets {
                        current: None,
                        next,
                        ..
                    },
                ..
            }) if *cancelled || (next.is_none() && !queued) => self.response_ended(now),
            _ => {}
        }
    }

    /// The response is complete, or CANCEL stops it here.
    fn response_ended(&mut self, now: Time) {
        let State::Responding(Responding {
            keep_alive,
            cancelled,
            ..
        }) = self.state
        else {
            return;
        };
        if cancelled {
            if keep_alive {
                self.requests.end(RequestOutcome::Cancelled);
                self.cancel_answered(now); // C1 C2
            } else {
                let reason = CloseReason::StrayCancel; // C4
                let message = "CANCEL during a response without keep-alive";
                self.error(ErrorCode::InvalidRequest, message, reason, now);
            }
            return;
        }
        self.requests.end(RequestOutcome::Answered);
        if !keep_alive {
            self.close(CloseReason::NoKeepAlive, now); // S2
        } else if self.draining {
            self.close(CloseReason::Shutdown, now); // S16
        } else {
            self.state = State::IDLE;
            self.since = self.since.max(now);
        }
    }

    /// Answers a CANCEL. The connection is then ready for the next request. // C1
    pub(super) fn cancel_answered(&mut self, now: Time) {
        self.out.extend_from_slice(&Header::Cancelled.bytes());
        self.respond(true, false, ResponseBody::Frame, now);
    }

    /// Ends a WATCH at an event boundary.
    fn watch_ended(&mut self, end: WatchEnd, now: Time) {
        match end {
            WatchEnd::Cancel => {
                self.requests.end(RequestOutcome::Cancelled);
                self.cancel_answered(now); // N3
            }
            WatchEnd::Close(
                reason @ (CloseReason::RequestDuringWatch | CloseReason::InvalidRequest(_)),
            ) => {
                let message = alloc::format!("{reason}");
                self.error(ErrorCode::InvalidRequest, &message, reason, now); // N3
            }
            WatchEnd::Close(reason) => self.close(reason, now),
        }
    }
}
