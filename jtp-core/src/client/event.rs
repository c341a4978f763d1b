//! Events: what a client connection finds in the bytes it receives.

use alloc::borrow::Cow;

use crate::body::Verified;
use crate::fault::ImageFault;
use crate::image::{Flags, Image, ImageId};
use crate::name::nfc;
use crate::wire::entry::Entry;
use crate::wire::response::Header;

/// One event on the connection.
///
/// The order within one response: `Begin`, then the `Entry` events or the images (`Image`, any number of `Data`,
/// `ImageEnd`, or `PacketEnd` if the image was left undecoded), then `End`. `Cancelled` can replace `Begin`, come
/// before any `Image`, replace `End`, or follow it. // C7
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The response's header and count were received.
    Begin {
        /// Which response.
        kind: ResponseKind,
        /// Number of entries or images that follow, as the peer states it: a bound for loops, not for buffers. // R3
        count: u32,
    },
    /// An entry of the catalog, in answer to LIST.
    Entry(CatalogEntry<'a>),
    /// A packet begins.
    Image(Image),
    /// Decoded bytes of that image, never empty. Do not trust them before `ImageEnd` confirms them. // R2
    ///
    /// If the image was [left undecoded](super::ClientConnection::leave_undecoded): the bytes of its packet.
    Data(&'a [u8]),
    /// The packet is complete.
    ImageEnd {
        /// The image that `Image` announced.
        image: Image,
        /// Whether the bytes are that image. A fault concerns this image only: the response goes on. // R2
        verdict: Result<Verified, ImageFault>,
    },
    /// The packet of an image that was [left undecoded](super::ClientConnection::leave_undecoded) is complete.
    /// Nothing is verified: a [`BodyReceiver`](crate::BodyReceiver) gives the verdict. // R2
    PacketEnd {
        /// The image that `Image` announced.
        image: Image,
    },
    /// A new image in the catalog, in answer to WATCH. // N1
    NewImage(CatalogEntry<'a>),
    /// The response is complete.
    End {
        /// Which response.
        kind: ResponseKind,
    },
    /// The server has answered CANCEL. Images that were complete by then are good. // C7
    Cancelled {
        /// The response that was cancelled.
        kind: ResponseKind,
    },
}

impl Event<'_> {
    /// The same event without the borrow.
    ///
    /// `Data` becomes empty, so that no body is copied: read the bytes with
    /// [`ClientConnection::data`](super::ClientConnection::data).
    #[must_use]
    pub fn into_owned(self) -> Event<'static> {
        match self {
            Event::Begin { kind, count } => Event::Begin { kind, count },
            Event::Entry(entry) => Event::Entry(entry.into_owned()),
            Event::Image(image) => Event::Image(image),
            Event::Data(_) => Event::Data(&[]),
            Event::ImageEnd { image, verdict } => Event::ImageEnd { image, verdict },
            Event::PacketEnd { image } => Event::PacketEnd { image },
            Event::NewImage(entry) => Event::NewImage(entry.into_owned()),
            Event::End { kind } => Event::End { kind },
            Event::Cancelled { kind } => Event::Cancelled { kind },
        }
    }
}

/// The kind of a response, named after the request that it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResponseKind {
    /// `JTPD`.
    GetById,
    /// `JTPL`.
    List,
    /// `JTPB`.
    Batch,
    /// `JTPG`.
    ListAndGet,
    /// `JTPW`, once for each new image.
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

/// A catalog entry with its name normalized.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CatalogEntry<'a> {
    /// The image's ID.
    pub id: ImageId,
    /// The image's type, and whether it is sent compressed.
    pub flags: Flags,
    /// The file name in NFC; borrowed if the server sent it in NFC. A label: never use it as a path. // W6 R5
    pub name: Cow<'a, str>,
    /// Number of bytes that a packet of the image carries; from some deployed servers the length of the raw
    /// image, also if it is sent compressed. // S6
    pub length: u32,
}

impl<'a> From<Entry<'a>> for CatalogEntry<'a> {
    fn from(entry: Entry<'a>) -> Self {
        CatalogEntry {
            id: entry.id,
            flags: entry.flags,
            name: nfc(entry.name),
            length: entry.length,
        }
    }
}

impl<'a> CatalogEntry<'a> {
    /// An entry for `image`, its name in NFC.
    #[must_use]
    pub fn new(name: impl Into<Cow<'a, str>>, image: Image) -> CatalogEntry<'a> {
        let name = match name.into() {
            Cow::Borrowed(name) => nfc(name),
            Cow::Owned(name) => Cow::Owned(nfc(&name).into_owned()),
        };
        CatalogEntry {
            id: image.id,
            flags: image.flags,
            name,
            length: image.length,
        }
    }

    /// The image that the entry describes.
    #[must_use]
    pub const fn image(&self) -> Image {
        Image::new(self.id, self.flags, self.length)
    }

    /// The same entry with an owned name.
    #[must_use]
    pub fn into_owned(self) -> CatalogEntry<'static> {
        CatalogEntry {
            id: self.id,
            flags: self.flags,
            name: Cow::Owned(self.name.into_owned()),
            length: self.length,
        }
    }
}
