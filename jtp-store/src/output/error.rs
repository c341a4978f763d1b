//! Errors of the output folder.

use std::io;
use std::path::{Path, PathBuf};

use jtp_core::ImageId;

/// Why an image could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OutputError {
    /// The disk or the quota is full.
    #[error("no space left on the disk to write {}", path.display())]
    DiskFull {
        /// The file that was written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file system is read-only.
    #[error("cannot write {}: its file system is read-only", path.display())]
    ReadOnly {
        /// The file that was written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The folder's permissions do not allow it.
    #[error("no permission to read or write {}", path.display())]
    Permission {
        /// The file that was written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The folder, or a temporary file in it, was removed.
    #[error("cannot write {}: the folder or its temporary file was removed", path.display())]
    Vanished {
        /// The file that was written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The path of the folder leads to nothing or to another folder, although this one is still open: it was moved, or
    /// another disk was mounted in its place.
    #[error("{} was moved, removed or replaced while it was in use", path.display())]
    Replaced {
        /// The path of the folder.
        path: PathBuf,
    },
    /// The verified image is not the one that the file was begun for. // R2
    #[error("cannot commit image {expected}: the bytes are those of image {found}")]
    NotVerified {
        /// The ID of the image that the file was begun for.
        expected: ImageId,
        /// The ID of the verified image.
        found: ImageId,
    },
    /// Other bytes were written than those that were verified: some are missing, or those of an interrupted image stand
    /// before them. // R2
    #[error("cannot commit image {id}: {written} bytes were written, and {verified} were verified")]
    WrongLength {
        /// The image.
        id: ImageId,
        /// The number of bytes that were appended.
        written: u64,
        /// The number of bytes that the image has.
        verified: u64,
    },
    /// Any other error of the system.
    #[error("cannot read or write {}", path.display())]
    Io {
        /// The file or folder that was read or written.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl OutputError {
    /// Whether the disk has reported an I/O error, such as for a bad sector, or after it was unplugged.
    #[must_use]
    pub fn is_io_error(&self) -> bool {
        #[cfg(unix)]
        let code = rustix::io::Errno::IO.raw_os_error();
        // ERROR_IO_DEVICE.
        #[cfg(not(unix))]
        let code = 1117;
        matches!(self, OutputError::Io { source, .. } if source.raw_os_error() == Some(code))
    }

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
