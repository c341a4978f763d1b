//! Events as objects of `--json`.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use jtp_core::ImageId;
use jtp_core::client::CatalogEntry;
use jtp_sync::{Change, Comparison, Difference, NotDeleted, SyncEvent};
use jtp_tokio::client::ReplicaError;

use super::failure::{FailureKind, cause_text, failure_text, is_failure, is_stored};
use super::mirror::not_deleted_text;
use crate::client_args::ClientArgs;
use crate::connect;
use crate::json_log::{Object, event};

/// The object of an event; `None` for one that others say more of.
#[must_use]
pub fn object(sync_event: &SyncEvent<'_>, args: &ClientArgs) -> Option<Object> {
    Some(match sync_event {
        SyncEvent::Scanned { files, read } => event("scanned")
            .number("files", *files)
            .number("read", *read),
        SyncEvent::FolderInUse => event("folder_in_use"),
        SyncEvent::Unreadable { name, error } => unreadable(name, error),
        SyncEvent::Listed { report, announced } => event("listed")
            .number("entries", report.entries)
            .number("announced", *announced)
            .number("doubled", report.doubled)
            .number("same_name", report.same_name)
            .number("gone", report.gone),
        SyncEvent::Planned(totals) => event("planned")
            .number("images", totals.planned.images)
            .number("bytes", totals.planned.bytes),
        SyncEvent::Placed {
            id,
            name,
            bytes,
            replaced,
        } => of_image("fetched", *id)
            .string("name", name)
            .number("size", *bytes)
            .bool("replaced", *replaced),
        SyncEvent::Renamed {
            id,
            from,
            to,
            aside,
        } => of_image("renamed", *id)
            .string("from", from)
            .string("name", to)
            .bool("aside", *aside),
        SyncEvent::Broken { id, cause } => of_image("broken", *id)
            .string("kind", FailureKind::of_cause(cause).key())
            .string("message", cause_text(cause, args)),
        SyncEvent::Refused {
            id,
            name,
            reason,
            blocker,
            cause,
            stored_as,
        } => {
            let is_failure = is_failure(*reason, *cause);
            let object = of_image(if is_failure { "failed" } else { "misnamed" }, *id);
            let object = match name {
                Some(name) => object.string("name", name),
                None => object,
            };
            let object = match is_failure {
                true => object
                    .string("kind", FailureKind::of(*reason, *cause).key())
                    .bool("stored", is_stored(*reason)),
                false => object,
            };
            let object = match blocker {
                Some(blocker) => object
                    .string("blocker", &blocker.path)
                    .string("blocker_kind", blocker.kind),
                None => object,
            };
            object.string(
                "message",
                failure_text(*reason, (*blocker, *cause), *stored_as, args),
            )
        }
        SyncEvent::NotListed { id } => not_listed(*id),
        SyncEvent::Deleted { id, name } => of_image("deleted", *id).string("name", name),
        SyncEvent::DeleteFailed { name, cause } => event("delete_failed")
            .string("name", name)
            .string("message", cause_text(cause, args)),
        SyncEvent::NotDeleted { files, reason } => event("not_deleted")
            .number("files", *files)
            .string("reason", reason_key(*reason))
            .string("message", not_deleted_text(*files, *reason, args)),
        SyncEvent::Retrying { error, pause, .. } => event("retry")
            .string("message", connect::retry_message(error, args))
            .seconds("pause", *pause),
        SyncEvent::ServerChanged { failed, address } => server_changed(failed, address, args),
        SyncEvent::FewerConnections { connections } => event("fewer_connections").number(
            "connections",
            u64::try_from(*connections).unwrap_or(u64::MAX),
        ),
        SyncEvent::Watching => event("watching"),
        SyncEvent::Change(change) => return change_object(change, args.verbose > 0),
        SyncEvent::Difference(found) => return difference(found),
        _ => return None,
    })
}

/// A server failed, and the one at `address` is used.
pub(crate) fn server_changed(failed: &ReplicaError, address: &str, args: &ClientArgs) -> Object {
    let failure = connect::replica_failure(failed, args);
    event("server_changed")
        .string("server", address)
        .string("failed", failed.address())
        .string("kind", failure.exit.name())
        .string("message", failure.message)
}

/// A job begins.
pub(crate) fn job(number: u32, of: u32) -> Object {
    event("job").number("number", number).number("of", of)
}

/// An image of `--list`.
pub(crate) fn entry(entry: &CatalogEntry<'_>) -> Object {
    of_image("entry", entry.id)
        .number("size", entry.length)
        .string("type", entry.flags.file_type().to_string().to_lowercase())
        .bool("compressed", entry.flags.is_compressed())
        .string("name", &entry.name)
}

/// The server does not list an image of `--get`.
pub(crate) fn not_listed(id: ImageId) -> Object {
    of_image("not_listed", id)
}

/// The result of `--check`.
pub(crate) fn comparison(found: &Comparison, time: Duration) -> Object {
    event("comparison")
        .bool("equal", found.is_equal())
        .seconds("seconds", time)
        .number("same", found.same)
        .number("missing", found.missing)
        .number("differs", found.differs)
        .number("renamed", found.renamed)
        .number("extra", found.extra)
        .number("unreadable", found.unreadable)
        .number("left_out", found.left_out)
}

fn reason_key(reason: NotDeleted) -> &'static str {
    match reason {
        NotDeleted::EmptyCatalog => "empty_catalog",
        NotDeleted::IncompleteCatalog => "incomplete_catalog",
        NotDeleted::Failed => "failed",
        NotDeleted::ServerChanged => "server_changed",
        NotDeleted::DiskFull { .. } => "disk_full",
        NotDeleted::OverLimit { .. } => "over_limit",
        _ => "other",
    }
}

fn of_image(name: &str, id: ImageId) -> Object {
    event(name).string("id", id)
}

fn unreadable(name: &OsStr, error: &io::Error) -> Object {
    event("unreadable")
        .string("name", name.to_string_lossy())
        .string("message", error)
}

fn change_object(change: &Change, verbose: bool) -> Option<Object> {
    let action = |action, id| of_image("change", id).string("action", action);
    Some(match change {
        Change::Fetch {
            id,
            name,
            length,
            replaces,
        } => action("fetch", *id)
            .string("name", name)
            .number("size", *length)
            .bool("replaces", *replaces),
        Change::Rename {
            id,
            from,
            to,
            aside,
            replaces,
        } => action("rename", *id)
            .string("from", from)
            .string("name", to)
            .bool("aside", *aside)
            .bool("replaces", *replaces),
        Change::Delete { id, name } => action("delete", *id).string("name", name),
        Change::Keep { id, name } if verbose => action("keep", *id).string("name", name),
        Change::LeaveOut { id, name } if verbose => action("skip", *id).string("name", name),
        _ => return None,
    })
}

fn difference(difference: &Difference) -> Option<Object> {
    let kind = |kind, id| of_image("difference", id).string("kind", kind);
    Some(match difference {
        Difference::Missing { id, name } => kind("missing", *id).string("name", name),
        Difference::Differs { id, name } => kind("differs", *id).string("name", name),
        Difference::Unreadable { id, name } => kind("unreadable", *id).string("name", name),
        Difference::Renamed { id, from, to } => {
            kind("renamed", *id).string("from", from).string("name", to)
        }
        Difference::Extra { id, name } => kind("extra", *id).string("name", name),
        _ => return None,
    })
}
