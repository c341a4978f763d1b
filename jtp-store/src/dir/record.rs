//! What the store knows of one file.

use std::ffi::OsStr;
use std::sync::Arc;

use bytes::Bytes;
#[cfg(feature = "zstd")]
use jtp_core::compress::level;
use jtp_core::{FileType, ImageId};

use crate::fingerprint::Fingerprint;
use crate::known::{Contents, Record};
#[cfg(feature = "zstd")]
use crate::variants::{VariantDigest, VariantKey};

/// A file name in the folder.
pub(super) type Name = Arc<OsStr>;

/// A file whose contents are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileRecord {
    pub(super) id: ImageId,
    pub(super) fingerprint: Fingerprint,
    /// The number of bytes. A file that is too long for a packet has no record. // S14
    pub(super) length: u32,
    /// The type found in the first bytes.
    pub(super) sniffed: Option<FileType>,
    /// See [`Contents::incompressible_at`].
    pub(super) incompressible_at: u16,
    /// Whether the fingerprint was settled when the file was read, so that it identifies the contents from then on.
    pub(super) settled: bool,
}

impl FileRecord {
    pub(super) fn new(
        fingerprint: Fingerprint,
        length: u32,
        contents: Contents,
        settled: bool,
    ) -> FileRecord {
        FileRecord {
            id: contents.id,
            fingerprint,
            length,
            sniffed: contents.sniffed,
            incompressible_at: contents.incompressible_at,
            settled,
        }
    }

    /// A file on this file system.
    #[cfg(test)]
    pub(super) fn sample(file_system: u64) -> FileRecord {
        FileRecord {
            id: ImageId(1),
            fingerprint: Fingerprint {
                file_system,
                ..Fingerprint::sample(1)
            },
            length: 5,
            sniffed: None,
            incompressible_at: 0,
            settled: true,
        }
    }

    /// The part that is kept for the next run, if it is certain to be right then.
    pub(super) fn known(&self) -> Option<Record> {
        if !self.settled {
            return None;
        }
        let contents = Contents {
            id: self.id,
            sniffed: self.sniffed,
            incompressible_at: self.incompressible_at,
        };
        Some((self.fingerprint, contents))
    }

    /// Where the variant cache keeps the encoded variant of this file.
    #[cfg(feature = "zstd")]
    pub(super) fn variant_key(&self) -> VariantKey {
        VariantKey {
            id: self.id,
            level: level(u64::from(self.length)),
            raw_length: self.length,
            source: self.fingerprint,
        }
    }
}

/// The encoded variant of an image: compressed, and verified by decompressing it. // S9
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "zstd"), allow(dead_code))]
pub(super) enum Variant {
    Memory(Bytes),
    /// In the variant cache: the length, and the checksum of these bytes.
    Cached {
        length: u32,
        checksum: u64,
    },
}

impl Variant {
    pub(super) fn length(&self) -> Option<u32> {
        match self {
            Variant::Memory(bytes) => u32::try_from(bytes.len()).ok(),
            Variant::Cached { length, .. } => Some(*length),
        }
    }

    #[cfg(feature = "zstd")]
    pub(super) fn digest(&self) -> Option<VariantDigest> {
        match *self {
            Variant::Memory(_) => None,
            Variant::Cached { length, checksum } => Some(VariantDigest { length, checksum }),
        }
    }
}

/// Where an image is and how it can be sent.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) name: Name,
    pub(super) record: FileRecord,
    pub(super) variant: Option<Variant>,
}
