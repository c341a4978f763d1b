//! LISTs and events.

use jtp_core::{FileType, ImageId, nfc};
use jtp_store::fold_case;

use super::{Planner, State, mark};
use crate::step::{ListReport, Reason, Received};

impl Planner {
    /// A LIST begins. A LIST that began earlier and did not end counts as incomplete.
    pub fn begin_list(&mut self) {
        if self.listing.is_some() {
            let _ = self.end_list(false);
        }
        self.listing = Some(ListReport::default());
        for marks in &mut self.images.marks {
            *marks &= !mark::SEEN;
        }
    }

    /// An entry of the LIST, in the server's order. `length` is that of the encoded form, in bytes. // S6
    ///
    /// Of two entries with one ID the first stands. Of two images with one name, compared in NFC, the later one has
    /// the name, and the earlier one its ID as a suffix: some servers keep the old image of a file that has changed.
    ///
    /// An entry without [`Planner::begin_list`] is treated as an event.
    pub fn entry(&mut self, id: ImageId, name: &str, file_type: FileType, length: u32) {
        self.add_entry(id, name, file_type, length, true);
    }

    /// An entry of the LIST, or an event, with an image that the caller does not want: in place of
    /// [`entry`](Planner::entry) or [`announce`](Planner::announce). The image is not fetched, its files are neither
    /// renamed nor replaced, and it counts as [left out](crate::Totals::left_out). Another LIST or event may select it.
    ///
    /// It still takes part in the names: an image has the same name, whatever is left out beside it. // R5
    ///
    /// ```
    /// use jtp_core::{FileType::Png, ImageId};
    /// use jtp_sync::{Inventory, Options, Planner};
    ///
    /// let mut planner = Planner::new(Options::new());
    /// planner.set_folder(Inventory::new());
    /// planner.begin_list();
    /// planner.entry(ImageId(1), "a.png", Png, 10);
    /// planner.leave_out(ImageId(2), "b.png", Png, 20);
    /// let _ = planner.end_list(true);
    /// assert_eq!(planner.next_fetch(), Some((ImageId(1), 10)));
    /// assert_eq!(planner.next_fetch(), None);
    /// assert_eq!(planner.totals().left_out.images, 1);
    /// ```
    pub fn leave_out(&mut self, id: ImageId, name: &str, file_type: FileType, length: u32) {
        self.add_entry(id, name, file_type, length, false);
    }

    fn add_entry(
        &mut self,
        id: ImageId,
        name: &str,
        file_type: FileType,
        length: u32,
        is_selected: bool,
    ) {
        let Some(report) = &mut self.listing else {
            return self.add_event(id, name, file_type, length, is_selected);
        };
        report.entries += 1;
        let known = self.images.slot(id);
        if known.is_some_and(|slot| self.images.has(slot, mark::SEEN)) {
            report.doubled += 1;
            return;
        }
        let (slot, earlier) = self.insert(id, known, name, file_type, length);
        let Some(slot) = slot else { return };
        self.images.set(slot, mark::SEEN);
        self.images.clear(slot, mark::DOUBTFUL);
        self.set_selected(slot, id, is_selected);
        let Some(earlier) = earlier else { return };
        let is_listed = self
            .images
            .slot(earlier)
            .is_some_and(|slot| self.images.has(slot, mark::SEEN));
        if let Some(report) = self.listing.as_mut().filter(|_| is_listed) {
            report.same_name += 1;
            if report.examples.len() < ListReport::MAX_EXAMPLES {
                report.examples.push((earlier, id));
            }
        }
    }

    /// The LIST ends. `complete`: it contained as many entries as it promised, and the connection did not break.
    ///
    /// Images that a complete LIST does not name are forgotten; their files stay until an image needs their name.
    /// After an incomplete LIST, images of earlier LISTs stay in the plan, and nothing is replaced because the LIST
    /// does not name it.
    pub fn end_list(&mut self, complete: bool) -> ListReport {
        let Some(mut report) = self.listing.take() else {
            return ListReport::default();
        };
        self.complete = complete;
        self.images.shrink_to_fit();
        self.absorb();
        self.start_over();
        self.wants_list = false;
        for slot in 0..self.images.names.slots() {
            let Some(id) = self.images.names.at(slot) else {
                continue;
            };
            if complete && !self.images.has(slot, mark::SEEN) {
                report.gone += 1;
                self.remove_image(slot, id);
                continue;
            }
            self.images.clear(
                slot,
                mark::DOUBTFUL | mark::DIVERTED | mark::NUMBERED | mark::STUCK,
            );
            self.images.forget_stale(slot);
            if self.state(slot, id) == State::NotSent {
                if self.images.tries(slot) < self.options.attempts() {
                    self.want(slot, id);
                } else {
                    self.fail_fetch(slot, id, Reason::NotReceived);
                }
            }
        }
        self.plan_missing();
        for id in std::mem::take(&mut self.unlisted) {
            if self.images.slot(id).is_none() || self.arrived(id) == Received::Discard {
                self.discards.push_back(id);
            }
        }
        report
    }

