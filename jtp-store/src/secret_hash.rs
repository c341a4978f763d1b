//! Hashes for tables whose keys others choose.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use foldhash::SharedSeed;
use foldhash::quality::{FoldHasher, SeedableRandomState};

/// Hashes with random keys from the system: who does not know the keys cannot choose values whose hashes are equal. Not
/// foldhash's fast variant: hashes of numbers that differ in their upper bits alone have few values in their lower bits.
#[derive(Debug, Clone)]
pub(crate) struct SecretHash(SeedableRandomState);

impl Default for SecretHash {
    fn default() -> Self {
        // foldhash's own seeds come from addresses alone.
        static SHARED: OnceLock<SharedSeed> = OnceLock::new();
        let random = |n: u64| RandomState::new().hash_one(n);
        let shared = SHARED.get_or_init(|| SharedSeed::from_u64(random(0)));
        SecretHash(SeedableRandomState::with_seed(random(1), shared))
    }
}

impl SecretHash {
    pub(crate) fn of_bytes(&self, bytes: &[u8]) -> u64 {
        self.of(|hasher| hasher.write(bytes))
    }

    pub(crate) fn of_number(&self, number: u64) -> u64 {
        self.of(|hasher| hasher.write_u64(number))
    }

    /// The hash of what `write` writes.
    pub(crate) fn of(&self, write: impl FnOnce(&mut FoldHasher<'_>)) -> u64 {
        let mut hasher = self.0.build_hasher();
        write(&mut hasher);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn values_that_are_alike_differ_in_the_bits_that_a_table_uses() {
        let names: [fn(u32) -> String; 4] = [
            |n| format!("{n}"),
            |n| format!("img_{n:012}.png"),
            |n| format!("{n:04}{}", "x".repeat(200)),
            |n| format!("{}{n:04}", "\0".repeat(300)),
        ];
        let hash = SecretHash::default();
        let of_names = names.map(|name| {
            let hashes = (0..4096).map(|n| hash.of_bytes(name(n).as_bytes()));
            hashes.collect::<Vec<u64>>()
        });
        let of_numbers = [0, 20, 50].map(|shift| {
            let hashes = (0..4096).map(|n| hash.of_number(n << shift));
            hashes.collect::<Vec<u64>>()
        });
        for (case, hashes) in of_names.iter().chain(&of_numbers).enumerate() {
            let distinct = |bits: fn(u64) -> u64| {
                let bits: HashSet<u64> = hashes.iter().map(|hash| bits(*hash)).collect();
                bits.len()
            };
            assert_eq!(distinct(|hash| hash), 4096, "{case}");
            // Random values have some 2590 of 4096.
            assert!(distinct(|hash| hash & 0xfff) > 2000, "{case}");
            assert!(distinct(|hash| (hash >> 16) & 0xfff) > 2000, "{case}");
            assert!(distinct(|hash| hash >> 57) > 100, "{case}");
        }
    }

    #[test]
    fn each_hash_has_other_keys() {
        let hashes: HashSet<u64> = (0..8)
            .map(|_| SecretHash::default().of_bytes(b"a.png"))
            .collect();
        assert_eq!(hashes.len(), 8);
    }
}
