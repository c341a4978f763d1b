//! The results of steps.

use jtp_core::ImageId;
use jtp_store::fold_case;

use super::{MoveKind, Moving, Planner, State, mark};
use crate::inventory::FileKind;
use crate::step::{Expect, Outcome, Reason};

/// After this many times that the files of a step had changed, the step has failed.
const MAX_STALE: u8 = 8;

impl Planner {
    /// The result of a rename, a file that is kept aside, or an image that is placed: a step of this image that
    /// [`next_move`](Planner::next_move) returned. Ignored if no such step is in progress.
    pub fn report(&mut self, id: ImageId, outcome: Outcome) {
        self.absorb();
        let Some(step) = self.moving.remove(&id) else {
            return;
        };
        for name in step.from.iter().chain([&step.to]) {
            let folded = fold_case(name);
            if let Some(uses) = self.busy.get_mut(&*folded) {
                *uses -= 1;
                if *uses == 0 {
                    self.busy.remove(&*folded);
                }
            }
        }
        self.chain_waits = false;
        self.ready.extend(self.delayed.drain(..));
        let slot = self.images.slot(id);
        if let Some(slot) = slot {
            self.images.states[slot] = step.before;
            self.ready.push_back(slot);
        }
        if step.is_dropped && outcome != Outcome::Done {
            if step.kind == MoveKind::Place {
                self.in_hand -= 1;
                self.discards.push_back(id);
            }
            return;
        }
        if let (Outcome::Stale, Some(slot)) = (outcome, slot) {
            self.restart_chain(slot);
        }
        match outcome {
            Outcome::Done => self.done(slot, id, &step),
            Outcome::Stale => match slot {
                // The scan has found the file that has this name now.
                Some(_) if step.is_outdated => {}
                None if step.is_outdated && step.kind != MoveKind::Place => {}
                Some(slot) if self.images.count_stale(slot) < MAX_STALE => {}
                _ => self.failed(slot, id, &step),
            },
            Outcome::Failed => self.failed(slot, id, &step),
        }
    }

    fn done(&mut self, slot: Option<usize>, id: ImageId, step: &Moving) {
        let length = step.length;
        if let Some(file) = step.from.as_ref().and_then(|from| self.files.named(from)) {
            self.files.remove(file);
        }
        self.remove_replaced(&step.to);
        self.insert_image(&step.to, id);
        if let Some(from) = &step.from {
            self.name_is_free(from);
        }
        if step.expect != Expect::Nothing {
            self.totals.replaced.add(length);
        }
        match step.kind {
            MoveKind::Rename => self.totals.renamed.add(length),
            MoveKind::KeepAside => self.totals.kept_aside.add(length),
            MoveKind::Place => {
                self.totals.placed.add(length);
                self.in_hand -= 1;
            }
        }
        if let Some(slot) = slot {
            let settled = match step.before {
                State::Idle => true,
                State::InHand => step.kind == MoveKind::Place,
                _ => false,
            };
            if settled {
                self.images.states[slot] = State::Settled;
            }
            if step.kind == MoveKind::Rename {
                self.renamed_in_chain(slot);
            }
        }
    }

    /// Removes the files that a new file has replaced, on a file system that treats their names as equal.
    fn remove_replaced(&mut self, to: &str) {
        let folded = fold_case(to);
        let single = self.images.names.only_with_fold(&folded);
        if let Some(slot) = single.and_then(|id| self.images.slot(id)) {
            self.materialise(slot);
        }
        for file in self.files_like(to) {
            if let FileKind::Image(id) = self.files.kind(file) {
                self.ready.extend(self.images.slot(id));
            }
            self.files.remove(file);
        }
    }

    fn failed(&mut self, slot: Option<usize>, id: ImageId, step: &Moving) {
        match (step.kind, slot) {
            (MoveKind::Place, Some(slot)) => {
                if !self.divert(slot) {
                    self.fail_store(slot, id, Reason::CannotWrite);
                }
            }
            (MoveKind::Place, None) => {
                self.in_hand -= 1;
                self.discards.push_back(id);
            }
            // Perhaps only the file with that name cannot be replaced.
            (MoveKind::Rename, Some(slot))
                if step.expect != Expect::Nothing && self.divert(slot) => {}
            (_, Some(slot)) => self.images.set(slot, mark::STUCK),
            // What the file contains is not forgotten elsewhere: it stays where it is.
            (_, None) => {
                if let Some(from) = &step.from {
                    self.files.insert(from, FileKind::Unread);
                }
            }
        }
    }

    /// A received image cannot be stored.
    pub(super) fn fail_store(&mut self, slot: usize, id: ImageId, reason: Reason) {
        self.in_hand -= 1;
        self.totals.unstored.add(self.images.lengths[slot]);
        self.images.states[slot] = State::Unstored;
        self.discards.push_back(id);
        self.refusals.push_back((id, reason));
    }
}
