//! What to do with one image, and with the files that use its name.

use jtp_core::{ImageId, nfc};
use jtp_store::{FileName, fold_case};

use super::{MoveKind, Moving, Planner, State, mark};
use crate::files::Index;
use crate::inventory::FileKind;
use crate::options::{Fetch, Names};
use crate::step::{Expect, Reason, Step};

/// What to do with an image.
#[derive(Debug)]
pub(super) enum Action {
    /// It is in the folder, and nothing is to be done.
    Settled,
    /// Nothing can be done now.
    Nothing,
    /// This step.
    Do(Step),
    /// The file has the name that the image needs, and is the only one with the image of the slot.
    MoveFirst(Index, usize),
    /// The file has the name that the image needs. The server may still have its image.
    KeepAside(Index),
    /// A step in progress uses the same name.
    Wait,
}

/// What is under a name that an image needs.
enum Obstacle {
    /// Nothing, or what may be replaced.
    Free(Expect),
    /// What has to stay.
    Blocked,
    MoveFirst(Index, usize),
    KeepAside(Index),
    /// A step in progress uses the name or the image.
    Busy,
    /// The next LIST decides.
    Doubtful,
}

impl Planner {
    /// Decides what to do with an image. `forced`: its file has to be moved, since another image needs its name.
    pub(super) fn consider(&mut self, slot: usize, forced: bool) -> Action {
        let Some(id) = self.images.names.at(slot) else {
            return Action::Nothing;
        };
        if self.images.has(slot, mark::IN_CHAIN) && self.chain.last() != Some(&slot) {
            return Action::Nothing;
        }
        let state = self.images.states[slot];
        if self.images.has(slot, mark::DOUBTFUL) {
            self.wants_list |= matches!(state, State::Idle | State::InHand);
            return Action::Nothing;
        }
        match state {
            State::Moving if forced => Action::Wait,
            State::Moving => Action::Nothing,
            State::InHand => self.consider_received(slot, id),
            State::Idle | State::Settled => self.consider_files(slot, id, forced),
            // With `Fetch::All`, the folder may have it nevertheless.
            State::Unfetched if self.is_present(slot, id) => self.consider_files(slot, id, forced),
            State::LeftOut => Action::Nothing,
            _ if forced => self.consider_files(slot, id, forced),
            _ => Action::Nothing,
        }
    }

    fn consider_received(&mut self, slot: usize, id: ImageId) -> Action {
        loop {
            let to = self.target(slot, id);
            let expect = match self.obstacle(slot, id, &to, None) {
                Obstacle::Free(expect) => expect,
                Obstacle::Blocked if self.divert(slot) => continue,
                Obstacle::Blocked => {
                    self.fail_store(slot, id, Reason::NamesTaken);
                    return Action::Nothing;
                }
                Obstacle::MoveFirst(file, other) => return Action::MoveFirst(file, other),
                Obstacle::KeepAside(file) => return Action::KeepAside(file),
                Obstacle::Busy => return Action::Wait,
                Obstacle::Doubtful => return Action::Nothing,
            };
            self.begin(id, None, to.as_str(), MoveKind::Place, &expect);
            return Action::Do(match expect {
                Expect::Nothing => Step::Place { id, to },
                expect => Step::Replace { id, to, expect },
            });
        }
    }

