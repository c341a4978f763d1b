//! Requests: a type, flags and, for two types, a list of IDs with its count.
//!
//! | type | name | bytes |
//! |---|---|---|
//! | 0 | `GET_BY_ID` | `00 flags count:u8 id:u64 × count` |
//! | 1 | `LIST` | `01 flags` |
//! | 2 | `BATCH` | `02 flags have:varint id:u64 × have` |
//! | 3 | `CANCEL` | `03 00` |
//! | 4 | `WATCH` | `04 00` |
//! | 5 | `LIST_AND_GET` | `05 flags` |
//!
//! A request's head is all of it but the IDs. These are streamed: there can be a million.

use alloc::vec::Vec;

use super::{DecodeResult, Decoded, WireError, varint};
use crate::image::ImageId;

/// The type byte of CANCEL.
pub const CANCEL: u8 = 3;

/// The type byte of WATCH.
pub const WATCH: u8 = 4;

/// The maximum number of IDs in a `GET_BY_ID`.
pub const MAX_GET: usize = 255;

/// The maximum length of a request's head, in bytes: a BATCH with a five-byte count.
pub const MAX_HEAD_LEN: usize = 2 + varint::MAX_LEN;

/// The type of a request and the number of its IDs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RequestKind {
    /// Requests the images with the IDs that follow, in that order. // S7
    GetById {
        /// The number of IDs that follow the head.
        count: u8,
    },
    /// Requests the catalog.
    List,
    /// Requests all images except those with the IDs that follow. // S8
    Batch {
        /// The number of IDs that follow the head.
        have: u32,
    },
    /// Ends the current response at the next packet, or ends WATCH. // C1 C2
    Cancel,
    /// Requests an event for each image that is added from now on. // N1
    Watch,
    /// Requests all images.
    ListAndGet,
}

impl RequestKind {
    /// One request of each kind, without IDs, in the order of the type bytes.
    pub const ALL: [RequestKind; 6] = [
        RequestKind::GetById { count: 0 },
        RequestKind::List,
        RequestKind::Batch { have: 0 },
        RequestKind::Cancel,
        RequestKind::Watch,
        RequestKind::ListAndGet,
    ];

    /// The kind with this type byte, without IDs.
    fn of_code(code: u8) -> Option<RequestKind> {
        RequestKind::ALL.get(usize::from(code)).copied()
    }

    /// The type byte.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            RequestKind::GetById { .. } => 0,
            RequestKind::List => 1,
            RequestKind::Batch { .. } => 2,
            RequestKind::Cancel => CANCEL,
            RequestKind::Watch => WATCH,
            RequestKind::ListAndGet => 5,
        }
    }

    /// The protocol's name of the request.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            RequestKind::GetById { .. } => "GET_BY_ID",
            RequestKind::List => "LIST",
            RequestKind::Batch { .. } => "BATCH",
            RequestKind::Cancel => "CANCEL",
            RequestKind::Watch => "WATCH",
            RequestKind::ListAndGet => "LIST_AND_GET",
        }
    }

    /// The number of IDs that follow the head.
    #[must_use]
    pub const fn ids(self) -> u32 {
        match self {
            RequestKind::GetById { count } => count as u32,
            RequestKind::Batch { have } => have,
            RequestKind::List
            | RequestKind::Cancel
            | RequestKind::Watch
            | RequestKind::ListAndGet => 0,
        }
    }

    /// The same kind with this number of IDs, or with the maximum that its head can state; unchanged if the kind has
    /// no IDs.
    #[must_use]
    pub fn with_ids(self, ids: u32) -> RequestKind {
        match self {
            RequestKind::GetById { .. } => RequestKind::GetById {
                count: u8::try_from(ids).unwrap_or(u8::MAX),
            },
            RequestKind::Batch { .. } => RequestKind::Batch { have: ids },
            RequestKind::List
            | RequestKind::Cancel
            | RequestKind::Watch
            | RequestKind::ListAndGet => self,
        }
    }

    /// Whether the flag that keeps the connection open has a meaning. // W7
    #[must_use]
    pub const fn has_flags(self) -> bool {
        !matches!(self, RequestKind::Cancel | RequestKind::Watch)
    }
}

