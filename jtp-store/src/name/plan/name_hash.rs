//! Hashes of names, for tables whose keys a server chooses.

use super::super::MAX_FILE_NAME_LEN;
use crate::secret_hash::SecretHash;

/// Hashes names and their folds.
#[derive(Debug, Clone, Default)]
pub(super) struct NameHash(SecretHash);

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
        self.0.of_bytes(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
