//! The one thread that knows the folder: it hears news, sends looks to the pool, and publishes.
//!
//! ```text
//!  inotify ─┐                  ┌─► hashing threads ─┐
//!  scans   ─┼─► schedule ─────►│                    ├─► index ─► catalog
//!  bodies  ─┘   (until quiet)  └─► compressing ─────┘   (collected, then published as one snapshot)
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use cap_std::fs::Dir;
use jtp_core::ImageId;

use super::first::FirstIndex;
use super::index::{FileRecord, Name};
use super::index_file::IndexFile;
#[cfg(feature = "zstd")]
use super::press::{Pressed, Presser};
use super::schedule::{Look, Notice, Schedule};
use super::work::{Found, Job, Pool, Task};
use super::{Settings, Shared, select};
use crate::fingerprint::Fingerprint;

/// How long changes are collected at most before they are published.
pub(super) const GATHER: Duration = Duration::from_millis(250);

/// How long an image is listed whose file is being changed and cannot be read yet.
const STALE: Duration = Duration::from_secs(1);

/// How many files the pool is given at once: enough that no thread waits, and no more than is to be held.
const AT_WORK: usize = 1024;

/// How many messages are taken before the clock is looked at again.
const MESSAGES: usize = 1024;

/// What the keeper is told.
#[derive(Debug)]
pub(super) enum Message {
    /// News of one file.
    Heard(Name, Notice),
    /// News were lost, or concern the folder itself.
    Rescan,
    /// There will be no more news.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    EventsFailed,
    /// A job of the pool is done.
    Found(Name, Found),
    /// An image was compressed, or not.
    #[cfg(feature = "zstd")]
    Pressed(Name, ImageId, Pressed),
    /// A form in the cache is not there any more.
    #[cfg(feature = "zstd")]
    LostForm(ImageId),
    /// A form in the cache is not what it was. // S13
    #[cfg(feature = "zstd")]
    DamagedForm(ImageId),
    /// The store is dropped.
    Stop,
}

/// A file that a thread is reading.
pub(super) struct AtWork {
    pub(super) look: Look,
    /// What was heard of it meanwhile.
    pub(super) again: Option<Look>,
    /// What it holds, while that is compared with another file. // S4
    pub(super) claim: Option<FileRecord>,
}

/// A file that cannot be listed.
pub(super) struct Refused {
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) why: String,
    /// The ID that another file of other bytes has. // S4
    pub(super) collides: Option<ImageId>,
}

pub(super) struct Keeper {
    pub(super) settings: Settings,
    pub(super) shared: Arc<Shared>,
    inbox: Receiver<Message>,
    pub(super) outbox: Sender<Message>,
    pub(super) pool: Pool,
    #[cfg(feature = "zstd")]
    pub(super) presser: Option<Presser>,
    /// Images that are being compressed, and the room kept for each.
    #[cfg(feature = "zstd")]
    pub(super) pressing: HashMap<ImageId, u64>,
    pub(super) news: super::folder::News,
    pub(super) dir: Option<Arc<Dir>>,
    pub(super) index_file: Option<IndexFile>,
    pub(super) schedule: Schedule,
    pub(super) at_work: HashMap<Name, AtWork>,
    pub(super) refused: HashMap<Name, Refused>,
    pub(super) collisions: usize,
    pub(super) leaving: HashMap<Name, Instant>,
    pub(super) unpublished: Option<Instant>,
    pub(super) first: Option<FirstIndex>,
    /// When the folder is to be seen to.
    pub(super) rescan_at: Option<Instant>,
    /// When forms were looked for at last.
    #[cfg(feature = "zstd")]
    pub(super) forms_seen: Option<Instant>,
    /// Whether it was said that the folder is scanned for want of news.
    pub(super) said_scanning: bool,
    /// When it is to be scanned at the earliest.
    pub(super) scan_at: Option<Instant>,
}