    fn consider_files(&mut self, slot: usize, id: ImageId, forced: bool) -> Action {
        if self.images.states[slot] == State::Idle && self.options.fetch() == Fetch::All {
            self.plan_fetch(slot, id);
            if !forced {
                return Action::Nothing;
            }
        }
        if self.is_at_own_name(slot) {
            self.settle(slot, id);
            return Action::Settled;
        }
        loop {
            let to = self.target(slot, id);
            if self.has_name(slot, id, &to) {
                self.settle(slot, id);
                return Action::Settled;
            }
            if !self.is_present(slot, id) {
                if !forced {
                    self.plan_fetch(slot, id);
                }
                return Action::Nothing;
            }
            let may_stay = self.options.names() == Names::Any && !forced;
            let keeps_name = may_stay && !self.has_only_made_names(slot, id);
            if keeps_name || self.images.has(slot, mark::STUCK) {
                self.settle(slot, id);
                return Action::Settled;
            }
            self.materialise(slot);
            let Some(from) = self.copy_to_move(id, &to) else {
                return Action::Wait;
            };
            let expect = match self.obstacle(slot, id, &to, Some(from)) {
                Obstacle::Busy => return Action::Wait,
                Obstacle::Doubtful => return Action::Nothing,
                // No other file is moved so that this one can have its name.
                obstacle if may_stay && !self.is_free(&obstacle, id) => {
                    self.settle_as(slot, id, Some(Reason::NameTaken));
                    return Action::Settled;
                }
                Obstacle::Free(expect) => expect,
                Obstacle::Blocked if self.divert(slot) => continue,
                Obstacle::Blocked => {
                    self.images.set(slot, mark::STUCK);
                    continue;
                }
                Obstacle::MoveFirst(file, other) => return Action::MoveFirst(file, other),
                Obstacle::KeepAside(file) => return Action::KeepAside(file),
            };
            let from = self.name_of(from);
            self.begin(id, Some(&from), to.as_str(), MoveKind::Rename, &expect);
            return Action::Do(Step::Rename {
                id,
                from,
                to,
                expect,
            });
        }
    }

    /// Whether the file of the image has the safe form of its name, and is to have it. `false` does not mean that it has
    /// another name. Most images of an unchanged folder need no other question.
    pub(super) fn is_at_own_name(&self, slot: usize) -> bool {
        self.images.has(slot, mark::AT_PLAIN)
            && !self.images.has(slot, mark::DIVERTED | mark::NUMBERED)
            && self.images.names.has_safe_form(slot)
    }

    /// Whether the folder has the image under this name. Names that differ only in their normal form are the same:
    /// some file systems store another one than was asked for. Where case may be ignored, folders in another case are
    /// the same, too: two names may be in one folder then. // W9
    pub(super) fn has_name(&self, slot: usize, id: ImageId, name: &FileName) -> bool {
        if self.images.has(slot, mark::AT_PLAIN)
            && self.images.names.is_safe_form(slot, name.as_str())
        {
            return true;
        }
        let (folder, file) = parts(name.as_str());
        self.files.copies(id).any(|copy| {
            let found = nfc(self.files.name(copy));
            let (found_folder, found_file) = parts(&found);
            let is_folder = found_folder == folder
                || (!self.case_sensitive && fold_case(found_folder) == fold_case(folder));
            found_file == file && is_folder
        })
    }

    /// The file of the image to rename: one whose name differs only in case, else the one with the smallest name.
    fn copy_to_move(&self, id: ImageId, to: &FileName) -> Option<Index> {
        let target = fold_case(to.as_str());
        let rank = |file: &Index| {
            let name = self.files.name(*file);
            (fold_case(name) != target, name.to_owned())
        };
        let is_free = |file: &Index| !self.busy.contains_key(&*fold_case(self.files.name(*file)));
        self.files.copies(id).filter(is_free).min_by_key(rank)
    }

