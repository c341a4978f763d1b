//! What a client connection tells.

use alloc::borrow::Cow;

use crate::body::ImageFault;
use crate::image::{Flags, Image, ImageId};
use crate::name::nfc;
use crate::wire::entry::Entry;
use crate::wire::response::Header;

/// What [`ClientConnection::receive`](super::ClientConnection::receive) made of its input.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub struct Received<'a> {
    /// How many bytes of the input were used, also when there is no event.
    pub used: usize,
    /// What happened. `None` says that all of the input was used and more is needed.
    pub event: Option<Event<'a>>,
}

/// One thing that happened on the connection.
///
/// The order within one response: `Begin`, then the `Entry`s or the images (`Image`, any number of `Data`,
/// `ImageEnd`, or `PacketEnd` if it was left undecoded), then `End`. `Cancelled` can stand in place of `Begin`,
/// before any `Image` and in place of `End`, or after `End`. // C7
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The response's header and count have come.
    Begin {
        /// Which response.
        kind: ResponseKind,
        /// How many entries or images follow. The peer's word: a bound for loops, not for buffers. // R3
        count: u32,
    },
    /// An entry of the catalog, in answer to LIST.
    Entry(CatalogEntry<'a>),
    /// A packet begins.
    Image(Image),
    /// Decoded bytes of that image, never empty. They are good only when `ImageEnd` says so. // R2
    ///
    /// Of an image that was [left undecoded](super::ClientConnection::leave_undecoded): the bytes of its packet.
    Data(&'a [u8]),
    /// The packet is at its end.
    ImageEnd {
        /// The image that `Image` told.
        image: Image,
        /// Whether the bytes are that image. A fault is the image's alone: the response goes on. // R2
        verdict: Result<(), ImageFault>,
    },
    /// The packet of an image that was [left undecoded](super::ClientConnection::leave_undecoded) is at its
    /// end. Nothing is known of the image: [`BodyReceiver`](crate::BodyReceiver) has the verdict. // R2
    PacketEnd {
        /// The image that `Image` told.
        image: Image,
    },
    /// A new image, told to a watcher. // N1
    NewImage(CatalogEntry<'a>),
    /// The response is complete.
    End {
        /// Which response.
        kind: ResponseKind,
    },
    /// The server has answered CANCEL. What was complete by now is good. // C7
    Cancelled {
        /// What was cancelled.
        kind: ResponseKind,
    },
}

/// The responses, by the request they answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResponseKind {
    /// `JTPD`.
    GetById,
    /// `JTPL`.
    List,
    /// `JTPB`.
    Batch,
    /// `JTPG`.
    ListAndGet,
    /// `JTPW`, again and again.
    Watch,
}

impl ResponseKind {
    /// The header of the response.
    #[must_use]
    pub const fn header(self) -> Header {
        match self {
            ResponseKind::GetById => Header::Data,
            ResponseKind::List => Header::List,
            ResponseKind::Batch => Header::Batch,
            ResponseKind::ListAndGet => Header::ListAndGet,
            ResponseKind::Watch => Header::Watch,
        }
    }
}

/// An entry of a catalog, as an application is to see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CatalogEntry<'a> {
    /// The image's ID.
    pub id: ImageId,
    /// Type, and whether the image travels compressed.
    pub flags: Flags,
    /// The file name in NFC, borrowed if it came so. A label: never to be used as a path. // W6 R5
    pub name: Cow<'a, str>,
    /// The bytes that travel (from deployed servers: those of the raw image). // S6
    pub size: u32,
}

impl<'a> From<Entry<'a>> for CatalogEntry<'a> {
    fn from(entry: Entry<'a>) -> Self {
        CatalogEntry {
            id: entry.id,
            flags: entry.flags,
            name: nfc(entry.name),
            size: entry.length,
        }
    }
}

impl CatalogEntry<'_> {
    /// The same with a name of its own.
    #[must_use]
    pub fn into_owned(self) -> CatalogEntry<'static> {
        CatalogEntry {
            id: self.id,
            flags: self.flags,
            name: Cow::Owned(self.name.into_owned()),
            size: self.size,
        }
    }
}
