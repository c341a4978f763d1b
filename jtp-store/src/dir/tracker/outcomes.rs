//! What follows from the outcome of a task.

use std::time::Instant;

use super::{InProgress, MAX_INITIAL, Tracker};
use crate::dir::left_out::LeftOutReason;
use crate::dir::pool::Outcome;
use crate::dir::record::{FileRecord, Name};
use crate::dir::refusals::Refusal;
use crate::dir::schedule::FileEvent;

impl Tracker {
    /// Takes the outcome of a task.
    pub(in crate::dir) fn examined(&mut self, name: &Name, outcome: Outcome, now: Instant) {
        let Some(work) = self.in_progress.remove(name) else {
            return;
        };
        let InProgress {
            check,
            mut again,
            claim,
        } = work;
        self.note_readable(name, &outcome);
        // If the file was written to meanwhile, it is read again.
        let outdated = again.is_some_and(|again| again.force);
        match (outcome, claim) {
            (Outcome::Stopped, _) => return,
            (Outcome::Unsettled { fingerprint, wait }, _) => {
                self.file_changing(name, &fingerprint, now);
                if (now + wait).duration_since(check.since) > MAX_INITIAL {
                    self.initial_done(name, None);
                }
                let check = check.postponed(wait, now, fingerprint);
                self.schedule.insert(name, check);
            }
            (Outcome::OpenForWriting { fingerprint }, _) => {
                // The initial index does not wait for it.
                self.initial_done(name, None);
                self.file_changing(name, &fingerprint, now);
                self.schedule
                    .insert(name, check.awaiting_close(name, now, self.index.log()));
            }
            (Outcome::Postponed { wait }, _) => {
                // An image that is listed stays listed. The initial index does not wait.
                self.initial_done(name, None);
                self.schedule.insert(name, check.delayed(now + wait));
            }
            (Outcome::Unchanged, _) => {
                self.removed.remove(name);
                self.refusals.remove(name);
                match self.unclaimed(name) {
                    Some(record) => self.claim(name, record, check, now),
                    None => self.initial_done(name, None),
                }
            }
            (Outcome::Missing, _) => self.file_missing(name, now),
            (Outcome::LeadsNowhere, _) => self.leads_nowhere(name, now),
            (
                Outcome::NotAnImage {
                    fingerprint,
                    from_index_file,
                    unsettled,
                },
                _,
            ) => {
                let learned = unsettled.is_none() && !from_index_file;
                let reread = unsettled.and_then(|wait| check.reread(wait, now, fingerprint));
                self.not_an_image(name, fingerprint, reread.is_none(), learned, now);
                self.plan_reread(name, reread, &mut again);
            }
            (
                Outcome::Unreadable {
                    fingerprint,
                    reason,
                    with_folder,
                },
                _,
            ) => self.unreadable_now(name, fingerprint, reason, with_folder, now),
            (
                Outcome::Refused {
                    fingerprint,
                    kind,
                    reason,
                },
                _,
            ) => {
                let refusal = Refusal {
                    fingerprint,
                    kind,
                    reason,
                    collides_with: None,
                };
                self.refuse(name, refusal, now);
            }
            (Outcome::Read { .. }, _) if outdated => self.initial_done(name, None),
            (
                Outcome::Read {
                    fingerprint,
                    length: 0,
                    ..
                },
                _,
            ) if self.was_image(name, &fingerprint) => {
                self.image_emptied(name, fingerprint, now);
            }
            (
                Outcome::Read {
                    fingerprint,
                    length,
                    contents,
                    from_index_file,
                    unsettled,
                },
                _,
            ) => {
                let record = FileRecord::new(fingerprint, length, contents, unsettled.is_none());
                if !from_index_file {
                    self.learned.extend(record.known());
                }
                if length > 0 {
                    self.emptied.remove(name, &fingerprint);
                }
                self.file_read(name, record, check, now);
                let reread = unsettled.and_then(|wait| check.reread(wait, now, fingerprint));
                self.plan_reread(name, reread, &mut again);
            }
            (Outcome::Equal, Some(record)) => self.attach(name, record, now),
            (Outcome::OtherChanged, Some(record)) => {
                let other = self.index.read().holder(record.id, |other| other != name);
                if let Some((other, _)) = other {
                    self.add_event(&other, FileEvent::Suspected, now);
                }
                self.attach(name, record, now);
            }
            (Outcome::Different, Some(record)) => {
                // S4: the later one of two files with one ID and different bytes.
                let id = record.id;
                let refusal = Refusal {
                    fingerprint: Some(record.fingerprint),
                    kind: LeftOutReason::SameId,
                    reason: format!("another file with other bytes has the same ID, {id}"),
                    collides_with: Some(id),
                };
                self.refuse(name, refusal, now);
            }
            (Outcome::Equal | Outcome::OtherChanged | Outcome::Different, None) => {}
        }
        if let Some(again) = again {
            match self.in_progress.get_mut(name) {
                Some(work) => work.again = Some(again),
                None => self.schedule.insert_later(name, again),
            }
        }
    }
}
