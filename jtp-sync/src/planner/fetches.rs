//! What to fetch, and what has arrived.

use jtp_core::ImageId;
use jtp_store::FileName;

use super::{MAX_UNLISTED, Planner, State, mark};
use crate::options::Fetch;
use crate::step::{Count, FetchFailure, Reason, Received};

impl Planner {
    /// The next image to request, and the length of its encoded form in bytes, as listed. It counts as requested until
    /// [`fetched`](Planner::fetched) or [`fetch_failed`](Planner::fetch_failed). `None` if there is none, and while a LIST
    /// is being received. // S6
    pub fn next_fetch(&mut self) -> Option<(ImageId, u32)> {
        if self.listing.is_some() {
            return None;
        }
        while let Some(slot) = self.wanted.pop_front() {
            let slot = usize::try_from(slot).unwrap_or(usize::MAX);
            self.images.set_queued(slot, false);
            if let Some(id) = self.wanted_at(slot) {
                self.set_state(slot, id, State::Fetching);
                return Some((id, self.images.lengths[slot]));
            }
        }
        None
    }

    /// Requests the next `count` wanted images after all others.
    pub(crate) fn postpone(&mut self, count: usize) {
        let count = count.min(self.wanted.len());
        self.wanted.rotate_left(count);
    }

    /// Makes all wanted images requested, for one request of everything that the folder lacks: a BATCH that names what
    /// the planner [has](Planner::have). Returns how many there were. None while a LIST is being received.
    ///
    /// They count as requested until [`fetched`](Planner::fetched), [`fetch_failed`](Planner::fetch_failed) or
    /// [`fetch_all_ended`](Planner::fetch_all_ended), or until another connection takes them over:
    /// [`next_of_all`](Planner::next_of_all).
    pub fn fetch_all(&mut self) -> Count {
        if self.listing.is_some() {
            return Count::default();
        }
        let count = self.wanted_count;
        for slot in std::mem::take(&mut self.wanted) {
            let slot = usize::try_from(slot).unwrap_or(usize::MAX);
            self.images.set_queued(slot, false);
            if let Some(id) = self.wanted_at(slot) {
                self.set_state(slot, id, State::Bulk);
            }
        }
        self.bulk_end = self.images.names.slots();
        count
    }

    /// Another connection takes over an image of the request for everything, and requests it by ID: the last one, so that
    /// it comes last over the first connection too. It then counts as requested as after
    /// [`next_fetch`](Planner::next_fetch), and the first one of both that arrives is kept. `None` if there is none, if it
    /// is longer than `max_length`, and while a LIST is being received.
    ///
    /// ```
    /// use jtp_core::{FileType::Png, ImageId};
    /// use jtp_sync::{FetchFailure, Inventory, Options, Planner};
    ///
    /// let mut planner = Planner::new(Options::new());
    /// planner.set_folder(Inventory::new());
    /// planner.begin_list();
    /// planner.entry(ImageId(1), "a.png", Png, 10);
    /// planner.entry(ImageId(2), "b.png", Png, 20);
    /// let _ = planner.end_list(true);
    /// let _ = planner.fetch_all();
    /// assert_eq!(planner.next_of_all(19), None);
    /// assert_eq!(planner.next_of_all(20), Some((ImageId(2), 20)));
    /// // The connection with the other request is lost. What was taken over still comes.
    /// planner.fetch_all_ended(FetchFailure::Interrupted);
    /// assert_eq!((planner.wanted().bytes, planner.requested().bytes), (10, 20));
    /// ```
    pub fn next_of_all(&mut self, max_length: u32) -> Option<(ImageId, u32)> {
        if self.listing.is_some() {
            return None;
        }
        while let Some(slot) = self.bulk_end.checked_sub(1) {
            if let Some(id) = self.images.names.at(slot) {
                if self.state(slot, id) == State::Bulk {
                    let length = self.images.lengths[slot];
                    if length > max_length {
                        return None;
                    }
                    self.set_state(slot, id, State::Fetching);
                    self.bulk_end = slot;
                    return Some((id, length));
                }
            }
            self.bulk_end = slot;
        }
        None
    }

    /// The listed images that are neither wanted nor requested: what a BATCH names.
    pub fn have(&self) -> impl Iterator<Item = ImageId> {
        (0..self.images.names.slots()).filter_map(|slot| {
            let id = self.images.names.at(slot)?;
            let state = self.state(slot, id);
            let is_needed = state == State::Wanted || state.is_requested();
            (!is_needed).then_some(id)
        })
    }

