//! Carries out a plan: connections, worker threads, the folder.
//!
//! Data flows one way: a [connection](connection) receives packets and passes them in batches to its
//! [worker threads](workers), which decode and verify them and give them to the [session](session). There the planner
//! says what becomes of them, and the same thread [carries it out](moves) in the folder.
//!
//! A [dry run](dry_run) has the same planner, and nothing after it. A check only compares what the planner knows.
//!
//! Futures that contain a request are boxed where they are awaited: nested they take some 60 KB, and a build without
//! optimisation has several copies of each on the stack. The threads of jtp-blocking have 256 KiB.

mod builder;
mod connection;
mod dry_run;
mod error;
mod event;
mod exclusive;
mod flight;
mod follow;
mod io_errors;
mod listing;
mod mirror;
mod moves;
mod pace;
mod race;
mod refusal;
mod replicas;
mod request;
mod run;
mod scan;
mod session;
mod workers;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use jtp_driver::Runtime;
use jtp_driver::client::ClientBuilder;
use jtp_store::{OutputError, OutputFolder, ScanMode};

use crate::change::Comparison;
use crate::planner::Planner;
use crate::step::Totals;
pub use builder::FolderSyncBuilder;
pub use error::Error;
pub use event::{Cause, Observer, SyncEvent};
use race::{Either, race};
use run::Run;
use session::{Config, EndGuard, Session, State};

/// Keeps a folder in step with a server.
///
/// [`run`](FolderSync::run) fetches what the folder lacks, and returns. [`follow`](FolderSync::follow) goes on with each
/// new image. Both may be called again, in any order.
///
/// It works on every runtime: it is built from the adapter's `ClientBuilder`. With jtp-blocking, pass the futures to
/// `jtp_blocking::runtime::block_on`. Images are decoded, verified and written on threads of its own, at most 4 for each
/// connection; memory for images on their way is bounded by some 5 MiB for a connection, whatever their size.
///
/// Each image appears under its name complete and verified, or not at all (R2). No interruption, not even a kill, loses
/// an image or leaves a visible partial file: the next run goes on where this one ended. The guarantees of R8 are those
/// of the [`Planner`].
pub struct FolderSync<R: Runtime> {
    config: FolderSyncBuilder<R>,
    folder: Option<OutputFolder>,
    /// The planner of the last run.
    planner: Option<Planner>,
    totals: Totals,
    /// When the last run would have reached the time limit. A `follow` after it has the time that is left.
    until: Option<Instant>,
    /// The bytes that the last run has decoded. A `follow` after it counts on.
    decoded: u64,
}

impl<R: Runtime> FolderSync<R> {
    /// Configures a sync of a folder with the server of this client. The folder is created once the server has answered.
    ///
    /// With [`ClientBuilder::replica`] there are several servers of one catalog, of which one is used at a time. When it
    /// fails, the next one goes on where it ended: what has arrived is not requested again, and the image that was arriving
    /// is. An image that arrives broken is requested from the others (R2). What is to be fetched is then decided by the
    /// catalog of the new server: images that it lacks count as no longer listed, and those that have arrived stay. // R6 R8
    pub fn builder<B>(
        server: ClientBuilder<R, B>,
        folder: impl Into<PathBuf>,
    ) -> FolderSyncBuilder<R> {
        FolderSyncBuilder::new(server, folder.into())
    }

    fn new(config: FolderSyncBuilder<R>) -> FolderSync<R> {
        FolderSync {
            config,
            folder: None,
            planner: None,
            totals: Totals::default(),
            until: None,
            decoded: 0,
        }
    }

