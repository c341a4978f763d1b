//! The headers of Zstd frames and blocks (RFC 8878, sections 3.1.1 and 3.1.2), read without the library.
//!
//! The header is checked before the library sees a byte of the frame: the library does not check the window of a
//! frame that is complete in one input, and it also reads formats older than the RFC.

use crate::wire::Decoded;

/// Maximum length of a frame header in bytes: magic number, descriptor, window, dictionary ID, content size.
pub(crate) const MAX_HEADER_LEN: usize = 4 + 1 + 1 + 4 + 8;

/// Length of a block header in bytes.
pub(crate) const BLOCK_HEADER_LEN: usize = 3;

/// Maximum number of bytes that a block decodes to.
pub(crate) const MAX_BLOCK: usize = 128 * 1024;

const MAGIC: [u8; 4] = 0xFD2F_B528_u32.to_le_bytes();
/// The low half of the first byte is arbitrary: 16 magic numbers begin a skippable frame.
const SKIPPABLE_MAGIC: [u8; 4] = 0x184D_2A50_u32.to_le_bytes();

/// Why the bytes are not a valid Zstd frame.
pub(crate) type Reason = &'static str;

/// A frame header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameHeader {
    /// A frame of data.
    Data {
        /// The window in bytes. The window of a single-segment frame is its content size.
        window: u64,
        /// The declared length of the decoded data.
        content: Option<u64>,
        /// The dictionary ID; 0 if there is none.
        dictionary: u32,
        /// Whether four bytes of checksum follow the last block.
        checksum: bool,
    },
    /// A skippable frame, and the number of bytes after its header.
    Skippable { length: u32 },
}

/// A block header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BlockHeader {
    pub(crate) last: bool,
    pub(crate) kind: BlockKind,
    /// Number of input bytes of the block without its header, at most 2^21 − 1.
    pub(crate) wire: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockKind {
    Raw,
    Rle,
    Compressed,
}

/// Decodes a frame header from the start of `input`.
pub(crate) fn decode_header(input: &[u8]) -> Result<Decoded<FrameHeader>, Reason> {
    // Each byte of the magic number is checked when it arrives, so that the result does not depend on how the input
    // is split.
    let seen = input.get(..4).unwrap_or(input);
    let skippable = seen.first().is_some_and(|first| first & 0xf0 == 0x50);
    let begins = if skippable {
        let rest = seen.get(1..).unwrap_or_default();
        SKIPPABLE_MAGIC
            .get(1..)
            .is_some_and(|magic| magic.starts_with(rest))
    } else {
        MAGIC.starts_with(seen)
    };
    if !begins {
        return Err("the data do not begin with a Zstd frame");
    }
    let Some((_, rest)) = input.split_first_chunk::<4>() else {
        return Ok(Decoded::Incomplete {
            need: 4 - input.len(),
        });
    };
    if skippable {
        return Ok(match rest.first_chunk::<4>() {
            Some(length) => Decoded::Complete {
                value: FrameHeader::Skippable {
                    length: u32::from_le_bytes(*length),
                },
                used: 8,
            },
            None => Decoded::Incomplete {
                need: 4 - rest.len(),
            },
        });
    }
    let Some((&descriptor, rest)) = rest.split_first() else {
        return Ok(Decoded::Incomplete { need: 1 });
    };
    if descriptor & 0b1000 != 0 {
        return Err("the reserved bit of a frame is set");
    }
    let single = descriptor & 0b10_0000 != 0;
    let window_len = usize::from(!single);
    let dictionary_len = match descriptor & 0b11 {
        0 => 0,
        1 => 1,
        2 => 2,
        _ => 4,
    };
    let content_len = match descriptor >> 6 {
        0 => usize::from(single),
        1 => 2,
        2 => 4,
        _ => 8,
    };
    let length = window_len + dictionary_len + content_len;
    let Some(fields) = rest.get(..length) else {
        return Ok(Decoded::Incomplete {
            need: length - rest.len(),
        });
    };
    let (window, fields) = fields.split_at_checked(window_len).unwrap_or_default();
    let (dictionary, content) = fields.split_at_checked(dictionary_len).unwrap_or_default();
    let content = match content.len() {
        0 => None,
        // The two-byte form starts at 256.
        2 => Some(little_endian(content) + 256),
        _ => Some(little_endian(content)),
    };
    let window = match (window.first(), content) {
        (Some(&descriptor), _) => {
            let base = 1u64 << (10 + (descriptor >> 3));
            base + base / 8 * u64::from(descriptor & 0b111)
        }
        (None, content) => content.unwrap_or(0),
    };
    let value = FrameHeader::Data {
        window,
        content,
        dictionary: u32::try_from(little_endian(dictionary)).unwrap_or(u32::MAX),
        checksum: descriptor & 0b100 != 0,
    };
    Ok(Decoded::Complete {
        value,
        used: 5 + length,
    })
}

