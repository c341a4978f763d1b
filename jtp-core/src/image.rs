//! Images as the protocol describes them: an ID, flags with the file type, and a length.

#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

use core::fmt;
use core::hash::Hasher;
use core::str::FromStr;

/// The ID of an image: `xxHash64(image bytes, seed 0)` of the uncompressed bytes. // W3
///
/// Its text form is 16 lower-case hex digits. It detects corruption; it does not protect against forgery.
///
/// ```
/// use jtp_core::ImageId;
/// assert_eq!(ImageId::of(b"").to_string(), "ef46db3751d8e999");
/// assert_eq!("ef46db3751d8e999".parse(), Ok(ImageId::of(b"")));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_structs,
    reason = "an ID is a number of 64 bits on the wire and nothing else"
)]
pub struct ImageId(pub u64);

impl ImageId {
    /// The length of an ID on the wire, in bytes. // W1
    pub const LEN: usize = 8;

    /// The ID of an image in memory.
    #[must_use]
    pub fn of(image: &[u8]) -> ImageId {
        ImageId(twox_hash::XxHash64::oneshot(0, image))
    }

    /// The bytes on the wire. // W1
    #[must_use]
    pub const fn to_be_bytes(self) -> [u8; 8] {
        self.0.to_be_bytes()
    }

    /// The ID with these bytes on the wire. // W1
    #[must_use]
    pub const fn from_be_bytes(bytes: [u8; 8]) -> ImageId {
        ImageId(u64::from_be_bytes(bytes))
    }
}

impl fmt::Display for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for ImageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ImageId({self})")
    }
}

/// The text is not 16 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an image ID: 16 hex digits are expected")]
#[non_exhaustive]
pub struct ParseImageIdError;

impl FromStr for ImageId {
    type Err = ParseImageIdError;

    fn from_str(text: &str) -> Result<ImageId, ParseImageIdError> {
        if text.len() != 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ParseImageIdError);
        }
        u64::from_str_radix(text, 16)
            .map(ImageId)
            .map_err(|_| ParseImageIdError)
    }
}

/// Computes an [`ImageId`] incrementally.
///
/// ```
/// use jtp_core::{ImageHasher, ImageId};
/// let mut hasher = ImageHasher::new();
/// hasher.update(b"an im");
/// hasher.update(b"age");
/// assert_eq!(hasher.id(), ImageId::of(b"an image"));
/// ```
#[derive(Clone)]
pub struct ImageHasher(twox_hash::XxHash64);

impl ImageHasher {
    /// A hasher without input.
    #[must_use]
    pub fn new() -> ImageHasher {
        ImageHasher(twox_hash::XxHash64::with_seed(0))
    }

    /// Adds the next bytes of the image.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.write(bytes);
    }

    /// The ID of the bytes added so far.
    #[must_use]
    pub fn id(&self) -> ImageId {
        ImageId(self.0.finish())
    }
}

impl Default for ImageHasher {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ImageHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ImageHasher").field(&self.id()).finish()
    }
}

/// The file type in the flags of an entry or a packet. // W5
///
/// A received reserved code keeps its value and is treated as [`Other`](Self::Other): a later draft assigns 5.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the eight variants are all values of the field's three bits"
)]
pub enum FileType {
    /// Code 0.
    Png,
    /// Code 1.
    Jpeg,
    /// Code 2.
    WebP,
    /// Code 3.
    Bmp,
    /// Code 4.
    Gif,
    /// Code 5: never sent, treated as other when received.
    Reserved5,
    /// Code 6: never sent, treated as other when received.
    Reserved6,
    /// Code 7: another type, or unknown.
    Other,
}

