//! Framing state for one direction of a connection.

use super::entry::{self, Entry};
use super::packet;
use super::request::RequestHead;
use super::response::{self, ErrorFrame, HEADER_LEN, Header};
use super::{DecodeResult, Decoded, WireError};
use crate::image::{Image, ImageId};

/// Splits one direction of a connection, after TLS, into its frames: for proxies, protocol analyzers and tests.
///
/// It keeps the framing state only: which frame is next, and how many entries, packets, IDs or body bytes are
/// left. It does not check that a response answers a request; that is the work of
/// [`ClientConnection`](crate::client::ClientConnection) and [`ServerConnection`](crate::server::ServerConnection).
/// Neither direction depends on the other one: a `JTPC` or `JTPE` can take the place of a packet, and no packet begins
/// with the same byte. // S12
///
/// [`decode`](Self::decode) works like the functions of [`wire`](super): the caller keeps what is not decoded yet.
/// That is less than [`MAX_FRAME_LEN`](Self::MAX_FRAME_LEN) bytes, since IDs and bodies are decoded in parts, as
/// they come. The dissector buffers nothing.
///
/// ```text
/// client to server              server to client
///
///  Request ─ head ─► Ids         ┌─ JTPC, JTPW ─┐
///     ▲               │          ▼              │       ┌─ entry ─┐
///     └── last ID ────┘       Response ─────────┘       ▼         │
///                              │ ├─ JTPL ──────────► Entries ─────┘ ── last entry ──► Response
///                              │ └─ JTPD JTPB JTPG ► Packets ─ head ─► Body ─ last byte ─► Packets
///                              │                      │ └─ JTPC, last packet ──► Response
///                              └─ JTPE ──► Ended ◄────┘ JTPE
/// ```
///
/// # Example
///
/// ```
/// use jtp_core::wire::{Decoded, Dissector, Frame, WireError};
///
/// /// Describes the frames at the start of `buffer` and removes them.
/// fn dissect(dissector: &mut Dissector, buffer: &mut Vec<u8>) -> Result<Vec<String>, WireError> {
///     let mut lines = Vec::new();
///     let mut at = 0;
///     while let Decoded::Complete { value, used } = dissector.decode(&buffer[at..])? {
///         at += used;
///         lines.push(match value {
///             Frame::Request(head) => format!("{} keep-alive={}", head.kind.name(), head.keep_alive),
///             Frame::Response { header, count } => format!("{header:?} {count}"),
///             Frame::Packet(image) => format!("packet {} {} bytes", image.id, image.length),
///             Frame::Body(bytes) => format!("body {} bytes, {} left", bytes.len(), dissector.body_left()),
///             other => format!("{other:?}"),
///         });
///     }
///     buffer.drain(..at);
///     Ok(lines)
/// }
///
/// let mut requests = Dissector::client_to_server();
/// let mut buffer = vec![0x05, 0x01, 0x03]; // LIST_AND_GET, and half of a CANCEL.
/// assert_eq!(dissect(&mut requests, &mut buffer)?, ["LIST_AND_GET keep-alive=true"]);
/// assert_eq!(buffer, [0x03]);
///
/// let mut responses = Dissector::server_to_client();
/// let mut buffer = b"JTPG\x02\x00\x03\0\0\0\0\0\0\0\x07pi".to_vec();
/// assert_eq!(
///     dissect(&mut responses, &mut buffer)?,
///     ["ListAndGet 2", "packet 0000000000000007 3 bytes", "body 2 bytes, 1 left"],
/// );
/// buffer.extend_from_slice(b"cJTPC");
/// assert_eq!(dissect(&mut responses, &mut buffer)?, ["body 1 bytes, 0 left", "Cancelled"]);
/// assert!(responses.is_at_boundary());
/// # Ok::<(), WireError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Dissector {
    state: State,
}

