//! What the connections and the worker threads of a sync share.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

use event_listener::Event;
use jtp_core::client::CatalogEntry;
use jtp_core::{ImageFault, ImageId};
use jtp_driver::ShutdownSignal;
use jtp_store::{OutputFolder, StagedFile};

use super::error::Error;
use super::event::{Cause, Observer, SyncEvent};
use super::flight::Flight;
use super::io_errors::IoErrors;
use super::mirror::Backup;
use super::moves::concerns_all;
use super::pace::Pace;
use super::race::race;
use crate::mirror::MaxDelete;
use crate::planner::Planner;
use crate::selection::Selection;
use crate::step::{FetchFailure, Received};

/// The most images whose last failure is remembered until the planner gives them up. // R3
const MAX_CAUSES: usize = 10_000;

/// The limits of a sync.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Decoded bytes of an image. // R4
    pub(super) max_image_size: u64,
    /// Decoded bytes of all images.
    pub(super) max_total_size: Option<u64>,
    /// Images of a catalog. // R3
    pub(super) max_entries: usize,
    /// Bytes of memory for a catalog. // R3
    pub(super) max_catalog_bytes: usize,
    /// Decoded bytes of images that no LIST has named and that wait for one. // R3 R8
    pub(super) max_unlisted_bytes: u64,
}

/// What a run may do.
pub(super) struct Config {
    pub(super) limits: Limits,
    pub(super) selection: Arc<Selection>,
    pub(super) read_only: bool,
    pub(super) mirror: Option<MaxDelete>,
    pub(super) backup: Option<PathBuf>,
}

/// The state of one run.
pub(super) struct Session {
    pub(super) limits: Limits,
    pub(super) selection: Arc<Selection>,
    /// Nothing is changed in the folder.
    pub(super) read_only: bool,
    /// What the server does not list is deleted.
    pub(super) mirror: Option<MaxDelete>,
    pub(super) backup: Option<Backup>,
    folder: OnceLock<OutputFolder>,
    state: Mutex<State>,
    /// Held from the count of a lost connection to its event: the numbers of the events only decrease.
    pub(super) reporting: Mutex<()>,
    observer: Arc<dyn Observer>,
    /// The program cancels the sync.
    cancel: ShutdownSignal,
    /// Ends the connections and threads of this run.
    stop: ShutdownSignal,
    /// The same for code that reads files.
    halted: Arc<AtomicBool>,
    pub(super) io_errors: IoErrors,
    failed: AtomicBool,
    failure: Mutex<Option<Error>>,
    /// The state has changed in a way that another task may be waiting for.
    pub(super) changed: Event,
    /// The encoded bytes of planned images that have arrived. Locked until they are reported: connections report them
    /// in the order in which they count them, so the last report is right.
    arrived: Mutex<u64>,
    pub(super) decoded: AtomicU64,
}

/// What is protected by one lock, held for the time of a call to the planner.
pub(super) struct State {
    pub(super) planner: Planner,
    /// Images that have arrived and are not visible yet.
    pub(super) staged: HashMap<ImageId, Arc<Mutex<StagedFile>>>,
    unlisted_bytes: u64,
    /// An image arrived that no LIST names, and was not kept.
    pub(super) relist: bool,
    /// Another server is used since the last LIST. Its catalog decides. // R8
    pub(super) is_other_server: bool,
    /// An earlier catalog of this run is from another server.
    pub(super) server_changed: bool,
    /// Selected images in the folder when the last LIST ended.
    pub(super) present: u64,
    /// What the last LIST does not account for was not deleted yet.
    pub(super) awaits_mirror: bool,
    /// It is deleted as soon as no other step is left.
    pub(super) deletes: bool,
    /// Files that were renamed by a mirror: their folders may be empty.
    pub(super) emptied: BTreeSet<String>,
    /// Planned images that are arriving.
    pub(super) arriving: HashSet<ImageId>,
    /// Why images have failed so far.
    pub(super) causes: HashMap<ImageId, Cause>,
    /// Images in whose place the connection ended, and how often. They are requested last, and alone.
    pub(super) suspects: HashMap<ImageId, u32>,
    /// If there are several servers, those that sent an image broken. It is one of the suspects.
    pub(super) broken_by: HashMap<ImageId, Vec<Arc<str>>>,
    /// Files whose state is older have not changed since they were scanned.
    pub(super) settled_before: Option<SystemTime>,
    /// Files that the last scan could not read.
    pub(super) unreadable: u64,
    /// Requests whose responses are not complete.
    pub(super) in_flight: usize,
    /// Connections that fetch.
    pub(super) connections: usize,
    /// The connections of this fetch, less those that were refused or lost.
    pub(super) admitted: usize,
    /// Whether one request for everything comes next. It is not made twice in a row, nor if the server does not know it.
    pub(super) bulk: bool,
    /// The pace of the last response.
    pub(super) pace: Option<Pace>,
    /// Few images are requested by ID: the run follows a server, where they are what is new.
    pub(super) follows: bool,
}

