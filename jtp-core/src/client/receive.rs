//! The receiving half: one step for each state of the diagram.

use alloc::vec::Vec;

use super::error::{ClientError, Misuse, PeerError, Place, ServerError};
use super::event::{CatalogEntry, Event, Received, ResponseKind};
use super::request::{Cancel, Pending};
use super::{ClientConnection, State, Time};
use crate::body::Source;
use crate::image::Image;
use crate::wire::response::{self, ErrorFrame, HEADER_LEN, Header};
use crate::wire::{DecodeResult, Decoded, WireError, entry, packet};

/// What a step found. What borrows from the machine is only said to be there: it is fetched at the end.
enum Found<'a> {
    /// All input was used, and more is needed.
    More,
    /// The state has changed, nothing to tell.
    Next,
    Event(Event<'a>),
    /// An event about the entry in the head buffer.
    HeldEntry {
        news: bool,
    },
    /// Decoded data in the body's buffer.
    BufferedData,
}

type Step<'a> = Result<(usize, Found<'a>), ClientError>;

impl ClientConnection {
    /// Takes bytes from the server, from the front of `input`. Call again with what was not used, and with an
    /// empty slice when all was, until there is no event: some events need no further bytes.
    ///
    /// # Errors
    ///
    /// The one that ends the connection; then always the same. Events told before it stand.
    pub fn receive<'a>(
        &'a mut self,
        input: &'a [u8],
        now: Time,
    ) -> Result<Received<'a>, ClientError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        if self.head_told {
            self.head.clear();
            self.head_told = false;
        }
        let offered = input.len();
        // Nothing comes behind the end.
        let input = if self.eof { &[] } else { input };
        if !input.is_empty() {
            self.progress(now);
        }
        self.data_at = None;
        let mut used = 0;
        let found = loop {
            let rest = input.get(used..).unwrap_or_default();
            match self.step(rest) {
                Ok((_, Found::More)) => {
                    return Ok(Received {
                        used: offered,
                        event: None,
                    });
                }
                Ok((more, Found::Next)) => used += more,
                Ok((more, found)) => {
                    used += more;
                    break found;
                }
                Err(error) => {
                    self.fail(error.clone());
                    return Err(error);
                }
            }
        };
        let event = match found {
            Found::Event(event) => {
                if let Event::Data(data) = &event {
                    self.data_at = Some(used.saturating_sub(data.len())..used);
                }
                Some(event)
            }
            Found::BufferedData => Some(Event::Data(self.body.buffer())),
            Found::HeldEntry { news } => match entry::decode(&self.head) {
                Ok(Decoded::Complete { value, .. }) if news => Some(Event::NewImage(value.into())),
                Ok(Decoded::Complete { value, .. }) => Some(Event::Entry(value.into())),
                // It was complete a moment ago.
                _ => None,
            },
            Found::More | Found::Next => None,
        };
        Ok(Received { used, event })
    }

    /// The bytes of the [`Event::Data`] that the last [`receive`](Self::receive) told, looked at once more:
    /// for a caller whose loop cannot hold on to the event. `input` is what that call was given.
    #[must_use]
    pub fn data<'a>(&'a self, input: &'a [u8]) -> &'a [u8] {
        match &self.data_at {
            Some(at) => input.get(at.clone()).unwrap_or_default(),
            None => self.body.buffer(),
        }
    }

    /// Leaves the image that [`Event::Image`] has just told as it travels: [`Event::Data`] tells the bytes of its
    /// packet, neither decoded nor verified, and [`Event::PacketEnd`] their end. To decode and verify them is
    /// then the caller's, by a [`BodyReceiver`](crate::BodyReceiver) that may live on another thread, and so is
    /// asking for the image once more if it is broken. // R2
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

    /// Takes the news that no more bytes will come.
    ///
    /// # Errors
    ///
    /// [`ClientError::EarlyEof`] if something was due, a frame was half there, or WATCH was on. // R1
    pub fn receive_eof(&mut self, now: Time) -> Result<(), ClientError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        self.progress(now);
        let complete = match self.pending.len() {
            0 => self.is_at_boundary(),
            // The last event of the last response needs no more bytes.
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

    /// Whether no frame is half there.
    pub(super) fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Boundary) && (self.head.is_empty() || self.head_told)
    }

    /// Whether the response under way needs no more bytes.
    fn is_at_end(&self) -> bool {
        match self.state {
            State::Entries { left: 0 } | State::Packets { left: 0 } => {
                self.head.is_empty() || self.head_told
            }
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
                let (used, found) = self.entry(false, input)?;
                if !matches!(found, Found::More) {
                    self.state = State::Entries { left: left - 1 };
                }
                Ok((used, found))
            }
            State::News => {
                let (used, found) = self.entry(true, input)?;
                if !matches!(found, Found::More) {
                    self.state = State::Boundary;
                }
                Ok((used, found))
            }
            State::Packets { left } => self.packet(left, input),
            State::Begun { left, image } => {
                self.body.begin(image);
                self.state = State::Body { left, image };
                Ok((0, Found::Next))
            }
            State::Body { left, image } => Ok(self.body(left, image, input)),
            State::Undecoded {
                left,
                image,
                remaining,
            } => Ok(self.undecoded(left, image, remaining, input)),
            State::Error => {
                let decode = |bytes: &[u8]| {
                    Ok(ErrorFrame::decode_body(bytes)?.map(|frame| ServerError {
                        code: frame.code,
                        message: frame.message.into_owned(),
                    }))
                };
                match self.take(input, Place::Error, decode)? {
                    (_, Some(error)) => Err(error.into()),
                    (used, None) => Ok((used, Found::More)),
                }
            }
        }
    }

    /// Between responses: a header.
    fn boundary<'a>(&mut self, input: &'a [u8]) -> Step<'a> {
        // Held-back and half-sent requests cannot be answered yet.
        let due = self.pending.front().filter(|request| request.is_sent());
        let due = due.map(|request| (request.kind(), request.answered, request.cancel));
        let (used, header) = match self.take(input, Place::Header, decode_header) {
            Ok((used, Some(header))) => (used, header),
            Ok((used, None)) => return Ok((used, Found::More)),
            // No bytes are right where nothing is due, of whatever kind. // R1
            Err(_) if due.is_none() => return Err(PeerError::DataUnasked.into()),
            Err(error) => return Err(error),
        };
        match (header, due) {
            (Header::Error, _) => self.state = State::Error,
            (Header::Cancelled, Some((_, _, Cancel::Encoded))) => {
                return Ok((used, self.cancelled()));
            }
            (Header::Cancelled, _) => return Err(PeerError::CancelledUnasked.into()),
            (Header::Watch, Some((ResponseKind::Watch, ..))) => self.state = State::News,
            (Header::Watch, _) => return Err(PeerError::NewsUnasked.into()),
            (_, None) => return Err(PeerError::DataUnasked.into()),
            (came, Some((kind, answered, _))) => {
                let due = if answered {
                    Header::Cancelled
                } else {
                    kind.header()
                };
                if came != due {
                    return Err(PeerError::NotTheAnswer { due, came }.into());
                }
                self.state = State::Count { kind };
            }
        }
        Ok((used, Found::Next))
    }

    /// Behind a header: the count.
    fn count<'a>(&mut self, kind: ResponseKind, input: &'a [u8]) -> Step<'a> {
        let decode = |bytes: &[u8]| response::decode_count(kind.header(), bytes);
        let (used, Some(count)) = self.take(input, Place::Count, decode)? else {
            return Ok((input.len(), Found::More));
        };
        if kind == ResponseKind::GetById {
            let asked = self
                .pending
                .front()
                .map_or(0, |request| request.ids().len());
            let asked = u32::try_from(asked).unwrap_or(u32::MAX);
            if count > asked {
                let promised = count;
                return Err(PeerError::TooManyImages { asked, promised }.into());
            }
        }
        self.state = match kind {
            ResponseKind::List => State::Entries { left: count },
            ResponseKind::GetById | ResponseKind::Batch | ResponseKind::ListAndGet => {
                State::Packets { left: count }
            }
            // `JTPW` has no count, and does not come here.
            ResponseKind::Watch => State::News,
        };
        Ok((used, Found::Event(Event::Begin { kind, count })))
    }

    fn entry<'a>(&mut self, news: bool, input: &'a [u8]) -> Step<'a> {
        let failed = |error| wire(error, Place::Entry);
        if self.head.is_empty() {
            // The usual case: the whole entry is in the input, and is borrowed from there.
            return match entry::decode(input).map_err(failed)? {
                Decoded::Complete { value, used } => {
                    let entry = CatalogEntry::from(value);
                    let event = if news {
                        Event::NewImage(entry)
                    } else {
                        Event::Entry(entry)
                    };
                    Ok((used, Found::Event(event)))
                }
                Decoded::Incomplete { .. } => {
                    self.head.extend_from_slice(input);
                    Ok((input.len(), Found::More))
                }
            };
        }
        let decode = |bytes: &[u8]| Ok(entry::decode(bytes)?.map(|_| ()));
        let (used, entry) = gather(&mut self.head, input, decode).map_err(failed)?;
        if entry.is_none() {
            return Ok((used, Found::More));
        }
        self.head_told = true;
        Ok((used, Found::HeldEntry { news }))
    }

    /// Where a packet begins.
    fn packet<'a>(&mut self, left: u32, input: &'a [u8]) -> Step<'a> {
        // No packet begins with J, and `JTPE` and `JTPC` do. // S12
        if self.head.first().or(input.first()) == Some(&b'J') {
            let (used, Some(header)) = self.take(input, Place::Packet, decode_header)? else {
                return Ok((input.len(), Found::More));
            };
            let cancel = self
                .pending
                .front()
                .map_or(Cancel::No, |request| request.cancel);
            return match header {
                Header::Error => {
                    self.state = State::Error;
                    Ok((used, Found::Next))
                }
                Header::Cancelled if cancel == Cancel::Encoded => Ok((used, self.cancelled())), // C2
                Header::Cancelled => Err(PeerError::CancelledUnasked.into()),
                other => Err(PeerError::NotAPacket(other).into()),
            };
        }
        let (used, Some(image)) = self.take(input, Place::Packet, packet::decode_head)? else {
            return Ok((input.len(), Found::More));
        };
        let admitted = self
            .pending
            .front_mut()
            .is_some_and(|request| request.admits(image.id));
        if !admitted {
            return Err(PeerError::ImageUnasked(image.id).into());
        }
        let left = left.saturating_sub(1);
        self.state = State::Begun { left, image };
        Ok((used, Found::Event(Event::Image(image))))
    }

    fn body<'a>(&mut self, left: u32, image: Image, input: &'a [u8]) -> (usize, Found<'a>) {
        if let Some(verdict) = self.body.verdict() {
            self.state = State::Packets { left };
            let verdict = verdict.map(|_| ());
            return (0, Found::Event(Event::ImageEnd { image, verdict }));
        }
        if input.is_empty() {
            return (0, Found::More);
        }
        let (used, source) = self.body.advance(input);
        let found = match source {
            Source::Input => Found::Event(Event::Data(input.get(..used).unwrap_or_default())),
            Source::Buffer => Found::BufferedData,
            Source::Nowhere => Found::Next,
        };
        (used, found)
    }

    /// The data of a packet as they are.
    fn undecoded<'a>(
        &mut self,
        left: u32,
        image: Image,
        remaining: u32,
        input: &'a [u8],
    ) -> (usize, Found<'a>) {
        if remaining == 0 {
            self.state = State::Packets { left };
            return (0, Found::Event(Event::PacketEnd { image }));
        }
        let most = usize::try_from(remaining).unwrap_or(usize::MAX);
        let data = input.get(..most).unwrap_or(input);
        if data.is_empty() {
            return (0, Found::More);
        }
        let used = u32::try_from(data.len()).unwrap_or(remaining);
        self.state = State::Undecoded {
            left,
            image,
            remaining: remaining.saturating_sub(used),
        };
        (data.len(), Found::Event(Event::Data(data)))
    }

    /// The response under way is complete.
    fn end(&mut self) -> Found<'static> {
        self.state = State::Boundary;
        let Some(request) = self.pending.front_mut() else {
            return Found::Next;
        };
        let kind = request.kind();
        if request.cancel == Cancel::No {
            self.pop();
        } else {
            // The server finished before it saw CANCEL; its answer is still to come. // C3 C7
            request.answered = true;
        }
        Found::Event(Event::End { kind })
    }

    /// `JTPC` has come.
    fn cancelled(&mut self) -> Found<'static> {
        self.state = State::Boundary;
        let kind = self.pending.front().map(Pending::kind);
        self.pop();
        match kind {
            Some(kind) => Found::Event(Event::Cancelled { kind }),
            None => Found::Next,
        }
    }

    fn pop(&mut self) {
        self.pending.pop_front();
        self.next = self.next.saturating_sub(1);
        self.fill();
    }

    /// Reads a frame that borrows nothing, from the input or, if it came in pieces, from the head buffer.
    fn take<T>(
        &mut self,
        input: &[u8],
        place: Place,
        decode: impl Fn(&[u8]) -> DecodeResult<T>,
    ) -> Result<(usize, Option<T>), ClientError> {
        let failed = |error| wire(error, place);
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

/// Adds bytes to `head` until it holds a frame, and none beyond it: `head` never grows past the longest frame.
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

/// A header; what is not one is told by its first wrong byte, so that the answer is the same however the
/// bytes are cut.
fn decode_header(input: &[u8]) -> DecodeResult<Header> {
    (1..HEADER_LEN)
        .filter_map(|length| input.get(..length))
        .find_map(|start| Header::decode(start).err())
        .map_or_else(|| Header::decode(input), Err)
}

fn wire(error: WireError, place: Place) -> ClientError {
    PeerError::Wire { error, place }.into()
}
