//! IDs kept from one run to the next, so that an unchanged folder is not read again.

use std::collections::HashMap;
use std::io::Read;

use jtp_core::{FileType, ImageHasher, ImageId};

use crate::fingerprint::{self, Fingerprint};

const MAGIC: &[u8; 8] = b"JTPidx\x00\x01";
const CHECKSUM_LEN: usize = 8;
const RECORD_LEN: usize = fingerprint::ENCODED_LEN + 8 + 1;

/// A larger file is none of ours: that is some 14 million files.
const MAX_LEN: u64 = 1024 * 1024 * 1024;

/// What the first bytes of a file did not tell. // W5
const NO_TYPE: u8 = 0xff;

/// What is known of a file's contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) id: ImageId,
    /// The type that the first bytes tell.
    pub(crate) sniffed: Option<FileType>,
}

/// Contents by fingerprint. A fingerprint has the inode and the ctime in it, so names do not matter.
#[derive(Debug, Default)]
pub(crate) struct Known(HashMap<Fingerprint, Contents>);

impl Known {
    pub(crate) fn get(&self, fingerprint: &Fingerprint) -> Option<Contents> {
        // Without inodes (not Unix) two files of one size and time could not be told apart.
        self.0.get(fingerprint).copied().filter(|_| cfg!(unix))
    }

    pub(crate) fn insert(&mut self, fingerprint: Fingerprint, contents: Contents) {
        self.0.insert(fingerprint, contents);
    }

    pub(crate) fn is_part_of(&self, other: &Known) -> bool {
        self.0
            .iter()
            .all(|(fingerprint, contents)| other.0.get(fingerprint) == Some(contents))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.0.len()
    }

    /// Reads what [`Known::encode`] made. Anything else, however it came about, is nothing known: it is an
    /// index of what can be read again.
    pub(crate) fn read(from: impl Read) -> Known {
        let mut bytes = Vec::new();
        match from.take(MAX_LEN + 1).read_to_end(&mut bytes) {
            Ok(len) if u64::try_from(len).is_ok_and(|len| len <= MAX_LEN) => {
                Known::decode(&bytes).unwrap_or_default()
            }
            _ => Known::default(),
        }
    }

    fn decode(bytes: &[u8]) -> Option<Known> {
        let (content, checksum) = bytes.split_last_chunk::<CHECKSUM_LEN>()?;
        if ImageId::of(content).to_be_bytes() != *checksum {
            return None;
        }
        let records = content.strip_prefix(MAGIC)?;
        let mut known = HashMap::with_capacity(records.len() / RECORD_LEN);
        let mut records = records.chunks_exact(RECORD_LEN);
        for record in &mut records {
            let (fingerprint, rest) = record.split_first_chunk()?;
            let (id, sniffed) = rest.split_first_chunk()?;
            let sniffed = match sniffed {
                [NO_TYPE] => None,
                [code @ 0..=7] => Some(FileType::from_code(*code)),
                _ => return None,
            };
            let contents = Contents {
                id: ImageId::from_be_bytes(*id),
                sniffed,
            };
            known.insert(Fingerprint::decode(fingerprint), contents);
        }
        records.remainder().is_empty().then_some(Known(known))
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(MAGIC.len() + self.0.len() * RECORD_LEN + CHECKSUM_LEN);
        bytes.extend_from_slice(MAGIC);
        for (fingerprint, contents) in &self.0 {
            fingerprint.encode(&mut bytes);
            bytes.extend_from_slice(&contents.id.to_be_bytes());
            bytes.push(contents.sniffed.map_or(NO_TYPE, FileType::code));
        }
        let mut hasher = ImageHasher::new();
        hasher.update(&bytes);
        bytes.extend_from_slice(&hasher.id().to_be_bytes());
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_anything_else_is_nothing() {
        let file = tempfile::tempfile().unwrap();
        let fingerprint = Fingerprint::of_file(&file).unwrap();
        let mut known = Known::default();
        let contents = Contents {
            id: ImageId(7),
            sniffed: Some(FileType::Gif),
        };
        known.insert(fingerprint, contents);
        let bytes = known.encode();
        assert_eq!(
            Known::read(bytes.as_slice()).get(&fingerprint),
            Some(contents)
        );
        assert_eq!(Known::read(Known::default().encode().as_slice()).len(), 0);
        for cut in 0..bytes.len() {
            assert_eq!(Known::read(&bytes[..cut]).len(), 0, "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            assert_eq!(Known::read(bad.as_slice()).len(), 0, "changed at {at}");
        }
    }
}
