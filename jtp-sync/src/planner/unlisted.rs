//! Files that the last LIST does not account for.

use jtp_core::{ImageId, nfc};
use jtp_store::{fold_case, is_temporary_name};

use super::{Planner, State, mark};
use crate::inventory::FileKind;
use crate::mirror::Unlisted;

impl Planner {
    /// The images in the folder: all files with one.
    #[must_use]
    pub fn present(&self) -> u64 {
        let is_plain = |marks: &&u8| **marks & mark::AT_PLAIN != 0;
        let plain = self.images.marks.iter().filter(is_plain).count();
        let is_image = |kind| matches!(kind, FileKind::Image(_));
        let others = self.files.iter().map(|file| self.files.kind(file));
        let others = others.filter(|kind| is_image(*kind)).count();
        u64::try_from(plain + others).unwrap_or(u64::MAX)
    }

    /// Those of them that a mirror may delete: not [left out](Planner::leave_out), and, unless their names are those that
    /// the server lists, files that the selection `selects` and that a server may list. // R8
    pub(crate) fn present_selected(&self, selects: impl Fn(&str) -> bool) -> u64 {
        let is_in = |slot, id| self.state(slot, id) != State::LeftOut;
        let plain = (0..self.images.names.slots())
            .filter(|slot| self.images.has(*slot, mark::AT_PLAIN))
            .filter_map(|slot| Some((slot, self.images.names.at(slot)?)))
            .filter(|(slot, id)| is_in(*slot, *id))
            .count();
        let others = self
            .files
            .iter()
            .filter(|file| match self.files.kind(*file) {
                FileKind::Image(id) => {
                    self.images.slot(id).is_none_or(|slot| is_in(slot, id))
                        && may_be_listed(self.files.name(*file), id)
                        && selects(self.files.name(*file))
                }
                _ => false,
            })
            .count();
        u64::try_from(plain + others).unwrap_or(u64::MAX)
    }

    /// Whether the last LIST was complete, and the folder is known.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete && self.listing.is_none() && self.is_folder_known && self.inventory.is_none()
    }

    /// The files with an image that the last LIST does not name, and further files with an image that the folder contains
    /// under its own name, ordered by their names. Files of images that are [left out](Planner::leave_out) are not among them,
    /// nor what is no image, or was not read, temporary files and backups, which a server leaves out
    /// ([`is_temporary_name`]), and empty files: another program may be about to write them. // R8
    ///
    /// Ask it when the planner [is finished](Planner::is_finished), and the LIST [was complete](Planner::is_complete).
    #[must_use]
    pub fn unlisted(&self) -> Vec<Unlisted> {
        let mut unlisted: Vec<Unlisted> = self
            .files
            .iter()
            .filter_map(|file| match self.files.kind(file) {
                FileKind::Image(id) => Some((self.files.name(file), id)),
                _ => None,
            })
            .filter(|(name, id)| may_be_listed(name, *id))
            .filter_map(|(name, id)| {
                let copy = match self.images.slot(id) {
                    None => None,
                    Some(slot) if self.state(slot, id) == State::LeftOut => return None,
                    Some(slot) => {
                        let own = self.target(slot, id);
                        let is_same = |a: &str, b: &str| fold_case(&nfc(a)) == fold_case(&nfc(b));
                        if is_same(name, own.as_str()) || !self.has_name(slot, id, &own) {
                            return None;
                        }
                        Some(own.to_string())
                    }
                };
                let name = name.to_owned();
                Some(Unlisted { name, id, copy })
            })
            .collect();
        unlisted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        unlisted
    }

    /// The file was deleted because the last LIST does not account for it.
    pub fn file_deleted(&mut self, name: &str) {
        self.file_gone(name);
        self.totals.deleted += 1;
    }

    /// A folder that was empty was removed. An image may have its name. // W9
    pub(crate) fn folder_removed(&mut self, name: &str) {
        self.file_gone(name);
        let waiting = self.images.names.only_with_fold(&fold_case(name));
        if let Some(slot) = waiting.and_then(|id| self.images.slot(id)) {
            self.images
                .clear(slot, mark::DIVERTED | mark::NUMBERED | mark::STUCK);
            self.ready.push_back(slot);
        }
    }

    /// The files that the last LIST does not account for are about to be deleted.
    pub(crate) fn begin_deleting(&mut self) {
        self.totals.undeleted = 0;
    }

    /// Files that the last LIST does not account for were not deleted.
    pub(crate) fn not_deleted(&mut self, files: u64) {
        self.totals.undeleted += files;
    }

    /// A file was moved to the backup folder.
    pub(crate) fn backed_up(&mut self) {
        self.totals.backed_up += 1;
    }
}

/// Whether the file with this image counts as one that a server would list if it had it: not if it is empty, or its name is
/// that of a temporary file or a backup. // R8
pub(super) fn may_be_listed(name: &str, id: ImageId) -> bool {
    !is_temporary_name(name) && id != ImageId::of(b"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Inventory, Options};

    #[test]
    fn files_that_were_not_deleted_are_those_of_the_last_attempt() {
        let mut planner = Planner::new(Options::new());
        for files in [7, 3] {
            planner.begin_deleting();
            planner.not_deleted(files);
        }
        assert_eq!(planner.totals().undeleted, 3);
    }
    #[test]
    fn files_that_are_not_selected_do_not_count_as_present() {
        let mut inventory = Inventory::new();
        inventory.add("a.png", FileKind::Image(ImageId(1)));
        inventory.add("b.png", FileKind::Image(ImageId(2)));
        let mut planner = Planner::new(Options::new());
        planner.set_folder(inventory);
        planner.begin_list();
        let _ = planner.end_list(true);
        assert_eq!(planner.present_selected(|name| name == "a.png"), 1);
    }
}
