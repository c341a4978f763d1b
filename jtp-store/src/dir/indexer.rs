//! The indexer: one thread that owns the state of a store and connects its parts.
//!
//! ```text
//!  watcher ─┐               ┌─► pool (reads files) ────┐
//!  scans   ─┼─► tracker ───►│                          ├─► index ─► publisher ─► catalog
//!  bodies  ─┘  (schedule)   └─► compressor (variants) ─┘
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Instant;

#[cfg(feature = "zstd")]
use jtp_core::ImageId;

#[cfg(feature = "zstd")]
use super::compressor::{Compressor, FollowUp};
use super::earlier::EarlierImages;
#[cfg(feature = "zstd")]
use super::encode::Encoded;
use super::folder::Folder;
use super::index_file::IndexFile;
use super::index_log::IndexLog;
use super::initial::InitialIndex;
use super::left_out::{LeftOut, LeftOutReason};
use super::links::Links;
use super::message::Message;
use super::non_images::SharedLeftOut;
use super::pool::{Job, Outcome, Pool};
use super::publisher::Publisher;
#[cfg(feature = "zstd")]
use super::record::Name;
use super::retained::Retained;
use super::schedule::FileEvent;
use super::select::{Naming, Selection};
use super::settings::Settings;
use super::shared::{SharedDir, SharedIndex, SharedKnown};
use super::tracker::Tracker;
use super::tree::Skipped;
use super::watcher::WatchEvent;
use crate::name::has_certain_extension;
use jtp_driver::LogThrottle;
use jtp_driver::store::LiveCatalog;

/// The most messages that are handled before the clock is read again.
const BATCH: usize = 1024;

/// What the indexer shares with the rest of the store.
pub(super) struct Context {
    pub(super) index: Arc<SharedIndex>,
    pub(super) dir: Arc<SharedDir>,
    pub(super) live: LiveCatalog,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) left_out: Arc<SharedLeftOut>,
}

pub(super) struct Indexer {
    inbox: Receiver<Message>,
    selection: Selection,
    scan_threads: usize,
    stop: Arc<AtomicBool>,
    index: Arc<SharedIndex>,
    known: Arc<SharedKnown>,
    folder: Folder,
    tracker: Tracker,
    links: Links,
    left_out: Arc<SharedLeftOut>,
    /// What the last scan left out by names and types.
    scanned: LeftOut,
    skipped: Skipped,
    pool: Pool,
    #[cfg(feature = "zstd")]
    compressor: Option<Compressor>,
    publisher: Publisher,
    index_log: IndexLog,
    /// Whether retained files may have been found again.
    may_forget: bool,
    /// When what is left out is counted again, because files were checked.
    count_at: Option<Instant>,
    /// Not before then: counting takes at most a tenth of the time.
    count_after: Instant,
    /// Whether the log says already that the folder cannot be scanned, and its images stay listed.
    failure_logged: bool,
    /// Why the folder cannot be read, as logged.
    lost: Option<String>,
    /// Limits the lines about other reasons: whoever renames folders can change them again and again.
    reasons: LogThrottle,
}

