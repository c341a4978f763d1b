//! Why a sync ended early.

use std::io;
use std::path::PathBuf;

use jtp_driver::client;
use jtp_store::OutputError;

/// Why a sync ended before it was complete. Images that had arrived intact by then are in the folder.
///
/// Display says what failed; causes are in [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The server cannot be reached, refused, or violated the protocol; transient errors were tried again. // R6
    #[error(transparent)]
    Client(#[from] client::Error),
    /// The folder cannot be opened, listed or written as a whole: the disk is full, or it was removed.
    #[error(transparent)]
    Folder(#[from] OutputError),
    /// The catalog is larger than [`FolderSyncBuilder::catalog_limits`](crate::FolderSyncBuilder::catalog_limits)
    /// permits. // R3
    #[error("the catalog is over the limit of {entries} images or {bytes} bytes")]
    CatalogTooLarge {
        /// The limit in images.
        entries: usize,
        /// The limit in bytes.
        bytes: usize,
    },
    /// [`FolderSyncBuilder::max_total_size`](crate::FolderSyncBuilder::max_total_size) was reached.
    #[error("the limit of {limit} bytes in all was reached")]
    SizeLimit {
        /// The limit, in decoded bytes.
        limit: u64,
    },
    /// [`FolderSyncBuilder::max_time`](crate::FolderSyncBuilder::max_time) was reached.
    #[error("the time limit was reached")]
    TimeLimit,
    /// The backup folder contains the output folder, or is a visible folder in it: backups would count as its images.
    #[error("the backup folder {} and the output folder must not contain each other, unless it is hidden", path.display())]
    BackupFolder {
        /// The backup folder.
        path: PathBuf,
    },
    /// The program cancelled the sync.
    #[error("cancelled")]
    Cancelled,
    /// The system cannot start a thread or a task.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A thread of the sync panicked. It is a bug, here or in the observer.
    #[error("a thread of the sync panicked")]
    Panicked,
}