    /// The images that are to be requested: those that [`next_fetch`](Planner::next_fetch) returns.
    #[must_use]
    pub fn wanted(&self) -> Count {
        self.wanted_count
    }

    /// The images that were requested and neither arrived nor failed.
    #[must_use]
    pub fn requested(&self) -> Count {
        self.requested_count
    }

    /// The name that a listed image gets if it is fetched or renamed now. `None` if the image is not listed.
    #[must_use]
    pub fn name(&self, id: ImageId) -> Option<FileName> {
        self.images.slot(id).map(|slot| self.target(slot, id))
    }

    /// The length of a listed image's encoded form in bytes. `None` if the image is not listed. // S6
    #[must_use]
    pub fn length(&self, id: ImageId) -> Option<u32> {
        self.images.slot(id).map(|slot| self.images.lengths[slot])
    }

    /// Whether the image is planned and has yet to arrive.
    pub(crate) fn awaits(&self, id: ImageId) -> bool {
        self.state_of(id).is_some_and(State::is_awaited)
    }

    /// The place of a listed image in the order in which [`next_of_all`](Planner::next_of_all) goes back.
    pub(crate) fn place(&self, id: ImageId) -> Option<usize> {
        self.images.slot(id)
    }

    /// Whether the image has arrived, and is of no use when it arrives again.
    pub(crate) fn has_arrived(&self, id: ImageId) -> bool {
        matches!(self.state_of(id), Some(State::InHand | State::Settled))
    }

    /// Puts back images that have failed, so that they are requested again: for a client that stays connected, after
    /// each LIST that it sends by the clock. // N5
    pub fn retry_failed(&mut self) {
        for slot in 0..self.images.states.len() {
            self.forget_failure(slot);
        }
    }

    /// An image has arrived and is verified. // R2
    pub fn fetched(&mut self, id: ImageId) -> Received {
        self.absorb();
        let received = self.arrived(id);
        // The caller still has the bytes that it was to discard.
        let kept = self.discards.iter().position(|other| *other == id);
        match kept.filter(|_| received == Received::Keep) {
            Some(kept) => {
                self.discards.remove(kept);
                Received::Discard
            }
            None => received,
        }
    }

    /// The request for everything has ended: each image that only this one still asks for has this result.
    pub fn fetch_all_ended(&mut self, failure: FetchFailure) {
        for slot in 0..self.images.names.slots() {
            let Some(id) = self.images.names.at(slot) else {
                continue;
            };
            if self.state(slot, id) == State::Bulk {
                self.fetch_failed(id, failure);
            }
        }
    }

    /// A requested image did not arrive.
    pub fn fetch_failed(&mut self, id: ImageId, failure: FetchFailure) {
        let Some(slot) = self.images.slot(id) else {
            return;
        };
        let state = self.state(slot, id);
        if state != State::Wanted && !state.is_requested() {
            return;
        }
        match failure {
            FetchFailure::Interrupted => self.want(slot, id),
            FetchFailure::Final => self.fail_fetch(slot, id, Reason::CannotFetch),
            FetchFailure::Broken if self.images.count_try(slot) < self.options.attempts() => {
                self.want(slot, id);
            }
            FetchFailure::Broken => self.fail_fetch(slot, id, Reason::NotReceived),
            FetchFailure::NotSent => {
                self.images.count_try(slot);
                self.set_state(slot, id, State::NotSent);
                self.wants_list = true;
            }
        }
    }
}

/// Small steps that several parts use.
impl Planner {
    /// An image is here, and it is to be stored unless this returns [`Received::Discard`].
    pub(super) fn arrived(&mut self, id: ImageId) -> Received {
        let Some(slot) = self.images.slot(id) else {
            if self.unlisted.len() >= MAX_UNLISTED || self.unlisted.contains(&id) {
                return Received::Discard;
            }
            self.unlisted.push(id);
            self.wants_list = true;
            return Received::Keep;
        };
        let length = self.images.lengths[slot];
        match self.state(slot, id) {
            state if state.is_awaited() => {}
            State::Unfetched => self.totals.unfetched.subtract(length),
            State::Idle | State::Settled if self.is_missing(slot, id) => {
                self.totals.planned.add(length);
            }
            _ => return Received::Discard,
        }
        self.totals.fetched.add(length);
        self.in_hand += 1;
        self.set_state(slot, id, State::InHand);
        self.ready.push_back(slot);
        Received::Keep
    }

