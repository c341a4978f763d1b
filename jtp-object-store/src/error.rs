//! Errors of the store.

use std::time::Duration;

use crate::format::FormatError;

/// Why an operation on the object store failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The backend returned an error.
    #[error("cannot {action} {path}")]
    Backend {
        /// What was tried.
        action: &'static str,
        /// The object.
        path: String,
        /// The backend's error.
        source: object_store::Error,
    },
    /// The backend did not answer in time.
    #[error("cannot {action} {path}: no answer within {} s", after.as_secs_f32())]
    TimedOut {
        /// What was tried.
        action: &'static str,
        /// The object.
        path: String,
        /// The deadline.
        after: Duration,
    },
    /// An object of the catalog is damaged.
    #[error("{path} is damaged")]
    Damaged {
        /// The object.
        path: String,
        /// What is wrong with it.
        source: FormatError,
    },
    /// An object of the catalog is over its limit.
    #[error("{path} has {size} bytes, over the limit of {limit}")]
    TooLarge {
        /// The object.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The limit in bytes.
        limit: u64,
    },
    /// The catalog's objects are gone: someone deleted them, or the file system is not mounted.
    #[error("the catalog in the store is missing: nothing is below {0}")]
    CatalogMissing(String),
}

impl Error {
    /// Whether objects of the catalog cannot be decoded, so that another try does not help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Damaged { .. } | Error::TooLarge { .. })
    }

    /// Whether the backend says that it does not have the operation.
    pub(crate) fn is_unsupported(&self) -> bool {
        use object_store::Error as Backend;
        let source = match self {
            Error::Backend { source, .. } => source,
            _ => return false,
        };
        matches!(
            source,
            Backend::NotImplemented { .. } | Backend::NotSupported { .. }
        )
    }

    /// Whether the object is not there, or not the expected one.
    pub(crate) fn is_other_object(&self) -> bool {
        use object_store::Error as Backend;
        let source = match self {
            Error::Backend { source, .. } => source,
            _ => return false,
        };
        matches!(
            source,
            Backend::NotFound { .. } | Backend::Precondition { .. }
        )
    }
}
