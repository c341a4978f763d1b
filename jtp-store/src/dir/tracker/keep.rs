//! The files that stay listed although they cannot be read now.

use std::time::{Duration, Instant};

use super::Tracker;
use crate::dir::left_out::LeftOutReason;
use crate::dir::pool::Outcome;
use crate::dir::record::Name;
use crate::dir::refusals::Refusal;
use crate::dir::schedule::Check;
use crate::fingerprint::Fingerprint;

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
        let listed = self.index.read().file(name);
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