    /// What has to happen before the image can get this name. `own` is the file that is to be renamed.
    fn obstacle(
        &mut self,
        slot: usize,
        id: ImageId,
        to: &FileName,
        own: Option<Index>,
    ) -> Obstacle {
        let folded = fold_case(to.as_str());
        if self.busy.contains_key(&*folded) {
            return Obstacle::Busy;
        }
        if let Some(obstacle) = self.obstacle_to_folders(id, to, own) {
            return obstacle;
        }
        let single = self.images.names.only_with_fold(&folded);
        if let Some(holder) = single.and_then(|holder| self.images.slot(holder)) {
            if holder != slot || own.is_none() {
                self.materialise(holder);
            }
        }
        let (mut expect, mut is_exact) = (Expect::Nothing, false);
        for file in self.files_like(to.as_str()) {
            if Some(file) == own {
                continue;
            }
            let here = match self.files.kind(file) {
                FileKind::Folder
                | FileKind::Reserved
                | FileKind::Other
                | FileKind::Unrecognised(_) => return Obstacle::Blocked,
                FileKind::Unread if self.options.fetch() == Fetch::All => Expect::Unread,
                FileKind::Unread => return Obstacle::Blocked,
                FileKind::Image(content) if content == id => Expect::Image(id),
                FileKind::Image(content) => match self.use_of(file, content) {
                    Obstacle::Free(_) if self.options.keep_existing() => {
                        return self.kept_existing(file, content);
                    }
                    Obstacle::Free(expect) => expect,
                    obstacle => return obstacle,
                },
            };
            // If several names are equal only to some file systems, the exact one decides.
            if expect == Expect::Nothing || !is_exact {
                is_exact = self.files.name(file) == to.as_str();
                expect = here;
            }
        }
        Obstacle::Free(expect)
    }

    /// What has to happen before the folders of this name can be there: files in their place are renamed. // W9
    fn obstacle_to_folders(
        &mut self,
        id: ImageId,
        to: &FileName,
        own: Option<Index>,
    ) -> Option<Obstacle> {
        for folder in to.folders() {
            if self.busy.contains_key(&*fold_case(folder)) {
                return Some(Obstacle::Busy);
            }
            for file in self.files_like(folder) {
                let content = match self.files.kind(file) {
                    FileKind::Folder => continue,
                    FileKind::Image(content) => content,
                    _ => return Some(Obstacle::Blocked),
                };
                let holder = self.images.slot(content);
                if holder.is_some_and(|holder| self.images.has(holder, mark::STUCK)) {
                    return Some(Obstacle::Blocked);
                }
                if content == id || Some(file) == own {
                    return Some(Obstacle::KeepAside(file));
                }
                return Some(match self.use_of(file, content) {
                    Obstacle::Free(_) | Obstacle::KeepAside(_) if self.options.keep_existing() => {
                        Obstacle::Blocked
                    }
                    Obstacle::Free(_) => Obstacle::KeepAside(file),
                    obstacle => obstacle,
                });
            }
        }
        None
    }

    /// Whether a file with another image may be replaced.
    fn use_of(&mut self, file: Index, content: ImageId) -> Obstacle {
        let Some(other) = self.images.slot(content) else {
            return match self.complete {
                true => Obstacle::Free(Expect::Image(content)),
                false => Obstacle::KeepAside(file),
            };
        };
        if self.images.has(other, mark::DOUBTFUL) {
            self.wants_list = true;
            return Obstacle::Doubtful;
        }
        if self.images.states[other] == State::Moving {
            return Obstacle::Busy;
        }
        if self.images.states[other] == State::LeftOut {
            return Obstacle::Blocked;
        }
        // A cycle of images that have all arrived: the bytes that wait are the copy.
        if self.options.fetch() == Fetch::All
            && self.images.states[other] == State::InHand
            && self.images.has(other, mark::IN_CHAIN)
        {
            return Obstacle::Free(Expect::Image(content));
        }
        if let Some(copy) = self.other_copy(other, content, file) {
            return Obstacle::Free(Expect::Copy {
                id: content,
                other: copy,
            });
        }
        if self.has_other_file(other, content, file) {
            return Obstacle::Busy;
        }
        if self.images.has(other, mark::STUCK) {
            return Obstacle::Blocked;
        }
        Obstacle::MoveFirst(file, other)
    }

    /// Whether another file contains the image, whether or not a step in progress uses it.
    fn has_other_file(&self, slot: usize, id: ImageId, file: Index) -> bool {
        self.images.has(slot, mark::AT_PLAIN) || self.files.copies(id).any(|other| other != file)
    }

