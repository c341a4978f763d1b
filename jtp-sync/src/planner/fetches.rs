//! What to fetch, and what has arrived.

use jtp_core::ImageId;
use jtp_store::FileName;

use super::{MAX_UNLISTED, Planner, State, mark};
use crate::options::Fetch;
use crate::step::{Count, FetchFailure, Reason, Received};

impl Planner {
    /// The next image to request, and the length of its encoded form in bytes, as listed. It counts as requested until
    /// [`fetched`](Planner::fetched), [`fetch_failed`](Planner::fetch_failed) or
    /// [`requests_ended`](Planner::requests_ended). `None` if there is none, and while a LIST is being received. // S6
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
    pub fn fetch_all(&mut self) -> Count {
        if self.listing.is_some() {
            return Count::default();
        }
        let count = self.wanted_count;
        for slot in std::mem::take(&mut self.wanted) {
            let slot = usize::try_from(slot).unwrap_or(usize::MAX);
            self.images.set_queued(slot, false);
            if let Some(id) = self.wanted_at(slot) {
                self.set_state(slot, id, State::Fetching);
            }
        }
        count
    }

    /// The listed images that are neither wanted nor requested: what a BATCH names.
    pub fn have(&self) -> impl Iterator<Item = ImageId> {
        (0..self.images.names.slots()).filter_map(|slot| {
            let id = self.images.names.at(slot)?;
            let is_needed = matches!(self.state(slot, id), State::Wanted | State::Fetching);
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
        self.images.slot(id).is_some_and(|slot| {
            let state = self.state(slot, id);
            matches!(state, State::Wanted | State::Fetching | State::NotSent)
        })
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

    /// All requests have ended: each image that is still requested has this result.
    pub fn requests_ended(&mut self, failure: FetchFailure) {
        for slot in 0..self.images.names.slots() {
            let Some(id) = self.images.names.at(slot) else {
                continue;
            };
            if self.state(slot, id) == State::Fetching {
                self.fetch_failed(id, failure);
            }
        }
    }

    /// A requested image did not arrive.
    pub fn fetch_failed(&mut self, id: ImageId, failure: FetchFailure) {
        let Some(slot) = self.images.slot(id) else {
            return;
        };
        if !matches!(self.state(slot, id), State::Wanted | State::Fetching) {
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
            State::Wanted | State::Fetching | State::NotSent => {}
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
            State::Fetching => Some(&mut self.requested_count),
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
