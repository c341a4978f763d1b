//! A packet: `flags:u8 length:varint id:u64 data × length`.
//!
//! This module encodes and decodes the head; the data is streamed.

use alloc::vec::Vec;

use super::{DecodeResult, Decoded, WireError, varint};
use crate::image::{Flags, Image, ImageId};

/// The maximum length of a packet's head, in bytes.
pub const MAX_HEAD_LEN: usize = 1 + varint::MAX_LEN + 8;

/// Appends the head of an image's packet.
pub fn encode_head(image: &Image, out: &mut Vec<u8>) {
    out.push(image.flags.bits());
    varint::encode(image.length, out);
    out.extend_from_slice(&image.id.to_be_bytes());
}

/// Reads a packet's head from the start of `input`.
///
/// `JTPE` or `JTPC` can take the place of a packet, which the caller must check first: both begin with `J`. No packet
/// does, since `J` has the reserved bit 6 set. // S12
///
/// # Errors
///
/// [`WireError`] for a reserved flag (bits 5 to 7) or an invalid length. The encrypted bit is no error: it fails the
/// image, not the connection. // R1 R2
pub fn decode_head(input: &[u8]) -> DecodeResult<Image> {
    let Some(&bits) = input.first() else {
        return Ok(Decoded::Incomplete { need: 10 });
    };
    let flags = Flags::from_bits(bits);
    if flags.has_reserved() {
        return Err(WireError::PacketFlags(bits));
    }
    let rest = input.get(1..).unwrap_or_default();
    let (length, used) = match varint::decode(rest)? {
        Decoded::Complete { value, used } => (value, used),
        Decoded::Incomplete { need } => return Ok(Decoded::Incomplete { need: need + 8 }),
    };
    let rest = rest.get(used..).unwrap_or_default();
    match rest.first_chunk::<8>() {
        Some(id) => {
            let value = Image::new(ImageId::from_be_bytes(*id), flags, length);
            Ok(Decoded::Complete {
                value,
                used: 1 + used + 8,
            })
        }
        None => Ok(Decoded::Incomplete {
            need: 8 - rest.len(),
        }),
    }
}