impl FileType {
    /// The code on the wire, 0 to 7.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            FileType::Png => 0,
            FileType::Jpeg => 1,
            FileType::WebP => 2,
            FileType::Bmp => 3,
            FileType::Gif => 4,
            FileType::Reserved5 => 5,
            FileType::Reserved6 => 6,
            FileType::Other => 7,
        }
    }

    /// The type with this code; only the lowest three bits are used.
    #[must_use]
    pub const fn from_code(code: u8) -> FileType {
        match code & 0b111 {
            0 => FileType::Png,
            1 => FileType::Jpeg,
            2 => FileType::WebP,
            3 => FileType::Bmp,
            4 => FileType::Gif,
            5 => FileType::Reserved5,
            6 => FileType::Reserved6,
            _ => FileType::Other,
        }
    }

    /// The type by the first bytes of a file, of which at most 12 are used; `None` for anything but the five known
    /// types.
    #[must_use]
    pub fn sniff(start: &[u8]) -> Option<FileType> {
        const PNG: &[u8] = &[0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];
        if start.starts_with(PNG) {
            Some(FileType::Png)
        } else if start.starts_with(&[0xff, 0xd8, 0xff]) {
            Some(FileType::Jpeg)
        } else if start.starts_with(b"RIFF") && start.get(8..12) == Some(b"WEBP") {
            Some(FileType::WebP)
        } else if start.starts_with(b"BM") {
            Some(FileType::Bmp)
        } else if start.starts_with(b"GIF87a") || start.starts_with(b"GIF89a") {
            Some(FileType::Gif)
        } else {
            None
        }
    }

    /// The type by a file name extension without the dot, ignoring case; [`FileType::Other`] if it is unknown.
    #[must_use]
    pub fn from_extension(extension: &str) -> FileType {
        let is = |known: &str| extension.eq_ignore_ascii_case(known);
        if is("png") {
            FileType::Png
        } else if is("jpg") || is("jpeg") {
            FileType::Jpeg
        } else if is("webp") {
            FileType::WebP
        } else if is("bmp") {
            FileType::Bmp
        } else if is("gif") {
            FileType::Gif
        } else {
            FileType::Other
        }
    }

    /// The media type, as in HTTP's `Content-Type`; `application/octet-stream` for [`FileType::Other`] and the
    /// reserved codes.
    #[must_use]
    pub const fn mime(self) -> &'static str {
        match self {
            FileType::Png => "image/png",
            FileType::Jpeg => "image/jpeg",
            FileType::WebP => "image/webp",
            FileType::Bmp => "image/bmp",
            FileType::Gif => "image/gif",
            FileType::Reserved5 | FileType::Reserved6 | FileType::Other => {
                "application/octet-stream"
            }
        }
    }

    /// A file name extension without the dot; `img` for [`FileType::Other`] and the reserved codes.
    #[must_use]
    pub const fn extension(self) -> &'static str {
        match self {
            FileType::Png => "png",
            FileType::Jpeg => "jpg",
            FileType::WebP => "webp",
            FileType::Bmp => "bmp",
            FileType::Gif => "gif",
            FileType::Reserved5 | FileType::Reserved6 | FileType::Other => "img",
        }
    }
}

impl fmt::Display for FileType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FileType::Png => "PNG",
            FileType::Jpeg => "JPEG",
            FileType::WebP => "WebP",
            FileType::Bmp => "BMP",
            FileType::Gif => "GIF",
            FileType::Reserved5 | FileType::Reserved6 | FileType::Other => "other",
        })
    }
}

