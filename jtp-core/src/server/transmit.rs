//! What the connection shows to its driver: output to send, and the part of a body to load.

use core::ops::Range;

use crate::image::Image;

/// What to send next: frames, then a piece of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Transmit<'a> {
    /// Frames, to be sent first. May be empty.
    pub bytes: &'a [u8],
    /// The piece of a body that follows them.
    pub body: Option<BodySpan>,
}

impl<'a> Transmit<'a> {
    pub(super) const fn new(bytes: &'a [u8], body: Option<BodySpan>) -> Transmit<'a> {
        Transmit { bytes, body }
    }

    /// Number of bytes, frames and body together.
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

/// A piece of a body: the bytes that are loaded and not acknowledged. // S6
///
/// Only the connection counts body bytes. A driver keeps the chunks that it loaded, each with its offset in the
/// body. It can drop the chunks that end at or before `offset`, and all of them if there is no `BodySpan`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct BodySpan {
    /// The image.
    pub image: Image,
    /// Where in the body the piece begins: the first byte that is not acknowledged.
    pub offset: u32,
    /// Number of bytes in the piece, at least 1.
    pub length: u32,
}

impl BodySpan {
    /// The piece as a range of the body's bytes.
    #[must_use]
    pub fn range(&self) -> Range<usize> {
        let at = |offset: u32| usize::try_from(offset).unwrap_or(usize::MAX);
        at(self.offset)..at(self.offset).saturating_add(at(self.length))
    }
}

/// The part of a body to load next.
///
/// [`ServerConnection::body_loaded`](super::ServerConnection::body_loaded) and
/// [`ServerConnection::body_failed`](super::ServerConnection::body_failed) answer both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a driver that ignores a request stalls, so a new kind must not compile unnoticed"
)]
pub enum BodyRequest {
    /// Open the image, and check that it is the one that the catalog describes. The answer begins the packet; any
    /// number of the body's bytes, also none, can be loaded with it. // S13
    Open {
        /// The image as its packet's head describes it.
        image: Image,
    },
    /// Load more of the image that was opened last.
    Read {
        /// The image.
        image: Image,
        /// Number of bytes loaded so far, which is the offset of the next one.
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

    /// The offset in the body of the first byte to load.
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