    /// The LIST that is being received cannot be completed and is not used: another one is wanted. Entries that have
    /// arrived stay in the plan, and nothing is replaced because the LIST does not name it.
    ///
    /// Without this, nothing happens until the next [`begin_list`](Planner::begin_list).
    pub fn list_failed(&mut self) {
        if self.listing.take().is_none() {
            return;
        }
        self.complete = false;
        self.wants_list = true;
        self.absorb();
        self.start_over();
        self.plan_missing();
    }

    /// The caller will send no other LIST, for example because the time for the job is over. A LIST that is being
    /// received ends as an incomplete one. Images that were not sent have failed, images that no LIST names are
    /// discarded, and what an event made doubtful is kept: it counts as listed. [`Planner::wants_list`] is false until
    /// something makes a LIST necessary again.
    pub fn no_more_lists(&mut self) {
        if self.listing.is_some() {
            let _ = self.end_list(false);
        }
        self.start_over();
        for slot in 0..self.images.names.slots() {
            let Some(id) = self.images.names.at(slot) else {
                continue;
            };
            self.images.clear(slot, mark::DOUBTFUL);
            if self.state(slot, id) == State::NotSent {
                self.fail_fetch(slot, id, Reason::NotReceived);
            }
        }
        self.plan_missing();
        let unlisted = std::mem::take(&mut self.unlisted);
        self.discards.extend(unlisted);
        self.wants_list = false;
    }

    /// Looks at all images again.
    pub(super) fn start_over(&mut self) {
        self.abandon_chain();
        self.ready.clear();
        self.obstructed.clear();
        self.delayed.clear();
        self.sweep = 0;
    }

    /// An event of WATCH: the image is new. It takes over its name. An image that had the name may still be on the
    /// server under another one, so its file is not replaced before the next LIST. // N1 R8
    pub fn announce(&mut self, id: ImageId, name: &str, file_type: FileType, length: u32) {
        self.add_event(id, name, file_type, length, true);
    }

    fn add_event(
        &mut self,
        id: ImageId,
        name: &str,
        file_type: FileType,
        length: u32,
        is_selected: bool,
    ) {
        self.absorb();
        let known = self.images.slot(id);
        let (slot, earlier) = self.insert(id, known, name, file_type, length);
        if let Some(slot) = earlier.and_then(|earlier| self.images.slot(earlier)) {
            self.images.set(slot, mark::DOUBTFUL);
        }
        if let Some(slot) = slot {
            self.images.clear(slot, mark::DOUBTFUL);
            self.images.set(slot, mark::SEEN);
            self.set_selected(slot, id, is_selected);
            self.forget_failure(slot);
            self.ready.push_back(slot);
            self.plan(slot);
        }
        if self.unlisted.contains(&id) {
            self.unlisted.retain(|other| *other != id);
            if self.arrived(id) == Received::Discard {
                self.discards.push_back(id);
            }
        }
    }

    /// Adds or renames an image, whose slot is `known` if it has one. Returns its slot, and the image that had exactly this
    /// name before, which is superseded now.
    fn insert(
        &mut self,
        id: ImageId,
        known: Option<usize>,
        name: &str,
        file_type: FileType,
        length: u32,
    ) -> (Option<usize>, Option<ImageId>) {
        if let Some(slot) = known {
            self.set_length(slot, id, length);
            let names = &self.images.names;
            let same = names.listed(id) == Some(&*nfc(name));
            if same && names.file_type(id) == Some(file_type) && !names.is_superseded(id) {
                return (known, None);
            }
            self.materialise(slot);
            self.restart_chain(slot);
        }
        if known.is_none() {
            if let Some(slot) = self.images.names.add_unrelated(id, name, file_type) {
                self.init_image(slot, id, length);
                return (Some(slot), None);
            }
        }
        let earlier = self
            .images
            .names
            .listed_as(name)
            .filter(|other| *other != id);
        if let Some(earlier) = earlier {
            if let Some(slot) = self.images.slot(earlier) {
                self.materialise(slot);
                self.restart_chain(slot);
            }
            self.images.names.supersede(earlier);
        }
        // Another image may share the safe name from now on: both have a suffix then.
        let safe = self.images.names.file_name(name, id, file_type);
        self.name_is_shared(&fold_case(safe.as_str()));
        // Or it has the name of a folder from now on. Around a known folder, all are known.
        for folder in safe.folders() {
            let folded = fold_case(folder);
            if self.images.names.is_folder(&folded) {
                break;
            }
            self.name_is_shared(&folded);
        }
        match known {
            Some(_) => self.images.names.add(id, name, file_type),
            None => self.add_image(id, name, file_type, length),
        }
        (self.images.slot(id), earlier)
    }

