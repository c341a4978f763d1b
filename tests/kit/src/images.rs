//! Generated content.

use crate::Rng;

/// Incompressible bytes without the signature of an image type, different for each seed.
#[must_use]
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut rng = Rng::new(seed.wrapping_mul(0xd6e8_feb8_6659_fd93));
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        bytes.extend_from_slice(&rng.next().to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A BMP of `len` bytes in total that compresses well.
#[must_use]
pub fn bmp(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.extend(u32::try_from(len).unwrap().to_le_bytes());
    bytes.extend([0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0]);
    bytes.resize(54, seed);
    let mut row = Vec::with_capacity(3 << 16);
    for n in 0..1u32 << 16 {
        let [_, _, high, low] = n.to_be_bytes();
        row.extend([low & 0xf0, high, seed]);
    }
    while bytes.len() < len {
        let left = len - bytes.len();
        bytes.extend_from_slice(&row[..left.min(row.len())]);
    }
    bytes.truncate(len);
    bytes
}
