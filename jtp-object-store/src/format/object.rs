//! What the catalog records of one object.

use std::fmt;

use jtp_core::compress::{Threshold, is_eligible};
use jtp_core::{FileType, Flags, Image, ImageId};

use super::{FormatError, Reader, VARIANT_VERSION, VERSION, put_len, put_varint};

/// The longest key below the prefix, in bytes.
pub(crate) const MAX_KEY_LEN: usize = 4096;
/// The longest ETag, in bytes.
const MAX_ETAG_LEN: usize = 512;
/// The longest version, in bytes.
const MAX_VERSION_LEN: usize = 1024;

/// A threshold of 1.
const MAX_THRESHOLD: u16 = 10_000;

/// The contents byte of an object that is no image.
const NOT_IMAGE: u8 = 0x80;
/// The bit of the contents byte that says that a variant follows the ID.
const HAS_VARIANT: u8 = 0x08;
/// The length of the shortest encoding: contents, size, no ETag, no version.
pub(super) const MIN_OBJECT_LEN: usize = 4;

/// An ETag, in 24 bytes of memory if it is an MD5 as S3 makes it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct ETag(Repr);

#[derive(Clone, PartialEq, Eq, Default)]
enum Repr {
    #[default]
    None,
    /// 32 lower-case hexadecimal digits in quotes.
    Md5([u8; 16]),
    Text(Box<str>),
}

impl ETag {
    /// The ETag of an object; `None` if the backend has none. An MD5 and an ETag of Azure get the quotes that some listings
    /// leave out, so that they equal those of other responses.
    #[must_use]
    pub fn new(e_tag: Option<&str>) -> ETag {
        let Some(text) = e_tag else {
            return ETag::default();
        };
        let quoted = format!("\"{text}\"");
        let md5 = parse_md5(text).or_else(|| parse_md5(&quoted));
        ETag(match md5 {
            Some(digest) => Repr::Md5(digest),
            None if text.starts_with("0x") => Repr::Text(quoted.into()),
            None => Repr::Text(text.into()),
        })
    }

    /// The text for `If-Match`.
    #[must_use]
    pub fn to_text(&self) -> Option<String> {
        match &self.0 {
            Repr::None => None,
            Repr::Md5(digest) => {
                let mut text = String::with_capacity(34);
                text.push('"');
                for byte in digest {
                    let digit = |value: u8| char::from_digit(u32::from(value), 16).unwrap_or('0');
                    text.push(digit(byte >> 4));
                    text.push(digit(byte & 15));
                }
                text.push('"');
                Some(text)
            }
            Repr::Text(text) => Some(text.to_string()),
        }
    }
}

impl fmt::Debug for ETag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ETag").field(&self.to_text()).finish()
    }
}

fn parse_md5(text: &str) -> Option<[u8; 16]> {
    let digits = text.strip_prefix('"')?.strip_suffix('"')?.as_bytes();
    let mut digest = [0; 16];
    if digits.len() != 32 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(digits.chunks_exact(2)) {
        for digit in pair {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            *byte = *byte << 4 | value;
        }
    }
    Some(digest)
}

/// What identifies the bytes of an object: if it is the same, so are they.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Identity {
    /// The ETag.
    pub e_tag: ETag,
    /// The backend's version of the object, if it has versions and no ETags. Beside an ETag it is not recorded: listings of
    /// S3 leave it out.
    pub version: Option<Box<str>>,
    /// The number of bytes.
    pub size: u64,
}

impl Identity {
    /// Begins the text in place of an ETag if the backend has neither ETags nor versions; the time of the last change in
    /// milliseconds follows.
    pub(crate) const MODIFIED: &'static str = "modified:";

    /// The most bytes that it takes in an object of the catalog.
    pub(crate) fn encoded_len(&self) -> usize {
        let e_tag = match &self.e_tag.0 {
            Repr::Text(text) => text.len(),
            _ => 16,
        };
        e_tag + self.version.as_ref().map_or(0, |version| version.len()) + 32
    }