    /// Adds an image that is not known.
    fn add_image(&mut self, id: ImageId, name: &str, file_type: FileType, length: u32) {
        self.images.names.add(id, name, file_type);
        if let Some(slot) = self.images.slot(id) {
            self.init_image(slot, id, length);
        }
    }

    fn init_image(&mut self, slot: usize, id: ImageId, length: u32) {
        self.images.extend();
        self.images.reset(slot);
        self.images.lengths[slot] = length;
        // A step of the image is still in progress, though the image was not listed meanwhile.
        if self.moving.contains_key(&id) {
            self.images.states[slot] = State::Moving;
        }
    }

    /// The image that has this safe name alone will have its ID as a suffix.
    fn name_is_shared(&mut self, folded: &str) {
        let sharer = self.images.names.only_with_fold(folded);
        if let Some(slot) = sharer.and_then(|sharer| self.images.slot(sharer)) {
            self.materialise(slot);
            self.ready.push_back(slot);
            self.restart_chain(slot);
        }
    }

    /// Whether the last LIST or event left the image out.
    pub(super) fn is_left_out(&self, id: ImageId) -> bool {
        let slot = self.images.slot(id);
        slot.is_some_and(|slot| self.state(slot, id) == State::LeftOut)
    }

    fn set_selected(&mut self, slot: usize, id: ImageId, is_selected: bool) {
        let length = self.images.lengths[slot];
        match (self.state(slot, id), is_selected) {
            (State::LeftOut, true) => {
                self.totals.left_out.subtract(length);
                self.set_state(slot, id, State::Idle);
                self.ready.push_back(slot);
            }
            (State::LeftOut, false) | (_, true) => {}
            (state, false) => {
                self.drop_image(slot, id, state);
                self.totals.left_out.add(length);
                self.set_state(slot, id, State::LeftOut);
            }
        }
    }

    /// Ends what is in progress with an image that is left out now.
    fn drop_image(&mut self, slot: usize, id: ImageId, state: State) {
        let length = self.images.lengths[slot];
        let step = self.moving.get_mut(&id);
        if let Some(step) = step.filter(|_| self.images.states[slot] == State::Moving) {
            step.is_dropped = true;
        } else if state == State::InHand {
            self.in_hand -= 1;
            self.discards.push_back(id);
        }
        match state {
            State::Wanted | State::Fetching | State::NotSent => {
                self.totals.planned.subtract(length);
            }
            State::Unfetched => {
                self.totals.planned.subtract(length);
                self.totals.unfetched.subtract(length);
            }
            State::Unstored => self.totals.unstored.subtract(length),
            _ => {}
        }
        if self.images.has(slot, mark::MISNAMED) {
            self.totals.misnamed.subtract(length);
        }
        self.images.clear(
            slot,
            mark::DIVERTED | mark::NUMBERED | mark::STUCK | mark::MISNAMED,
        );
        self.restart_chain(slot);
    }

    fn set_length(&mut self, slot: usize, id: ImageId, length: u32) {
        let old = self.images.lengths[slot];
        match self.state(slot, id) {
            // Counted with its old length.
            State::Unfetched | State::Unstored | State::InHand => return,
            state @ (State::Wanted | State::Fetching | State::NotSent) => {
                self.totals.planned.subtract(old);
                self.totals.planned.add(length);
                if let Some(count) = self.count_of(state) {
                    count.subtract(old);
                    count.add(length);
                }
            }
            State::LeftOut => {
                self.totals.left_out.subtract(old);
                self.totals.left_out.add(length);
            }
            _ => {}
        }
        self.images.lengths[slot] = length;
    }

    /// The server does not have the image any more.
    fn remove_image(&mut self, slot: usize, id: ImageId) {
        self.materialise(slot);
        let length = self.images.lengths[slot];
        match self.images.states[slot] {
            State::Wanted | State::Fetching | State::NotSent => {
                self.totals.planned.subtract(length);
                self.set_state(slot, id, State::Idle);
            }
            State::InHand => {
                self.in_hand -= 1;
                self.discards.push_back(id);
            }
            State::Unfetched => {
                self.totals.planned.subtract(length);
                self.totals.unfetched.subtract(length);
            }
            State::Unstored => self.totals.unstored.subtract(length),
            State::LeftOut => self.totals.left_out.subtract(length),
            State::Moving => {
                // A fetch of it that is in progress is not planned any more.
                let before = self.state(slot, id);
                if before == State::LeftOut {
                    self.totals.left_out.subtract(length);
                    self.set_state(slot, id, State::Idle);
                }
                if matches!(before, State::Wanted | State::Fetching | State::NotSent) {
                    self.totals.planned.subtract(length);
                    self.set_state(slot, id, State::Idle);
                }
            }
            State::Idle | State::Settled => {}
        }
        if self.images.has(slot, mark::MISNAMED) {
            self.totals.misnamed.subtract(length);
        }
        self.images.names.remove(id);
        self.images.reset(slot);
    }
}
