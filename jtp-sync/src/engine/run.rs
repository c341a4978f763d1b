//! One run: catalog, folder, and connections until nothing is left to do.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread;
use std::time::Duration;

use event_listener::listener;
use jtp_driver::Runtime;
use jtp_driver::client::{Client, ClientBuilder};

use super::FolderSyncBuilder;
use super::connection::Connection;
use super::error::Error;
use super::event::SyncEvent;
use super::session::Session;
use crate::change::Comparison;
use crate::options::Fetch;
use crate::step::Count;

/// The most LISTs in a row that images which were not sent, or which no LIST named, lead to.
const MAX_LISTS: u32 = 5;

/// What a connection that has to be made first brings at least, in bytes. Below that, one request on a connection that
/// exists ends sooner: making one takes a round trip, over TLS two.
const MIN_BYTES_OF_CONNECTION: u64 = 1024 * 1024;

/// A run in progress. Async methods take `&mut self`: a connection is not `Sync`, so a future that holds `&self` could not
/// move between threads.
pub(super) struct Run<R: Runtime> {
    pub(super) session: Arc<Session>,
    pub(super) runtime: R,
    pub(super) clients: ClientBuilder<R, Client<R>>,
    pub(super) path: std::path::PathBuf,
    pub(super) fetch: Fetch,
    pub(super) scan_mode: jtp_store::ScanMode,
    /// Images are in sub-folders, too. // W9
    pub(super) in_folders: bool,
    /// Requests the catalog and images.
    pub(super) main: Connection<R>,
    pub(super) connections: usize,
    /// For the other connections of the next fetch: they are made while the LIST arrives.
    pub(super) spares: Vec<Client<R>>,
    pub(super) retries: u32,
    /// Other clients wait while the folder is brought in step.
    pub(super) locks: bool,
    pub(super) lock: Option<jtp_store::FolderLock>,
    /// Whether the planner knows what the folder contains.
    pub(super) is_known: bool,
    /// Whether the server was reached.
    pub(super) is_connected: bool,
    /// How long the last LIST took.
    pub(super) list_time: Duration,
    /// Connections with tasks of their own.
    helpers: Arc<AtomicUsize>,
}

impl<R: Runtime> Run<R> {
    pub(super) fn new(
        config: &FolderSyncBuilder<R>,
        session: Arc<Session>,
        is_known: bool,
    ) -> Run<R> {
        let runtime = config.clients.runtime().clone();
        let client = config.clients.clone().build();
        let read_only = session.read_only;
        let scan_mode = match (config.options.fetch(), config.rehash) {
            (Fetch::All, _) => jtp_store::ScanMode::Names,
            (_, true) => jtp_store::ScanMode::Rehash,
            (_, false) => jtp_store::ScanMode::Ids,
        };
        Run {
            main: Connection::new(
                &session,
                runtime.clone(),
                client,
                (0, config.connections),
                config.retries,
            ),
            session,
            runtime,
            clients: config.clients.clone(),
            path: config.path.clone(),
            fetch: config.options.fetch(),
            scan_mode,
            in_folders: config.options.folders(),
            connections: config.connections,
            spares: Vec::new(),
            retries: config.retries,
            // With `Fetch::All` nothing that another client stores would be used.
            locks: config.options.fetch() == Fetch::Missing && !read_only,
            lock: None,
            is_known,
            is_connected: is_known,
            list_time: Duration::ZERO,
            helpers: Arc::default(),
        }
    }

    /// Makes the folder contain what the server lists.
    pub(super) async fn sync(&mut self) -> Result<(), Error> {
        self.check_backup()?;
        Box::pin(self.list(true)).await?;
        Box::pin(self.settle()).await?;
        self.session.check_folder()?;
        self.session.emit_not_listed();
        Ok(())
    }