impl Keeper {
    pub(super) fn new(
        settings: Settings,
        shared: Arc<Shared>,
        (outbox, inbox): (Sender<Message>, Receiver<Message>),
        first: FirstIndex,
        index_file: Option<IndexFile>,
    ) -> std::io::Result<Keeper> {
        let pool = Pool::start(settings.hashing_threads, &shared, &outbox)?;
        #[cfg(feature = "zstd")]
        let presser = match settings.threshold {
            _ if settings.ten_thousandths() == 0 => None,
            threshold => Some(Presser::start(
                settings.compressing_threads,
                threshold,
                &shared,
                &outbox,
            )?),
        };
        Ok(Keeper {
            settings,
            shared,
            inbox,
            outbox,
            pool,
            #[cfg(feature = "zstd")]
            presser,
            #[cfg(feature = "zstd")]
            pressing: HashMap::new(),
            news: super::folder::News::default(),
            dir: None,
            index_file,
            schedule: Schedule::default(),
            at_work: HashMap::new(),
            refused: HashMap::new(),
            collisions: 0,
            leaving: HashMap::new(),
            unpublished: None,
            first: Some(first),
            rescan_at: None,
            scan_at: None,
            #[cfg(feature = "zstd")]
            forms_seen: None,
            said_scanning: false,
        })
    }

    /// Keeps the catalog until the store is dropped.
    pub(super) fn run(mut self) {
        self.keep();
        // Also what a first index that was broken off has found out.
        self.save_known();
    }

    fn keep(&mut self) {
        self.rescan(Instant::now());
        loop {
            let now = Instant::now();
            if self.rescan_at.is_some_and(|at| at <= now) {
                self.rescan(now);
            }
            self.give_work(now);
            self.finish_first_index();
            self.settle(now);
            #[cfg(feature = "zstd")]
            self.press();
            let first = match self.next_wake() {
                Some(at) => {
                    match self
                        .inbox
                        .recv_timeout(at.saturating_duration_since(Instant::now()))
                    {
                        Ok(message) => Some(message),
                        Err(RecvTimeoutError::Timeout) => None,
                        Err(RecvTimeoutError::Disconnected) => return,
                    }
                }
                None => match self.inbox.recv() {
                    Ok(message) => Some(message),
                    Err(_) => return,
                },
            };
            let waiting = std::iter::from_fn(|| self.inbox.try_recv().ok());
            // Not all at once: there is more to do than to listen.
            let messages: Vec<Message> = first.into_iter().chain(waiting.take(MESSAGES)).collect();
            for message in messages {
                if self.shared.stop.load(Ordering::Relaxed) {
                    return;
                }
                self.receive(message);
            }
        }
    }

