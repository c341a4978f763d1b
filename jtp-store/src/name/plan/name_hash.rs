//! Hashes of names, for tables whose keys a server chooses.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::OnceLock;

use foldhash::SharedSeed;
use foldhash::fast::SeedableRandomState;

use super::super::MAX_FILE_NAME_LEN;

/// Hashes names with random keys from the system: a server that does not know the keys cannot choose names whose hashes
/// are equal. A name of 16 bytes takes some 10 instructions, with SipHash some 100.
#[derive(Debug, Clone)]
pub(super) struct NameHash(SeedableRandomState);

impl Default for NameHash {
    fn default() -> Self {
        // foldhash's own seeds come from addresses alone.
        static SHARED: OnceLock<SharedSeed> = OnceLock::new();
        let random = |n: u64| RandomState::new().hash_one(n);
        let shared = SHARED.get_or_init(|| SharedSeed::from_u64(random(0)));
        NameHash(SeedableRandomState::with_seed(random(1), shared))
    }
}

impl NameHash {
    pub(super) fn of(&self, name: &str) -> u64 {
        self.of_bytes(name.as_bytes())
    }

    /// The hash of the [fold](crate::fold_case) of an ASCII name.
    pub(super) fn of_ascii_fold(&self, name: &[u8]) -> u64 {
        // One pass without branches, which the compiler vectorizes.
        let has_upper = |found, byte: &u8| found | byte.is_ascii_uppercase();
        if !name.iter().fold(false, has_upper) {
            return self.of_bytes(name);
        }
        let mut buffer = [0; MAX_FILE_NAME_LEN];
        let Some(lower) = buffer.get_mut(..name.len()) else {
            return self.of_bytes(&name.to_ascii_lowercase());
        };
        lower.copy_from_slice(name);
        lower.make_ascii_lowercase();
        self.of_bytes(lower)
    }

    fn of_bytes(&self, name: &[u8]) -> u64 {
        let mut hasher = self.0.build_hasher();
        hasher.write(name);
        hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_that_are_alike_differ_in_the_bits_that_a_table_uses() {
        let names: [fn(u32) -> String; 4] = [
            |n| format!("{n}"),
            |n| format!("img_{n:012}.png"),
            |n| format!("{n:04}{}", "x".repeat(200)),
            |n| format!("{}{n:04}", "\0".repeat(300)),
        ];
        let hash = NameHash::default();
        for name in names {
            let hashes: Vec<u64> = (0..4096).map(|n| hash.of(&name(n))).collect();
            let distinct = |bits: fn(u64) -> u64| {
                let bits: HashSet<u64> = hashes.iter().map(|hash| bits(*hash)).collect();
                bits.len()
            };
            assert_eq!(distinct(|hash| hash), 4096);
            // Random values have some 2590 of 4096.
            assert!(distinct(|hash| hash & 0xfff) > 2000, "{}", name(0));
            assert!(distinct(|hash| hash >> 57) > 100, "{}", name(0));
        }
    }

    #[test]
    fn the_hash_of_an_ascii_name_is_that_of_its_fold() {
        let hash = NameHash::default();
        for name in [
            "",
            "a.png",
            "A-b_C.PNG",
            &"Aa".repeat(120),
            &"A".repeat(241),
        ] {
            let folded = hash.of(&crate::fold_case(name));
            assert_eq!(hash.of_ascii_fold(name.as_bytes()), folded, "{name}");
        }
    }

    #[test]
    fn each_plan_has_other_keys() {
        let hashes: HashSet<u64> = (0..8).map(|_| NameHash::default().of("a.png")).collect();
        assert_eq!(hashes.len(), 8);
    }
}
