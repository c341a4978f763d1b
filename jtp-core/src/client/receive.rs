//! The receiving half: one step for each state of the diagram.

use alloc::vec::Vec;

use super::error::{ClientError, Location, PeerError, ServerError};
use super::event::{CatalogEntry, Event, ResponseKind};
use super::request::Cancel;
use super::{ClientConnection, State, Time};
use crate::body::DataAt;
use crate::connection::{Misuse, Received};
use crate::image::Image;
use crate::wire::response::{self, ErrorFrame, HEADER_LEN, Header};
use crate::wire::{DecodeResult, Decoded, WireError, entry, packet};

/// Number of bytes used, and the event that they complete. Nothing used and no event: more input is needed.
///
/// An empty `Event::Data` stands for the bytes in the body receiver's buffer, which a step cannot lend.
type Step<'a> = Result<(usize, Option<Event<'a>>), ClientError>;

impl ClientConnection {
    /// Uses bytes from the server, from the front of `input`, up to the next event. Call it again with the unused
    /// rest, also if that is empty, until there is no event: some events need no further bytes.
    ///
    /// # Errors
    ///
    /// The error that ends the connection; every later call returns the same. Earlier events remain valid.
    pub fn receive<'a>(
        &'a mut self,
        input: &'a [u8],
        now: Time,
    ) -> Result<Received<Event<'a>>, ClientError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let offered = input.len();
        // Bytes after the end of the stream are ignored.
        let input = if self.eof { &[] } else { input };
        self.note_input(input, now);
        self.data_at = None;
        let mut used = 0;
        loop {
            match self.step(input.get(used..).unwrap_or_default()) {
                Ok((0, None)) => {
                    self.clock.count(input.len(), &self.config, now);
                    return Ok(Received::new(offered, None));
                }
                Ok((more, None)) => used += more,
                Ok((more, Some(Event::Data(data)))) => {
                    used += more;
                    self.data_at = (!data.is_empty()).then(|| used - data.len()..used);
                    self.clock.count(used, &self.config, now);
                    return Ok(Received::new(used, Some(Event::Data(self.data(input)))));
                }
                Ok((more, event)) => {
                    used += more;
                    self.answered = true;
                    self.clock.count(used, &self.config, now);
                    if let Some(Event::End { .. } | Event::Cancelled { .. }) = event {
                        self.clock.restart(now);
                    }
                    return Ok(Received::new(used, event));
                }
                Err(error) => {
                    self.fail(error.clone());
                    return Err(error);
                }
            }
        }
    }

    fn note_input(&mut self, input: &[u8], now: Time) {
        self.clock.touch(now);
        if input.is_empty() {
            return;
        }
        self.heard = true;
        // An event of WATCH is no response, also not while CANCEL waits for one.
        let front = self.pending.front();
        let is_watch = front.is_some_and(|request| request.kind() == ResponseKind::Watch);
        if self.is_at_boundary() && !is_watch {
            self.clock.restart(now);
        }
    }

    /// The bytes of the [`Event::Data`] that the last [`receive`](Self::receive) returned, for a caller that cannot
    /// keep the event. `input` is what was passed to that call.
    #[must_use]
    pub fn data<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match &self.data_at {
            Some(at) => input.get(at.clone()).unwrap_or_default(),
            None => self.body.buffer(),
        }
    }

    /// Leaves the image that [`Event::Image`] has just announced undecoded: [`Event::Data`] gives the bytes of its
    /// packet, neither decoded nor verified, and [`Event::PacketEnd`] their end. The caller then decodes and
    /// verifies them with a [`BodyReceiver`](crate::BodyReceiver), which may be on another thread, and requests the
    /// image again if it is broken. // R2
    ///
    /// # Errors
    ///
    /// [`Misuse::NoImageBegun`] unless the last event was [`Event::Image`].
    pub fn leave_undecoded(&mut self) -> Result<(), Misuse> {
        match self.state {
            State::Begun { left, image } => {
                let remaining = image.length;
                self.state = State::Undecoded {
                    left,
                    image,
                    remaining,
                };
                Ok(())
            }
            _ => Err(Misuse::NoImageBegun),
        }
    }

    /// Notes the end of the server's stream.
    ///
    /// # Errors
    ///
    /// [`ClientError::EarlyEof`] if a response was due, a frame was incomplete, or a WATCH was active. // R1
    pub fn receive_eof(&mut self, now: Time) -> Result<(), ClientError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.clock.touch(now);
        let complete = match self.pending.len() {
            0 => self.is_at_boundary(),
            // The last event of the last response may still be pending; it needs no more bytes.
            1 => self.is_at_end() && self.pending.iter().all(|p| p.cancel == Cancel::No),
            _ => false,
        };
        if !self.eof && !complete {
            self.fail(ClientError::EarlyEof);
            return Err(ClientError::EarlyEof);
        }
        self.eof = true;
        Ok(())
    }

    /// Whether no frame is incomplete.
    pub(super) fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Boundary) && self.head.is_empty()
    }

    /// Whether the current response needs no more bytes.
    fn is_at_end(&self) -> bool {
        match self.state {
            State::Entries { left: 0 } | State::Packets { left: 0 } => self.head.is_empty(),
            State::Begun { left: 0, image } => image.length == 0,
            State::Body { left: 0, .. } => self.body.verdict().is_some(),
            State::Undecoded {
                left: 0,
                remaining: 0,
                ..
            } => true,
            _ => false,
        }
    }

    fn step<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        match self.state {
            State::Boundary => self.boundary(input),
            State::Count { kind } => self.count(kind, input),
            State::Entries { left: 0 } | State::Packets { left: 0 } => Ok((0, self.end())),
            State::Entries { left } => {
                let (used, entry) = self.entry(input)?;
                if entry.is_some() {
                    self.state = State::Entries { left: left - 1 };
                }
                Ok((used, entry.map(Event::Entry)))
            }
            State::WatchEntry => {
                let (used, entry) = self.entry(input)?;
                if entry.is_some() {
                    self.state = State::Boundary;
                }
                Ok((used, entry.map(Event::NewImage)))
            }
            State::Packets { left } => self.packet(left, input),
            State::Begun { left, image } => {
                self.body.begin(image);
                self.state = State::Body { left, image };
                Ok(self.body(left, image, input))
            }
            State::Body { left, image } => Ok(self.body(left, image, input)),
            State::Undecoded {
                left,
                image,
                remaining,
            } => Ok(self.undecoded(left, image, remaining, input)),
            State::Error => {
                let decode = |bytes: &[u8]| {
                    Ok(ErrorFrame::decode_body(bytes)?
                        .map(|frame| ServerError::new(frame.code, frame.message)))
                };
                match self.take(input, Location::Error, decode)? {
                    (_, Some(error)) => Err(error.into()),
                    (used, None) => Ok((used, None)),
                }
            }
        }
    }

    /// Between responses: a header.
    fn boundary<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        // A request that is queued or partly sent cannot be answered yet.
        let due = self.pending.front().filter(|request| request.is_sent());
        let due = due.map(|request| (request.kind(), request.answered, request.cancel));
        let (used, header) = match self.take(input, Location::Header, decode_header) {
            Ok((used, Some(header))) => (used, header),
            Ok((used, None)) => return Ok((used, None)),
            // Where nothing is due, any bytes are wrong. // R1
            Err(_) if due.is_none() => return Err(PeerError::UnexpectedData.into()),
            Err(error) => return Err(error),
        };
        match (header, due) {
            (Header::Error, _) => self.state = State::Error,
            (Header::Cancelled, Some((_, _, Cancel::Encoded))) => {
                return Ok((used, self.cancelled()));
            }
            (Header::Cancelled, _) => return Err(PeerError::UnexpectedCancelled.into()),
            (Header::Watch, Some((ResponseKind::Watch, ..))) => self.state = State::WatchEntry,
            (Header::Watch, _) => return Err(PeerError::UnexpectedWatchEvent.into()),
            (_, None) => return Err(PeerError::UnexpectedData.into()),
            (received, Some((kind, answered, _))) => {
                let expected = if answered {
                    Header::Cancelled
                } else {
                    kind.header()
                };
                if received != expected {
                    return Err(PeerError::UnexpectedResponse { expected, received }.into());
                }
                self.state = State::Count { kind };
            }
        }
        Ok((used, None))
    }

    /// Behind a header: the count.
    fn count<'a>(&mut self, kind: ResponseKind, input: &'a [u8]) -> Step<'a> {
        let decode = |bytes: &[u8]| response::decode_count(kind.header(), bytes);
        let (used, Some(count)) = self.take(input, Location::Count, decode)? else {
            return Ok((input.len(), None));
        };
        if kind == ResponseKind::GetById {
            let requested = self
                .pending
                .front()
                .map_or(0, |request| request.ids().len());
            let requested = u32::try_from(requested).unwrap_or(u32::MAX);
            if count > requested {
                let announced = count;
                return Err(PeerError::TooManyImages {
                    requested,
                    announced,
                }
                .into());
            }
        }
        self.state = match kind {
            ResponseKind::List => State::Entries { left: count },
            ResponseKind::GetById | ResponseKind::Batch | ResponseKind::ListAndGet => {
                State::Packets { left: count }
            }
            // Not reached: `JTPW` has no count.
            ResponseKind::Watch => State::WatchEntry,
        };
        Ok((used, Some(Event::Begin { kind, count })))
    }

    fn entry<'a>(
        &mut self,
        input: &'a [u8],
    ) -> Result<(usize, Option<CatalogEntry<'a>>), ClientError> {
        if self.head.is_empty() {
            // The usual case: the entry is completely in the input, and borrows from it.
            let decoded = entry::decode(input).map_err(|error| wire(error, Location::Entry))?;
            if let Decoded::Complete { value, used } = decoded {
                return Ok((used, Some(value.into())));
            }
        }
        self.take(input, Location::Entry, |bytes| {
            Ok(entry::decode(bytes)?.map(|entry| CatalogEntry::from(entry).into_owned()))
        })
    }

    /// Where a packet begins.
    fn packet<'a>(&mut self, left: u32, input: &'a [u8]) -> Step<'a> {
        // `JTPE` and `JTPC` begin with J, and no packet does. // S12
        if self.head.first().or(input.first()) == Some(&b'J') {
            let (used, Some(header)) = self.take(input, Location::Packet, decode_header)? else {
                return Ok((input.len(), None));
            };
            let cancel = self
                .pending
                .front()
                .map_or(Cancel::No, |request| request.cancel);
            return match header {
                Header::Error => {
                    self.state = State::Error;
                    Ok((used, None))
                }
                Header::Cancelled if cancel == Cancel::Encoded => Ok((used, self.cancelled())), // C2
                Header::Cancelled => Err(PeerError::UnexpectedCancelled.into()),
                other => Err(PeerError::NotAPacket(other).into()),
            };
        }
        let (used, Some(image)) = self.take(input, Location::Packet, packet::decode_head)? else {
            return Ok((input.len(), None));
        };
        let admitted = self
            .pending
            .front_mut()
            .is_some_and(|request| request.admits(image.id));
        if !admitted {
            return Err(PeerError::UnrequestedImage(image.id).into());
        }
        let left = left.saturating_sub(1);
        self.state = State::Begun { left, image };
        Ok((used, Some(Event::Image(image))))
    }

    fn body<'a>(&mut self, left: u32, image: Image, input: &'a [u8]) -> (usize, Option<Event<'a>>) {
        if let Some(verdict) = self.body.verdict() {
            self.state = State::Packets { left };
            return (0, Some(Event::ImageEnd { image, verdict }));
        }
        let (used, data_at) = self.body.advance(input);
        let data = match data_at {
            DataAt::Input => input.get(..used).unwrap_or_default(),
            DataAt::Buffer => &[],
            DataAt::Nowhere => return (used, None),
        };
        (used, Some(Event::Data(data)))
    }

    /// The data of a packet, unchanged.
    fn undecoded<'a>(
        &mut self,
        left: u32,
        image: Image,
        remaining: u32,
        input: &'a [u8],
    ) -> (usize, Option<Event<'a>>) {
        if remaining == 0 {
            self.state = State::Packets { left };
            return (0, Some(Event::PacketEnd { image }));
        }
        let most = usize::try_from(remaining).unwrap_or(usize::MAX);
        let data = input.get(..most).unwrap_or(input);
        if data.is_empty() {
            return (0, None);
        }
        let used = u32::try_from(data.len()).unwrap_or(remaining);
        self.state = State::Undecoded {
            left,
            image,
            remaining: remaining.saturating_sub(used),
        };
        (data.len(), Some(Event::Data(data)))
    }

    /// The current response is complete.
    fn end(&mut self) -> Option<Event<'static>> {
        self.state = State::Boundary;
        let request = self.pending.front_mut()?;
        let kind = request.kind();
        if request.cancel == Cancel::No {
            self.pop();
        } else {
            // The server finished before it saw CANCEL; the answer to that is still due. // C3 C7
            request.answered = true;
        }
        Some(Event::End { kind })
    }

    /// `JTPC` was received.
    fn cancelled(&mut self) -> Option<Event<'static>> {
        self.state = State::Boundary;
        let kind = self.pending.front()?.kind();
        self.pop();
        Some(Event::Cancelled { kind })
    }

    fn pop(&mut self) {
        self.pending.pop_front();
        self.next = self.next.saturating_sub(1);
        self.fill();
    }

    /// Decodes a frame from the input or, if it arrives in several pieces, from the head buffer. The value borrows
    /// nothing.
    fn take<T>(
        &mut self,
        input: &[u8],
        location: Location,
        decode: impl Fn(&[u8]) -> DecodeResult<T>,
    ) -> Result<(usize, Option<T>), ClientError> {
        let failed = |error| wire(error, location);
        if self.head.is_empty() {
            return match decode(input).map_err(failed)? {
                Decoded::Complete { value, used } => Ok((used, Some(value))),
                Decoded::Incomplete { .. } => {
                    self.head.extend_from_slice(input);
                    Ok((input.len(), None))
                }
            };
        }
        let (used, value) = gather(&mut self.head, input, decode).map_err(failed)?;
        if value.is_some() {
            self.head.clear();
        }
        Ok((used, value))
    }
}

/// Adds bytes to `head` until it holds one frame, and none after it: `head` never exceeds the longest frame.
fn gather<T>(
    head: &mut Vec<u8>,
    input: &[u8],
    decode: impl Fn(&[u8]) -> DecodeResult<T>,
) -> Result<(usize, Option<T>), WireError> {
    let mut used = 0;
    loop {
        match decode(head)? {
            Decoded::Complete { value, .. } => return Ok((used, Some(value))),
            Decoded::Incomplete { need } => {
                let rest = input.get(used..).unwrap_or_default();
                let piece = rest.get(..need).unwrap_or(rest);
                if piece.is_empty() {
                    return Ok((used, None));
                }
                head.extend_from_slice(piece);
                used += piece.len();
            }
        }
    }
}

/// Decodes a header. An invalid one is reported at its first wrong byte, so that the error does not depend on how
/// the input is split.
fn decode_header(input: &[u8]) -> DecodeResult<Header> {
    (1..HEADER_LEN)
        .filter_map(|length| input.get(..length))
        .find_map(|start| Header::decode(start).err())
        .map_or_else(|| Header::decode(input), Err)
}

fn wire(error: WireError, location: Location) -> ClientError {
    PeerError::Wire { error, location }.into()
}
