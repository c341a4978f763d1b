//! From what is known of the folder to the catalog.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(feature = "zstd")]
use jtp_core::ImageId;

use super::index::Name;
use super::keeper::{GATHER, Keeper};
#[cfg(feature = "zstd")]
use super::press::{PressJob, Pressed};
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
        if !self.index.is_dirty() {
            self.unpublished = None;
            return;
        }
        let since = *self.unpublished.get_or_insert(now);
        if idle || now >= since + GATHER {
            self.publish();
        }
    }

    /// Keeps the IDs for the next run. Without them that run only takes longer.
    pub(super) fn save_known(&mut self) {
        let Some(path) = self.settings.index_file.as_ref().filter(|_| self.unsaved) else {
            return;
        };
        self.unsaved = false;
        if let Err(e) = save(path, &self.index.known().encode()) {
            tracing::warn!(file = %path.display(), error = %e, "the index of IDs cannot be kept");
            // Said once; it will hardly be better in a minute.
            self.settings.index_file = None;
        }
    }

    pub(super) fn publish(&mut self) {
        self.unpublished = None;
        let dirty = self.index.take_dirty();
        if dirty.is_empty() {
            return;
        }
        // What a snapshot lists can be opened: the new ones before it is published, the old ones until then.
        let mut gone = Vec::new();
        self.shared.edit_images(|images| {
            for id in &dirty {
                match self.index.listing(*id) {
                    Some((_, _, located)) => {
                        images.insert(*id, located);
                    }
                    None => {
                        gone.push(*id);
                    }
                }
            }
        });
        self.shared.live.edit(|writer| {
            for id in &dirty {
                match self.index.listing(*id) {
                    Some((listed, image, _)) => {
                        if let Err(e) = writer.insert(listed, image) {
                            tracing::warn!(name = listed, error = %e, "an image is left out");
                        }
                    }
                    None => {
                        writer.remove(*id);
                    }
                }
            }
        });
        self.shared.edit_images(|images| {
            for id in &gone {
                images.remove(id);
            }
        });
        let images = self.shared.live.snapshot().len();
        tracing::debug!(changes = dirty.len(), images, "the catalog changed");
    }
}

/// The largest compressed form that is kept in memory: a served image of any size passes through a server of
/// constant memory.
#[cfg(feature = "zstd")]
const LARGEST_FORM: u64 = 16 * 1024 * 1024;

#[cfg(feature = "zstd")]
impl Keeper {
    /// Gives the compressing threads what they can take. // S9
    pub(super) fn press(&mut self) {
        let (Some(presser), Some(dir), None) = (&self.presser, &self.dir, &self.first) else {
            return;
        };
        while self.pressing.len() < presser.threads() {
            let taken = self.index.form_bytes() + self.pressing.values().sum::<u64>();
            let room = self.settings.room_for_forms.saturating_sub(taken);
            if room == 0 {
                return;
            }
            let Some((name, record)) = self.index.next_to_press() else {
                return;
            };
            let room = room.min(u64::from(record.length)).min(LARGEST_FORM);
            self.pressing.insert(record.id, room);
            presser.send(PressJob {
                dir: Arc::clone(dir),
                name,
                record,
                room,
            });
        }
    }

    pub(super) fn pressed(&mut self, name: &Name, id: ImageId, pressed: Pressed, now: Instant) {
        self.pressing.remove(&id);
        match pressed {
            Pressed::Form(form) => self.index.pressed(id, Some(form)),
            Pressed::Raw => self.index.pressed(id, None),
            Pressed::Changed => {
                self.index.not_pressed(id);
                self.hear(name, Notice::Touched, now);
            }
        }
    }
}

/// Replaces a file in one step.
fn save(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Some(parent) = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        fs::create_dir_all(parent)?;
    }
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}.part", std::process::id()));
    let result = fs::write(&temporary, bytes).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result
}
