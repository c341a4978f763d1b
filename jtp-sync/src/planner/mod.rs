//! The planner: from listings, the folder and results to steps.

mod decide;
mod folder;
mod images;
mod listing;
mod report;

use std::collections::{HashMap, VecDeque};

use jtp_core::ImageId;

use crate::files::Files;
use crate::inventory::{FileKind, Inventory};
use crate::options::{Fetch, Options};
use crate::step::{Expect, FetchFailure, ListReport, Reason, Received, Step, Totals};
use decide::Action;
use images::{Images, State, mark};

/// The most images that no LIST has named and that wait for one. // R3
const MAX_UNLISTED: usize = 1000;

/// Decides what has to be done so that a folder contains what a server lists. It performs no I/O, reads no clock and
/// starts no threads; the same calls lead to the same steps. // R8
///
/// The caller passes what it learns: a LIST ([`begin_list`](Planner::begin_list), [`entry`](Planner::entry),
/// [`end_list`](Planner::end_list)), events of WATCH ([`announce`](Planner::announce)), images that have arrived
/// ([`fetched`](Planner::fetched)), changes of the folder ([`file_found`](Planner::file_found),
/// [`file_gone`](Planner::file_gone)) and results of steps ([`report`](Planner::report)). It takes steps from
/// [`next_step`](Planner::next_step) until there is none, carries them out in any order, and takes more after each
/// call. Any order of calls is valid.
///
/// The guarantees of R8, as far as a planner can give them:
///
/// - (a) A file is replaced only if the last LIST does not name its image, or if another file contains the image.
///   Otherwise the file is renamed first: to its image's own name, or to one with the ID in it if that is not free.
///   After an event that gives an image's name to another one, the planner [wants a LIST](Planner::wants_list)
///   before it replaces the file. An incomplete LIST proves nothing about what it does not name: such files are kept.
/// - (b) An image is fetched only if no file in the folder contains it.
/// - (c) All images of the last LIST get the names that R5 derives from it. An image that no LIST names is not placed.
/// - (d) A failure affects only its image. An image whose name is not free gets its ID as a suffix.
/// - (e) Each step says what it [expects](crate::Expect); the folder itself decides.
///
/// No interruption loses an image: the names of files that are kept aside are visible, so the next run finds them.
///
/// It takes 40 to 50 bytes for each listed image, and the name once: for a million images with names of 20 bytes, 64 to
/// 70 MB, and some 100 MB while the folder's inventory is compared with the first LIST. A file under the name of its
/// image takes nothing more; any other file takes 25 to 45 bytes and its name.
///
/// ```
/// use jtp_core::{FileType::Png, ImageId};
/// use jtp_sync::{FileKind, Inventory, Options, Outcome, Planner, Step};
///
/// let mut folder = Inventory::new();
/// folder.add("a.png", FileKind::Image(ImageId(1)));
/// let mut planner = Planner::new(Options::new(), folder);
/// // The server has renamed a.png to b.png, and has a new a.png.
/// planner.begin_list();
/// planner.entry(ImageId(2), "a.png", Png, 10);
/// planner.entry(ImageId(1), "b.png", Png, 20);
/// let _ = planner.end_list(true);
///
/// let Some(Step::Rename { id, from, to, .. }) = planner.next_step() else { panic!() };
/// assert_eq!((id, &*from, to.as_str()), (ImageId(1), "a.png", "b.png"));
/// planner.report(id, Outcome::Done);
/// let Some(Step::Fetch { id, .. }) = planner.next_step() else { panic!() };
/// let _ = planner.fetched(id);
/// let Some(Step::Place { id, to }) = planner.next_step() else { panic!() };
/// assert_eq!((id, to.as_str()), (ImageId(2), "a.png"));
/// planner.report(id, Outcome::Done);
/// assert!(planner.next_step().is_none() && planner.is_finished());
/// ```
#[derive(Debug)]
pub struct Planner {
    options: Options,
    /// What the folder contains, until it is compared with the first LIST.
    inventory: Option<Inventory>,
    images: Images,
    files: Files,
    /// Set between `begin_list` and `end_list`.
    listing: Option<ListReport>,
    /// Whether the last LIST was complete.
    complete: bool,
    wants_list: bool,
    /// The next slot to look at after a LIST.
    sweep: usize,
    /// Slots to look at.
    ready: VecDeque<usize>,
    /// Slots whose names are used by files that have to be moved first.
    obstructed: VecDeque<usize>,
    /// Slots to look at after the next report.
    delayed: Vec<usize>,
    /// Slots of images to fetch. Some may not be in the state `Wanted` any more.
    wanted: VecDeque<u32>,
    /// Images that are moved one after another: the file of each has the name of the one before.
    chain: Vec<usize>,
    /// The chain waits for a report.
    chain_waits: bool,
    moving: HashMap<ImageId, Moving>,
    /// The folded names that steps in progress use.
    busy: HashMap<String, usize>,
    /// Images that have arrived and that no LIST names.
    unlisted: Vec<ImageId>,
    notices: VecDeque<Step>,
    totals: Totals,
    in_hand: u64,
}