    /// Makes the folder contain what the server lists.
    ///
    /// Images that failed are counted in the totals ([`Totals::failed`]), and do not end the run. Dropping the future
    /// ends the run; images that have arrived are kept.
    ///
    /// # Errors
    ///
    /// [`Error`]: what ended the run early. [`FolderSync::totals`] says what was done by then.
    pub async fn run(&mut self) -> Result<Totals, Error> {
        let (mut run, _end) = self.start_again(false);
        self.until = self.time_limit();
        let result = self.within_time(self.until, Box::pin(run.sync())).await;
        let result = Box::pin(run.finish(result)).await;
        if matches!(&result, Err(Error::Folder(OutputError::DiskFull { .. }))) {
            run.session.emit_room();
        }
        self.keep(&run, result.is_ok());
        result.map(|()| self.totals)
    }

    /// Finds out what [`run`](FolderSync::run) would do, and reports each [`Change`](crate::Change) by
    /// [`SyncEvent::Change`]. Nothing is fetched, and nothing is changed: no file, folder or time, no index, no
    /// temporary file. A missing folder counts as empty.
    ///
    /// The steps are those of the same planner, each of which is taken to succeed: if neither the folder nor the server
    /// changes meanwhile, and no image fails, `run` leads to the same files with the same names. Their order may be
    /// another one. Images are not received, so limits of decoded sizes are not applied. The totals count as if everything
    /// was done.
    ///
    /// Without [`Fetch::All`](crate::Fetch::All), files that the index does not know are read. With it, those whose names
    /// the images need.
    ///
    /// ```no_run
    /// use jtp_sync::{Change, FolderSync, SyncEvent};
    /// # use jtp_driver::client::{Client, ClientBuilder};
    /// # async fn plan<R: jtp_driver::Runtime>(server: ClientBuilder<R, Client<R>>) -> Result<(), jtp_sync::Error> {
    ///
    /// let mut sync = FolderSync::builder(server, "pictures")
    ///     .observer(|event: &SyncEvent<'_>| match event {
    ///         SyncEvent::Change(Change::Fetch { name, length, .. }) => println!("fetch {name} {length}"),
    ///         SyncEvent::Change(Change::Rename { from, to, .. }) => println!("rename {from} to {to}"),
    ///         _ => {}
    ///     })
    ///     .build();
    /// let totals = sync.dry_run().await?;
    /// println!("{} images to fetch", totals.planned.images);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error`]: the catalog cannot be fetched, or the folder cannot be read.
    pub async fn dry_run(&mut self) -> Result<Totals, Error> {
        let (mut run, _end) = self.start_again(true);
        let until = self.time_limit();
        let result = self.within_time(until, Box::pin(run.dry_run())).await;
        let result = Box::pin(run.finish(result)).await;
        self.keep(&run, false);
        self.folder = None;
        result.map(|()| self.totals)
    }

    /// Compares the folder with what the server lists, by the IDs of the files, and changes nothing. Each
    /// [`Difference`](crate::Difference) is reported by [`SyncEvent::Difference`].
    ///
    /// Files that the index knows are not read again, unless [`rehash`](FolderSyncBuilder::rehash) is set. Images in the
    /// folder that the server does not list count as different if the [selection](FolderSyncBuilder::select) would select
    /// them: their type is that of their first bytes, and a selection by IDs selects none of them. A missing folder counts
    /// as empty.
    ///
    /// ```no_run
    /// # use jtp_driver::client::{Client, ClientBuilder};
    /// # async fn check<R: jtp_driver::Runtime>(server: ClientBuilder<R, Client<R>>) -> Result<(), jtp_sync::Error> {
    /// let mut sync = jtp_sync::FolderSync::builder(server, "pictures").build();
    /// let comparison = sync.check().await?;
    /// if !comparison.is_equal() {
    ///     println!("{} images are missing", comparison.missing);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error`]: the catalog cannot be fetched, or the folder cannot be read.
    pub async fn check(&mut self) -> Result<Comparison, Error> {
        let (mut run, _end) = self.start_again(true);
        // With `Fetch::All` too.
        run.scan_mode = match self.config.rehash {
            true => ScanMode::Rehash,
            false => ScanMode::Ids,
        };
        let mut comparison = Comparison::default();
        let compared = async { run.compare().await.map(|found| comparison = found) };
        let until = self.time_limit();
        let result = self.within_time(until, Box::pin(compared)).await;
        let result = Box::pin(run.finish(result)).await;
        self.keep(&run, false);
        self.folder = None;
        result.map(|()| comparison)
    }