impl State {
    pub(super) fn new(planner: Planner) -> State {
        State {
            planner,
            staged: HashMap::new(),
            unlisted_bytes: 0,
            relist: false,
            is_other_server: false,
            server_changed: false,
            present: 0,
            awaits_mirror: false,
            deletes: false,
            emptied: BTreeSet::new(),
            arriving: HashSet::new(),
            causes: HashMap::new(),
            suspects: HashMap::new(),
            broken_by: HashMap::new(),
            settled_before: None,
            unreadable: 0,
            in_flight: 0,
            connections: 1,
            admitted: 1,
            bulk: true,
            pace: None,
            follows: false,
        }
    }

    /// A LIST begins. It decides about the images that none has named.
    pub(super) fn begin_list(&mut self) {
        self.relist = false;
        self.is_other_server = false;
        self.unlisted_bytes = 0;
        self.planner.begin_list();
    }

    pub(super) fn wants_list(&self) -> bool {
        self.relist || self.is_other_server || self.planner.wants_list()
    }

    /// One of several servers sent a broken image. It is requested from each of the others before it counts. // R2
    fn broken_at(&mut self, id: ImageId, (server, servers): (Arc<str>, usize)) -> FetchFailure {
        self.suspects.entry(id).or_default();
        let tried = self.broken_by.entry(id).or_default();
        tried.push(server);
        match tried.len() < servers {
            true => FetchFailure::Interrupted,
            false => FetchFailure::Broken,
        }
    }

    /// The image has arrived. Most have never failed, and need no look-up.
    fn forget_failures(&mut self, id: ImageId) {
        if !self.suspects.is_empty() {
            self.suspects.remove(&id);
        }
        if !self.broken_by.is_empty() {
            self.broken_by.remove(&id);
        }
        if !self.causes.is_empty() {
            self.causes.remove(&id);
        }
    }

    pub(super) fn remember_cause(&mut self, id: ImageId, cause: Cause) {
        if self.causes.len() < MAX_CAUSES || self.causes.contains_key(&id) {
            self.causes.insert(id, cause);
        }
    }
}

#[cfg(test)]
impl Session {
    /// A session without a folder, with low limits.
    pub(super) fn of_test(planner: Planner, observer: impl Observer + 'static) -> Session {
        let config = Config {
            limits: Limits {
                max_image_size: 100,
                max_total_size: None,
                max_entries: 100,
                max_catalog_bytes: 100_000,
                max_unlisted_bytes: 100,
            },
            selection: Arc::new(Selection::all()),
            read_only: false,
            mirror: None,
            backup: None,
        };
        let cancel = ShutdownSignal::new();
        Session::new(config, State::new(planner), Arc::new(observer), cancel)
    }
}

