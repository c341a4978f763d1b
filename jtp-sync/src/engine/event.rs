//! What a sync reports while it runs.

use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use jtp_core::{ImageFault, ImageId};
use jtp_driver::client;
use jtp_store::{FileName, OutputError};

use crate::blocker::Blocker;
use crate::change::{Change, Difference};
use crate::mirror::NotDeleted;
use crate::step::{ListReport, Reason, Totals};

/// Receives the events of a sync. Functions and closures with the right argument are observers.
///
/// It is called from the task that runs the sync, from its connections and from its worker threads, at the same time:
/// it should return soon. A panic in it ends the sync: with [`Error::Panicked`](crate::Error::Panicked), or, on the task
/// that runs the sync, by that panic.
pub trait Observer: Send + Sync + 'static {
    /// Something has happened.
    fn event(&self, event: &SyncEvent<'_>);
}

impl<F: Fn(&SyncEvent<'_>) + Send + Sync + 'static> Observer for F {
    fn event(&self, event: &SyncEvent<'_>) {
        self(event);
    }
}

/// Ignores all events.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silent;

impl Observer for Silent {
    fn event(&self, _: &SyncEvent<'_>) {}
}

/// What has happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum SyncEvent<'a> {
    /// The folder is being scanned. Reported when the scan begins, and then at most every 100 ms, on the scan's thread.
    /// [`Scanned`](SyncEvent::Scanned) follows, unless the run ends before.
    Scanning {
        /// The files found so far.
        files: u64,
        /// Those of them that had to be read.
        read: u64,
    },
    /// The folder was scanned.
    Scanned {
        /// The files that it contains, hidden ones excepted.
        files: u64,
        /// Those of them that had to be read.
        read: u64,
    },
    /// A file of the folder cannot be read, or is not read because it is longer than any image
    /// ([`FileTooLarge`](io::ErrorKind::FileTooLarge)). It stays where it is. Or a sub-folder cannot be listed: nobody knows
    /// what it contains.
    Unreadable {
        /// Its name; that of a sub-folder ends in `/`.
        name: &'a OsStr,
        /// Why.
        error: &'a io::Error,
    },
    /// Another client brings the folder in step, in this process or another one. The run waits until that ends, and scans the
    /// folder then. Not with [`Fetch::All`](crate::Fetch::All).
    FolderInUse,
    /// A LIST has arrived.
    Listed {
        /// What it contained.
        report: &'a ListReport,
        /// The entries that the server announced. If more than have arrived, the LIST is incomplete: what has arrived is
        /// used, and nothing is replaced because the LIST does not name it.
        announced: u64,
    },
    /// How many images are to be fetched. Reported after each LIST and after changes.
    Planned(&'a Totals),
    /// An image begins to arrive.
    Started {
        /// The image.
        id: ImageId,
        /// The length of its encoded form in bytes.
        length: u32,
        /// The name that its file is to get; `None` if no LIST names it.
        name: Option<&'a FileName>,
    },
    /// More bytes have arrived, or some that had arrived turned out to be useless.
    Progress {
        /// The bytes that have arrived of all planned images, encoded as listed: at most the `bytes` of
        /// [`Totals::planned`].
        bytes: u64,
    },
    /// A fetched image is visible in the folder.
    Placed {
        /// The image.
        id: ImageId,
        /// The name of its file.
        name: &'a FileName,
        /// Its decoded length in bytes.
        bytes: u64,
        /// Whether it replaced a file.
        replaced: bool,
    },
    /// A file of the folder was renamed.
    Renamed {
        /// The image in it.
        id: ImageId,
        /// The name that it had.
        from: &'a str,
        /// The name that it has.
        to: &'a FileName,
        /// Whether it was renamed because another image needs its name.
        aside: bool,
    },
    /// A file was deleted, or moved to the backup folder, because the server does not list it.
    Deleted {
        /// The image in it.
        id: ImageId,
        /// The name that it had.
        name: &'a str,
    },
    /// A file that the server does not list cannot be deleted, or not be moved to the backup folder.
    DeleteFailed {
        /// Its name.
        name: &'a str,
        /// Why.
        cause: &'a Cause,
    },
    /// Nothing was deleted, although there are files that the server does not list. In a dry run: nothing would be.
    NotDeleted {
        /// The number of these files.
        files: u64,
        /// Why.
        reason: NotDeleted,
    },
    /// An image is broken, or was not sent, and is requested again. // R2
    Broken {
        /// The image.
        id: ImageId,
        /// What is wrong.
        cause: &'a Cause,
    },
    /// An image is not stored, or not under its name.
    Refused {
        /// The image.
        id: ImageId,
        /// The name that it was to get.
        name: Option<&'a FileName>,
        /// Why, as far as the planner is concerned.
        reason: Reason,
        /// What has its name, or that of one of its folders, if it is known.
        blocker: Option<&'a Blocker>,
        /// What caused that, if it is known.
        cause: Option<&'a Cause>,
        /// The name of its file, if that has the ID of the image in it: [`Reason::NameTaken`].
        stored_as: Option<&'a FileName>,
    },
    /// A connection was lost, or could not be made. Another one is made after a pause. // R6
    Retrying {
        /// What failed.
        error: &'a client::Error,
        /// The pause.
        pause: Duration,
        /// The server of the next attempt, as the program named it, if it is known: another one if all servers have failed.
        address: Option<&'a str>,
    },
    /// A server failed, and another one is used from now on, at once. // R6
    ServerChanged {
        /// The server that failed, and how.
        failed: &'a client::ReplicaError,
        /// The other one, as the program named it.
        address: &'a str,
    },
    /// A connection beside the first was refused or lost, and is not replaced in this fetch. The number of an event is never
    /// larger than that of the one before it.
    FewerConnections {
        /// The number of connections of this fetch, less those that were refused or lost. At least 1. A connection that
        /// ended because nothing was left to fetch is still counted.
        connections: usize,
    },
    /// The selection asks for this ID ([`Selection::ids`](crate::Selection::ids)), and the server does not list it. Reported
    /// once in each run, dry run and check, at its end.
    NotListed {
        /// The ID.
        id: ImageId,
    },
    /// A [dry run](crate::FolderSync::dry_run) would do this.
    Change(&'a Change),
    /// A [check](crate::FolderSync::check) has found this.
    Difference(&'a Difference),
    /// The client watches the server for new images. Reported after each LIST with a WATCH behind it.
    Watching,
}

/// What went wrong with an image.
#[derive(Debug)]
#[non_exhaustive]
pub enum Cause {
    /// It arrived, and is broken, too large or encrypted. // R2 R4
    Fault(ImageFault),
    /// The server lists it and did not send it. // S7
    NotSent,
    /// The connection ended in its place each time: the server cannot send it. // S12 S13
    Connection(client::Error),
    /// It cannot be written.
    Folder(OutputError),
    /// A file that is to be replaced or deleted stays, because it cannot be moved to the backup folder. // R8
    Backup(OutputError),
}