/// A step in progress.
#[derive(Debug)]
struct Moving {
    from: Option<String>,
    to: String,
    kind: MoveKind,
    /// What it expects under the new name.
    expect: Expect,
    length: u32,
    /// The state of the image before.
    before: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MoveKind {
    Rename,
    KeepAside,
    Place,
}

impl Planner {
    /// A planner for a folder with these files. It does nothing before the first LIST.
    #[must_use]
    pub fn new(options: Options, mut inventory: Inventory) -> Planner {
        inventory.shrink_to_fit();
        Planner {
            options,
            inventory: Some(inventory),
            images: Images::default(),
            files: Files::default(),
            listing: None,
            complete: false,
            wants_list: true,
            sweep: 0,
            ready: VecDeque::new(),
            obstructed: VecDeque::new(),
            delayed: Vec::new(),
            wanted: VecDeque::new(),
            chain: Vec::new(),
            chain_waits: false,
            moving: HashMap::new(),
            busy: HashMap::new(),
            unlisted: Vec::new(),
            notices: VecDeque::new(),
            totals: Totals::default(),
            in_hand: 0,
        }
    }

    /// The next step. `None` if there is nothing to do until the caller reports something, while a LIST is being
    /// received, and before the first one.
    ///
    /// Renames come before fetches. Steps that were returned and not reported are remembered; the caller bounds their
    /// number.
    pub fn next_step(&mut self) -> Option<Step> {
        if let Some(step) = self.notices.pop_front() {
            return Some(step);
        }
        if self.listing.is_some() {
            return None;
        }
        loop {
            if let Some(step) = self.advance_chain() {
                return Some(step);
            }
            // A step may have ended in a notice.
            if let Some(step) = self.notices.pop_front() {
                return Some(step);
            }
            let slot = match self.ready.pop_front() {
                Some(slot) => slot,
                None if self.sweep < self.images.names.slots() => {
                    self.sweep += 1;
                    self.sweep - 1
                }
                None => match self.obstructed.pop_front() {
                    Some(slot) if self.chain.is_empty() => {
                        self.enter_chain(slot);
                        continue;
                    }
                    Some(slot) => {
                        self.obstructed.push_front(slot);
                        return self.next_fetch();
                    }
                    None => return self.next_fetch(),
                },
            };
            match self.consider(slot, false) {
                Action::Do(step) => return Some(step),
                Action::MoveFirst(..) | Action::KeepAside(_) => self.obstructed.push_back(slot),
                Action::Wait => self.delayed.push(slot),
                Action::Settled | Action::Nothing => {}
            }
        }
    }

    fn next_fetch(&mut self) -> Option<Step> {
        while let Some(slot) = self.wanted.pop_front() {
            let slot = usize::try_from(slot).unwrap_or(usize::MAX);
            if self.images.states.get(slot) != Some(&State::Wanted) {
                continue;
            }
            let Some(id) = self.images.names.at(slot) else {
                continue;
            };
            self.images.states[slot] = State::Fetching;
            return Some(Step::Fetch {
                id,
                length: self.images.lengths[slot],
                to: self.target(slot, id),
            });
        }
        None
    }

    /// Whether a new LIST is needed, because an image arrived that none has named, because an image was not sent, or
    /// because an event leaves open which images the server still has. // R8
    #[must_use]
    pub fn wants_list(&self) -> bool {
        self.wants_list && self.listing.is_none()
    }

