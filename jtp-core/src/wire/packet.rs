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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::FileType;

    #[test]
    fn a_packet_head_round_trips_and_every_prefix_is_incomplete() {
        let image = Image::new(
            ImageId(0x0102_0304_0506_0708),
            Flags::new(FileType::Bmp, true),
            4660,
        );
        let mut out = Vec::new();
        encode_head(&image, &mut out);
        assert_eq!(out, [0x0b, 0xb4, 0x24, 1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(
            decode_head(&out),
            Ok(Decoded::Complete {
                value: image,
                used: 11
            })
        );
        for cut in 0..out.len() {
            // The shortest length that may follow.
            let need = if cut < 3 { 10 - cut.min(1) } else { 11 - cut };
            assert_eq!(decode_head(&out[..cut]), Ok(Decoded::Incomplete { need }));
        }
    }

    #[test]
    fn r1_reserved_flags_are_errors_and_the_encrypted_bit_is_not() {
        for bit in [5, 6, 7] {
            assert_eq!(
                decode_head(&[1 << bit]),
                Err(WireError::PacketFlags(1 << bit))
            );
        }
        assert!(matches!(
            decode_head(&[0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Ok(Decoded::Complete { .. })
        ));
        assert_eq!(decode_head(&[0, 0x80, 0]), Err(WireError::Varint));
    }

    #[test]
    fn s12_no_packet_begins_with_j() {
        assert_eq!(decode_head(b"J"), Err(WireError::PacketFlags(b'J')));
    }
}
