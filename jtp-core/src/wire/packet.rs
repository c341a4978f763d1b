//! A packet: `flags:u8 length:varint id:u64 data × length`.
//!
//! The codec covers the head; the data are streamed.

use alloc::vec::Vec;

use super::{DecodeResult, Decoded, WireError, varint};
use crate::image::{Flags, Image, ImageId};

/// The longest packet head, in bytes.
pub const MAX_HEAD_LEN: usize = 1 + varint::MAX_LEN + 8;

/// Appends the head of the packet that carries an image.
pub fn encode_head(image: &Image, out: &mut Vec<u8>) {
    out.push(image.flags.bits());
    varint::encode(image.length, out);
    out.extend_from_slice(&image.id.to_be_bytes());
}

/// Reads a packet's head from the start of `input`.
///
/// Whether `JTPE` or `JTPC` stands there instead is for the caller to see first: both begin with `J`, which
/// has bit 6 set and so is no packet's first byte. // S12
///
/// # Errors
///
/// A reserved flag (bits 5 to 7) or a bad length. The encrypted bit is no error of the framing. // R1 R2
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
    fn a_packet_head_has_its_bytes_and_reads_back_from_any_cut() {
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
            match decode_head(&out[..cut]) {
                Ok(Decoded::Incomplete { need }) => assert!((1..=11 - cut).contains(&need)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn r1_reserved_flags_are_refused_and_the_encrypted_bit_is_not() {
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
    fn s12_no_packet_begins_like_a_response_header() {
        assert_eq!(decode_head(b"J"), Err(WireError::PacketFlags(b'J')));
    }
}