    /// Whether the fields are within the limits of the format.
    pub(crate) fn is_encodable(&self) -> bool {
        let e_tag = match &self.e_tag.0 {
            Repr::Text(text) => text.len(),
            _ => 0,
        };
        let version = self.version.as_deref().unwrap_or_default();
        e_tag <= MAX_ETAG_LEN && version.len() <= MAX_VERSION_LEN
    }

    /// Whether the ETag or the version is one of the backend.
    pub(crate) fn is_comparable(&self) -> bool {
        match &self.e_tag.0 {
            Repr::None => self.version.is_some(),
            Repr::Md5(_) => true,
            Repr::Text(text) => !text.starts_with(Identity::MODIFIED),
        }
    }

    /// The identity of an object of `size` bytes.
    #[must_use]
    pub fn new(e_tag: Option<&str>, version: Option<&str>, size: u64) -> Identity {
        let version = version.filter(|text| !text.is_empty() && e_tag.is_none());
        Identity {
            e_tag: ETag::new(e_tag),
            version: version.map(Into::into),
            size,
        }
    }
}

/// What an object contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Contents {
    /// An image. It is raw.
    Image {
        /// The hash of its bytes. // W3
        id: ImageId,
        /// Its type. // W5
        file_type: FileType,
    },
    /// Something else, or an image that is too long for a packet. // S14
    NotImage,
}

/// What is known of an image's encoded variant: its Zstd form, which is an object of its own. // S9
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Variant {
    /// It was made.
    Encoded {
        /// Its length in bytes, less than that of the image.
        length: u32,
        /// The xxHash64 of its bytes.
        checksum: u64,
    },
    /// It is not made: it would not be below this threshold, in units of 1/10,000.
    TooLong {
        /// The threshold of who tried to make it, see [`Threshold::ten_thousandths`].
        threshold: u16,
    },
}

/// The record of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Object {
    /// Which bytes were read.
    pub identity: Identity,
    /// What they are.
    pub contents: Contents,
    /// The variant of an image; `None` if no one has tried to make it.
    pub variant: Option<Variant>,
}

impl Object {
    /// A record, of which no variant is known.
    #[must_use]
    pub fn new(identity: Identity, contents: Contents) -> Object {
        Object {
            identity,
            contents,
            variant: None,
        }
    }

    /// The image, if it is one, as it is in the bucket.
    #[must_use]
    pub fn image(&self) -> Option<Image> {
        let Contents::Image { id, file_type } = self.contents else {
            return None;
        };
        let length = u32::try_from(self.identity.size).ok()?;
        Some(Image::new(id, Flags::new(file_type, false), length))
    }

    /// The variant, if it is below the threshold: what is sent in place of the image, and its checksum. // S9
    pub(crate) fn encoded(&self, threshold: Threshold) -> Option<(Image, u64)> {
        let raw = self.image()?;
        let Some(Variant::Encoded { length, checksum }) = self.variant else {
            return None;
        };
        let flags = Flags::new(raw.flags.file_type(), true);
        let is_short = threshold.accepts(raw.length.into(), length.into());
        is_short.then(|| (Image::new(raw.id, flags, length), checksum))
    }

    /// What the catalog lists: the variant, if that is below the threshold, else the image. // S6
    pub(crate) fn listed(&self, threshold: Threshold) -> Option<Image> {
        let encoded = self.encoded(threshold).map(|(image, _)| image);
        encoded.or_else(|| self.image())
    }

    /// Whether a variant may be below the threshold, and no one has tried to make it. // S9
    pub(crate) fn lacks_variant(&self, threshold: Threshold) -> bool {
        let has_none = match self.variant {
            None => !threshold.is_off(),
            Some(Variant::TooLong { threshold: tried }) => threshold.ten_thousandths() > tried,
            Some(Variant::Encoded { .. }) => false,
        };
        let is_bulky = |image: Image| is_eligible(image.flags.file_type(), image.length.into());
        has_none && self.image().is_some_and(is_bulky)
    }

