//! The names that images get.

use jtp_core::{FileType, ImageId};
use jtp_store::{FileName, fold_case};

use super::{Planner, mark};
use crate::inventory::FileKind;

impl Planner {
    /// The name that an image is to have.
    pub(super) fn target(&self, slot: usize, id: ImageId) -> FileName {
        // The type matters only for images without a name.
        let name = self.images.names.name(id, FileType::Other);
        if self.images.has(slot, mark::NUMBERED) {
            return self.numbered(&name.with_id(id), id, true);
        }
        if self.images.has(slot, mark::DIVERTED) {
            return name.with_id(id);
        }
        name
    }

    /// The first of the names with a number that no file has, or with `own` also one that a file with the image has.
    pub(super) fn numbered(&self, name: &FileName, id: ImageId, own: bool) -> FileName {
        let (stem, extension) = name
            .as_str()
            .rsplit_once('.')
            .unwrap_or((name.as_str(), "img"));
        // Short enough that the number is not cut off.
        let stem: String = stem.chars().take(50).collect();
        let mut n = 1u64;
        loop {
            let name = FileName::new(&format!("{stem}-{n}.{extension}"), id, FileType::Other);
            let is_own = |file| own && self.files.kind(file) == FileKind::Image(id);
            if self.is_unused(&name) || self.files.named(name.as_str()).is_some_and(is_own) {
                return name;
            }
            n += 1;
        }
    }

    /// Gives the image its ID as a suffix, or a number after that if it has it. `false` if it has both.
    pub(super) fn divert(&mut self, slot: usize) -> bool {
        let is_new = !self.images.has(slot, mark::NUMBERED);
        let diverted = self.images.has(slot, mark::DIVERTED);
        let next = if diverted {
            mark::NUMBERED
        } else {
            mark::DIVERTED
        };
        self.images.set(slot, next);
        is_new
    }

    /// Whether no file has the name, and no step in progress uses it.
    pub(super) fn is_unused(&self, name: &FileName) -> bool {
        let folded = fold_case(name.as_str());
        let single = self.images.names.only_with_fold(&folded);
        let holder = single.and_then(|holder| self.images.slot(holder));
        !self.busy.contains_key(&*folded)
            && !holder.is_some_and(|holder| self.images.has(holder, mark::AT_PLAIN))
            && self.files.with_fold(&folded).is_empty()
    }
}