impl Session {
    pub(super) fn new(
        config: Config,
        state: State,
        observer: Arc<dyn Observer>,
        cancel: ShutdownSignal,
    ) -> Session {
        Session {
            limits: config.limits,
            selection: config.selection,
            read_only: config.read_only,
            mirror: config.mirror,
            backup: config.backup.map(Backup::new),
            folder: OnceLock::new(),
            state: Mutex::new(state),
            reporting: Mutex::new(()),
            observer,
            cancel,
            stop: ShutdownSignal::new(),
            halted: Arc::default(),
            io_errors: IoErrors::default(),
            failed: AtomicBool::new(false),
            failure: Mutex::new(None),
            changed: Event::new(),
            arrived: Mutex::new(0),
            decoded: AtomicU64::new(0),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The folder. It is opened before anything is written.
    pub(super) fn folder(&self) -> Result<&OutputFolder, Error> {
        self.folder.get().ok_or(Error::Panicked)
    }

    /// Fails if the path of the folder leads to another one, or to nothing: images would be stored, and deleted, where nobody
    /// looks. // R8
    pub(super) fn check_folder(&self) -> Result<(), Error> {
        match self.folder.get() {
            Some(folder) => Ok(folder.check_path()?),
            None => Ok(()),
        }
    }

    pub(super) fn set_folder(&self, folder: OutputFolder) {
        // Set once for each run.
        let _ = self.folder.set(folder);
    }

    /// Ends writing to the folder. Images that have no name by then are removed.
    pub(super) fn close_folder(&self) {
        self.state().staged.clear();
        if let Some(folder) = self.folder.get() {
            folder.close();
        }
    }

    pub(super) fn emit(&self, event: &SyncEvent<'_>) {
        self.observer.event(event);
    }

    /// Passes an entry of a LIST or an event to the planner.
    pub(super) fn add_entry(&self, state: &mut State, entry: &CatalogEntry<'_>) {
        let (id, name, length) = (entry.id, &*entry.name, entry.length);
        let file_type = entry.flags.file_type();
        match self.selection.selects(id, name, file_type) {
            true => state.planner.entry(id, name, file_type, length),
            false => state.planner.leave_out(id, name, file_type, length),
        }
    }

    /// Reports the IDs that were asked for and that the server does not list.
    pub(super) fn emit_not_listed(&self) {
        for id in self.selection.requested_ids() {
            let is_listed = self.state().planner.length(id).is_some();
            if !is_listed {
                self.emit(&SyncEvent::NotListed { id });
            }
        }
    }

    /// Reports how much is planned now.
    pub(super) fn emit_planned(&self) {
        let totals = self.state().planner.totals();
        self.emit(&SyncEvent::Planned(&totals));
    }

    /// Ends the run with this error, unless there was one before, or the run has already ended.
    pub(super) fn fail(&self, error: Error) {
        if matches!(error, Error::Cancelled) {
            return self.end();
        }
        lock(&self.failure).get_or_insert(error);
        self.failed.store(true, Ordering::Release);
        self.end();
    }

    /// Ends the connections and threads of this run.
    pub(super) fn end(&self) {
        self.halted.store(true, Ordering::Release);
        self.stop.begin();
        self.changed.notify(usize::MAX);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The flag that ends the reading of files.
    pub(super) fn halted(&self) -> &Arc<AtomicBool> {
        &self.halted
    }

    /// Waits until the run is to end. Cancel safe.
    pub(super) async fn stopped(&self) {
        race(self.cancel.wait(), self.stop.wait()).await;
    }

    /// An error if the run is to end. [`take_failure`](Self::take_failure) has the cause.
    pub(super) fn check(&self) -> Result<(), Error> {
        match self.cancel.has_begun() || self.stop.has_begun() {
            true => Err(Error::Cancelled),
            false => Ok(()),
        }
    }

    /// Why the run ended, if a part of it failed.
    pub(super) fn take_failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }

    /// Counts decoded bytes.
    pub(super) fn count_decoded(&self, bytes: usize) -> Result<(), Error> {
        let Some(limit) = self.limits.max_total_size else {
            return Ok(());
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        let before = self.decoded.fetch_add(bytes, Ordering::Relaxed);
        match before.saturating_add(bytes) > limit {
            true => Err(Error::SizeLimit { limit }),
            false => Ok(()),
        }
    }

    /// An image has arrived and is verified. On a worker thread. // R2
    pub(super) fn received(&self, staged: StagedFile, mut flight: Flight) -> Result<(), Error> {
        let (id, length) = (staged.id(), staged.length());
        let is_kept;
        {
            let state = &mut *self.state();
            state.forget_failures(id);
            if state.planner.length(id).is_none() {
                let bytes = state.unlisted_bytes.saturating_add(length);
                if bytes > self.limits.max_unlisted_bytes {
                    state.relist = true;
                    return Ok(());
                }
                state.unlisted_bytes = bytes;
            }
            is_kept = state.planner.fetched(id) == Received::Keep;
            if is_kept {
                state.staged.insert(id, Arc::new(Mutex::new(staged)));
            }
        }
        if is_kept {
            flight.complete();
        }
        drop(flight);
        self.run_moves()?;
        // One that has to wait takes neither memory nor a file descriptor.
        let waiting = self.state().staged.get(&id).cloned();
        if let Some(staged) = waiting {
            match lock(&staged).settle() {
                Err(error) if concerns_all(&error) => return Err(error.into()),
                // It stays in memory.
                Err(_) | Ok(()) => {}
            }
        }
        Ok(())
    }

    /// An image has arrived and is broken, or cannot be written. On a worker thread. // R2 R4
    pub(super) fn broken(&self, id: ImageId, cause: Cause, mut flight: Flight) {
        let server = flight.server.take();
        drop(flight);
        let is_final = matches!(
            cause,
            Cause::Fault(ImageFault::TooLarge { .. } | ImageFault::Encrypted) | Cause::Folder(_)
        );
        let failure = match is_final {
            true => FetchFailure::Final,
            false => FetchFailure::Broken,
        };
        let cause = match self.count_io_error(cause) {
            Ok(cause) => cause,
            Err(error) => return self.fail(error),
        };
        self.emit(&SyncEvent::Broken { id, cause: &cause });
        {
            let state = &mut *self.state();
            state.remember_cause(id, cause);
            let failure = match server.filter(|_| !is_final) {
                Some(server) => state.broken_at(id, server),
                None => failure,
            };
            state.planner.fetch_failed(id, failure);
        }
        if let Err(error) = self.run_moves() {
            self.fail(error);
        }
    }

    /// Reports the bytes that have arrived, after a LIST: it may have named images that had arrived before. No image is
    /// arriving.
    pub(super) fn emit_arrived(&self) {
        let bytes = self.state().planner.totals().fetched.bytes;
        let arrived = &mut *lock(&self.arrived);
        if *arrived != bytes {
            *arrived = bytes;
            self.emit(&SyncEvent::Progress { bytes });
        }
    }

    pub(super) fn progress(&self, add: u64, subtract: u64) {
        let arrived = &mut *lock(&self.arrived);
        *arrived = *arrived + add - subtract;
        self.emit(&SyncEvent::Progress { bytes: *arrived });
    }
}

/// Ends a run when it is dropped, so that its connections and threads end too.
pub(super) struct EndGuard(pub(super) Arc<Session>);

impl Drop for EndGuard {
    fn drop(&mut self) {
        self.0.end();
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Weak;

    use super::*;
    use crate::Options;

    #[test]
    fn r2_an_image_is_broken_once_each_server_has_sent_it_broken() {
        use FetchFailure::{Broken, Interrupted};
        let mut state = State::new(Planner::new(Options::new()));
        let id = ImageId(1);
        let failures = ["a", "b", "c"].map(|server| state.broken_at(id, (server.into(), 3)));
        assert_eq!(failures, [Interrupted, Interrupted, Broken]);
        assert!(state.suspects.contains_key(&id), "it is requested alone");
    }

    #[test]
    fn nothing_is_remembered_of_an_image_that_arrives_after_failures() {
        let mut state = State::new(Planner::new(Options::new()));
        let (id, other) = (ImageId(1), ImageId(2));
        for id in [id, other] {
            let _ = state.broken_at(id, ("a".into(), 2));
            state.remember_cause(id, Cause::Fault(ImageFault::Encrypted));
        }
        state.forget_failures(id);
        assert!(state.suspects.keys().eq([&other]));
        assert!(state.broken_by.keys().eq([&other]));
        assert!(state.causes.keys().eq([&other]));
    }

    #[test]
    fn r3_causes_are_remembered_of_ten_thousand_images() {
        let mut state = State::new(Planner::new(Options::new()));
        for n in 0..=10_000 {
            state.remember_cause(ImageId(n), Cause::Fault(ImageFault::Encrypted));
        }
        assert_eq!(state.causes.len(), 10_000);
        let last = Cause::Fault(ImageFault::TooLarge { limit: 1 });
        state.remember_cause(ImageId(0), last);
        let cause = &state.causes[&ImageId(0)];
        assert!(matches!(cause, Cause::Fault(ImageFault::TooLarge { .. })));
    }

    #[test]
    fn another_server_or_an_image_that_was_not_kept_asks_for_a_list() {
        let mut state = State::new(Planner::new(Options::new()));
        state.begin_list();
        assert!(!state.wants_list());
        state.is_other_server = true;
        assert!(state.wants_list(), "R8");
        state.begin_list();
        state.relist = true;
        assert!(state.wants_list());
        state.begin_list();
        assert!(!state.wants_list());
    }

    #[test]
    fn connections_report_their_progress_in_the_order_in_which_it_is_counted() {
        let shared: Arc<OnceLock<Weak<Session>>> = Arc::default();
        let reported = Arc::new(Mutex::new(Vec::new()));
        let (session, seen) = (Arc::clone(&shared), Arc::clone(&reported));
        let observer = move |event: &SyncEvent<'_>| {
            if let SyncEvent::Progress { bytes } = event {
                let session = session.get().and_then(Weak::upgrade).unwrap();
                let is_locked = session.arrived.try_lock().is_err();
                assert!(is_locked, "others could count and report meanwhile");
                lock(&seen).push(*bytes);
            }
        };
        let session = Arc::new(Session::of_test(Planner::new(Options::new()), observer));
        shared.set(Arc::downgrade(&session)).unwrap();
        session.progress(5, 0);
        session.progress(1, 2);
        session.emit_arrived();
        assert_eq!(*lock(&reported), [5, 4, 0]);
    }
}
