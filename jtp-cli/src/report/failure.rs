//! Why images failed.

use std::error::Error as _;

use jtp_core::ImageFault;
use jtp_store::FileName;
use jtp_sync::{Blocker, Cause, Reason};

use super::names::line;
use crate::client_args::ClientArgs;
use crate::connect;
use crate::escape::escaped;
use crate::exit::error_chain;

/// The kind of a failure, as the summary counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FailureKind {
    Damaged,
    Encrypted,
    LocalDisk,
    NotSent,
    NotListed,
    Unsupported,
    TooLarge,
    WrongContent,
}

impl FailureKind {
    /// The kind of an image's failure.
    pub(super) fn of(reason: Reason, cause: Option<&Cause>) -> FailureKind {
        match (reason, cause) {
            (Reason::CannotWrite | Reason::NamesTaken, _) => FailureKind::LocalDisk,
            (_, Some(cause)) => FailureKind::of_cause(cause),
            (_, None) => FailureKind::NotSent,
        }
    }

    pub(super) fn of_cause(cause: &Cause) -> FailureKind {
        match cause {
            Cause::Folder(_) | Cause::Backup(_) => FailureKind::LocalDisk,
            Cause::Fault(ImageFault::WrongId { .. }) => FailureKind::WrongContent,
            Cause::Fault(ImageFault::Broken(_)) => FailureKind::Damaged,
            Cause::Fault(ImageFault::TooLarge { .. }) => FailureKind::TooLarge,
            Cause::Fault(ImageFault::Encrypted) => FailureKind::Encrypted,
            Cause::Fault(_) => FailureKind::Unsupported,
            _ => FailureKind::NotSent,
        }
    }

    /// The words of the summary.
    pub(super) const fn words(self) -> &'static str {
        match self {
            FailureKind::Damaged => "damaged",
            FailureKind::Encrypted => "encrypted",
            FailureKind::LocalDisk => "local disk",
            FailureKind::NotSent => "not sent",
            FailureKind::NotListed => "not on the server",
            FailureKind::Unsupported => "of an unsupported kind",
            FailureKind::TooLarge => "too large",
            FailureKind::WrongContent => "with wrong content",
        }
    }

    /// The name in JSON.
    pub(super) const fn key(self) -> &'static str {
        match self {
            FailureKind::Damaged => "damaged",
            FailureKind::Encrypted => "encrypted",
            FailureKind::LocalDisk => "local_disk",
            FailureKind::NotSent => "not_sent",
            FailureKind::NotListed => "not_listed",
            FailureKind::Unsupported => "unsupported",
            FailureKind::TooLarge => "too_large",
            FailureKind::WrongContent => "wrong_content",
        }
    }
}

/// Whether the image is in the folder, under another name.
pub(super) const fn is_stored(reason: Reason) -> bool {
    matches!(reason, Reason::NameTaken | Reason::CannotRename)
}

/// Whether an image that is not stored, or not under its name, counts as failed.
pub(super) const fn is_failure(reason: Reason, cause: Option<&Cause>) -> bool {
    !is_stored(reason) || cause.is_some()
}

/// What happened to an image, in words.
pub(super) fn failure_text(
    reason: Reason,
    (blocker, cause): (Option<&Blocker>, Option<&Cause>),
    stored_as: Option<&FileName>,
    args: &ClientArgs,
) -> String {
    match cause {
        None if blocker.is_some() && is_stored(reason) => {
            blocker.map_or_else(String::new, |blocker| line(blocker, 1))
        }
        None if reason != Reason::NotReceived => reason.to_string(),
        None | Some(Cause::NotSent) => "the server lists this image but did not send it".to_owned(),
        Some(cause) if is_stored(reason) => {
            let text = match cause {
                Cause::Folder(error) => {
                    let cause = error.source().map(ToString::to_string);
                    let cause = cause.unwrap_or_else(|| error.to_string());
                    format!("a file of this name cannot be written ({cause})")
                }
                Cause::Backup(_) => {
                    format!("the file of this name stays: {}", cause_text(cause, args))
                }
                cause => cause_text(cause, args),
            };
            match stored_as {
                Some(name) => format!("{text}; the image is stored as {}", escaped(name.as_str())),
                None => format!("{text}; the image is stored under another name"),
            }
        }
        Some(cause) => cause_text(cause, args),
    }
}

/// What is wrong with an image, in words.
pub(super) fn cause_text(cause: &Cause, args: &ClientArgs) -> String {
    match cause {
        Cause::Fault(fault) => error_chain(fault),
        Cause::Connection(error) => format!(
            "the server did not send it: {}",
            connect::retry_message(error, args)
        ),
        Cause::Folder(error) => error_chain(error),
        Cause::Backup(error) => format!("cannot move it to --backup-dir: {}", error_chain(error)),
        _ => "the server did not send it".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn a_failure_without_a_cause_is_described_by_its_reason() {
        let args = ClientArgs::parse_from(["client"]);
        for reason in [Reason::NamesTaken, Reason::CannotWrite, Reason::CannotFetch] {
            assert_eq!(
                failure_text(reason, (None, None), None, &args),
                reason.to_string()
            );
        }
        let text = failure_text(Reason::NotReceived, (None, None), None, &args);
        assert!(text.contains("did not send it"), "{text}");
    }
}
