//! Receiving one image: decoding, hashing, and the verdict over it.

use core::fmt;

use crate::image::{Image, ImageHasher, ImageId};
#[cfg(feature = "zstd")]
use crate::zstd_stream::ZstdStream;

/// The default limit of a decoded image: 4 GiB − 1. // R4
pub const DEFAULT_MAX_IMAGE_SIZE: u64 = u32::MAX as u64;

/// The default limit of a Zstd window: 8 MiB. // W8
pub const DEFAULT_MAX_WINDOW: u32 = 8 * 1024 * 1024;

/// Why an image that came is not good. The stream goes on behind it. // R2
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// The decoded bytes are those of another image. // W3
    #[error("the image's bytes have the ID {actual}, not {expected}")]
    WrongId {
        /// The ID in the packet's head.
        expected: ImageId,
        /// The ID of the bytes that came.
        actual: ImageId,
    },
    /// The compressed data are no Zstd frames, or none that the protocol allows. // W8
    #[error("the compressed data are broken: {0}")]
    Broken(&'static str),
    /// The decoded image is longer than the receiver allows. // R4
    #[error("the image is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The encrypted bit is set. // R2
    #[error("the image is marked as encrypted")]
    Encrypted,
    /// The data are compressed, and this is a build without the feature `zstd`. // W8
    #[error("the image is compressed, and this program was built without Zstd")]
    CompressionUnsupported,
}

/// Receives the data of one image after another: takes the bytes behind a packet's head as they come, gives
/// the decoded ones, and at the end says whether they are the image.
///
/// Raw data are not copied: what comes out is the caller's own slice. Compressed data are decoded into a
/// buffer of 128 KiB, which like the decoder is made for the first compressed image and kept for the later
/// ones; the decoder needs the frame's window beside it, at most the limit. Data are bounded by the limits,
/// never by what a peer declares. // R3 R4
///
/// What comes out, and the verdict, do not depend on the pieces in which the bytes came. (Compressed data that
/// reach back beyond their own window can decode to anything that the decoder's memory held: one more reason to
/// show nobody an image before its verdict.)
///
/// ```
/// use jtp_core::{BodyReceiver, FileType, Flags, Image, ImageId};
///
/// let flags = Flags::new(FileType::Png, false);
/// let image = Image::new(ImageId::of(b"an image"), flags, 8);
///
/// let mut body = BodyReceiver::new(1 << 20, 8 << 20);
/// body.begin(image);
/// let mut got = Vec::new();
/// for mut piece in [&b"an im"[..], b"age and what follows it"] {
///     while !piece.is_empty() && body.verdict().is_none() {
///         let received = body.receive(piece);
///         got.extend_from_slice(received.data);
///         piece = &piece[received.used..];
///     }
/// }
/// assert_eq!(got, b"an image");
/// assert_eq!(body.verdict(), Some(Ok(image.id)));
/// ```
pub struct BodyReceiver {
    max_size: u64,
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    max_window: u32,
    image: Option<Image>,
    /// The bytes of the packet that have not come yet.
    left: u32,
    decoded: u64,
    hasher: ImageHasher,
    fault: Option<ImageFault>,
    #[cfg(feature = "zstd")]
    zstd: Option<ZstdStream>,
}

/// What [`BodyReceiver::receive`] made of its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Piece<'a> {
    /// How many bytes of the input were used.
    pub used: usize,
    /// The decoded bytes; empty if there are none yet.
    pub data: &'a [u8],
}

/// Where decoded bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    Nowhere,
    /// They are the bytes of the input that were used.
    Input,
    /// In [`BodyReceiver::buffer`].
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    Buffer,
}

impl BodyReceiver {
    /// A receiver of images of at most `max_size` decoded bytes (R4), compressed with a window of at most
    /// `max_window` bytes (W8).
    #[must_use]
    pub fn new(max_size: u64, max_window: u32) -> BodyReceiver {
        BodyReceiver {
            max_size,
            max_window,
            image: None,
            left: 0,
            decoded: 0,
            hasher: ImageHasher::new(),
            fault: None,
            #[cfg(feature = "zstd")]
            zstd: None,
        }
    }

    /// Begins the image of a packet's head; whatever was under way is forgotten.
    pub fn begin(&mut self, image: Image) {
        self.image = Some(image);
        self.left = image.length;
        self.decoded = 0;
        self.hasher = ImageHasher::new();
        self.fault = if image.flags.is_encrypted() {
            Some(ImageFault::Encrypted)
        } else if image.flags.is_compressed() {
            self.begin_compressed(image).err()
        } else if u64::from(image.length) > self.max_size {
            Some(self.too_large())
        } else {
            None
        };
    }

