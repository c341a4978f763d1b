//! The files that are not listed, and why.

use std::time::Instant;

use super::Tracker;
use crate::dir::left_out::{LeftOut, LeftOutReason};
use crate::dir::record::{FileRecord, Name};
use crate::dir::refusals::Refusal;
use crate::dir::schedule::Check;
use crate::fingerprint::Fingerprint;
use crate::known::Contents;
use crate::name::has_certain_extension;

impl Tracker {
    pub(super) fn refuse(&mut self, name: &Name, refusal: Refusal, now: Instant) {
        self.initial_done(name, None);
        self.detach(name, now);
        self.left_out.non_images().remove(name);
        let reason = refusal.reason.clone();
        let is_news = self.refusals.insert(name, refusal);
        // Whoever shares a folder does not expect every file in it to be an image.
        if is_news && has_certain_extension(&name.to_string_lossy()) {
            self.index.log().left_out(name, &reason);
        }
    }

    pub(super) fn refuse_for_room(&mut self, name: &Name, record: &FileRecord, now: Instant) {
        let refusal = Refusal {
            fingerprint: Some(record.fingerprint),
            kind: LeftOutReason::NoRoom,
            reason: "the index is full".to_owned(),
            collides_with: None,
        };
        self.refuse(name, refusal, now);
    }

    /// The name has no image extension, and the first bytes are not those of an image.
    pub(super) fn not_an_image(
        &mut self,
        name: &Name,
        found: Fingerprint,
        is_settled: bool,
        is_learned: bool,
        now: Instant,
    ) {
        self.initial_done(name, None);
        self.detach(name, now);
        self.refusals.remove(name);
        self.left_out.non_images().insert(name, &found, is_settled);
        if is_learned {
            self.learned.push((found, Contents::NOT_AN_IMAGE));
        }
    }

    /// Plans that a file is read again whose fingerprint was not settled, if no check `again` is planned.
    pub(super) fn plan_reread(
        &mut self,
        name: &Name,
        reread: Option<Check>,
        again: &mut Option<Check>,
    ) {
        match (reread, again) {
            (Some(_), Some(again)) => again.force = true,
            (Some(reread), None) => self.schedule.insert(name, reread),
            (None, _) => {}
        }
    }

    /// A link leads to no file: perhaps it is about to be replaced by another one.
    pub(super) fn leads_nowhere(&mut self, name: &Name, now: Instant) {
        self.file_missing(name, now);
        if self.index.read().file(name).is_none() {
            let refusal = Refusal {
                fingerprint: None,
                kind: LeftOutReason::Link,
                reason: "the link leads nowhere".to_owned(),
                collides_with: None,
            };
            self.refusals.insert(name, refusal);
        }
    }

    /// The file is not left out any more, or is missing.
    pub(super) fn listable(&mut self, name: &Name) {
        self.refusals.remove(name);
        self.left_out.non_images().remove(name);
    }

    /// Counts the files that are left out for other reasons than their name.
    pub(in crate::dir) fn count_left_out(&self, left_out: &mut LeftOut) {
        self.refusals.count_in(left_out);
        self.unreadable.count_in(left_out);
        let index = self.index.read();
        index.count_duplicates_in(left_out);
        let non_images = self.left_out.non_images();
        non_images.count_in(left_out);
        let waiting = self.schedule.names().chain(self.in_progress.keys());
        for name in waiting {
            let is_known = index.file(name).is_some()
                || non_images.contains(name)
                || self.refusals.get(name).is_some();
            if !is_known {
                left_out.add(LeftOutReason::Changing, name);
            }
        }
    }
}
