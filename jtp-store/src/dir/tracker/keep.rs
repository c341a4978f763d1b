//! The files that stay listed although they cannot be read now, or are being changed. A mirror would delete its copy of
//! an image that is not listed, which may be the last good one. // R8

use std::time::{Duration, Instant};

use super::Tracker;
use crate::dir::left_out::LeftOutReason;
use crate::dir::pool::Outcome;
use crate::dir::record::{FileRecord, Name};
use crate::dir::refusals::Refusal;
use crate::dir::schedule::Check;
use crate::fingerprint::Fingerprint;
use crate::name::has_certain_extension;

/// How long until a listed file is tried again that cannot be read. A disk may recover without any event.
const RETRY: Duration = Duration::from_secs(60);

/// The same if another file with the same bytes is being checked, which can be listed in its place.
const OTHER_IS_CHECKED: Duration = Duration::from_secs(1);

/// What became of a listed file that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    Listed,
    /// Another file with the same bytes is listed.
    OtherListed,
}

impl Tracker {
    /// A file cannot be read. If it is listed it may still be there, unless its metadata says that it was replaced.
    pub(super) fn unreadable_now(
        &mut self,
        name: &Name,
        found: Option<Fingerprint>,
        reason: String,
        with_folder: bool,
        now: Instant,
    ) {
        let listed = self.listed_or_earlier(name, found);
        let may_be_listed = |found: Fingerprint| {
            listed.is_some_and(|record| record.fingerprint.has_same_contents(&found))
        };
        let is_kept = match found {
            Some(found) => may_be_listed(found),
            None => listed.is_some(),
        };
        if is_kept && self.keep_listed(name, now) == Kept::Listed {
            self.initial_done(name, None);
            self.unreadable
                .insert(name, found, &reason, self.index.log());
            if !self.schedule.contains(name) {
                self.schedule.insert(name, Check::retry(now + RETRY));
            }
        } else if with_folder && listed.is_none() {
            self.file_missing(name, now);
        } else {
            let refusal = Refusal {
                fingerprint: found,
                kind: LeftOutReason::Unreadable,
                reason,
                collides_with: None,
            };
            self.refuse(name, refusal, now);
        }
    }

    /// The record of a listed file. During the initial index, that of an image of an earlier run whose mode, owner or
    /// links alone have changed: it is listed now.
    fn listed_or_earlier(&mut self, name: &Name, found: Option<Fingerprint>) -> Option<FileRecord> {
        let listed = self.index.read().file(name);
        if listed.is_some() || !self.is_initial_reading() {
            return listed;
        }
        let found = found?;
        let (earlier, contents) = self.earlier.get(&found)?;
        let is_image = contents.sniffed.is_some() || has_certain_extension(&name.to_string_lossy());
        let length = u32::try_from(earlier.size).ok()?; // S14
        if !is_image || !earlier.has_same_contents(&found) {
            return None;
        }
        let record = FileRecord::new(earlier, length, contents, true);
        let is_recorded = self.index.write().record(name, &record);
        is_recorded.then_some(record)
    }

    /// A file is being changed. An image that was listed under its name stays listed until its new contents are known.
    pub(super) fn file_changing(&mut self, name: &Name, found: &Fingerprint, now: Instant) {
        self.left_out.non_images().remove(name);
        if found.size == 0 && self.was_image(name, found) {
            self.emptied.add(name, found);
        }
        if self.index.read().file(name).is_some() {
            self.keep_listed(name, now);
        }
    }

    /// Whether an empty file was an image.
    pub(super) fn was_image(&mut self, name: &Name, found: &Fingerprint) -> bool {
        let listed = self.index.read().file(name);
        listed.is_some_and(|record| record.length > 0)
            || self.emptied.contains(name, found)
            || self.earlier.get(found).is_some()
    }

    /// A file was an image and has stayed empty for a while: a copy, an editor or a full disk has failed. It is not listed
    /// as an empty image, which clients would take in place of the good one.
    pub(super) fn image_emptied(&mut self, name: &Name, found: Fingerprint, now: Instant) {
        const REASON: &str =
            "it was an image and is empty now; it can be fetched once it has contents again";
        self.emptied.add(name, &found);
        let is_listed = self.index.read().file(name).is_some();
        if is_listed && self.keep_listed(name, now) == Kept::Listed {
            self.unreadable
                .insert(name, Some(found), REASON, self.index.log());
            return;
        }
        let refusal = Refusal {
            fingerprint: Some(found),
            kind: LeftOutReason::Emptied,
            reason: REASON.to_owned(),
            collides_with: None,
        };
        self.refuse(name, refusal, now);
    }

    /// Keeps a file listed that may still be there. If another file has the same bytes, that one is listed instead.
    pub(super) fn keep_listed(&mut self, name: &Name, now: Instant) -> Kept {
        let index = self.index.read();
        let may_be_readable = |other: &Name| other != name && self.unreadable.get(other).is_none();
        // Another one may be missing, too.
        let is_certain = |other: &Name| {
            may_be_readable(other)
                && !self.removed.contains_key(other)
                && !self.schedule.contains(other)
                && !self.in_progress.contains_key(other)
        };
        let id = index.file(name).map(|record| record.id);
        let is_other = id.is_some_and(|id| index.holder(id, is_certain).is_some());
        let is_perhaps = id.is_some_and(|id| index.holder(id, may_be_readable).is_some());
        drop(index);
        if is_other {
            self.detach(name, now);
            return Kept::OtherListed;
        }
        self.removed.remove(name);
        if is_perhaps {
            self.schedule
                .insert(name, Check::retry(now + OTHER_IS_CHECKED));
        }
        Kept::Listed
    }

    /// Whether a file that could not be read was read, or is missing.
    pub(super) fn note_readable(&mut self, name: &Name, outcome: &Outcome) {
        let is_readable = match outcome {
            Outcome::Read {
                length: 0,
                fingerprint,
                ..
            } if self.was_image(name, fingerprint) => return,
            Outcome::Unchanged | Outcome::Read { .. } => true,
            Outcome::Missing
            | Outcome::LeadsNowhere
            | Outcome::NotAnImage { .. }
            | Outcome::Refused { .. } => false,
            _ => return,
        };
        self.unreadable.remove(name, is_readable, self.index.log());
    }
}
