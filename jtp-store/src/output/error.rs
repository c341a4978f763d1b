//! What can go wrong in the output folder.

use std::io;
use std::path::{Path, PathBuf};

use jtp_core::ImageId;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The disk or the quota is full.
    #[error("no space left for {}: {source}", path.display())]
    DiskFull {
        /// What was written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system is read-only.
    #[error("{} is on a read-only file system", path.display())]
    ReadOnly {
        /// What was written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder's permissions do not allow it.
    #[error("no permission for {}: {source}", path.display())]
    Permission {
        /// What was written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder, or a temporary file in it, was taken away.
    #[error("{} was removed meanwhile", path.display())]
    Vanished {
        /// What is gone.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The caller wants to commit bytes that are not the image's. // R2
    #[error("image {expected} came with the bytes of {found}")]
    NotVerified {
        /// The image that was begun.
        expected: ImageId,
        /// The ID of the bytes.
        found: ImageId,
    },
    /// Anything else that the system said.
    #[error("{}: {source}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OutputError {
    pub(super) fn new(path: &Path, source: io::Error) -> OutputError {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                OutputError::DiskFull { path, source }
            }
            io::ErrorKind::ReadOnlyFilesystem => OutputError::ReadOnly { path, source },
            io::ErrorKind::PermissionDenied => OutputError::Permission { path, source },
            io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle => {
                OutputError::Vanished { path, source }
            }
            _ => OutputError::Io { path, source },
        }
    }
}
