//! Why an image cannot be opened or read.
//!
//! This is the only place that translates to the public errors of a store.

use std::io;
use std::sync::Arc;

use jtp_core::ImageId;
use jtp_driver::store::StoreError;

use super::record::Name;
use crate::hash;

/// Why an image cannot be opened or read.
#[derive(Debug)]
pub(super) enum Failure {
    /// The file, the folder or the catalog entry does not exist any more.
    Gone,
    /// The file or variant is not the indexed one any more. // S13
    Changed,
    /// The system cannot open or read the file at the moment: no permission, an I/O error, too many open files.
    Unavailable(io::Error),
    /// The caller reads beyond the last byte.
    OutOfRange { offset: u64, length: u64 },
}

impl Failure {
    /// Whether the catalog is wrong, so that the file has to be checked. If the file is merely unavailable, the
    /// catalog may well be right.
    pub(super) fn contradicts_catalog(&self) -> bool {
        matches!(self, Failure::Gone | Failure::Changed)
    }

    /// `name` is the image's file.
    pub(super) fn into_store_error(self, id: ImageId, name: &Name) -> StoreError {
        match self {
            Failure::Gone => StoreError::Gone(id),
            Failure::Changed => StoreError::Changed(id),
            Failure::Unavailable(source) => {
                let name = Arc::clone(name);
                StoreError::unavailable(id, FileError { name, source })
            }
            Failure::OutOfRange { offset, length } => StoreError::OutOfRange { id, offset, length },
        }
    }
}

/// The system cannot read a file.
#[derive(Debug, thiserror::Error)]
#[error("{name:?}")] // Quoted and escaped.
struct FileError {
    name: Name,
    source: io::Error,
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Failure::Gone,
            // A length or checksum of the cache is wrong, or the file was truncated.
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Failure::Changed,
            _ if is_no_file(&error) => Failure::Changed,
            _ => Failure::Unavailable(error),
        }
    }
}

/// Whether the name is that of a socket or device now, or of a link that leads nowhere or out of the folder.
fn is_no_file(error: &io::Error) -> bool {
    #[cfg(unix)]
    if hash::is_link_error(error) {
        return true;
    }
    hash::is_special_error(error) || hash::leads_out(error)
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use rustix::io::Errno;

    fn failure(errno: Errno) -> Failure {
        Failure::from(io::Error::from(errno))
    }

    #[test]
    fn what_the_system_cannot_read_now_is_unavailable_and_not_gone_or_changed() {
        use Errno as E;
        let unavailable = [
            E::ACCESS,
            E::PERM,
            E::IO,
            E::STALE,
            E::NOTCONN,
            E::TIMEDOUT,
            E::MFILE,
            E::NFILE,
            E::NOMEM,
        ];
        for errno in unavailable {
            let failure = failure(errno);
            assert!(!failure.contradicts_catalog(), "{errno}");
            assert!(matches!(failure, Failure::Unavailable(_)), "{errno}");
        }
        for errno in [E::NOENT, E::NOTDIR] {
            assert!(matches!(failure(errno), Failure::Gone), "{errno}");
        }
        // A socket, a device.
        for errno in [E::NXIO, E::NODEV] {
            assert!(matches!(failure(errno), Failure::Changed), "{errno}");
        }
    }

    #[test]
    fn a_link_that_leads_out_of_the_folder_is_a_change() {
        let folder = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.path().join("a.png")).unwrap();
        std::os::unix::fs::symlink("b.png", folder.path().join("b.png")).unwrap();
        let ambient = cap_std::ambient_authority();
        let dir = cap_std::fs::Dir::open_ambient_dir(folder.path(), ambient).unwrap();
        for name in ["a.png", "b.png"] {
            let links = crate::hash::Links::Follow;
            let error = crate::hash::open(&dir, name.as_ref(), links).unwrap_err();
            assert!(matches!(Failure::from(error), Failure::Changed), "{name}");
        }
    }
}
