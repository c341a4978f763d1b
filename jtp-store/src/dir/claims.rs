//! Files that say which ID they have, and what is made of that. // S4

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jtp_core::ImageId;

use super::first::FirstIndex;
use super::index::{FileRecord, Name};
use super::keeper::{AtWork, Keeper, Refused};
use super::schedule::{Look, Notice};
use super::select;
use super::work::{Job, Task};

/// How long a file that is gone is listed on, while others are being read: it may have been renamed, and a
/// rename is no event (N1).
const LEAVING: Duration = Duration::from_secs(1);

impl Keeper {
    /// A file says that it has an ID. Taken at its word only if no other file has the ID. // S4
    pub(super) fn claim(&mut self, name: &Name, record: FileRecord, look: Look, now: Instant) {
        self.note_known(&record);
        if self.first.as_ref().is_some_and(FirstIndex::collects) {
            let length = Some(u64::from(record.length));
            if self.shared.index_mut().collect(name, &record) {
                self.forget_refusal(name);
                warn_of_name(name);
                self.first_done(name, length);
            } else {
                self.no_room_for(name, &record, now);
            }
            return;
        }
        self.claim_now(name, record, look, now);
    }

    fn no_room_for(&mut self, name: &Name, record: &FileRecord, now: Instant) {
        let refused = Refused {
            fingerprint: Some(record.fingerprint),
            why: "there are too many files".to_owned(),
            collides: None,
        };
        self.refuse(name, refused, now);
    }

    pub(super) fn claim_now(&mut self, name: &Name, record: FileRecord, look: Look, now: Instant) {
        let index = self.shared.index();
        if index.is_holder(name, record.id) {
            drop(index);
            self.attach(name, record, now);
            return;
        }
        let usable = |other: &Name| other != name && !self.leaving.contains_key(other);
        let other = index.holder(record.id, usable);
        drop(index);
        let (Some((other, other_record)), Some(dir)) = (other, self.dir.clone()) else {
            self.attach(name, record, now);
            return;
        };
        if let Some(first) = &mut self.first {
            first.wait_for(name);
        }
        let task = Task::Compare {
            fingerprint: record.fingerprint,
            other,
            other_fingerprint: other_record.fingerprint,
        };
        let work = AtWork {
            look,
            again: None,
            claim: Some(record),
        };
        self.at_work.insert(Arc::clone(name), work);
        self.pool.send(Job {
            dir,
            name: Arc::clone(name),
            task,
        });
    }

    pub(super) fn attach(&mut self, name: &Name, record: FileRecord, now: Instant) {
        let mut index = self.shared.index_mut();
        let old = index.file(name).map(|old| old.id);
        let is_new = old.is_none();
        let attached = index.attach(name, &record);
        drop(index);
        if !attached {
            self.no_room_for(name, &record, now);
            return;
        }
        if is_new {
            warn_of_name(name);
        }
        self.leaving.remove(name);
        self.forget_refusal(name);
        self.first_done(name, Some(u64::from(record.length)));
        self.retry_collided(old, now);
    }

    pub(super) fn detach(&mut self, name: &Name, now: Instant) {
        self.leaving.remove(name);
        let gone = self.shared.index_mut().detach(name);
        self.retry_collided(gone, now);
    }

    /// An ID that is gone may be had by a file that was refused for it.
    fn retry_collided(&mut self, gone: Option<ImageId>, now: Instant) {
        let Some(id) = gone.filter(|id| self.collisions > 0 && !self.shared.index().holds(*id))
        else {
            return;
        };
        let collided = |(name, refused): (&Name, &Refused)| {
            (refused.collides == Some(id)).then(|| Arc::clone(name))
        };
        let names: Vec<Name> = self.refused.iter().filter_map(collided).collect();
        for name in names {
            self.hear(&name, Notice::Touched, now);
        }
    }

    pub(super) fn gone(&mut self, name: Name, now: Instant) {
        self.forget_refusal(&name);
        self.first_done(&name, None);
        // Another link to the file has a new ctime by this.
        let links = self.shared.index().links(&name);
        for link in links {
            self.hear(&link, Notice::Touched, now);
        }
        let is_known = self.shared.index().file(&name).is_some();
        if self.first.as_ref().is_some_and(FirstIndex::collects) {
            self.detach(&name, now);
        } else if is_known {
            self.leaving.entry(name).or_insert(now + LEAVING);
        }
    }

    pub(super) fn refuse(&mut self, name: &Name, refused: Refused, now: Instant) {
        self.first_done(name, None);
        self.detach(name, now);
        let before = self.forget_refusal(name);
        if before.is_none_or(|before| before.why != refused.why) {
            tracing::warn!(file = ?name, why = refused.why, "a file is left out of the catalog");
        }
        self.collisions += usize::from(refused.collides.is_some());
        self.refused.insert(Arc::clone(name), refused);
    }

    pub(super) fn forget_refusal(&mut self, name: &Name) -> Option<Refused> {
        let refused = self.refused.remove(name)?;
        self.collisions -= usize::from(refused.collides.is_some());
        Some(refused)
    }
}

/// Says under which name a file is listed whose own is no text. // W6
pub(super) fn warn_of_name(name: &OsStr) {
    if name.to_str().is_none() {
        let listed = select::listed_name(name);
        tracing::warn!(file = ?name, listed, "a file name is not UTF-8");
    }
}
