//! The files that stay listed although they cannot be read now.

use std::time::Instant;

use super::Tracker;
use crate::dir::left_out::LeftOutReason;
use crate::dir::pool::Outcome;
use crate::dir::record::Name;
use crate::dir::refusals::Refusal;
use crate::dir::schedule::Check;
use crate::fingerprint::Fingerprint;

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
        let listed = self.index.read().file(name);
        let may_be_listed = |found: Fingerprint| {
            listed.is_some_and(|record| record.fingerprint.has_same_contents(&found))
        };
        let is_kept = match found {
            Some(found) => may_be_listed(found),
            None => listed.is_some(),
        };
        if is_kept && self.keep_listed(name, now) {
            self.initial_done(name, None);
            self.unreadable
                .insert(name, found, &reason, self.index.log());
            self.schedule.insert(name, Check::retry(now));
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

    /// Keeps a file listed that may still be there. If another file has the same bytes, that one is listed instead.
    /// Returns whether it was kept.
    pub(super) fn keep_listed(&mut self, name: &Name, now: Instant) -> bool {
        let index = self.index.read();
        let is_readable = |other: &Name| {
            other != name
                && self.unreadable.get(other).is_none()
                && !self.removed.contains_key(other)
                && !self.schedule.contains(other)
        };
        let id = index.file(name).map(|record| record.id);
        let other = id.and_then(|id| index.holder(id, is_readable));
        drop(index);
        if other.is_some() {
            self.detach(name, now);
            return false;
        }
        self.removed.remove(name);
        true
    }

    /// Whether a file that could not be read was read, or is missing.
    pub(super) fn note_readable(&mut self, name: &Name, outcome: &Outcome) {
        let is_readable = match outcome {
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