    #[cfg(feature = "zstd")]
    fn begin_compressed(&mut self, image: Image) -> Result<(), ImageFault> {
        if image.length == 0 {
            return Err(ImageFault::Broken("no data"));
        }
        match &mut self.zstd {
            Some(zstd) => zstd.reset().map_err(ImageFault::Broken),
            None => {
                self.zstd = ZstdStream::new(self.max_window);
                match self.zstd {
                    Some(_) => Ok(()),
                    None => Err(ImageFault::Broken("no memory for a decoder")),
                }
            }
        }
    }

    #[cfg(not(feature = "zstd"))]
    fn begin_compressed(&mut self, _: Image) -> Result<(), ImageFault> {
        Err(ImageFault::CompressionUnsupported)
    }

    /// Takes bytes of the packet, at most the rest of it, from the front of `input`; call again with what was
    /// not used until [`verdict`](BodyReceiver::verdict) tells the end. Something is used unless `input` is
    /// empty or the packet at its end.
    ///
    /// The bytes that come out are not to be trusted before the verdict. After a fault nothing comes out any
    /// more: the rest of the packet is thrown away. // R2
    pub fn receive<'a>(&'a mut self, input: &'a [u8]) -> Piece<'a> {
        let (used, source) = self.advance(input);
        let data = match source {
            Source::Nowhere => &[],
            Source::Input => input.get(..used).unwrap_or_default(),
            Source::Buffer => self.buffer(),
        };
        Piece { used, data }
    }

    /// [`BodyReceiver::receive`] without the borrow. Bytes used without data: all of `input`, or the last of
    /// the packet.
    pub(crate) fn advance(&mut self, input: &[u8]) -> (usize, Source) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let input = input.get(..left).unwrap_or(input);
        let compressed = self.image.is_some_and(|image| image.flags.is_compressed());
        let (mut used, source) = if self.fault.is_some() || input.is_empty() {
            (input.len(), Source::Nowhere)
        } else if compressed {
            self.decode(input)
        } else {
            self.hasher.update(input);
            (input.len(), Source::Input)
        };
        if self.fault.is_some() && source == Source::Nowhere {
            used = input.len();
        }
        self.left = self
            .left
            .saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        #[cfg(feature = "zstd")]
        if compressed && self.left == 0 && self.fault.is_none() {
            let end = self.zstd.as_ref().map_or(Ok(()), ZstdStream::finish);
            self.fault = end.map_err(ImageFault::Broken).err();
        }
        (used, source)
    }

    #[cfg(feature = "zstd")]
    fn decode(&mut self, input: &[u8]) -> (usize, Source) {
        let room = self.max_size.saturating_sub(self.decoded);
        let Some(zstd) = &mut self.zstd else {
            return (input.len(), Source::Nowhere);
        };
        let (used, result) = zstd.advance(input, room, self.max_size);
        self.fault = result.err();
        let output = zstd.output();
        if output.is_empty() {
            return (used, Source::Nowhere);
        }
        self.hasher.update(output);
        self.decoded = self
            .decoded
            .saturating_add(u64::try_from(output.len()).unwrap_or(u64::MAX));
        (used, Source::Buffer)
    }

    #[cfg(not(feature = "zstd"))]
    fn decode(&mut self, input: &[u8]) -> (usize, Source) {
        (input.len(), Source::Nowhere)
    }

    /// The decoded bytes of the last [`BodyReceiver::advance`] that said so.
    pub(crate) fn buffer(&self) -> &[u8] {
        #[cfg(feature = "zstd")]
        return self.zstd.as_ref().map_or(&[], ZstdStream::output);
        #[cfg(not(feature = "zstd"))]
        &[]
    }

    /// How many bytes of the packet have not come yet.
    #[must_use]
    pub const fn remaining(&self) -> u32 {
        self.left
    }

    /// Whether the image is good; `None` while its bytes have not all come, or none was begun.
    #[must_use]
    pub fn verdict(&self) -> Option<Result<ImageId, ImageFault>> {
        let image = self.image?;
        if self.left > 0 {
            return None;
        }
        Some(match self.fault {
            Some(fault) => Err(fault),
            None => match self.hasher.id() {
                actual if actual == image.id => Ok(actual),
                actual => Err(ImageFault::WrongId {
                    expected: image.id,
                    actual,
                }),
            },
        })
    }

    fn too_large(&self) -> ImageFault {
        ImageFault::TooLarge {
            limit: self.max_size,
        }
    }
}

impl Default for BodyReceiver {
    /// With the protocol's limits: 4 GiB − 1 decoded, a window of 8 MiB. // R4 W8
    fn default() -> Self {
        BodyReceiver::new(DEFAULT_MAX_IMAGE_SIZE, DEFAULT_MAX_WINDOW)
    }
}

impl fmt::Debug for BodyReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyReceiver")
            .field("image", &self.image)
            .field("remaining", &self.left)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