    /// Plans what [`sync`](Self::sync) would do, and reports it.
    pub(super) async fn dry_run(&mut self) -> Result<(), Error> {
        self.check_backup()?;
        Box::pin(self.list(true)).await?;
        // The thread reads files.
        self.main.workers.moves();
        self.main.drain().await;
        self.session.check()?;
        self.session.emit_not_listed();
        Ok(())
    }

    /// Compares the folder with what the server lists.
    pub(super) async fn compare(&mut self) -> Result<Comparison, Error> {
        Box::pin(self.list(true)).await?;
        let comparison = self.session.compare();
        self.session.emit_not_listed();
        Ok(comparison)
    }

    pub(super) fn check_backup(&self) -> Result<(), Error> {
        match &self.session.backup {
            Some(backup) => backup.check(&self.path),
            None => Ok(()),
        }
    }

    /// Carries out the plan until nothing is left to do.
    pub(super) async fn settle(&mut self) -> Result<(), Error> {
        let mut lists = 0;
        loop {
            self.main.workers.moves();
            self.main.drain().await;
            self.session.check()?;
            let (wanted, wants_list, is_other, finished) = {
                let state = self.session.state();
                let planner = &state.planner;
                (
                    planner.wanted(),
                    state.wants_list(),
                    state.is_other_server,
                    planner.is_finished(),
                )
            };
            if wanted.images > 0 {
                self.session.emit_planned();
                Box::pin(self.fetch(wanted)).await?;
            } else if is_other {
                Box::pin(self.list(false)).await?;
            } else if wants_list && lists >= MAX_LISTS {
                let state = &mut *self.session.state();
                state.relist = false;
                state.planner.no_more_lists();
            } else if wants_list {
                lists += 1;
                self.main.sleep(self.list_pause(lists)).await?;
                Box::pin(self.list(false)).await?;
            } else if std::mem::take(&mut self.session.state().awaits_mirror) {
                self.session.state().deletes = true;
            } else {
                debug_assert!(finished, "nothing is in progress, and something is left");
                self.session.emit_planned();
                self.close_spares().await;
                return Ok(());
            }
        }
    }

    /// LISTs take at most a twentieth of the time.
    fn list_pause(&self, lists: u32) -> Duration {
        let pause = Duration::from_millis(100).saturating_mul(1 << lists.min(5));
        pause.max(self.list_time.saturating_mul(20))
    }

    /// Fetches what is wanted, over as many connections as are permitted and useful.
    async fn fetch(&mut self, wanted: Count) -> Result<(), Error> {
        let connections = self.useful_connections(wanted);
        {
            let mut state = self.session.state();
            state.connections = connections;
            state.admitted = connections;
        }
        for number in 1..connections {
            self.start_helper(number)?;
        }
        self.close_spares().await;
        let fetched = Box::pin(self.main.fetch()).await;
        if matches!(&fetched, Err(error) if !is_transient(error)) {
            self.session.end();
        }
        // Others may go on where this one failed.
        self.join_helpers().await;
        self.session.state().connections = 1;
        match fetched {
            Err(error) if is_transient(&error) => {
                self.main.drain().await;
                match self.session.state().planner.wanted().images {
                    0 => Ok(()),
                    _ => Err(error),
                }
            }
            fetched => fetched,
        }
    }

    /// How many connections end sooner than one alone.
    fn useful_connections(&self, wanted: Count) -> usize {
        let at_most = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let existing = 1 + self.spares.len();
        let worthwhile = at_most(wanted.bytes / MIN_BYTES_OF_CONNECTION);
        let useful = existing.max(worthwhile).min(at_most(wanted.images));
        self.connections.min(useful).max(1)
    }

    async fn close_spares(&mut self) {
        for mut spare in std::mem::take(&mut self.spares) {
            spare.close().await;
        }
    }

