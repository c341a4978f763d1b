//! From what is known of the folder to the catalog.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jtp_core::CatalogWriter;
#[cfg(feature = "zstd")]
use jtp_core::ImageId;

#[cfg(feature = "zstd")]
use super::index::Form;
use super::index::{FileRecord, Name};
use super::keeper::{GATHER, Keeper};
#[cfg(feature = "zstd")]
use super::press::{PressJob, Pressed, form_key};
#[cfg(feature = "zstd")]
use super::schedule::Notice;

/// A look that is due within this is waited for before publishing.
const SOON: Duration = Duration::from_millis(300);

impl Keeper {
    /// Publishes what has changed, when nothing more is to be expected soon or it has waited long enough.
    pub(super) fn settle(&mut self, now: Instant) {
        if self.first.is_some() {
            return;
        }
        let idle =
            self.at_work.is_empty() && self.schedule.next_due().is_none_or(|due| due > now + SOON);
        let ripe =
            |(name, until): (&Name, &Instant)| (idle || *until <= now).then(|| Arc::clone(name));
        let left: Vec<Name> = self.leaving.iter().filter_map(ripe).collect();
        for name in left {
            self.detach(&name, now);
        }
        if !self.shared.index().is_dirty() {
            self.unpublished = None;
            return;
        }
        let since = *self.unpublished.get_or_insert(now);
        if idle || now >= since + GATHER {
            self.publish();
        }
    }

    /// Has what a file holds kept for the next run.
    pub(super) fn note_known(&mut self, record: &FileRecord) {
        // What came from there is there.
        if self.first.is_some() && self.shared.known(&record.fingerprint).is_some() {
            return;
        }
        let file = self.index_file.as_mut();
        if file.is_some_and(|file| file.note(record.known())) {
            self.save_known();
        }
    }

    /// Keeps the IDs for the next run. Without them that run only takes longer.
    pub(super) fn save_known(&mut self) {
        let Some(file) = &mut self.index_file else {
            return;
        };
        let index = self.shared.index();
        let saved = file.save(index.len(), |write| write(&mut index.known()));
        drop(index);
        if let Err(e) = saved {
            tracing::warn!(file = %file.path().display(), error = %e, "the index of IDs cannot be kept");
            // Said once; it will hardly be better in a minute.
            self.index_file = None;
        }
    }

    /// The first publishing: nobody can have waited for it.
    pub(super) fn publish_first(&mut self) {
        self.shared.live.edit(|writer| writer.set_history(0));
        self.publish();
        self.shared
            .live
            .edit(|writer| writer.set_history(CatalogWriter::HISTORY));
    }

    pub(super) fn publish(&mut self) {
        self.unpublished = None;
        let dirty = self.shared.index_mut().take_dirty();
        if dirty.is_empty() {
            return;
        }
        // What a snapshot lists can be opened, if the folder has it: the index has it before.
        let index = self.shared.index();
        self.shared.live.edit(|writer| {
            for id in &dirty {
                match index.listing(*id) {
                    Some((listed, image)) => {
                        if let Err(e) = writer.insert(&listed, image) {
                            tracing::warn!(name = listed, error = %e, "an image is left out");
                        }
                    }
                    None => {
                        writer.remove(*id);
                    }
                }
            }
        });
        drop(index);
        let images = self.shared.live.snapshot().len();
        tracing::debug!(changes = dirty.len(), images, "the catalog changed");
    }
}

/// The largest compressed form that is kept in memory: a served image of any size passes through a server of
/// constant memory.
#[cfg(feature = "zstd")]
const LARGEST_FORM: u64 = 16 * 1024 * 1024;

/// How often it is looked which forms in the cache are still there, at most.
#[cfg(feature = "zstd")]
const LOOK_FOR_FORMS: Duration = Duration::from_secs(5);

#[cfg(feature = "zstd")]
impl Keeper {
    /// Gives the compressing threads what they can take. // S9
    pub(super) fn press(&mut self) {
        let (Some(presser), Some(dir), None) = (&self.presser, &self.dir, &self.first) else {
            return;
        };
        let cache = self.shared.forms.as_ref().filter(|cache| !cache.is_off());
        while self.pressing.len() < presser.threads() {
            if cache.is_some_and(|cache| !cache.has_hope()) {
                return;
            }
            let mut index = self.shared.index_mut();
            let taken = index.form_bytes() + self.pressing.values().sum::<u64>();
            let room = self.settings.room_for_forms.saturating_sub(taken);
            if cache.is_none() && room == 0 {
                return;
            }
            let Some((name, record)) = index.next_to_press() else {
                return;
            };
            drop(index);
            let room = room.min(u64::from(record.length)).min(LARGEST_FORM);
            let in_memory = if cache.is_some() { 0 } else { room };
            self.pressing.insert(record.id, in_memory);
            presser.send(PressJob {
                dir: Arc::clone(dir),
                name,
                record,
                cache: cache.cloned(),
                room,
            });
        }
    }

    pub(super) fn pressed(&mut self, name: &Name, id: ImageId, pressed: Pressed, now: Instant) {
        self.pressing.remove(&id);
        let mut index = self.shared.index_mut();
        let known = match pressed {
            Pressed::Form(form) => {
                index.pressed(id, form);
                return;
            }
            Pressed::NoRoom => {
                index.no_room(id);
                return;
            }
            Pressed::NoCache => {
                index.queue_again(id);
                return;
            }
            Pressed::Stopped => return,
            Pressed::Unworthy => index.unworthy(id),
            Pressed::Changed => {
                index.not_pressed(id);
                drop(index);
                self.hear(name, Notice::Touched, now);
                return;
            }
        };
        drop(index);
        let file = self.index_file.as_mut();
        let file = file.filter(|_| !known.is_empty());
        if file.is_some_and(|file| known.into_iter().fold(false, |_, record| file.note(record))) {
            self.save_known();
        }
    }

    /// A form is not in the cache any more, and others may have gone with it: those travel raw until they are
    /// made again.
    pub(super) fn look_for_forms(&mut self, id: ImageId, now: Instant) {
        let just_seen = |seen: Instant| now.duration_since(seen) < LOOK_FOR_FORMS;
        let Some(cache) = &self.shared.forms else {
            return;
        };
        if self.forms_seen.is_some_and(just_seen) {
            return;
        }
        self.forms_seen = Some(now);
        let index = self.shared.index();
        let cached: Vec<ImageId> = index.cached().collect();
        drop(index);
        let mut lost = 0;
        for other in cached.into_iter().filter(|other| *other != id) {
            let key = self.shared.located(other).map(|at| form_key(&at.record));
            if key.is_some_and(|key| !cache.holds(key)) {
                self.shared.index_mut().lost_form(other);
                lost += 1;
            }
        }
        if lost > 0 {
            tracing::info!(
                lost,
                "compressed forms that another program let go are made again"
            );
        }
    }

    /// A form is not what it was: it is made again. // S13
    pub(super) fn throw_form_away(&mut self, id: ImageId) {
        let Some(cache) = &self.shared.forms else {
            return;
        };
        tracing::warn!(%id, "a compressed form is damaged or gone; it is made again");
        if let Some(located) = self.shared.located(id) {
            if matches!(located.form, Some(Form::Cached { .. })) {
                cache.discard(form_key(&located.record));
            }
        }
        self.shared.index_mut().lost_form(id);
    }
}
