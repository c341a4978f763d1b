//! The varint: unsigned LEB128 of a `u32`, in its shortest encoding only. // W1 W2

use alloc::vec::Vec;

use super::{DecodeResult, Decoded, WireError};

/// The maximum length of a varint, in bytes.
pub const MAX_LEN: usize = 5;

/// Appends a number in its shortest encoding. // W2
#[inline]
pub fn encode(value: u32, out: &mut Vec<u8>) {
    let mut rest = value;
    while rest >= 0x80 {
        out.push((rest & 0x7f) as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The length of a number's shortest encoding: 1 to 5 bytes.
#[must_use]
pub const fn encoded_len(value: u32) -> usize {
    match value {
        0..=0x7f => 1,
        0x80..=0x3fff => 2,
        0x4000..=0x1f_ffff => 3,
        0x20_0000..=0xfff_ffff => 4,
        _ => 5,
    }
}

/// Reads a varint from the start of `input`.
///
/// # Errors
///
/// [`WireError::Varint`] if the encoding is longer than necessary, or the number exceeds 32 bits. // W2
#[inline]
pub fn decode(input: &[u8]) -> DecodeResult<u32> {
    let mut value = 0u32;
    for (index, &byte) in input.iter().take(MAX_LEN).enumerate() {
        let last = byte & 0x80 == 0;
        // The fifth byte has the top four bits only.
        if index == MAX_LEN - 1 && byte > 0x0f {
            return Err(WireError::Varint);
        }
        value |= u32::from(byte & 0x7f) << (7 * index);
        if last {
            // Without a zero as the last byte, the encoding is shorter.
            if byte == 0 && index > 0 {
                return Err(WireError::Varint);
            }
            return Ok(Decoded::Complete {
                value,
                used: index + 1,
            });
        }
    }
    Ok(Decoded::Incomplete { need: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encoded_len_grows_by_one_at_each_power_of_128() {
        for shift in [7, 14, 21, 28] {
            let edge = 1u32 << shift;
            assert_eq!(encoded_len(edge - 1) + 1, encoded_len(edge));
        }
    }
}