    /// The version of the format that can express it.
    pub(super) fn version(&self) -> u8 {
        match self.variant {
            Some(_) => VARIANT_VERSION,
            None => VERSION,
        }
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match self.contents {
            Contents::Image { file_type, .. } if self.variant.is_some() => {
                out.push(file_type.code() | HAS_VARIANT);
            }
            Contents::Image { file_type, .. } => out.push(file_type.code()),
            Contents::NotImage => out.push(NOT_IMAGE),
        }
        put_varint(self.identity.size, out);
        if let Contents::Image { id, .. } = self.contents {
            out.extend_from_slice(&id.0.to_le_bytes());
            match self.variant {
                None => {}
                Some(Variant::Encoded { length, checksum }) => {
                    put_varint(length.into(), out);
                    out.extend_from_slice(&checksum.to_le_bytes());
                }
                Some(Variant::TooLong { threshold }) => {
                    put_varint(0, out);
                    put_varint(threshold.into(), out);
                }
            }
        }
        match &self.identity.e_tag.0 {
            Repr::None => out.push(0),
            Repr::Md5(digest) => {
                out.push(1);
                out.extend_from_slice(digest);
            }
            Repr::Text(text) => {
                out.push(2);
                put_len(text.len(), out);
                out.extend_from_slice(text.as_bytes());
            }
        }
        let version = self.identity.version.as_deref().unwrap_or_default();
        put_len(version.len(), out);
        out.extend_from_slice(version.as_bytes());
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Object, FormatError> {
        let code = reader.byte()?;
        let size = reader.varint()?;
        let has_variant = reader.version() >= VARIANT_VERSION && code & !7 == HAS_VARIANT;
        let contents = match if has_variant { code & 7 } else { code } {
            NOT_IMAGE => Contents::NotImage,
            0..=7 if u32::try_from(size).is_err() => return Err(FormatError::Field("size")),
            code @ 0..=7 => Contents::Image {
                file_type: FileType::from_code(code),
                id: ImageId(reader.u64()?),
            },
            _ => return Err(FormatError::Field("contents")),
        };
        let variant = has_variant.then(|| Variant::decode(reader, size));
        let variant = variant.transpose()?;
        let e_tag = match reader.byte()? {
            0 => ETag::default(),
            1 => ETag(Repr::Md5(reader.array()?)),
            // A text that is an MD5 has one encoding, so that equal records have equal bytes.
            2 => {
                let text = reader.text("ETag", MAX_ETAG_LEN)?;
                match ETag::new(Some(text)) {
                    ETag(Repr::Text(kept)) if *kept == *text => ETag(Repr::Text(kept)),
                    _ => return Err(FormatError::Field("ETag")),
                }
            }
            _ => return Err(FormatError::Field("ETag")),
        };
        let version = reader.text("version", MAX_VERSION_LEN)?;
        if !version.is_empty() && e_tag != ETag::default() {
            return Err(FormatError::Field("version"));
        }
        let version = Some(version).filter(|text| !text.is_empty());
        let identity = Identity {
            e_tag,
            version: version.map(Into::into),
            size,
        };
        Ok(Object {
            identity,
            contents,
            variant,
        })
    }
}

impl Variant {
    fn decode(reader: &mut Reader<'_>, raw: u64) -> Result<Variant, FormatError> {
        let invalid = || FormatError::Field("variant");
        match reader.varint()? {
            0 => {
                let threshold = u16::try_from(reader.varint()?).ok();
                let threshold = threshold.filter(|threshold| *threshold <= MAX_THRESHOLD);
                let threshold = threshold.ok_or_else(invalid)?;
                Ok(Variant::TooLong { threshold })
            }
            length if length < raw => Ok(Variant::Encoded {
                length: u32::try_from(length).map_err(|_| invalid())?,
                checksum: reader.u64()?,
            }),
            _ => Err(invalid()),
        }
    }
}