/// The number in up to eight bytes.
fn little_endian(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .rev()
        .fold(0, |value, &byte| value << 8 | u64::from(byte))
}

/// Decodes a block header.
pub(crate) fn decode_block(header: [u8; BLOCK_HEADER_LEN]) -> Result<BlockHeader, Reason> {
    let [low, middle, high] = header;
    let bits = u32::from_le_bytes([low, middle, high, 0]);
    let size = bits >> 3;
    let (kind, wire) = match bits >> 1 & 0b11 {
        0 => (BlockKind::Raw, size),
        // One byte, which is repeated `size` times.
        1 => (BlockKind::Rle, 1),
        2 if size == 0 => return Err("a compressed block is empty"),
        2 => (BlockKind::Compressed, size),
        _ => return Err("a block of the reserved type"),
    };
    Ok(BlockHeader {
        last: bits & 1 != 0,
        kind,
        wire,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn whole(bytes: &[u8]) -> FrameHeader {
        for cut in 0..bytes.len() {
            match decode_header(&bytes[..cut]) {
                Ok(Decoded::Incomplete { need }) => {
                    assert!((1..=bytes.len() - cut).contains(&need));
                }
                other => panic!("{other:?}"),
            }
        }
        match decode_header(bytes) {
            Ok(Decoded::Complete { value, used }) if used == bytes.len() => value,
            other => panic!("{other:?}"),
        }
    }

    fn frame(rest: &[u8]) -> Vec<u8> {
        [&MAGIC[..], rest].concat()
    }

    #[test]
    fn frame_headers_with_any_fields_decode_from_any_split() {
        // Only a window descriptor: a power of two from 2^10 on, plus eighths of it.
        let data = |window, content, dictionary, checksum| FrameHeader::Data {
            window,
            content,
            dictionary,
            checksum,
        };
        assert_eq!(whole(&frame(&[0, 0])), data(1024, None, 0, false));
        assert_eq!(
            whole(&frame(&[4, 0x0f])),
            data(2048 + 7 * 256, None, 0, true)
        );
        assert_eq!(
            whole(&frame(&[0, 0xff])),
            data((1 << 41) + (7 << 38), None, 0, false)
        );
        // Single segment: the window is the content size.
        assert_eq!(whole(&frame(&[0x20, 7])), data(7, Some(7), 0, false));
        assert_eq!(whole(&frame(&[0x60, 1, 1])), data(513, Some(513), 0, false));
        assert_eq!(
            whole(&frame(&[0xa0, 0, 0, 1, 0])),
            data(65536, Some(65536), 0, false)
        );
        // All fields.
        let longest = frame(&[0xc7, 8, 1, 2, 3, 4, 1, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(longest.len(), MAX_HEADER_LEN);
        assert_eq!(
            whole(&longest),
            data(2048, Some((1 << 56) + 1), 0x0403_0201, true)
        );
        assert_eq!(whole(&frame(&[1, 0, 9])), data(1024, None, 9, false));
        assert_eq!(whole(&frame(&[2, 0, 0, 1])), data(1024, None, 256, false));
    }

    #[test]
    fn w8_only_standard_and_skippable_frames_are_accepted() {
        for low in 0x50..=0x5f {
            assert_eq!(
                whole(&[low, 0x2a, 0x4d, 0x18, 1, 2, 0, 0]),
                FrameHeader::Skippable { length: 513 }
            );
        }
        // The formats 0.1 to 0.7, and numbers next to the valid ones.
        for bad in [
            0xFD2F_B527u32,
            0xFD2F_B522,
            0xFD2F_B51E,
            0xFD2F_B529,
            0x184D_2B50,
            0,
        ] {
            assert!(decode_header(&bad.to_le_bytes()).is_err(), "{bad:x}");
        }
        assert!(decode_header(&[0x60]).is_err());
        assert!(decode_header(&frame(&[8])).is_err());
    }

    #[test]
    fn block_headers_have_three_types() {
        let block = |bits: u32| {
            let [low, middle, high, _] = bits.to_le_bytes();
            decode_block([low, middle, high])
        };
        let some = |last, kind, wire| Ok(BlockHeader { last, kind, wire });
        assert_eq!(block(9 << 3 | 1), some(true, BlockKind::Raw, 9));
        assert_eq!(block(9 << 3 | 0b10), some(false, BlockKind::Rle, 1));
        assert_eq!(block(9 << 3 | 0b100), some(false, BlockKind::Compressed, 9));
        assert_eq!(block(1), some(true, BlockKind::Raw, 0));
        assert!(block(0b110).is_err());
        assert!(block(0b100).is_err());
    }
}
