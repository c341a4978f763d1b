//! Answers about images by slot that copy no name: for what a client asks about each image of a large catalog.

use jtp_core::{FileType, ImageId};

use super::super::{fold_case, is_plain};
use super::{NONE, NamePlan, PLAIN, index};

impl NamePlan {
    /// Adds an image and returns its slot, if a quick look shows that neither its name nor its ID is that of another image.
    /// `None` if not: then nothing was changed, and [`NamePlan::add`] and the slower queries have to be used. // R5
    pub fn add_unrelated(&mut self, id: ImageId, name: &str, file_type: FileType) -> Option<usize> {
        if !is_plain(name) || self.find(id).is_some() {
            return None;
        }
        let hash = self.hasher.of_ascii_fold(name.as_bytes());
        if self.group_hashed(hash, name).is_some() {
            return None;
        }
        if self.arena.is_wasteful() {
            self.compact();
        }
        let address = self.arena.push(file_type.code() | PLAIN, name)?;
        let Some(slot) = self.new_slot(id) else {
            self.arena.forget(address);
            return None;
        };
        self.names[index(slot)] = address;
        self.insert_group(slot, hash);
        Some(index(slot))
    }

    /// Whether this is the safe form of the image's name in the catalog, without regard to other images: the same as
    /// comparing it with [`NamePlan::safe`]. `false` if no image has the slot.
    #[must_use]
    pub fn is_safe_form(&self, slot: usize, name: &str) -> bool {
        self.used(slot)
            .is_some_and(|slot| match self.is_plain(slot) {
                true => self.listed_bytes(slot) == name.as_bytes(),
                false => self.safe_name(slot).as_str() == name,
            })
    }

    /// Whether the image with this slot is the only one whose safe name has its fold: the same as asking
    /// [`NamePlan::only_with_fold`] for it. `false` if no image has the slot.
    #[must_use]
    pub fn is_only_with_its_fold(&self, slot: usize) -> bool {
        self.used(slot).is_some_and(|slot| {
            let is_alone = !self.has_mark(slot) && !self.is_linked(slot);
            is_alone && (!self.has_folders() || !self.is_folder(&fold_case(&self.safe_text(slot))))
        })
    }

    /// Whether the image with this slot has the safe form of its name, without its ID as a suffix: the same as comparing
    /// [`NamePlan::name`] and [`NamePlan::safe`]. `false` if no image has the slot. // R5
    #[must_use]
    pub fn has_safe_form(&self, slot: usize) -> bool {
        self.used(slot).is_some_and(|slot| {
            // A plain name without a hyphen has no suffix.
            let is_simple = self.is_plain(slot) && !self.listed_bytes(slot).contains(&b'-');
            if is_simple && !self.has_folders() {
                return !self.has_mark(slot) && !self.is_linked(slot);
            }
            let needs_suffix = self.has_mark(slot) || self.conflicts(slot, &self.safe_text(slot));
            // One that is unchanged by its suffix has that already.
            !needs_suffix || self.suffix_is_own(slot)
        })
    }

    fn suffix_is_own(&self, slot: u32) -> bool {
        let id = self.ids[index(slot)];
        let safe = self.safe_name(slot);
        safe.with_id(id) == safe
    }

    /// The slot, if an image has it.
    fn used(&self, slot: usize) -> Option<u32> {
        let is_used = *self.names.get(slot)? != NONE;
        u32::try_from(slot).ok().filter(|_| is_used)
    }
}