    fn start_helper(&mut self, number: usize) -> Result<(), Error> {
        let helper = Helper::new(&self.helpers, &self.session);
        let spare = self.spares.pop();
        let client = spare.unwrap_or_else(|| self.clients.clone().build());
        let numbers = (number, self.connections);
        let mut connection = Connection::new(
            &self.session,
            self.runtime.clone(),
            client,
            numbers,
            self.retries,
        );
        let task = async move {
            let result = connection.fetch().await;
            connection.workers.discard();
            connection.workers.drain().await;
            connection.client.close().await;
            // With its threads, and the images that they had begun.
            drop(connection);
            helper.ended(result);
        };
        self.runtime
            .spawn(format_args!("jtp-sync {number}"), Box::pin(task))
            .map_err(Error::Thread)
    }

    async fn join_helpers(&mut self) {
        loop {
            listener!(self.session.changed => changed);
            if self.helpers.load(Ordering::Acquire) == 0 {
                return;
            }
            changed.await;
        }
    }

    /// Ends the run: processes what has arrived, and returns the error that ended it.
    pub(super) async fn finish(&mut self, result: Result<(), Error>) -> Result<(), Error> {
        if result.is_err() {
            self.session.end();
        }
        self.main.workers.discard();
        self.main.workers.drain().await;
        self.main.client.close().await;
        self.join_helpers().await;
        self.main.workers.stop();
        self.lock = None;
        self.session.close_folder();
        match (self.session.take_failure(), result) {
            (Some(failure), _) => Err(failure),
            (None, result) => result,
        }
    }
}

pub(super) fn is_transient(error: &Error) -> bool {
    matches!(error, Error::Client(error) if error.is_transient())
}

/// Counts a connection with a task of its own, as long as the task exists.
struct Helper {
    running: Arc<AtomicUsize>,
    session: Arc<Session>,
}

impl Helper {
    fn new(running: &Arc<AtomicUsize>, session: &Arc<Session>) -> Helper {
        running.fetch_add(1, Ordering::AcqRel);
        Helper {
            running: Arc::clone(running),
            session: Arc::clone(session),
        }
    }

    /// What the connection has taken was given back: the others go on with it.
    fn ended(self, result: Result<(), Error>) {
        let less = |count: usize| count.saturating_sub(1).max(1);
        {
            let mut state = self.session.state();
            state.connections = less(state.connections);
        }
        match result {
            Ok(()) | Err(Error::Cancelled) => {}
            Err(error) if is_transient(&error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a connection ended"
                );
                let reporting = self.session.reporting.lock();
                let _order = reporting.unwrap_or_else(PoisonError::into_inner);
                let connections = {
                    let mut state = self.session.state();
                    state.admitted = less(state.admitted);
                    state.admitted
                };
                self.session
                    .emit(&SyncEvent::FewerConnections { connections });
            }
            Err(error) => self.session.fail(error),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        if thread::panicking() {
            // Nobody gives back what the connection has taken.
            self.session.fail(Error::Panicked);
        }
        self.running.fetch_sub(1, Ordering::AcqRel);
        self.session.changed.notify(usize::MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use jtp_driver::client::Error as ClientFailure;

    use super::super::session::lock;
    use super::*;
    use crate::{Options, Planner};

    #[test]
    fn r6_a_connection_that_ends_without_work_is_not_counted_as_refused() {
        let reported = Arc::new(std::sync::Mutex::new(Vec::new()));
        let seen = Arc::clone(&reported);
        let observer = move |event: &SyncEvent<'_>| {
            if let SyncEvent::FewerConnections { connections } = event {
                lock(&seen).push(*connections);
            }
        };
        let planner = Planner::new(Options::new());
        let session = Arc::new(Session::of_test(planner, observer));
        {
            let state = &mut *session.state();
            (state.connections, state.admitted) = (4, 4);
        }
        let running = Arc::default();
        let lost = || {
            let reset = io::ErrorKind::ConnectionReset.into();
            Err(Error::Client(ClientFailure::Io(reset)))
        };
        for result in [Ok(()), lost(), lost()] {
            Helper::new(&running, &session).ended(result);
        }
        assert_eq!(*lock(&reported), [3, 2]);
        assert_eq!(running.load(Ordering::Acquire), 0);
    }
}
