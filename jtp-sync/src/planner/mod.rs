//! The planner: from listings, the folder and results to steps.

mod chain;
mod compare;
mod decide;
mod fetches;
mod folder;
mod images;
mod listing;
mod names;
mod report;
mod unlisted;

use std::collections::{HashMap, VecDeque};

use jtp_core::ImageId;

use crate::files::Files;
use crate::inventory::{FileKind, Inventory};
use crate::options::{Fetch, Options};
use crate::step::{Count, Expect, ListReport, Reason, Step, Totals};
use decide::Action;
use images::{Images, State, mark};

/// The most images that no LIST has named and that wait for one. // R3
const MAX_UNLISTED: usize = 1000;

/// Decides what has to be done so that a folder contains what a server lists. It performs no I/O, reads no clock and
/// starts no threads; the same calls lead to the same steps. // R8
///
/// The caller passes what it learns: what a scan of the folder found ([`set_folder`](Planner::set_folder)), a LIST
/// ([`begin_list`](Planner::begin_list), [`entry`](Planner::entry), [`end_list`](Planner::end_list)), events of WATCH
/// ([`announce`](Planner::announce)), images that have arrived ([`fetched`](Planner::fetched)), changes of the folder
/// ([`file_found`](Planner::file_found), [`file_gone`](Planner::file_gone)) and results of steps
/// ([`report`](Planner::report)). Threads that write files take steps from [`next_move`](Planner::next_move), and
/// connections take images from [`next_fetch`](Planner::next_fetch) or [`fetch_all`](Planner::fetch_all). Both may be
/// called after each other call, until there is nothing more. Any order of calls is valid.
///
/// The guarantees of R8, as far as a planner can give them:
///
/// - (a) A file is replaced only if the last LIST does not name its image, or if another file contains the image, or,
///   with [`Fetch::All`], if the image has arrived again. Otherwise the file is renamed first: to its image's own name,
///   or to one with the ID in it if that is not free. After an event that gives an image's name to another one, the
///   planner [wants a LIST](Planner::wants_list) before it replaces the file. An incomplete LIST proves nothing about
///   what it does not name: such files are kept.
/// - (b) With [`Fetch::Missing`], an image is fetched only if no file in the folder contains it.
/// - (c) All images of the last LIST get the names that R5 derives from it, unless the options
///   [say otherwise](crate::Names). An image that no LIST names is not placed.
/// - (d) A failure affects only its image. An image whose name is not free gets its ID as a suffix.
/// - (e) Each step says what it [expects](crate::Expect); the folder itself decides.
///
/// An image that the caller [leaves out](Planner::leave_out) is neither fetched, nor renamed, nor replaced.
///
/// No interruption loses an image: the names of files that are kept aside are visible, so the next run finds them.
///
/// It takes 40 to 50 bytes for each listed image, and the name once: for a million images with names of 20 bytes, 64 to
/// 70 MB, and some 100 MB while an inventory of the whole folder is compared with the first LIST. A file under the name of its
/// image takes nothing more; any other file takes 25 to 45 bytes and its name.
///
/// ```
/// use jtp_core::{FileType::Png, ImageId};
/// use jtp_sync::{FileKind, Inventory, Options, Outcome, Planner, Step};
///
/// let mut folder = Inventory::new();
/// folder.add("a.png", FileKind::Image(ImageId(1)));
/// let mut planner = Planner::new(Options::new());
/// planner.set_folder(folder);
/// // The server has renamed a.png to b.png, and has a new a.png.
/// planner.begin_list();
/// planner.entry(ImageId(2), "a.png", Png, 10);
/// planner.entry(ImageId(1), "b.png", Png, 20);
/// let _ = planner.end_list(true);
///
/// let Some(Step::Rename { id, from, to, .. }) = planner.next_move() else { panic!() };
/// assert_eq!((id, &*from, to.as_str()), (ImageId(1), "a.png", "b.png"));
/// planner.report(id, Outcome::Done);
/// let Some((id, length)) = planner.next_fetch() else { panic!() };
/// assert_eq!((id, length), (ImageId(2), 10));
/// let _ = planner.fetched(id);
/// let Some(Step::Place { id, to }) = planner.next_move() else { panic!() };
/// assert_eq!((id, to.as_str()), (ImageId(2), "a.png"));
/// planner.report(id, Outcome::Done);
/// assert!(planner.next_move().is_none() && planner.is_finished());
/// ```
#[derive(Debug)]
pub struct Planner {
    options: Options,
    /// What a scan of the folder found, until it is compared with the listed images.
    inventory: Option<Inventory>,
    /// What a scan that goes on has found, if it cannot be compared yet.
    parts: Option<Inventory>,
    /// Parts of what a scan has found were compared.
    has_parts: bool,
    /// Whether a scan of the folder was compared with the listed images.
    is_folder_known: bool,
    case_sensitive: bool,
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
    /// Images for [`Step::Discard`].
    discards: VecDeque<ImageId>,
    /// Images for [`Step::Refuse`]: in few bytes, since a failure may affect each of a million.
    refusals: VecDeque<(ImageId, Reason)>,
    totals: Totals,
    /// Images in the state `Wanted`, and in the state `Fetching`.
    wanted_count: Count,
    requested_count: Count,
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
    /// A scan of the folder ended after the step was returned.
    is_outdated: bool,
    /// The image was left out after the step was returned.
    is_dropped: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MoveKind {
    Rename,
    KeepAside,
    Place,
}

impl Planner {
    /// A planner that knows nothing yet. It does nothing before it has the folder and the first LIST.
    #[must_use]
    pub fn new(options: Options) -> Planner {
        let images = Images::new(options.folders());
        Planner {
            options,
            inventory: None,
            parts: None,
            has_parts: false,
            is_folder_known: false,
            case_sensitive: false,
            images,
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
            discards: VecDeque::new(),
            refusals: VecDeque::new(),
            totals: Totals::default(),
            wanted_count: Count::default(),
            requested_count: Count::default(),
            in_hand: 0,
        }
    }

