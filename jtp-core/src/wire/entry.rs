//! A catalog entry: `id:u64 flags:u8 nameLen:u16 name size:varint`.

use alloc::vec::Vec;

use super::{DecodeResult, Decoded, WireError, varint};
use crate::image::{Flags, Image, ImageId};

/// The length of the fields before the name, in bytes.
pub const FIXED_LEN: usize = 8 + 1 + 2;

/// The offset of the flags.
const FLAGS_AT: usize = 8;

/// The maximum length of a name, in bytes. // S14
pub const MAX_NAME_LEN: usize = u16::MAX as usize;

/// The maximum length of an entry, in bytes.
pub const MAX_LEN: usize = FIXED_LEN + MAX_NAME_LEN + varint::MAX_LEN;

/// A catalog entry. The name borrows from the decoded bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Entry<'a> {
    /// The image's ID.
    pub id: ImageId,
    /// The file type, and whether the packet is compressed.
    pub flags: Flags,
    /// The file name as received: UTF-8, not necessarily NFC. Never use it as a path. // W6 R5
    pub name: &'a str,
    /// The number of bytes in the image's packet, `size` in RFC.md. Deployed servers send the length of the
    /// uncompressed image. // S6
    pub length: u32,
}

impl<'a> Entry<'a> {
    /// An entry that lists `image` under `name`.
    #[must_use]
    pub const fn new(name: &'a str, image: Image) -> Entry<'a> {
        Entry {
            id: image.id,
            flags: image.flags,
            name,
            length: image.length,
        }
    }

    /// The ID, flags and length, without the name.
    #[must_use]
    pub const fn image(&self) -> Image {
        Image::new(self.id, self.flags, self.length)
    }
}

/// The length of an encoded entry, in bytes. `name_len` is the length of its name.
#[must_use]
pub const fn encoded_len(name_len: usize, length: u32) -> usize {
    FIXED_LEN + name_len + varint::encoded_len(length)
}

/// Appends an entry.
///
/// # Errors
///
/// [`NameTooLong`] for a name longer than 65,535 bytes; then nothing is appended. // S14
pub fn encode(entry: &Entry<'_>, out: &mut Vec<u8>) -> Result<(), NameTooLong> {
    let name_len = u16::try_from(entry.name.len()).map_err(|_| NameTooLong)?;
    out.extend_from_slice(&entry.id.to_be_bytes());
    out.push(entry.flags.bits());
    out.extend_from_slice(&name_len.to_be_bytes());
    out.extend_from_slice(entry.name.as_bytes());
    varint::encode(entry.length, out);
    Ok(())
}

/// A name is longer than 65,535 bytes. // S14
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the file name is longer than 65,535 bytes")]
#[non_exhaustive]
pub struct NameTooLong;

/// Reads an entry from the start of `input`.
///
/// # Errors
///
/// [`WireError`] for a reserved flag (bits 4 to 7), a name that is not UTF-8, or an invalid length. // R1
pub fn decode(input: &[u8]) -> DecodeResult<Entry<'_>> {
    // Check the flags before the entry is complete: the byte that is wrong gives the error.
    if let Some(&bits) = input.get(FLAGS_AT).filter(|&bits| bits & 0xf0 != 0) {
        return Err(WireError::EntryFlags(bits));
    }
    let Some((fixed, rest)) = input.split_first_chunk::<FIXED_LEN>() else {
        // After an empty name there is at least one byte of length.
        return Ok(Decoded::Incomplete {
            need: FIXED_LEN + 1 - input.len(),
        });
    };
    let [i0, i1, i2, i3, i4, i5, i6, i7, bits, n0, n1] = *fixed;
    let name_len = usize::from(u16::from_be_bytes([n0, n1]));
    let Some((name, rest)) = rest.split_at_checked(name_len) else {
        return Ok(Decoded::Incomplete {
            need: name_len + 1 - rest.len(),
        });
    };
    let name = core::str::from_utf8(name).map_err(|_| WireError::Name)?;
    let (length, used) = match varint::decode(rest)? {
        Decoded::Complete { value, used } => (value, used),
        Decoded::Incomplete { need } => return Ok(Decoded::Incomplete { need }),
    };
    let id = ImageId::from_be_bytes([i0, i1, i2, i3, i4, i5, i6, i7]);
    let value = Entry {
        id,
        flags: Flags::from_bits(bits),
        name,
        length,
    };
    Ok(Decoded::Complete {
        value,
        used: FIXED_LEN + name_len + used,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::String;

    #[test]
    fn s14_a_name_over_65535_bytes_is_not_encoded() {
        let name = String::from("x").repeat(MAX_NAME_LEN + 1);
        let mut entry = Entry::new(&name, Image::new(ImageId(0), Flags::from_bits(0), 0));
        let mut out = Vec::new();
        assert_eq!(encode(&entry, &mut out), Err(NameTooLong));
        assert!(out.is_empty());
        entry.name = &name[1..];
        encode(&entry, &mut out).unwrap();
        assert!(matches!(decode(&out), Ok(Decoded::Complete { value, .. }) if value == entry));
    }
}