    /// Has files looked at that are due, as many as the pool is to have.
    fn give_work(&mut self, now: Instant) {
        while self.at_work.len() < AT_WORK {
            if let Some((name, look)) = self.schedule.pop(now) {
                self.look(name, look, now);
            } else if let Some(name) = self.first.as_mut().and_then(FirstIndex::next) {
                self.look(name, Look::new(Notice::First, now), now);
            } else {
                return;
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        // When the pool has its fill, the next answer of its makes room.
        let due = self.schedule.next_due();
        let due = due.filter(|_| self.at_work.len() < AT_WORK);
        let looks = [self.rescan_at, due];
        let publishing = [
            self.unpublished.map(|since| since + GATHER),
            self.leaving.values().min().copied(),
        ];
        // Nothing is published before the first index is complete.
        let publishing = publishing.into_iter().filter(|_| self.first.is_none());
        looks.into_iter().chain(publishing).flatten().min()
    }

    fn receive(&mut self, message: Message) {
        let now = Instant::now();
        match message {
            Message::Heard(name, notice) => {
                if self.settings.selection.takes(&name) {
                    self.hear(&name, notice, now);
                }
            }
            Message::Rescan => (self.rescan_at, self.scan_at) = (Some(now), None),
            Message::EventsFailed => {
                self.news = super::folder::News::default();
                self.scan_at = None;
            }
            Message::Found(name, found) => self.found(&name, found, now),
            #[cfg(feature = "zstd")]
            Message::Pressed(name, id, pressed) => self.pressed(&name, id, pressed, now),
            #[cfg(feature = "zstd")]
            Message::LostForm(id) => self.look_for_forms(id, now),
            #[cfg(feature = "zstd")]
            Message::DamagedForm(id) => self.throw_form_away(id),
            Message::Stop => {}
        }
    }

    pub(super) fn hear(&mut self, name: &Name, notice: Notice, now: Instant) {
        match self.at_work.get_mut(name) {
            Some(work) => match &mut work.again {
                Some(look) => look.hear(notice, now),
                None => work.again = Some(Look::new(notice, now)),
            },
            None => self.schedule.hear(name, notice, now),
        }
    }

    fn look(&mut self, name: Name, look: Look, now: Instant) {
        if let Some(work) = self.at_work.get_mut(&name) {
            work.again = Some(look);
            return;
        }
        let Some(dir) = self.dir.clone() else {
            self.gone(name, now);
            return;
        };
        let known = self.shared.index().file(&name);
        let known = known.map(|record| record.fingerprint);
        let task = Task::Look {
            quiet: look.quiet,
            known: known.filter(|_| !look.force),
            seen: look.seen,
            anew: look.force,
        };
        self.at_work.insert(
            Arc::clone(&name),
            AtWork {
                look,
                again: None,
                claim: None,
            },
        );
        self.pool.send(Job { dir, name, task });
    }

    fn found(&mut self, name: &Name, found: Found, now: Instant) {
        let Some(work) = self.at_work.remove(name) else {
            return;
        };
        let AtWork {
            mut look,
            again,
            claim,
        } = work;
        // What was read while someone wrote is read once more.
        let overtaken = again.is_some_and(|again| again.force);
        match (found, claim) {
            (Found::Stopped, _) => return,
            (Found::Unsettled { fingerprint, wait }, _) => {
                let outlived = now.duration_since(look.since) > STALE;
                let other_size =
                    |record: &FileRecord| record.fingerprint.size != fingerprint.size || outlived;
                let listed = self.shared.index().file(name);
                if listed.as_ref().is_some_and(other_size) {
                    self.detach(name, now);
                }
                if outlived {
                    self.first_done(name, None);
                }
                look = look.again(now + wait, now, fingerprint);
                self.schedule.insert(name, look);
            }
            (Found::Same, _) => {
                self.leaving.remove(name);
                self.forget_refusal(name);
                self.first_done(name, None);
            }
            (Found::Gone, _) => self.gone(Arc::clone(name), now),
            (Found::Refused { fingerprint, why }, _) => {
                self.refuse(
                    name,
                    Refused {
                        fingerprint,
                        why,
                        collides: None,
                    },
                    now,
                );
            }
            (Found::New { .. }, _) if overtaken => self.first_done(name, None),
            (
                Found::New {
                    fingerprint,
                    length,
                    contents,
                },
                _,
            ) => {
                match select::listed_name(name) {
                    Some(_) => {
                        let record = FileRecord::new(fingerprint, length, contents);
                        self.claim(name, record, look, now);
                    }
                    None => {
                        // S14
                        let why = "its name is longer than 65,535 bytes".to_owned();
                        let fingerprint = Some(fingerprint);
                        self.refuse(
                            name,
                            Refused {
                                fingerprint,
                                why,
                                collides: None,
                            },
                            now,
                        );
                    }
                }
            }
            (Found::Equal, Some(record)) => self.attach(name, record, now),
            (Found::OtherChanged, Some(record)) => {
                let (id, again) = (record.id, Notice::Touched);
                let other = self.shared.index().holder(id, |other| other != name);
                if let Some((other, _)) = other {
                    self.hear(&other, again, now);
                }
                self.attach(name, record, now);
            }
            (Found::Different, Some(record)) => {
                // S4: the later one of two files with one ID and different bytes.
                let why = format!("another file of other bytes has the same ID, {}", record.id);
                let fingerprint = Some(record.fingerprint);
                let collides = Some(record.id);
                self.refuse(
                    name,
                    Refused {
                        fingerprint,
                        why,
                        collides,
                    },
                    now,
                );
            }
            (Found::Equal | Found::OtherChanged | Found::Different, None) => {}
        }
        if let Some(again) = again {
            match self.at_work.get_mut(name) {
                Some(work) => work.again = Some(again),
                None => self.schedule.insert(name, again),
            }
        }
    }

    pub(super) fn first_done(&mut self, name: &Name, bytes: Option<u64>) {
        if let Some(first) = &mut self.first {
            first.done(name, bytes);
        }
    }

    fn finish_first_index(&mut self) {
        let Some(first) = &mut self.first else {
            return;
        };
        if first.all_read() {
            let now = Instant::now();
            let contended = self.shared.index_mut().claim_collected();
            for slot in contended {
                let index = self.shared.index();
                let found = index
                    .at(slot)
                    .map(|(name, record)| (Name::from(name), record));
                drop(index);
                if let Some((name, record)) = found {
                    self.claim_now(&name, record, Look::new(Notice::First, now), now);
                }
            }
        }
        if self.first.as_ref().is_some_and(FirstIndex::is_complete) {
            self.publish_first();
            if let Some(first) = self.first.take() {
                first.tell();
            }
            // What it held is in the index by now, or not true any more.
            self.shared.forget_known();
            self.save_known();
        }
    }
}