impl Indexer {
    /// Starts the threads of the pool and the compressor.
    pub(super) fn new(
        settings: Settings,
        context: &Context,
        (outbox, inbox): (Sender<Message>, Receiver<Message>),
        initial: InitialIndex,
    ) -> io::Result<Indexer> {
        let Context {
            index,
            dir,
            live,
            stop,
            left_out,
        } = context;
        #[cfg(feature = "zstd")]
        let compressor = match settings.ten_thousandths() {
            0 => None,
            _ => {
                let outbox = outbox.clone();
                let report = move |name, id, encoded| {
                    outbox.send(Message::Encoded(name, id, encoded)).is_ok()
                };
                Some(Compressor::start(&settings, index, stop, report)?)
            }
        };
        let index_file = settings.index_file;
        let index_file = index_file.map(|path| IndexFile::open(path, settings.rehash));
        let (index_file, known) = index_file.unzip();
        let known = Arc::new(SharedKnown::new(known.unwrap_or_default()));
        let report = {
            let outbox = outbox.clone();
            move |name, outcome, is_linked| {
                let message = Message::Examined(name, outcome, is_linked);
                outbox.send(message).is_ok()
            }
        };
        let threads = settings.hashing_threads;
        let pool = Pool::start(threads, &known, left_out, index.mounts(), stop, report)?;
        let events = Arc::new(move |event| outbox.send(Message::Watch(event)).is_ok());
        let folder = Folder::new(
            settings.folder,
            settings.follow,
            settings.naming,
            settings.distrust_inodes,
            Arc::clone(dir),
            events,
        );
        Ok(Indexer {
            inbox,
            selection: settings.selection,
            scan_threads: settings.hashing_threads,
            stop: Arc::clone(stop),
            index: Arc::clone(index),
            known: Arc::clone(&known),
            folder,
            tracker: Tracker::new(
                Arc::clone(index),
                Arc::clone(left_out),
                EarlierImages::new(Arc::clone(&known)),
                initial,
            ),
            links: Links::default(),
            left_out: Arc::clone(left_out),
            scanned: LeftOut::default(),
            skipped: Skipped::default(),
            pool,
            #[cfg(feature = "zstd")]
            compressor,
            publisher: Publisher::new(Arc::clone(index), live.clone()),
            index_log: IndexLog::new(index_file, Arc::clone(index), known, Arc::clone(left_out)),
            may_forget: false,
            count_at: None,
            count_after: Instant::now(),
            failure_logged: false,
            lost: None,
            reasons: LogThrottle::default(),
        })
    }

    /// Maintains the catalog until the store is dropped.
    pub(super) fn run(mut self) {
        self.run_until_stopped();
        // Also what an interrupted initial index has read.
        self.index_log.save();
    }

    fn run_until_stopped(&mut self) {
        loop {
            let now = Instant::now();
            if self.folder.next_check().is_some_and(|at| at <= now) {
                self.check_folder(now);
            }
            let dir = self.folder.dir().map(|dir| &**dir);
            let folder = dir.zip(self.folder.file_system());
            for name in self.links.check(folder, &self.index, &self.left_out, now) {
                self.tracker.add_event(&name, FileEvent::Scanned, now);
            }
            self.dispatch(now);
            if self.tracker.advance_initial(now) {
                self.finish_initial();
            }
            // Advancing may have added comparisons.
            self.dispatch(now);
            if !self.tracker.is_initial() {
                if self.count_at.is_some_and(|at| at <= now) {
                    self.summarize_left_out();
                }
                let not_scanned_since = self.folder.not_scanned_since();
                self.tracker.expire_removed(now, not_scanned_since);
                let idle = self.tracker.is_idle(now);
                self.publisher.update(now, idle);
                if idle && self.may_forget && self.folder.dir().is_some() {
                    self.forget_listed();
                }
                #[cfg(feature = "zstd")]
                if let (Some(compressor), Some(dir)) = (&mut self.compressor, self.folder.dir()) {
                    compressor.fill(dir);
                }
            }
            self.index.log().report_unlogged(now);
            let Some(first) = self.wait() else {
                return;
            };
            let more = std::iter::from_fn(|| self.inbox.try_recv().ok());
            let messages: Vec<Message> = first.into_iter().chain(more.take(BATCH)).collect();
            for message in messages {
                if self.stop.load(Ordering::Relaxed) {
                    return;
                }
                self.handle(message);
            }
            self.index_log.add(self.tracker.take_learned());
        }
    }