/// What comes next. The counts are never 0.
#[derive(Debug, Clone, Copy)]
enum State {
    /// A request's head.
    Request,
    /// `left` IDs.
    Ids { left: u32 },
    /// A response's header.
    Response,
    /// `left` entries.
    Entries { left: u32 },
    /// `left` packets, `JTPC` or `JTPE`.
    Packets { left: u32 },
    /// `left` bytes of a body, then `packets` packets.
    Body { left: u32, packets: u32 },
    /// Nothing: `JTPE` was the last frame. // S11
    Ended,
    /// Nothing: the bytes were not those of a frame.
    Failed(WireError),
}

impl State {
    fn ids(count: u32) -> State {
        match count {
            0 => State::Request,
            left => State::Ids { left },
        }
    }

    fn entries(count: u32) -> State {
        match count {
            0 => State::Response,
            left => State::Entries { left },
        }
    }

    fn packets(count: u32) -> State {
        match count {
            0 => State::Response,
            left => State::Packets { left },
        }
    }

    fn body(length: u32, packets: u32) -> State {
        match length {
            0 => State::packets(packets),
            left => State::Body { left, packets },
        }
    }
}

/// A frame, or a part of one, that borrows from the decoded bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Frame<'a> {
    /// Client to server: a request's head.
    Request(RequestHead),
    /// Client to server: some of the IDs that follow a head, 8 bytes each, at least one. Read them with
    /// [`decode_ids`](super::request::decode_ids).
    Ids(&'a [u8]),
    /// Server to client: the header of a `JTPL`, `JTPD`, `JTPB` or `JTPG` and the number of entries or packets
    /// that follow. A CANCEL can end it before that number is reached. // C2
    Response {
        /// The header.
        header: Header,
        /// The number of entries or packets.
        count: u32,
    },
    /// Server to client: an entry of a `JTPL`.
    Entry(Entry<'a>),
    /// Server to client: a packet's head. `length` bytes of body follow.
    Packet(Image),
    /// Server to client: some bytes of a body, at least one.
    Body(&'a [u8]),
    /// Server to client: a `JTPW` with its entry.
    NewImage(Entry<'a>),
    /// Server to client: a `JTPC`. It also ends a response whose packets are not complete. // C2
    Cancelled,
    /// Server to client: a `JTPE`, the last frame of the connection. // S11
    Error(ErrorFrame<'a>),
}

impl Dissector {
    /// The longest frame that is decoded whole: a `JTPW`. Every other one is shorter, or comes in parts.
    pub const MAX_FRAME_LEN: usize = HEADER_LEN + entry::MAX_LEN;

    /// A dissector for what a client sends, at the start of a connection.
    #[must_use]
    pub const fn client_to_server() -> Dissector {
        Dissector {
            state: State::Request,
        }
    }

    /// A dissector for what a server sends, at the start of a connection.
    #[must_use]
    pub const fn server_to_client() -> Dissector {
        Dissector {
            state: State::Response,
        }
    }

    /// Reads the next frame from the start of `input`.
    ///
    /// After [`Decoded::Complete`] the next call must begin `used` bytes later; `used` is at least 1. After
    /// [`Decoded::Incomplete`] it must begin with the same bytes and have more.
    ///
    /// # Errors
    ///
    /// [`WireError`] for bytes that are no frame, with the first byte that shows it. Each further call returns
    /// the same error: the start of the next frame is not known.
    pub fn decode<'a>(&mut self, input: &'a [u8]) -> DecodeResult<Frame<'a>> {
        match self.next(input) {
            Ok(decoded) => Ok(decoded.map(|(frame, next)| {
                self.state = next;
                frame
            })),
            Err(error) => {
                self.state = State::Failed(error);
                Err(error)
            }
        }
    }

    /// Whether no request or response is incomplete: if the caller holds no unused bytes either, the stream may
    /// end here.
    #[must_use]
    pub const fn is_at_boundary(&self) -> bool {
        matches!(self.state, State::Request | State::Response | State::Ended)
    }

    /// Number of bytes left of the current packet's body; 0 outside a body.
    #[must_use]
    pub const fn body_left(&self) -> u32 {
        match self.state {
            State::Body { left, .. } => left,
            _ => 0,
        }
    }

    /// Moves on by up to `bytes` bytes of the current body without seeing them, for a proxy that lets the system
    /// forward bodies. Returns the number of bytes, at most [`body_left`](Self::body_left).
    pub fn skip_body(&mut self, bytes: u32) -> u32 {
        let State::Body { left, packets } = self.state else {
            return 0;
        };
        let skipped = bytes.min(left);
        self.state = State::body(left - skipped, packets);
        skipped
    }

    /// The next frame and the state after it.
    fn next<'a>(&self, input: &'a [u8]) -> DecodeResult<(Frame<'a>, State)> {
        match self.state {
            State::Request => Ok(RequestHead::decode(input)?
                .map(|head| (Frame::Request(head), State::ids(head.kind.ids())))),
            State::Ids { left } => Ok(span(input, ImageId::LEN, left)
                .map(|(ids, count)| (Frame::Ids(ids), State::ids(left - count)))),
            State::Response => headed(input, false),
            State::Entries { left } => {
                Ok(entry::decode(input)?
                    .map(|entry| (Frame::Entry(entry), State::entries(left - 1))))
            }
            State::Packets { left } if input.first() != Some(&b'J') => {
                Ok(packet::decode_head(input)?
                    .map(|image| (Frame::Packet(image), State::body(image.length, left - 1))))
            }
            // No packet begins with J. // S12
            State::Packets { .. } => headed(input, true),
            State::Body { left, packets } => Ok(span(input, 1, left)
                .map(|(bytes, count)| (Frame::Body(bytes), State::body(left - count, packets)))),
            State::Ended if input.is_empty() => Ok(Decoded::Incomplete { need: 1 }),
            State::Ended => Err(WireError::AfterError),
            State::Failed(error) => Err(error),
        }
    }
}

/// The whole items of `item_len` bytes at the start of `input`, at most `most`, and their number. `most` is not 0.
fn span(input: &[u8], item_len: usize, most: u32) -> Decoded<(&[u8], u32)> {
    let whole = u32::try_from(input.len() / item_len).unwrap_or(u32::MAX);
    let count = whole.min(most);
    let used = usize::try_from(count).map_or(0, |count| count * item_len);
    match input.get(..used) {
        Some(items) if used > 0 => Decoded::Complete {
            value: (items, count),
            used,
        },
        _ => Decoded::Incomplete {
            need: item_len.saturating_sub(input.len()).max(1),
        },
    }
}

/// A frame that begins with a header, where a response or, in its place, a packet is due.
fn headed(input: &[u8], packet_due: bool) -> DecodeResult<(Frame<'_>, State)> {
    let header = match Header::decode(input)? {
        Decoded::Complete { value, .. } => value,
        Decoded::Incomplete { need } => return Ok(Decoded::Incomplete { need }),
    };
    let rest = input.get(HEADER_LEN..).unwrap_or_default();
    let decoded = match header {
        Header::Cancelled => Decoded::Complete {
            value: (Frame::Cancelled, State::Response),
            used: 0,
        },
        Header::Error => {
            ErrorFrame::decode_body(rest)?.map(|error| (Frame::Error(error), State::Ended))
        }
        Header::Watch | Header::List | Header::Data | Header::Batch | Header::ListAndGet
            if packet_due =>
        {
            return Err(WireError::HeaderForPacket(header));
        }
        Header::Watch => {
            entry::decode(rest)?.map(|entry| (Frame::NewImage(entry), State::Response))
        }
        Header::List | Header::Data | Header::Batch | Header::ListAndGet => {
            response::decode_count(header, rest)?.map(|count| {
                let next = match header {
                    Header::List => State::entries(count),
                    _ => State::packets(count),
                };
                (Frame::Response { header, count }, next)
            })
        }
    };
    Ok(match decoded {
        Decoded::Complete { value, used } => Decoded::Complete {
            value,
            used: HEADER_LEN + used,
        },
        incomplete => incomplete,
    })
}

#[cfg(test)]
#[path = "dissector_tests.rs"]
mod tests;