    /// Begins a run that opens and scans the folder again: it may be another one.
    fn start_again(&mut self, read_only: bool) -> (Run<R>, EndGuard) {
        self.planner = None;
        self.folder = None;
        self.decoded = 0;
        self.start(read_only)
    }

    /// When a job that begins now reaches the time limit.
    fn time_limit(&self) -> Option<Instant> {
        let now = self.config.clients.runtime().now();
        now.checked_add(self.config.max_time?)
    }

    async fn within_time<T>(
        &self,
        until: Option<Instant>,
        job: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let Some(until) = until else {
            return job.await;
        };
        let runtime = self.config.clients.runtime().clone();
        match race(job, runtime.sleep_until(until)).await {
            Either::First(result) => result,
            Either::Second(()) => Err(Error::TimeLimit),
        }
    }

    /// Stays connected and keeps the folder in step: by WATCH, by a LIST after each reconnect, soon after a burst of
    /// events and every 5 minutes, and by looking at the folder again. // N5 R8
    ///
    /// Lost connections are replaced after a pause of 1 s that grows to 30 s, without limit. After
    /// [`run`](FolderSync::run) it goes on with what that has found in the folder, and within the rest of its
    /// [time](FolderSyncBuilder::max_time) and [size](FolderSyncBuilder::max_total_size). Dropping the future ends it; images
    /// that have arrived are kept.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`], or what another attempt cannot repair.
    pub async fn follow(&mut self) -> Result<std::convert::Infallible, Error> {
        let (mut run, _end) = self.start(false);
        let until = self.until.take().or_else(|| self.time_limit());
        let result = self.within_time(until, Box::pin(run.follow())).await;
        let finished = Box::pin(run.finish(result.map(|never| match never {})));
        let error = match finished.await {
            Err(error) => error,
            // It ends by an error.
            Ok(()) => Error::Cancelled,
        };
        self.keep(&run, false);
        self.decoded = 0;
        Err(error)
    }

    /// What was done since the last [`run`](FolderSync::run) began, by [`follow`](FolderSync::follow) too. A call whose
    /// future was dropped is not counted: observe [`SyncEvent::Planned`] and [`SyncEvent::Placed`].
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn start(&mut self, read_only: bool) -> (Run<R>, EndGuard) {
        let is_known = self.planner.is_some();
        let options = self.config.options.clone();
        let planner = self.planner.take().unwrap_or_else(|| Planner::new(options));
        let config = Config {
            limits: self.config.limits,
            selection: Arc::clone(&self.config.selection),
            read_only,
            mirror: self.config.mirror,
            backup: self.config.backup.clone(),
        };
        let session = Arc::new(Session::new(
            config,
            State::new(planner),
            Arc::clone(&self.config.observer),
            self.config.cancel.clone(),
        ));
        session.decoded.store(self.decoded, Ordering::Relaxed);
        if let Some(folder) = &self.folder {
            session.set_folder(folder.clone());
        }
        let end = EndGuard(Arc::clone(&session));
        (Run::new(&self.config, session, is_known), end)
    }

    fn keep(&mut self, run: &Run<R>, complete: bool) {
        let state = &mut *run.session.state();
        self.totals = state.planner.totals();
        self.decoded = run.session.decoded.load(Ordering::Relaxed);
        let planner = std::mem::replace(
            &mut state.planner,
            Planner::new(self.config.options.clone()),
        );
        self.planner = Some(planner).filter(|_| complete);
        self.folder = run.session.folder().ok().cloned();
    }
}

impl<R: Runtime> fmt::Debug for FolderSync<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FolderSync")
            .field("config", &self.config)
            .field("totals", &self.totals)
            .finish_non_exhaustive()
    }
}