    /// Waits for a message until something is due. `None` if there will be no more messages.
    fn wait(&self) -> Option<Option<Message>> {
        let due = [
            self.folder.next_check(),
            self.count_at,
            self.tracker.next_due(self.folder.not_scanned_since()),
            self.links.next_due(),
            self.publisher.next_due(),
        ];
        let Some(at) = due.into_iter().flatten().min() else {
            return self.inbox.recv().ok().map(Some);
        };
        let timeout = at.saturating_duration_since(Instant::now());
        match self.inbox.recv_timeout(timeout) {
            Ok(message) => Some(Some(message)),
            Err(RecvTimeoutError::Timeout) => Some(None),
            Err(RecvTimeoutError::Disconnected) => None,
        }
    }

    fn handle(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Watch(WatchEvent::File(name, event)) => {
                if self.selection.takes(&name) {
                    self.tracker.add_event(&name, event, now);
                }
            }
            Message::Watch(WatchEvent::Folder(path)) => self.folder.scan_soon(path, now),
            Message::Watch(WatchEvent::Rescan) => {
                self.tracker.events_lost();
                self.folder.scan_now(now);
            }
            Message::Watch(WatchEvent::Failed) => {
                self.tracker.events_lost();
                self.folder.events_ended();
            }
            Message::Suspect(name) => self.tracker.add_event(&name, FileEvent::Suspected, now),
            Message::Examined(name, outcome, is_linked) => {
                let outcome = match outcome {
                    // A sub-folder that has taken the place of a file is scanned.
                    Outcome::Refused {
                        kind: LeftOutReason::Folder,
                        ..
                    } if self.index.read().naming() == Naming::Tree => Outcome::Missing,
                    outcome => outcome,
                };
                // Folders of programs have very many hard links; the scan of each minute finds one that becomes an image.
                let is_image = !matches!(outcome, Outcome::NotAnImage { .. })
                    || has_certain_extension(&name.to_string_lossy());
                if is_linked && is_image && self.folder.has_events() {
                    self.links.add(&name, now);
                }
                self.tracker.examined(&name, outcome, now);
                if !self.tracker.is_initial() {
                    self.count_at.get_or_insert(self.count_after.max(now));
                }
            }
            #[cfg(feature = "zstd")]
            Message::Encoded(name, id, encoded) => self.encoded(&name, id, encoded, now),
            #[cfg(feature = "zstd")]
            Message::VariantMissing(id) => {
                if let Some(compressor) = &mut self.compressor {
                    compressor.variant_missing(id, now);
                }
            }
            #[cfg(feature = "zstd")]
            Message::VariantDamaged(id) => {
                if let Some(compressor) = &mut self.compressor {
                    compressor.variant_damaged(id);
                }
            }
            Message::Stop => {}
        }
    }

    #[cfg(feature = "zstd")]
    fn encoded(&mut self, name: &Name, id: ImageId, encoded: Encoded, now: Instant) {
        let Some(compressor) = &mut self.compressor else {
            return;
        };
        match compressor.finished(id, encoded) {
            FollowUp::Nothing => {}
            FollowUp::Save(records) => self.index_log.add(records),
            FollowUp::CheckFile => self.tracker.add_event(name, FileEvent::Touched, now),
        }
    }

    /// Gives the pool the tasks that are due.
    fn dispatch(&mut self, now: Instant) {
        while let Some((name, task)) = self.tracker.next_task(now) {
            match (self.folder.dir(), self.folder.file_system()) {
                (Some(dir), Some(file_system)) => {
                    let dir = Arc::clone(dir);
                    self.pool.send(Job {
                        dir,
                        file_system,
                        name,
                        task,
                    });
                }
                _ => self.tracker.examined(&name, Outcome::Missing, now),
            }
        }
    }

    fn finish_initial(&mut self) {
        if self.index.read().len() > 0 {
            // The index has these contents now, or they are outdated.
            *self.known.write() = Retained::default();
        } // Else the folder may be the mount point of a disk that is not mounted yet.
        self.publisher.publish_initial();
        self.summarize_left_out();
        self.tracker.finish_initial();
        self.index_log.save();
    }
}

mod scans;