    /// The next step with files or with an image that has arrived. `None` if there is none until the caller reports
    /// something, while a LIST is being received, and before the folder and the first LIST are known.
    ///
    /// Steps that were returned and not reported are remembered; the caller bounds their number.
    pub fn next_move(&mut self) -> Option<Step> {
        if let Some(notice) = self.next_notice() {
            return Some(notice);
        }
        if self.listing.is_some() || !self.is_folder_known {
            return None;
        }
        loop {
            if let Some(step) = self.advance_chain() {
                return Some(step);
            }
            // A step may have ended in a notice.
            if let Some(notice) = self.next_notice() {
                return Some(notice);
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
                        return None;
                    }
                    None => return None,
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

    /// The next step that is not reported.
    fn next_notice(&mut self) -> Option<Step> {
        if let Some(id) = self.discards.pop_front() {
            return Some(Step::Discard { id });
        }
        let (id, reason) = self.refusals.pop_front()?;
        Some(Step::Refuse { id, reason })
    }

    /// Whether a new LIST is needed, because an image arrived that none has named, because an image was not sent, or
    /// because an event leaves open which images the server still has. // R8
    #[must_use]
    pub fn wants_list(&self) -> bool {
        self.wants_list && self.listing.is_none()
    }

    /// Whether the step of this image is still right. Ask directly before carrying it out, and report
    /// [`Outcome::Stale`](crate::Outcome::Stale) if it is not: since the step was returned, a LIST or an event may have
    /// named the image that it replaces, a LIST may not name the image that it places, or a scan may have found other
    /// files.
    #[must_use]
    pub fn is_current(&self, id: ImageId) -> bool {
        let Some(moving) = self
            .moving
            .get(&id)
            .filter(|moving| !moving.is_outdated && !moving.is_dropped)
        else {
            return false;
        };
        if moving.kind == MoveKind::Place && self.images.slot(id).is_none() {
            return false;
        }
        match &moving.expect {
            Expect::Image(replaced) if *replaced != id => {
                self.images.slot(*replaced).map_or(self.complete, |slot| {
                    self.options.fetch() == Fetch::All && self.images.states[slot] == State::InHand
                })
            }
            Expect::Copy { id: replaced, .. } => !self.is_left_out(*replaced),
            _ => true,
        }
    }

    /// Whether a file that the step of this image [expects](Expect::Unread) to be unread may be replaced, now that the
    /// caller has read it: `content` is its image, `None` if it cannot be read. If not, the caller reports
    /// [`file_found`](Planner::file_found) with that image, or with [`FileKind::Other`] if it cannot be read, and then
    /// [`Outcome::Stale`](crate::Outcome::Stale). // R8
    #[must_use]
    pub fn may_replace_unread(&self, id: ImageId, content: Option<ImageId>) -> bool {
        let keep = self.options.keep_existing();
        match content {
            Some(content) if content == id => true,
            Some(content) => !keep && self.complete && self.images.slot(content).is_none(),
            None => !keep,
        }
    }

    /// Whether everything is done that can be done: nothing is to be fetched, stored or listed. Ask after
    /// [`next_move`](Planner::next_move) has returned `None`: only then all images were looked at.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        let outstanding = self.totals.fetched.images + self.totals.unfetched.images;
        let is_folder_known = self.is_folder_known || self.images.names.is_empty();
        self.listing.is_none()
            && is_folder_known
            && !self.wants_list
            && self.sweep >= self.images.names.slots()
            && self.ready.is_empty()
            && self.obstructed.is_empty()
            && self.chain.is_empty()
            && self.moving.is_empty()
            && self.discards.is_empty()
            && self.refusals.is_empty()
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

    /// The number of folders that the names of these images contain. Each takes some 20 bytes. // W9
    #[must_use]
    pub fn folders(&self) -> usize {
        self.images.names.folders()
    }

    /// Whether the server lists no images, as far as known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.images.names.is_empty()
    }

    /// The folder has this file now: it is new, has changed, or was not known.
    pub fn file_found(&mut self, name: &str, kind: FileKind) {
        self.absorb();
        let before = self.forget_file(name);
        let kind = self.recognise(kind);
        self.files.insert(name, kind);
        if let FileKind::Image(id) = kind {
            if let Some(slot) = self.images.slot(id) {
                self.has_appeared(slot, id);
            }
        }
        if let Some(slot) = before {
            self.plan(slot);
        }
    }

    /// The folder does not have this file any more.
    pub fn file_gone(&mut self, name: &str) {
        self.absorb();
        if let Some(slot) = self.forget_file(name) {
            self.plan(slot);
        }
    }
}

/// Small steps that several parts use.
impl Planner {
    /// A file of the image was found.
    fn has_appeared(&mut self, slot: usize, id: ImageId) {
        if self.options.fetch() == Fetch::Missing {
            self.is_not_needed(slot, id);
        }
        self.ready.push_back(slot);
    }

    /// The image does not have to be fetched, since the folder contains it.
    fn is_not_needed(&mut self, slot: usize, id: ImageId) {
        match self.state(slot, id) {
            State::Wanted | State::Fetching | State::NotSent => {
                self.totals.planned.subtract(self.images.lengths[slot]);
                self.set_state(slot, id, State::Idle);
            }
            State::Unfetched | State::Unstored => self.forget_failure(slot),
            _ => {}
        }
    }
}
