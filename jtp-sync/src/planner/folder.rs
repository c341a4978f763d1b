//! What the planner knows about the files of the folder.

use jtp_core::ImageId;
use jtp_store::fold_case;

use super::{Planner, mark};
use crate::files::Index;
use crate::inventory::FileKind;

impl Planner {
    /// Removes what is known about the file with exactly this name.
    pub(super) fn forget_file(&mut self, name: &str) {
        let single = self.images.names.only_with_fold(&fold_case(name));
        if let Some(slot) = single.and_then(|id| self.images.slot(id)) {
            let is_name = single.and_then(|id| self.images.names.safe(id));
            if self.images.has(slot, mark::AT_PLAIN) && is_name.is_some_and(|n| n.as_str() == name)
            {
                self.images.clear(slot, mark::AT_PLAIN);
                self.ready.push_back(slot);
            }
        }
        if let Some(file) = self.files.named(name) {
            if let FileKind::Image(id) = self.files.kind(file) {
                self.ready.extend(self.images.slot(id));
            }
            self.files.remove(file);
        }
    }

    /// Whether the folder contains the image.
    pub(super) fn is_present(&self, slot: usize, id: ImageId) -> bool {
        self.images.has(slot, mark::AT_PLAIN) || self.files.copies(id).next().is_some()
    }

    /// Adds the file of an image under its own name to the other files, before that name changes or is shared.
    pub(super) fn materialise(&mut self, slot: usize) {
        if !self.images.has(slot, mark::AT_PLAIN) {
            return;
        }
        self.images.clear(slot, mark::AT_PLAIN);
        let Some(id) = self.images.names.at(slot) else {
            return;
        };
        if let Some(name) = self.images.names.safe(id) {
            self.files.insert(name.as_str(), FileKind::Image(id));
        }
    }

    /// Notes that a file contains an image.
    pub(super) fn insert_image(&mut self, name: &str, id: ImageId) {
        if let Some(slot) = self.images.slot(id) {
            let names = &self.images.names;
            let is_plain = !self.images.has(slot, mark::AT_PLAIN)
                && names.safe(id).is_some_and(|safe| safe.as_str() == name)
                && names.only_with_fold(&fold_case(name)) == Some(id);
            if is_plain {
                self.images.set(slot, mark::AT_PLAIN);
                return;
            }
        }
        self.files.insert(name, FileKind::Image(id));
    }

    /// Compares the inventory with the listed images.
    pub(super) fn absorb(&mut self) {
        let Some(inventory) = self.inventory.take() else {
            return;
        };
        for (name, kind) in inventory.iter() {
            match kind {
                FileKind::Image(id) => self.insert_image(name, id),
                kind => self.files.insert(name, kind),
            }
        }
    }

    /// The files that a new file with this name replaces, or may replace.
    pub(super) fn files_like(&self, name: &str) -> Vec<Index> {
        if self.options.case_sensitive() {
            return self.files.named(name).into_iter().collect();
        }
        self.files.with_fold(&fold_case(name))
    }

    pub(super) fn name_of(&self, file: Index) -> String {
        self.files.name(file).to_owned()
    }
}
