//! Errors of the store.

use std::time::Duration;

use object_store::Error as Backend;

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
    /// The backend was not asked, because it has not answered other requests.
    #[error("cannot read {path}: the object store has not answered for {} s", after.as_secs_f32())]
    Down {
        /// The object.
        path: String,
        /// How long.
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
    /// The backend makes a put whether or not its condition holds, so several processes cannot write.
    #[error(
        "the object store ignores the condition of a put: one job at a time can index it, and servers cannot"
    )]
    Unconditional,
}

/// What is wrong, as far as a user can do something about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The bucket or folder does not exist.
    NoBucket,
    /// The credentials are missing, wrong, or do not permit the operation.
    Credentials,
    /// The store cannot be reached.
    Unreachable,
    /// Something else.
    Other,
}

/// Parts of the text of an error, and what is wrong then: backends return responses to listings without a type.
const WORDS: [(&str, ErrorKind); 13] = [
    // Virtual machines are asked for credentials if there are none in the environment.
    ("/latest/api/token", ErrorKind::Credentials),
    ("/computeMetadata/", ErrorKind::Credentials),
    ("/metadata/identity/", ErrorKind::Credentials),
    ("redential", ErrorKind::Credentials),
    ("401 Unauthorized", ErrorKind::Credentials),
    ("403 Forbidden", ErrorKind::Credentials),
    ("must be specified", ErrorKind::Credentials),
    ("404 Not Found", ErrorKind::NoBucket),
    ("error sending request", ErrorKind::Unreachable),
    ("dns error", ErrorKind::Unreachable),
    ("Connect", ErrorKind::Unreachable),
    ("timed out", ErrorKind::Unreachable),
    ("after 3 retries", ErrorKind::Unreachable),
];

impl Error {
    /// What is wrong. An error of a bucket as a whole: an object that is missing is [`ErrorKind::NoBucket`], too.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::TimedOut { .. } | Error::Down { .. } => ErrorKind::Unreachable,
            Error::Backend { source, .. } => match source {
                Backend::NotFound { .. } => ErrorKind::NoBucket,
                Backend::PermissionDenied { .. } | Backend::Unauthenticated { .. } => {
                    ErrorKind::Credentials
                }
                Backend::Generic { source, .. } => generic_kind(&**source),
                _ => ErrorKind::Other,
            },
            _ => ErrorKind::Other,
        }
    }

    /// Whether objects of the catalog cannot be decoded, so that another try does not help.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        match self {
            // Another program can decode it.
            Error::Damaged { source, .. } => !matches!(source, FormatError::Version(_)),
            _ => matches!(self, Error::TooLarge { .. }),
        }
    }

    /// Whether the backend says that it does not have the operation.
    pub(crate) fn is_unsupported(&self) -> bool {
        let error = self.backend();
        matches!(
            error,
            Some(Backend::NotImplemented { .. } | Backend::NotSupported { .. })
        )
    }

    /// Whether the condition of a put does not hold.
    pub(crate) fn is_refused(&self) -> bool {
        let error = self.backend();
        matches!(
            error,
            Some(Backend::AlreadyExists { .. } | Backend::Precondition { .. })
        )
    }

    /// Whether the object is not there, or not the expected one.
    pub(crate) fn is_other_object(&self) -> bool {
        let error = self.backend();
        matches!(
            error,
            Some(Backend::NotFound { .. } | Backend::Precondition { .. })
        )
    }

    fn backend(&self) -> Option<&Backend> {
        match self {
            Error::Backend { source, .. } => Some(source),
            _ => None,
        }
    }
}

fn generic_kind(error: &(dyn std::error::Error + 'static)) -> ErrorKind {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        text.push_str(&error.to_string());
        let io = error.downcast_ref::<std::io::Error>();
        if io.is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return ErrorKind::NoBucket;
        }
        next = error.source();
    }
    let found = WORDS.iter().find(|(word, _)| text.contains(word));
    found.map_or(ErrorKind::Other, |(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_of_a_later_version_is_not_damaged() {
        for (source, is_damage) in [
            (FormatError::Version(3), false),
            (FormatError::Checksum, true),
        ] {
            let path = String::new();
            assert_eq!(Error::Damaged { path, source }.is_damage(), is_damage);
        }
    }

    #[test]
    fn errors_of_listings_are_recognised_by_their_text() {
        for (text, kind) in [
            (
                "status code: 404 Not Found: <Code>NoSuchBucket",
                ErrorKind::NoBucket,
            ),
            (
                "status code: 403 Forbidden: <Code>InvalidAccessKeyId",
                ErrorKind::Credentials,
            ),
            (
                "PUT http://host/latest/api/token - 403 Forbidden",
                ErrorKind::Credentials,
            ),
            (
                "error sending request: client error (Connect)",
                ErrorKind::Unreachable,
            ),
            ("status code: 400 Bad Request", ErrorKind::Other),
        ] {
            let error = Error::Backend {
                action: "list",
                path: String::new(),
                source: object_store::Error::Generic {
                    store: "S3",
                    source: text.into(),
                },
            };
            assert_eq!(error.kind(), kind, "{text}");
        }
    }
}
