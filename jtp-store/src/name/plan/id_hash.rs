//! Hashes of image IDs, for tables whose keys a server chooses.

use std::hash::{BuildHasher, RandomState};

use jtp_core::ImageId;

/// Hashes IDs with random keys, in a few instructions: an ID is looked up some 40 times until its image is stored. A
/// server that does not know the keys cannot choose IDs whose hashes are equal.
#[derive(Debug, Clone)]
pub(super) struct IdHash {
    mask: u64,
    factor: u64,
}

impl Default for IdHash {
    fn default() -> Self {
        let random = RandomState::new();
        IdHash {
            mask: random.hash_one(0),
            // Odd, so that no bits are lost.
            factor: random.hash_one(1) | 1,
        }
    }
}

impl IdHash {
    /// Two rounds: after one, IDs that differ only in their first bits may have few different hashes.
    pub(super) fn of(&self, id: ImageId) -> u64 {
        let once = fold(id.0 ^ self.mask, self.factor);
        fold(once, self.factor.rotate_left(32) | 1)
    }
}

/// The halves of the long product, one upon the other.
fn fold(value: u64, factor: u64) -> u64 {
    let product = u128::from(value) * u128::from(factor);
    let low = u64::try_from(product & u128::from(u64::MAX)).unwrap_or(0);
    let high = u64::try_from(product >> 64).unwrap_or(0);
    low ^ high
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_that_are_alike_differ_in_the_bits_that_a_table_uses() {
        let hash = IdHash::default();
        for shift in [0, 8, 32, 48] {
            let hashes: Vec<u64> = (0..4096u64).map(|n| hash.of(ImageId(n << shift))).collect();
            let distinct = |bits: fn(u64) -> u64| {
                hashes
                    .iter()
                    .map(|hash| bits(*hash))
                    .collect::<HashSet<_>>()
                    .len()
            };
            assert_eq!(distinct(|hash| hash), 4096);
            // Random values have some 2590 of 4096.
            assert!(distinct(|hash| hash & 0xfff) > 1000, "{shift}");
            assert!(distinct(|hash| hash >> 57) > 60, "{shift}");
        }
        assert_ne!(
            IdHash::default().of(ImageId(1)),
            IdHash::default().of(ImageId(1))
        );
    }
}
