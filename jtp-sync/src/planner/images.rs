//! What the planner remembers about each image that the server lists.

use jtp_core::ImageId;
use jtp_store::NamePlan;

use crate::inventory::grow;

/// The bits of `tries` that count requests in vain: enough for [`Options::MAX_ATTEMPTS`](crate::Options::MAX_ATTEMPTS).
const TRIES: u8 = 7;

/// The bit of `tries` that says that the queue of wanted images has the slot.
const QUEUED: u8 = 8;

/// The state of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// Not looked at yet.
    Idle,
    /// To be fetched.
    Wanted,
    /// It was requested, and has neither arrived nor failed.
    Fetching,
    /// It was not sent. The next LIST decides.
    NotSent,
    /// Its bytes are here, and it is not visible yet.
    InHand,
    /// A step with its files was returned.
    Moving,
    /// It is in the folder, and there is nothing to do.
    Settled,
    /// It will not arrive.
    Unfetched,
    /// It has arrived and cannot be stored.
    Unstored,
    /// The caller's selection leaves it out: nothing is done with it or with its files.
    LeftOut,
}

/// Marks of an image.
pub(super) mod mark {
    /// The folder has the image under its own safe name, which no other image needs. The file is not in
    /// [`Files`](crate::files::Files).
    pub(in super::super) const AT_PLAIN: u8 = 1;
    /// This LIST names it.
    pub(in super::super) const SEEN: u8 = 2;
    /// A WATCH event gave its name to another image, so that the server may not have it any more. // N1
    pub(in super::super) const DOUBTFUL: u8 = 4;
    /// It is in the chain of images that are moved one after another.
    pub(in super::super) const IN_CHAIN: u8 = 8;
    /// Its name is not free, so it gets its ID as a suffix.
    pub(in super::super) const DIVERTED: u8 = 16;
    /// The name with its ID is not free either, so it gets a number.
    pub(in super::super) const NUMBERED: u8 = 128;
    /// Its file cannot be renamed.
    pub(in super::super) const STUCK: u8 = 32;
    /// It is counted as misnamed.
    pub(in super::super) const MISNAMED: u8 = 64;
}

/// The listed images: their names, and tables by the slot of the name.
#[derive(Debug, Default)]
pub(super) struct Images {
    pub(super) names: NamePlan,
    pub(super) lengths: Vec<u32>,
    pub(super) states: Vec<State>,
    pub(super) marks: Vec<u8>,
    /// Three bits: how often it was requested in vain. One bit: whether the queue of wanted images has the slot. The
    /// high half: how often its files had changed.
    pub(super) tries: Vec<u8>,
}

impl Images {
    pub(super) fn new(folders: bool) -> Images {
        Images {
            names: match folders {
                true => NamePlan::with_folders(),
                false => NamePlan::new(),
            },
            ..Images::default()
        }
    }

    /// Makes the tables as long as the names need.
    pub(super) fn extend(&mut self) {
        while self.states.len() < self.names.slots() {
            grow(&mut self.lengths);
            grow(&mut self.states);
            grow(&mut self.marks);
            grow(&mut self.tries);
            self.lengths.push(0);
            self.states.push(State::Idle);
            self.marks.push(0);
            self.tries.push(0);
        }
    }

    /// Gives back the memory that was reserved for more images.
    pub(super) fn shrink_to_fit(&mut self) {
        self.names.shrink_to_fit();
        self.lengths.shrink_to_fit();
        self.states.shrink_to_fit();
        self.marks.shrink_to_fit();
        self.tries.shrink_to_fit();
    }

    pub(super) fn reset(&mut self, slot: usize) {
        self.lengths[slot] = 0;
        self.states[slot] = State::Idle;
        self.marks[slot] = 0;
        self.forget_tries(slot);
    }

    pub(super) fn forget_tries(&mut self, slot: usize) {
        self.tries[slot] &= QUEUED;
    }

    /// Whether the queue of wanted images has the slot, even if another image has it now.
    pub(super) fn is_queued(&self, slot: usize) -> bool {
        self.tries[slot] & QUEUED != 0
    }

    pub(super) fn set_queued(&mut self, slot: usize, queued: bool) {
        if let Some(tries) = self.tries.get_mut(slot) {
            *tries = *tries & !QUEUED | if queued { QUEUED } else { 0 };
        }
    }

    pub(super) fn slot(&self, id: ImageId) -> Option<usize> {
        self.names.slot(id)
    }

    pub(super) fn has(&self, slot: usize, mark: u8) -> bool {
        self.marks[slot] & mark != 0
    }

    pub(super) fn set(&mut self, slot: usize, mark: u8) {
        self.marks[slot] |= mark;
    }

    pub(super) fn clear(&mut self, slot: usize, mark: u8) {
        self.marks[slot] &= !mark;
    }

    /// How often the image was requested in vain.
    pub(super) fn tries(&self, slot: usize) -> u8 {
        self.tries[slot] & TRIES
    }

    /// Counts a request in vain, and returns how many there were.
    pub(super) fn count_try(&mut self, slot: usize) -> u8 {
        if self.tries(slot) < TRIES {
            self.tries[slot] += 1;
        }
        self.tries(slot)
    }

    /// Forgets how often its files had changed.
    pub(super) fn forget_stale(&mut self, slot: usize) {
        self.tries[slot] &= TRIES | QUEUED;
    }

    /// Counts a step whose files had changed, and returns how many there were.
    pub(super) fn count_stale(&mut self, slot: usize) -> u8 {
        let tries = &mut self.tries[slot];
        *tries = tries.saturating_add(0x10);
        *tries >> 4
    }
}
