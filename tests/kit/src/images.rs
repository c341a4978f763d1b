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
    // The triples repeat after 3 << 16 bytes, and 16 in a row are equal.
    let runs = (len / 3 / 16 + 1).min(1 << 12);
    let mut row = Vec::with_capacity(runs * 48);
    for n in 0..u16::try_from(runs).unwrap() {
        let [high, low] = (n << 4).to_be_bytes();
        row.extend_from_slice(&[low, high, seed].repeat(16));
    }
    while bytes.len() < len {
        let left = len - bytes.len();
        bytes.extend_from_slice(&row[..left.min(row.len())]);
    }
    bytes.truncate(len);
    bytes
}