    fn state_of(&self, id: ImageId) -> Option<State> {
        self.images.slot(id).map(|slot| self.state(slot, id))
    }

    /// The state of an image, also while a step of it is in progress.
    pub(super) fn state(&self, slot: usize, id: ImageId) -> State {
        match self.images.states[slot] {
            State::Moving => self
                .moving
                .get(&id)
                .map_or(State::Moving, |moving| moving.before),
            state => state,
        }
    }

    pub(super) fn set_state(&mut self, slot: usize, id: ImageId, state: State) {
        let length = self.images.lengths[slot];
        let before = self.state(slot, id);
        if let Some(count) = self.count_of(before) {
            count.subtract(length);
        }
        if let Some(count) = self.count_of(state) {
            count.add(length);
        }
        if self.images.states[slot] == State::Moving {
            if let Some(moving) = self.moving.get_mut(&id) {
                moving.before = state;
                return;
            }
        }
        self.images.states[slot] = state;
    }

    /// The count of the images in this state.
    pub(super) fn count_of(&mut self, state: State) -> Option<&mut Count> {
        match state {
            State::Wanted => Some(&mut self.wanted_count),
            State::Fetching | State::Bulk => Some(&mut self.requested_count),
            _ => None,
        }
    }

    /// The image with this slot, if it is wanted.
    fn wanted_at(&self, slot: usize) -> Option<ImageId> {
        let id = self.images.names.at(slot)?;
        (self.state(slot, id) == State::Wanted).then_some(id)
    }

    pub(super) fn want(&mut self, slot: usize, id: ImageId) {
        self.set_state(slot, id, State::Wanted);
        if self.images.is_queued(slot) {
            return;
        }
        if let Ok(entry) = u32::try_from(slot) {
            self.images.set_queued(slot, true);
            self.wanted.push_back(entry);
        }
    }

    /// Plans to fetch the images that the folder does not contain.
    pub(super) fn plan_missing(&mut self) {
        for slot in 0..self.images.names.slots() {
            self.plan(slot);
        }
    }

    /// Plans to fetch the image if the folder does not contain it.
    pub(super) fn plan(&mut self, slot: usize) {
        let Some(id) = self.images.names.at(slot) else {
            return;
        };
        let is_open = matches!(self.images.states[slot], State::Idle | State::Settled);
        if !is_open || self.listing.is_some() || !self.is_folder_known {
            return;
        }
        if !self.images.has(slot, mark::DOUBTFUL) && self.is_missing(slot, id) {
            self.plan_fetch(slot, id);
        }
    }

    pub(super) fn plan_fetch(&mut self, slot: usize, id: ImageId) {
        self.totals.planned.add(self.images.lengths[slot]);
        self.want(slot, id);
    }

    /// Whether the image has to be fetched, as far as the folder is concerned.
    pub(super) fn is_missing(&self, slot: usize, id: ImageId) -> bool {
        let all = self.options.fetch() == Fetch::All;
        all && self.state(slot, id) == State::Idle || !self.is_present(slot, id)
    }

    pub(super) fn fail_fetch(&mut self, slot: usize, id: ImageId, reason: Reason) {
        self.totals.unfetched.add(self.images.lengths[slot]);
        self.set_state(slot, id, State::Unfetched);
        // With `Fetch::All`, a file of it may still get another name.
        if self.is_present(slot, id) {
            self.ready.push_back(slot);
        }
        self.refusals.push_back((id, reason));
    }

    pub(super) fn forget_failure(&mut self, slot: usize) {
        let length = self.images.lengths[slot];
        match self.images.states[slot] {
            State::Unfetched => {
                self.totals.unfetched.subtract(length);
                self.totals.planned.subtract(length);
            }
            State::Unstored => self.totals.unstored.subtract(length),
            _ => return,
        }
        self.images.states[slot] = State::Idle;
        self.images.forget_tries(slot);
        self.images
            .clear(slot, mark::DIVERTED | mark::NUMBERED | mark::STUCK);
        self.plan(slot);
        if self.images.states[slot] == State::Idle {
            self.ready.push_back(slot);
        }
    }
}
