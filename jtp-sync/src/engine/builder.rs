//! The configuration of a sync.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jtp_core::client::DEFAULT_RETRIES;
use jtp_driver::client::{Client, ClientBuilder};
use jtp_driver::{Runtime, ShutdownSignal};

use super::FolderSync;
use super::event::{Observer, Silent};
use super::session::Limits;
use crate::mirror::MaxDelete;
use crate::options::Options;
use crate::selection::Selection;

/// The longest image that a packet can have, not compressed. // S14
const MAX_IMAGE_SIZE: u64 = u32::MAX as u64;

/// Configures a [`FolderSync`]. Every default is finite, but the limits for the whole job.
#[must_use]
pub struct FolderSyncBuilder<R: Runtime> {
    pub(super) clients: ClientBuilder<R, Client<R>>,
    pub(super) path: PathBuf,
    pub(super) options: Options,
    pub(super) selection: Arc<Selection>,
    pub(super) rehash: bool,
    pub(super) mirror: Option<MaxDelete>,
    pub(super) backup: Option<PathBuf>,
    pub(super) connections: usize,
    pub(super) retries: u32,
    pub(super) limits: Limits,
    pub(super) max_time: Option<Duration>,
    pub(super) observer: Arc<dyn Observer>,
    pub(super) cancel: ShutdownSignal,
}

impl<R: Runtime> FolderSyncBuilder<R> {
    pub(super) fn new<B>(server: ClientBuilder<R, B>, path: PathBuf) -> FolderSyncBuilder<R> {
        FolderSyncBuilder {
            // The sync itself decides what is tried again.
            clients: server.without_retries().for_async(),
            path,
            options: Options::new(),
            selection: Arc::default(),
            rehash: false,
            mirror: None,
            backup: None,
            connections: 1,
            retries: DEFAULT_RETRIES,
            limits: Limits {
                max_image_size: MAX_IMAGE_SIZE,
                max_total_size: None,
                max_entries: 10_000_000,
                max_catalog_bytes: 2 << 30,
                max_unlisted_bytes: 256 << 20,
            },
            max_time: None,
            observer: Arc::new(Silent),
            cancel: ShutdownSignal::new(),
        }
    }

    /// Whether images in the folder are fetched again, and which names images get.
    pub fn options(mut self, options: Options) -> Self {
        self.options = options;
        self
    }

    /// Which of the server's images are fetched, renamed and replaced. The others are left as they are. Default: all. // R8
    ///
    /// A file whose image is left out keeps its name, also if another image needs that name; the other image then has its
    /// ID as a suffix.
    pub fn select(mut self, selection: Selection) -> Self {
        self.selection = Arc::new(selection);
        self
    }

    /// Reads each file of the folder again, whatever the index says. Default: no.
    pub fn rehash(mut self, rehash: bool) -> Self {
        self.rehash = rehash;
        self
    }

    /// Deletes the images of the folder that the server does not list, and further copies of those that it lists, up to this
    /// limit; if there are more, it deletes none of them. Default: `None`, nothing is deleted. // R8
    ///
    /// They are deleted after each LIST, when everything else is done, and only if no image failed and no other
    /// [server](ClientBuilder::replica) took over. Nothing is deleted because of an incomplete LIST, and, below
    /// [`MaxDelete::Percent(100)`](MaxDelete::Percent), because of one without images. Files that are not images, that were
    /// not read, that have changed since the scan, or that the [selection](FolderSyncBuilder::select) leaves out by their
    /// names stay. Sub-folders that are empty afterwards are removed.
    ///
    /// It works with [`Fetch::Missing`](crate::Fetch::Missing), and keeps names in step with
    /// [`Names::Listed`](crate::Names::Listed).
    pub fn mirror(mut self, max: Option<MaxDelete>) -> Self {
        self.mirror = max;
        self
    }

    /// Moves files that are replaced or deleted to this folder, under the same paths; a name that is in use there gets a
    /// suffix. A file that cannot be moved there is neither replaced nor deleted. Default: `None`.
    ///
    /// The folder must not contain the output folder, nor be in it unless it is hidden
    /// ([`Error::BackupFolder`](crate::Error::BackupFolder)). It is created with the first file.
    pub fn backup(mut self, folder: Option<PathBuf>) -> Self {
        self.backup = folder;
        self
    }

    /// The number of connections that fetch images, 1 to 32. Fewer are used if the server refuses some, and if less than
    /// 1 MiB would be fetched over each. With a new folder, or with [`Fetch::All`](crate::Fetch::All), all are made while
    /// the LIST arrives. Default: 1.
    pub fn connections(mut self, connections: usize) -> Self {
        self.connections = connections.clamp(1, 32);
        self
    }

    /// How often in a row a lost connection is replaced without progress, and an image is requested that the server
    /// fails to send. It replaces [`ClientBuilder::retries`]. Of several servers ([`ClientBuilder::replica`]) each is tried
    /// as often. Default: 3. // R6
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// Larger images, decoded, are refused. In bytes; default, and the most: 4 GiB less one byte, since a scan of the
    /// folder does not read longer files. // R4 S14
    pub fn max_image_size(mut self, bytes: u64) -> Self {
        self.limits.max_image_size = bytes.min(MAX_IMAGE_SIZE);
        self
    }

    /// Ends the sync with [`Error::SizeLimit`](crate::Error::SizeLimit) once this many bytes were decoded in all, by a
    /// [`follow`](FolderSync::follow) together with the run before it. Default: `None`.
    pub fn max_total_size(mut self, bytes: Option<u64>) -> Self {
        self.limits.max_total_size = bytes;
        self
    }

    /// Ends [`FolderSync::run`], [`dry_run`](FolderSync::dry_run) and [`check`](FolderSync::check) with
    /// [`Error::TimeLimit`](crate::Error::TimeLimit) after this time, and a [`follow`](FolderSync::follow) after this time
    /// since the run before it began. Default: `None`.
    pub fn max_time(mut self, time: Option<Duration>) -> Self {
        self.max_time = time;
        self
    }

    /// Limits the catalog. Default: 10,000,000 images, and 2 GiB of memory, of which an image takes up to 100 bytes and
    /// its name. // R3
    pub fn catalog_limits(mut self, images: usize, bytes: usize) -> Self {
        self.limits.max_entries = images;
        self.limits.max_catalog_bytes = bytes;
        self
    }

    /// Receives what happens.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Cancels the sync when the signal is given, from any thread or task. Images that have arrived are kept. The signal is
    /// given for good: later calls return [`Error::Cancelled`](crate::Error::Cancelled) too. To go on after a pause, build
    /// another sync of the folder: it fetches the rest.
    pub fn cancel(mut self, signal: ShutdownSignal) -> Self {
        self.cancel = signal;
        self
    }

    /// The sync. It does nothing yet.
    pub fn build(self) -> FolderSync<R> {
        FolderSync::new(self)
    }
}

impl<R: Runtime> fmt::Debug for FolderSyncBuilder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderSyncBuilder")
            .field("clients", &self.clients)
            .field("path", &self.path)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