/// A request's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct RequestHead {
    /// The type, and the number of IDs that follow.
    pub kind: RequestKind,
    /// Whether the connection stays open after the response. CANCEL and WATCH ignore it. // W7
    pub keep_alive: bool,
}

impl RequestHead {
    /// The head of a request. // W7
    #[must_use]
    pub const fn new(kind: RequestKind, keep_alive: bool) -> RequestHead {
        RequestHead { kind, keep_alive }
    }

    /// Appends the head. The caller appends the IDs, for instance with [`encode_ids`].
    ///
    /// The flags of CANCEL and WATCH are always 0. // W7
    pub fn encode(&self, out: &mut Vec<u8>) {
        let flags = u8::from(self.keep_alive && self.kind.has_flags());
        out.extend_from_slice(&[self.kind.code(), flags]);
        match self.kind {
            RequestKind::GetById { count } => out.push(count),
            RequestKind::Batch { have } => varint::encode(have, out),
            RequestKind::List
            | RequestKind::Cancel
            | RequestKind::Watch
            | RequestKind::ListAndGet => {}
        }
    }

    /// Reads a head from the start of `input`.
    ///
    /// # Errors
    ///
    /// [`WireError`] for an unassigned type (checked first, with the first byte), a reserved flag or an invalid
    /// `have`. // S10
    pub fn decode(input: &[u8]) -> DecodeResult<RequestHead> {
        let Some(&code) = input.first() else {
            return Ok(Decoded::Incomplete { need: 1 });
        };
        let Some(kind) = RequestKind::of_code(code) else {
            return Err(WireError::UnknownRequest(code));
        };
        let Some(&flags) = input.get(1) else {
            return Ok(Decoded::Incomplete { need: 1 });
        };
        if flags > 1 {
            return Err(WireError::RequestFlags(flags));
        }
        let rest = input.get(2..).unwrap_or_default();
        let (kind, used) = match kind {
            RequestKind::GetById { .. } => match rest.first() {
                Some(&count) => (RequestKind::GetById { count }, 3),
                None => return Ok(Decoded::Incomplete { need: 1 }),
            },
            RequestKind::Batch { .. } => match varint::decode(rest)? {
                Decoded::Complete { value, used } => (RequestKind::Batch { have: value }, 2 + used),
                Decoded::Incomplete { need } => return Ok(Decoded::Incomplete { need }),
            },
            RequestKind::List
            | RequestKind::Cancel
            | RequestKind::Watch
            | RequestKind::ListAndGet => (kind, 2),
        };
        Ok(Decoded::Complete {
            value: RequestHead::new(kind, flags & 1 != 0),
            used,
        })
    }
}

/// Appends the IDs that follow a head.
pub fn encode_ids(ids: &[ImageId], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + ids.len() * ImageId::LEN, 0);
    let places = out.get_mut(start..).unwrap_or_default();
    for (place, id) in places.chunks_exact_mut(ImageId::LEN).zip(ids) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

/// The IDs at the start of `input`. An incomplete ID at the end, of up to 7 bytes, is left out.
///
/// ```
/// use jtp_core::ImageId;
/// use jtp_core::wire::request::{decode_ids, encode_ids};
///
/// let mut out = Vec::new();
/// encode_ids(&[ImageId(7), ImageId(8)], &mut out);
/// assert!(decode_ids(&out).eq([ImageId(7), ImageId(8)]));
/// assert!(decode_ids(&out[..15]).eq([ImageId(7)]));
/// ```
#[must_use]
pub fn decode_ids(
    input: &[u8],
) -> impl ExactSizeIterator<Item = ImageId> + DoubleEndedIterator + '_ {
    let number = |id: u64, byte: &u8| id << 8 | u64::from(*byte);
    let ids = input.chunks_exact(ImageId::LEN);
    ids.map(move |id| ImageId(id.iter().fold(0, number)))
}
