//! A disk that fails: I/O errors in a row end the run, instead of one line for each image. // R8

use std::sync::atomic::{AtomicU32, Ordering};

use jtp_store::OutputError;

use super::error::Error;
use super::event::Cause;
use super::session::Session;

/// The number of I/O errors in a row after which the disk is taken to have failed. An image has up to three: under its own
/// name, under one with its ID, and while it is written. A bad sector concerns one image.
const MAX_IN_A_ROW: u32 = 8;

/// The I/O errors since the last image that was stored or renamed.
#[derive(Debug, Default)]
pub(super) struct IoErrors(AtomicU32);

impl IoErrors {
    /// Counts an error. Returns whether the disk is taken to have failed.
    fn count(&self, error: &OutputError) -> bool {
        error.is_io_error() && self.0.fetch_add(1, Ordering::Relaxed) + 1 >= MAX_IN_A_ROW
    }

    pub(super) fn reset(&self) {
        if self.0.load(Ordering::Relaxed) > 0 {
            self.0.store(0, Ordering::Relaxed);
        }
    }
}

impl Session {
    /// Passes on why an image cannot be stored or read.
    ///
    /// # Errors
    ///
    /// It is the last of several I/O errors in a row: the whole folder fails.
    pub(super) fn count_io_error(&self, cause: Cause) -> Result<Cause, Error> {
        match cause {
            Cause::Folder(error) if self.io_errors.count(&error) => Err(error.into()),
            cause => Ok(cause),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::io;

    use super::*;

    fn error(kind: Option<i32>) -> OutputError {
        OutputError::Io {
            path: "a.png".into(),
            source: match kind {
                Some(code) => io::Error::from_raw_os_error(code),
                None => io::Error::other("other"),
            },
        }
    }

    #[test]
    fn r8_only_io_errors_in_a_row_mean_that_the_disk_has_failed() {
        const EIO: i32 = 5;
        let errors = IoErrors::default();
        assert!(!(0..100).any(|_| errors.count(&error(None))));
        for _ in 0..3 {
            assert!(!(1..MAX_IN_A_ROW).any(|_| errors.count(&error(Some(EIO)))));
            errors.reset();
        }
        assert!(!(1..MAX_IN_A_ROW).any(|_| errors.count(&error(Some(EIO)))));
        assert!(errors.count(&error(Some(EIO))));
    }
}