    /// Whether the step of this image is still right. Ask directly before carrying it out, and report
    /// [`Outcome::Stale`](crate::Outcome::Stale) if it is not: since the step was returned, a LIST or an event may have
    /// named the image that it replaces, or a LIST may not name the image that it places.
    #[must_use]
    pub fn is_current(&self, id: ImageId) -> bool {
        let Some(moving) = self.moving.get(&id) else {
            return false;
        };
        if moving.kind == MoveKind::Place && self.images.slot(id).is_none() {
            return false;
        }
        match &moving.expect {
            Expect::Image(replaced) if *replaced != id => {
                self.images.slot(*replaced).is_none_or(|slot| {
                    self.options.fetch() == Fetch::All && self.images.states[slot] == State::InHand
                })
            }
            _ => true,
        }
    }

    /// Whether everything is done that can be done: nothing is to be fetched, stored or listed. Ask after
    /// [`next_step`](Planner::next_step) has returned `None`: only then all images were looked at.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let outstanding = self.totals.fetched.images + self.totals.unfetched.images;
        self.listing.is_none()
            && !self.wants_list
            && self.sweep >= self.images.names.slots()
            && self.ready.is_empty()
            && self.obstructed.is_empty()
            && self.chain.is_empty()
            && self.moving.is_empty()
            && self.notices.is_empty()
            && self.unlisted.is_empty()
            && self.in_hand == 0
            && self.totals.planned.images == outstanding
    }

    /// What was done so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// The number of images that the server lists, as far as known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.images.names.len()
    }

    /// Whether the server lists no images, as far as known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.names.is_empty()
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
            State::Idle => self.totals.planned.add(length),
            State::Settled if !self.is_present(slot, id) => self.totals.planned.add(length),
            _ => return Received::Discard,
        }
        self.totals.fetched.add(length);
        self.in_hand += 1;
        self.set_state(slot, id, State::InHand);
        self.ready.push_back(slot);
        Received::Keep
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

    /// The folder has this file now: it is new, has changed, or was not known.
    pub fn file_found(&mut self, name: &str, kind: FileKind) {
        self.absorb();
        self.forget_file(name);
        self.files.insert(name, kind);
        if let FileKind::Image(id) = kind {
            if let Some(slot) = self.images.slot(id) {
                self.has_appeared(slot, id);
            }
        }
    }

    /// The folder does not have this file any more.
    pub fn file_gone(&mut self, name: &str) {
        self.absorb();
        self.forget_file(name);
    }
}

/// Small steps that several parts use.
impl Planner {
    /// The state of an image, also while a step of it is in progress.
    fn state(&self, slot: usize, id: ImageId) -> State {
        match self.images.states[slot] {
            State::Moving => self
                .moving
                .get(&id)
                .map_or(State::Moving, |moving| moving.before),
            state => state,
        }
    }

    fn set_state(&mut self, slot: usize, id: ImageId, state: State) {
        if self.images.states[slot] == State::Moving {
            if let Some(moving) = self.moving.get_mut(&id) {
                moving.before = state;
                return;
            }
        }
        self.images.states[slot] = state;
    }

    fn want(&mut self, slot: usize, id: ImageId) {
        self.set_state(slot, id, State::Wanted);
        if let Ok(slot) = u32::try_from(slot) {
            self.wanted.push_back(slot);
        }
    }

    fn fail_fetch(&mut self, slot: usize, id: ImageId, reason: Reason) {
        self.totals.unfetched.add(self.images.lengths[slot]);
        self.set_state(slot, id, State::Unfetched);
        self.ready.push_back(slot);
        self.notices.push_back(Step::Refuse { id, reason });
    }

    fn forget_failure(&mut self, slot: usize) {
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
        self.images.tries[slot] = 0;
        self.images
            .clear(slot, mark::DIVERTED | mark::NUMBERED | mark::STUCK);
        self.ready.push_back(slot);
    }

    /// A file of the image was found.
    fn has_appeared(&mut self, slot: usize, id: ImageId) {
        let all = self.options.fetch() == Fetch::All;
        match self.state(slot, id) {
            State::Wanted | State::Fetching | State::NotSent if !all => {
                self.totals.planned.subtract(self.images.lengths[slot]);
                self.set_state(slot, id, State::Idle);
            }
            State::Unfetched | State::Unstored if !all => self.forget_failure(slot),
            _ => {}
        }
        self.ready.push_back(slot);
    }
}
