//! Receiving one image: decoding, hashing and verification.

use core::fmt;

use crate::fault::ImageFault;
use crate::image::{Image, ImageHasher, ImageId};
#[cfg(feature = "zstd")]
use crate::zstd_stream::ZstdStream;

/// The default limit for a decoded image: 4 GiB − 1. // R4
pub const DEFAULT_MAX_IMAGE_SIZE: u64 = u32::MAX as u64;

/// The default limit for a Zstd window: 8 MiB. // W8
pub const DEFAULT_MAX_WINDOW: u32 = 8 * 1024 * 1024;

/// Receives one image after another: it decodes the bytes after a packet's head as they arrive, and at the end gives
/// a verdict whether they are the image.
///
/// Raw data are not copied: the output is the caller's own slice. Compressed data are decoded into a buffer of
/// 128 KiB. The buffer and the decoder are allocated for the first compressed image and reused for later ones; the
/// decoder also allocates the frame's window, up to the limit. Memory is bounded by these limits, never by a length
/// that the peer declares. // R3 R4
///
/// Output and verdict do not depend on how the input is split. Compressed data that refer to bytes beyond their
/// window can decode to earlier contents of the decoder's memory: do not show an image before its verdict.
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
/// for mut piece in [&b"an im"[..], b"age, then the next packet"] {
///     while !piece.is_empty() && body.verdict().is_none() {
///         let received = body.receive(piece);
///         got.extend_from_slice(received.data);
///         piece = &piece[received.used..];
///     }
/// }
/// assert_eq!(got, b"an image");
/// let verified = body.verdict().unwrap()?;
/// assert_eq!(verified.image(), image);
/// # Ok::<(), jtp_core::ImageFault>(())
/// ```
pub struct BodyReceiver {
    max_size: u64,
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    max_window: u32,
    image: Option<Image>,
    /// Number of bytes of the packet that are not received.
    left: u32,
    decoded: u64,
    hasher: ImageHasher,
    fault: Option<ImageFault>,
    #[cfg(feature = "zstd")]
    zstd: Option<ZstdStream>,
}

/// Proof that the bytes of an image were received and have its ID. // W3
///
/// Only receiving a body makes one: [`BodyReceiver::verdict`] and
/// [`Event::ImageEnd`](crate::client::Event::ImageEnd). A function that demands one cannot store unverified bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verified {
    image: Image,
    length: u64,
}

impl Verified {
    /// The ID that the decoded bytes have.
    #[must_use]
    pub const fn id(&self) -> ImageId {
        self.image.id
    }

    /// Number of decoded bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The packet's head: ID, flags and length on the wire.
    #[must_use]
    pub const fn image(&self) -> Image {
        self.image
    }
}

/// The result of [`BodyReceiver::receive`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[must_use]
pub struct Piece<'a> {
    /// Number of input bytes used.
    pub used: usize,
    /// The decoded bytes; may be empty.
    pub data: &'a [u8],
}

/// Where the decoded bytes of a step are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DataAt {
    /// There are none.
    Nowhere,
    /// The used bytes of the input are the decoded bytes.
    Input,
    /// They are in [`BodyReceiver::buffer`].
    #[cfg_attr(not(feature = "zstd"), allow(dead_code))]
    Buffer,
}

impl BodyReceiver {
    /// A receiver for images of at most `max_size` decoded bytes (R4) and Zstd windows of at most `max_window`
    /// bytes (W8).
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

    /// Begins the image of a packet's head. An unfinished image before it is discarded.
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
                    None => Err(ImageFault::Broken("out of memory for a decoder")),
                }
            }
        }
    }

    #[cfg(not(feature = "zstd"))]
    fn begin_compressed(&mut self, _: Image) -> Result<(), ImageFault> {
        Err(ImageFault::CompressionUnsupported)
    }

    /// Uses bytes of the packet from the front of `input`, and none after the packet. Call it again with the unused
    /// rest until there is a [`verdict`](BodyReceiver::verdict). It uses at least one byte, or returns data, unless
    /// `input` is empty or the packet is complete.
    ///
    /// Do not trust the data before the verdict. After a fault there are no more data: the rest of the packet is
    /// discarded. // R2
    pub fn receive<'a>(&'a mut self, input: &'a [u8]) -> Piece<'a> {
        let (used, data_at) = self.advance(input);
        let data = match data_at {
            DataAt::Nowhere => &[],
            DataAt::Input => input.get(..used).unwrap_or_default(),
            DataAt::Buffer => self.buffer(),
        };
        Piece { used, data }
    }

    /// [`BodyReceiver::receive`] without the borrow. Without data it uses all of `input`, up to the end of the packet.
    pub(crate) fn advance(&mut self, input: &[u8]) -> (usize, DataAt) {
        let left = usize::try_from(self.left).unwrap_or(usize::MAX);
        let input = input.get(..left).unwrap_or(input);
        let compressed = self.image.is_some_and(|image| image.flags.is_compressed());
        let (mut used, data_at) = if self.fault.is_some() || input.is_empty() {
            (input.len(), DataAt::Nowhere)
        } else if compressed {
            self.decode(input)
        } else {
            self.hasher.update(input);
            (input.len(), DataAt::Input)
        };
        if self.fault.is_some() {
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
        (used, data_at)
    }

    #[cfg(feature = "zstd")]
    fn decode(&mut self, input: &[u8]) -> (usize, DataAt) {
        let room = self.max_size.saturating_sub(self.decoded);
        let Some(zstd) = &mut self.zstd else {
            return (input.len(), DataAt::Nowhere);
        };
        let (used, result) = zstd.advance(input, room, self.max_size);
        self.fault = result.err();
        let output = zstd.output();
        if output.is_empty() {
            return (used, DataAt::Nowhere);
        }
        self.hasher.update(output);
        self.decoded = self
            .decoded
            .saturating_add(u64::try_from(output.len()).unwrap_or(u64::MAX));
        (used, DataAt::Buffer)
    }

    #[cfg(not(feature = "zstd"))]
    fn decode(&mut self, input: &[u8]) -> (usize, DataAt) {
        (input.len(), DataAt::Nowhere)
    }

    /// The decoded bytes of the last [`BodyReceiver::advance`] that returned [`DataAt::Buffer`].
    pub(crate) fn buffer(&self) -> &[u8] {
        #[cfg(feature = "zstd")]
        return self.zstd.as_ref().map_or(&[], ZstdStream::output);
        #[cfg(not(feature = "zstd"))]
        &[]
    }

    /// Number of bytes of the packet that are not received.
    #[must_use]
    pub const fn remaining(&self) -> u32 {
        self.left
    }

    /// Whether the received bytes are the image; `None` until all are received, and before the first image.
    #[must_use]
    pub fn verdict(&self) -> Option<Result<Verified, ImageFault>> {
        let image = self.image?;
        if self.left > 0 {
            return None;
        }
        Some(match self.fault {
            Some(fault) => Err(fault),
            None => match self.hasher.id() {
                actual if actual == image.id => Ok(Verified {
                    image,
                    length: match image.flags.is_compressed() {
                        true => self.decoded,
                        false => image.length.into(),
                    },
                }),
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
    /// A receiver with the protocol's limits: 4 GiB − 1 decoded, a window of 8 MiB. // R4 W8
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
