//! Carries out a plan: connections, worker threads, the folder.
//!
//! Data flows one way: a [connection](connection) receives packets and passes them in batches to its
//! [worker threads](workers), which decode and verify them and give them to the [session](session). There the planner
//! says what becomes of them, and the same thread [carries it out](moves) in the folder.
//!
//! Futures that contain a request are boxed where they are awaited: nested they take some 60 KB, and a build without
//! optimisation has several copies of each on the stack. The threads of jtp-blocking have 256 KiB.

mod builder;
mod connection;
mod error;
mod event;
mod follow;
mod listing;
mod moves;
mod race;
mod request;
mod run;
mod scan;
mod session;
mod workers;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use jtp_driver::Runtime;
use jtp_driver::client::ClientBuilder;
use jtp_store::OutputFolder;

use crate::planner::Planner;
use crate::step::Totals;
pub use builder::FolderSyncBuilder;
pub use error::Error;
pub use event::{Cause, Observer, SyncEvent};
use race::{Either, race};
use run::Run;
use session::{EndGuard, Session, State};

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
}

impl<R: Runtime> FolderSync<R> {
    /// Configures a sync of a folder with the server of this client. The folder is created once the server has answered.
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
        // The folder is opened and scanned again: it may be another one.
        self.planner = None;
        self.folder = None;
        let (mut run, _end) = self.start();
        let time = self.config.max_time;
        let sync = Box::pin(run.sync());
        let result = match time {
            None => sync.await,
            Some(time) => {
                let runtime = self.config.clients.runtime().clone();
                let until = runtime.now() + time;
                match race(sync, runtime.sleep_until(until)).await {
                    Either::First(result) => result,
                    Either::Second(()) => Err(Error::TimeLimit),
                }
            }
        };
        let result = Box::pin(run.finish(result)).await;
        self.keep(&run, result.is_ok());
        result.map(|()| self.totals)
    }

    /// Stays connected and keeps the folder in step: by WATCH, by a LIST after each reconnect, soon after a burst of
    /// events and every 5 minutes, and by looking at the folder again. // N5 R8
    ///
    /// Lost connections are replaced after a pause of 1 s that grows to 30 s, without limit. After
    /// [`run`](FolderSync::run) it goes on with what that has found in the folder.
    ///
    /// # Errors
    ///
    /// [`Error::Cancelled`], or what another attempt cannot repair.
    pub async fn follow(&mut self) -> Result<std::convert::Infallible, Error> {
        let (mut run, _end) = self.start();
        let result = Box::pin(run.follow()).await;
        let finished = Box::pin(run.finish(result.map(|never| match never {})));
        let error = match finished.await {
            Err(error) => error,
            // It ends by an error.
            Ok(()) => Error::Cancelled,
        };
        self.keep(&run, false);
        Err(error)
    }

    /// What was done since the last [`run`](FolderSync::run) began, by [`follow`](FolderSync::follow) too.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    fn start(&mut self) -> (Run<R>, EndGuard) {
        let is_known = self.planner.is_some();
        let options = self.config.options.clone();
        let planner = self.planner.take().unwrap_or_else(|| Planner::new(options));
        let session = Arc::new(Session::new(
            self.config.limits,
            State::new(planner),
            Arc::clone(&self.config.observer),
            self.config.cancel.clone(),
        ));
        if let Some(folder) = &self.folder {
            session.set_folder(folder.clone());
        }
        let end = EndGuard(Arc::clone(&session));
        (Run::new(&self.config, session, is_known), end)
    }

    fn keep(&mut self, run: &Run<R>, complete: bool) {
        let state = &mut *run.session.state();
        self.totals = state.planner.totals();
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
