//! Chains of images whose files have to be moved one after another.

use jtp_core::FileType;
use jtp_store::FileName;

use super::decide::Action;
use super::{MoveKind, Planner, mark};
use crate::files::Index;
use crate::inventory::FileKind;
use crate::step::{Expect, Step};

impl Planner {
    pub(super) fn enter_chain(&mut self, slot: usize) {
        self.images.set(slot, mark::IN_CHAIN);
        self.chain.push(slot);
    }

    fn leave_chain(&mut self) {
        if let Some(slot) = self.chain.pop() {
            self.images.clear(slot, mark::IN_CHAIN);
        }
    }

    /// Gives up the chain. A step of it that is in progress goes on.
    pub(super) fn abandon_chain(&mut self) {
        while !self.chain.is_empty() {
            self.leave_chain();
        }
        self.chain_waits = false;
    }

    /// Looks at all images of the chain again if a file or the name of this image, which is one of them, has changed:
    /// perhaps the files that follow are not in the way any more.
    pub(super) fn restart_chain(&mut self, slot: usize) {
        if self.images.has(slot, mark::IN_CHAIN) {
            self.ready.extend(&self.chain);
            self.abandon_chain();
        }
    }

    /// The file of this image was renamed, so it is not in the way any more.
    pub(super) fn renamed_in_chain(&mut self, slot: usize) {
        if self.chain.len() > 1 && self.chain.last() == Some(&slot) {
            self.leave_chain();
        }
    }

    /// The next step of the chain, whose last image moves first. Each file is renamed at most twice: at the end of the
    /// chain a name is free, or, in a cycle, becomes free by keeping a file aside.
    pub(super) fn advance_chain(&mut self) -> Option<Step> {
        while let Some(&slot) = self.chain.last() {
            if self.chain_waits {
                return None;
            }
            let forced = self.chain.len() > 1;
            match self.consider(slot, forced) {
                Action::Settled => self.leave_chain(),
                Action::Nothing => {
                    if forced {
                        // Its file is in the way and cannot be moved.
                        self.images.set(slot, mark::STUCK);
                    }
                    self.leave_chain();
                }
                Action::Do(step) => {
                    self.chain_waits = true;
                    return Some(step);
                }
                Action::MoveFirst(file, other) if self.images.has(other, mark::IN_CHAIN) => {
                    self.chain_waits = true;
                    return self.keep_aside(file);
                }
                Action::MoveFirst(_, other) => self.enter_chain(other),
                Action::KeepAside(file) => {
                    self.chain_waits = true;
                    return self.keep_aside(file);
                }
                Action::Wait => self.chain_waits = true,
            }
        }
        None
    }

    /// Renames a file to a name with its image's ID, in the same folder.
    fn keep_aside(&mut self, file: Index) -> Option<Step> {
        let FileKind::Image(id) = self.files.kind(file) else {
            return None;
        };
        let from = self.name_of(file);
        let file_type = self.images.names.file_type(id).unwrap_or(FileType::Other);
        let mut to = FileName::beside(&from, id, file_type).with_id(id);
        if !self.is_unused(&to) {
            to = self.numbered(&to, id, false);
        }
        self.begin(
            id,
            Some(&from),
            to.as_str(),
            MoveKind::KeepAside,
            &Expect::Nothing,
        );
        Some(Step::KeepAside { id, from, to })
    }
}