    /// A file that stays, unless its image moves to its own name.
    fn kept_existing(&self, file: Index, content: ImageId) -> Obstacle {
        match self.images.slot(content) {
            Some(other)
                if self.options.names() == Names::Listed
                    && !self.images.has(other, mark::STUCK)
                    && !self.has_name(other, content, &self.target(other, content)) =>
            {
                Obstacle::MoveFirst(file, other)
            }
            _ => Obstacle::Blocked,
        }
    }

    /// Another file with the image that no step in progress uses.
    fn other_copy(&self, slot: usize, id: ImageId, file: Index) -> Option<String> {
        let is_free = |name: &str| !self.busy.contains_key(&*fold_case(name));
        if self.images.has(slot, mark::AT_PLAIN) {
            let name = self.images.names.safe(id).map(|name| name.to_string());
            if let Some(name) = name.filter(|name| is_free(name)) {
                return Some(name);
            }
        }
        self.files
            .copies(id)
            .filter(|other| *other != file)
            .map(|other| self.files.name(other))
            .filter(|name| is_free(name))
            .min()
            .map(str::to_owned)
    }

    /// Notes that a step begins.
    pub(super) fn begin(
        &mut self,
        id: ImageId,
        from: Option<&str>,
        to: &str,
        kind: MoveKind,
        expect: &Expect,
    ) {
        for name in from.into_iter().chain([to]) {
            *self.busy.entry(fold_case(name).into_owned()).or_default() += 1;
        }
        let slot = self.images.slot(id);
        let moving = Moving {
            from: from.map(str::to_owned),
            to: to.to_owned(),
            kind,
            expect: expect.clone(),
            length: slot.map_or(0, |slot| self.images.lengths[slot]),
            before: slot.map_or(State::Idle, |slot| self.images.states[slot]),
            is_outdated: false,
            is_dropped: false,
        };
        self.moving.insert(id, moving);
        if let Some(slot) = slot {
            self.images.states[slot] = State::Moving;
        }
    }

    /// Whether the name has no file, or one with an image that no LIST names, or another file of the same image.
    fn is_free(&self, obstacle: &Obstacle, id: ImageId) -> bool {
        match obstacle {
            Obstacle::Free(Expect::Nothing) => true,
            Obstacle::Free(Expect::Image(other)) => {
                *other == id || self.images.slot(*other).is_none()
            }
            _ => false,
        }
    }

    /// The image is in the folder, and stays where it is.
    fn settle(&mut self, slot: usize, id: ImageId) {
        let reason = if self.images.has(slot, mark::STUCK) {
            Some(Reason::CannotRename)
        } else {
            Some(Reason::NameTaken).filter(|_| self.images.has(slot, mark::DIVERTED))
        };
        self.settle_as(slot, id, reason);
    }

    /// `reason`: why the image stays, if not under its name.
    fn settle_as(&mut self, slot: usize, id: ImageId, reason: Option<Reason>) {
        let length = self.images.lengths[slot];
        match self.images.states[slot] {
            State::Idle => {
                self.totals.kept.add(length);
                self.images.states[slot] = State::Settled;
            }
            State::Settled => {}
            // Moved for another image while it is fetched again.
            _ => return,
        }
        match reason {
            Some(reason) if !self.images.has(slot, mark::MISNAMED) => {
                self.images.set(slot, mark::MISNAMED);
                self.totals.misnamed.add(length);
                self.refusals.push_back((id, reason));
            }
            None if self.images.has(slot, mark::MISNAMED) => {
                self.images.clear(slot, mark::MISNAMED);
                self.totals.misnamed.subtract(length);
            }
            _ => {}
        }
    }
}

/// The folders of a path, and the file in them.
fn parts(path: &str) -> (&str, &str) {
    path.rsplit_once('/').unwrap_or(("", path))
}