/// The flags byte of an entry or a packet. // W4
///
/// | bits | meaning |
/// |---|---|
/// | 0–2 | [`FileType`] |
/// | 3 | Zstd-compressed |
/// | 4 | encrypted (reserved) |
/// | 5–7 | reserved |
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    const COMPRESSED: u8 = 1 << 3;
    const ENCRYPTED: u8 = 1 << 4;
    const RESERVED: u8 = 0b1110_0000;

    /// The flags for sending: a reserved file type becomes [`FileType::Other`], reserved bits are 0. // W4 W5
    #[must_use]
    pub const fn new(file_type: FileType, compressed: bool) -> Flags {
        let code = match file_type {
            FileType::Reserved5 | FileType::Reserved6 => FileType::Other.code(),
            other => other.code(),
        };
        Flags(if compressed {
            code | Flags::COMPRESSED
        } else {
            code
        })
    }

    /// The flags with exactly these bits, reserved ones included.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Flags {
        Flags(bits)
    }

    /// The byte on the wire.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Bits 0 to 2: the file type.
    #[must_use]
    pub const fn file_type(self) -> FileType {
        FileType::from_code(self.0)
    }

    /// Bit 3: the data is compressed with Zstd. // W8
    #[must_use]
    pub const fn is_compressed(self) -> bool {
        self.0 & Flags::COMPRESSED != 0
    }

    /// Bit 4: the data is encrypted. Reserved: JTP/1 defines no encryption. // W4
    #[must_use]
    pub const fn is_encrypted(self) -> bool {
        self.0 & Flags::ENCRYPTED != 0
    }

    /// Bits 5 to 7: whether any of them is set. // W4
    #[must_use]
    pub const fn has_reserved(self) -> bool {
        self.0 & Flags::RESERVED != 0
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flags({:#04x}: {}", self.0, self.file_type())?;
        if self.is_compressed() {
            f.write_str(", compressed")?;
        }
        if self.is_encrypted() {
            f.write_str(", encrypted")?;
        }
        if self.has_reserved() {
            f.write_str(", reserved bits")?;
        }
        f.write_str(")")
    }
}

/// An image as a snapshot of the catalog sends it: the fields of its packet's head. // S6
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Image {
    /// The ID.
    pub id: ImageId,
    /// The file type, and whether the packet is compressed.
    pub flags: Flags,
    /// The number of bytes in the packet: the compressed length if it is compressed.
    pub length: u32,
}

impl Image {
    /// An image whose packet has `length` bytes, after compression if `flags` has the compressed bit. // S6
    #[must_use]
    pub const fn new(id: ImageId, flags: Flags, length: u32) -> Image {
        Image { id, flags, length }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn w3_an_id_is_xxhash64_and_its_text_16_lower_case_hex_digits() {
        assert_eq!(ImageId::of(b"").to_string(), "ef46db3751d8e999");
        assert_eq!(ImageId(0xAB).to_string(), "00000000000000ab");
        for bad in [
            "",
            "ef46db3751d8e99",
            "ef46db3751d8e9990",
            "+f46db3751d8e999",
            "xf46db3751d8e999",
        ] {
            assert_eq!(bad.parse::<ImageId>(), Err(ParseImageIdError), "{bad}");
        }
    }

    #[test]
    fn w4_received_flags_keep_all_bits_and_sent_ones_have_no_reserved_bit() {
        for bits in 0..=255u8 {
            let flags = Flags::from_bits(bits);
            assert_eq!(flags.bits(), bits);
            assert_eq!(flags.file_type().code(), bits & 7);
            assert_eq!(flags.is_compressed(), bits & 8 != 0);
            assert_eq!(flags.is_encrypted(), bits & 16 != 0);
            assert_eq!(flags.has_reserved(), bits >= 32);
            let sent = Flags::new(flags.file_type(), flags.is_compressed());
            assert!(sent.bits() < 16);
        }
    }

    #[test]
    fn w5_reserved_types_keep_their_code_and_are_never_sent() {
        assert_eq!(Flags::from_bits(5).file_type(), FileType::Reserved5);
        assert_eq!(Flags::new(FileType::Reserved5, false).bits(), 7);
        assert_eq!(Flags::new(FileType::Reserved6, true).bits(), 0b1111);
        assert_eq!(FileType::Reserved6.extension(), "img");
        assert_eq!(FileType::Reserved6.to_string(), "other");
        assert_eq!(FileType::Reserved6.mime(), FileType::Other.mime());
    }

    #[test]
    fn mime_types_are_the_registered_ones() {
        let types = (0..=4).map(|code| FileType::from_code(code).mime());
        let expected = [
            "image/png",
            "image/jpeg",
            "image/webp",
            "image/bmp",
            "image/gif",
        ];
        assert!(types.eq(expected));
        assert_eq!(FileType::Other.mime(), "application/octet-stream");
    }

    #[test]
    fn types_are_detected_by_first_bytes_or_extension() {
        assert_eq!(
            FileType::sniff(b"\x89PNG\r\n\x1a\n...."),
            Some(FileType::Png)
        );
        assert_eq!(FileType::sniff(b"\xff\xd8\xff\xe0"), Some(FileType::Jpeg));
        assert_eq!(FileType::sniff(b"RIFF\0\0\0\0WEBP"), Some(FileType::WebP));
        assert_eq!(FileType::sniff(b"RIFF\0\0\0\0WAVE"), None);
        assert_eq!(FileType::sniff(b"BM"), Some(FileType::Bmp));
        assert_eq!(FileType::sniff(b"GIF89a"), Some(FileType::Gif));
        assert_eq!(FileType::sniff(b""), None);
        assert_eq!(FileType::from_extension("JPeG"), FileType::Jpeg);
        assert_eq!(FileType::from_extension("tiff"), FileType::Other);
    }
}
