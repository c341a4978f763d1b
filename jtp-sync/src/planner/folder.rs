//! What the planner knows about the files of the folder.

use jtp_core::{ImageId, nfc};
use jtp_store::fold_case;

use super::{Planner, mark};
use crate::files::{Files, Index};
use crate::inventory::{FileKind, Inventory};
use crate::options::Fetch;

impl Planner {
    /// Removes what is known about the file with exactly this name. Returns its image's slot, if that is listed.
    pub(super) fn forget_file(&mut self, name: &str) -> Option<usize> {
        self.name_is_free(name);
        let slot = self.content(name).and_then(|id| self.images.slot(id));
        if let Some(slot) = self.plain_with_name(name) {
            self.images.clear(slot, mark::AT_PLAIN);
        }
        if let Some(file) = self.files.named(name) {
            self.files.remove(file);
        }
        if let Some(slot) = slot {
            self.ready.push_back(slot);
            self.restart_chain(slot);
        }
        slot
    }

    /// The image that the file with exactly this name contains, as far as known.
    fn content(&self, name: &str) -> Option<ImageId> {
        if let Some(slot) = self.plain_with_name(name) {
            return self.images.names.at(slot);
        }
        match self.files.kind(self.files.named(name)?) {
            FileKind::Image(id) => Some(id),
            _ => None,
        }
    }

    /// The image that a file contains whose name differs from this one only in the case of its folders and in its normal
    /// form, and that name: the file system may have put the file into a folder that was there in another case. // W9
    fn alike(&self, name: &str) -> Option<(String, ImageId)> {
        let folded = fold_case(name);
        let plain = self.images.names.only_with_fold(&folded).filter(|id| {
            let slot = self.images.slot(*id);
            slot.is_some_and(|slot| self.images.has(slot, mark::AT_PLAIN))
        });
        let plain = plain.and_then(|id| Some((self.images.names.safe(id)?.to_string(), id)));
        let files = self.files.with_fold(&folded).into_iter();
        let files = files.filter_map(|file| match self.files.kind(file) {
            FileKind::Image(id) => Some((self.name_of(file), id)),
            _ => None,
        });
        let file = |path: &str| nfc(path.rsplit('/').next().unwrap_or(path)).into_owned();
        let mut alike = plain.into_iter().chain(files);
        alike.find(|(other, _)| file(other) == file(name))
    }

    /// The image whose file has this name, if that is not in `files`.
    fn plain_with_name(&self, name: &str) -> Option<usize> {
        let id = self.images.names.only_with_fold(&fold_case(name))?;
        let slot = self.images.slot(id)?;
        let is_plain = self.images.has(slot, mark::AT_PLAIN);
        (is_plain && self.images.names.is_safe_form(slot, name)).then_some(slot)
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

    /// What a file is that only the server's list tells to be an image.
    pub(super) fn recognise(&self, kind: FileKind) -> FileKind {
        match kind {
            FileKind::Unrecognised(id) if self.images.slot(id).is_some() => FileKind::Image(id),
            FileKind::Unrecognised(_) => FileKind::Other,
            kind => kind,
        }
    }

    /// Notes that a file contains an image.
    pub(super) fn insert_image(&mut self, name: &str, id: ImageId) {
        if let Some(slot) = self.images.slot(id) {
            let names = &self.images.names;
            let is_plain = !self.images.has(slot, mark::AT_PLAIN)
                && names.is_safe_form(slot, name)
                && names.is_only_with_its_fold(slot);
            if is_plain {
                self.images.set(slot, mark::AT_PLAIN);
                return;
            }
        }
        self.files.insert(name, FileKind::Image(id));
    }

    /// What a scan of the folder found. It replaces all that the planner knew about the files: images that are gone are
    /// fetched again, others are found. The first scan may end at any time, before or after the first LIST.
    ///
    /// With [`Fetch::All`] a scan need not read the files: if one is [unread](FileKind::Unread), what the planner knew
    /// about it stays.
    ///
    /// While a scan runs, no step should be in progress: a file that is renamed meanwhile may be missing in it. Steps
    /// that are in progress when this is called are not [current](Planner::is_current) any more. A step that was done
    /// nevertheless is reported as done, and its files replace what the scan found under their names.
    pub fn set_folder(&mut self, mut inventory: Inventory) {
        if let Some(mut parts) = self.parts.take() {
            parts.set_case_sensitive(inventory.is_case_sensitive());
            parts.append(&inventory);
            inventory = parts;
        }
        inventory.shrink_to_fit();
        for step in self.moving.values_mut() {
            step.is_outdated = true;
        }
        self.inventory = Some(inventory);
        if self.listing.is_none() && !self.images.names.is_empty() {
            self.absorb();
        }
    }

    /// Passes on a part of what a scan has found, before [`set_folder`](Planner::set_folder) has the rest. After a LIST has
    /// arrived, the planner does not keep names that it knows.
    pub(crate) fn add_files(&mut self, part: &Inventory) {
        let needs_all = self.options.fetch() == Fetch::All && self.is_folder_known;
        if needs_all || self.images.names.is_empty() {
            let inventory = self.parts.get_or_insert_default();
            inventory.append(part);
            return;
        }
        self.insert_files(part);
    }

    fn insert_files(&mut self, part: &Inventory) {
        if !std::mem::replace(&mut self.has_parts, true) {
            self.files = Files::default();
            for marks in &mut self.images.marks {
                *marks &= !mark::AT_PLAIN;
            }
        }
        for (name, kind) in part.iter() {
            match self.recognise(kind) {
                FileKind::Image(id) => self.insert_image(name, id),
                kind => self.files.insert(name, kind),
            }
        }
    }

    /// Compares the last inventory with the listed images.
    pub(super) fn absorb(&mut self) {
        let Some(mut inventory) = self.inventory.take() else {
            return;
        };
        let all = self.options.fetch() == Fetch::All;
        if all && self.is_folder_known {
            inventory.resolve(|name| self.content(name), |name| self.alike(name));
        }
        self.case_sensitive = inventory.is_case_sensitive();
        self.insert_files(&inventory);
        self.has_parts = false;
        drop(inventory);
        self.is_folder_known = true;
        self.start_over();
        for slot in 0..self.images.names.slots() {
            let Some(id) = self.images.names.at(slot) else {
                continue;
            };
            self.images
                .clear(slot, mark::DIVERTED | mark::NUMBERED | mark::STUCK);
            self.images.forget_stale(slot);
            if !all && self.is_present(slot, id) {
                self.is_not_needed(slot, id);
            }
        }
        self.plan_missing();
    }

    /// The files that a new file with this name replaces, or may replace.
    pub(super) fn files_like(&self, name: &str) -> Vec<Index> {
        if self.case_sensitive {
            return self.files.named(name).into_iter().collect();
        }
        self.files.with_fold(&fold_case(name))
    }

    pub(super) fn name_of(&self, file: Index) -> String {
        self.files.name(file).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use jtp_core::FileType::Png;

    use super::*;
    use crate::options::Options;
    use crate::step::Step;

    /// Files of each kind, some of them with the names of others in another case, and copies.
    fn file(n: u64) -> (String, FileKind) {
        let id = ImageId(n * 7 % 90);
        let kind = match n % 11 {
            0 => FileKind::Unrecognised(id),
            1 => FileKind::Other,
            2 => FileKind::Unread,
            3 => FileKind::Folder,
            4 => FileKind::Reserved,
            _ => FileKind::Image(id),
        };
        let name = match n % 5 {
            0 => format!("IMG_{}.png", n / 2),
            _ => format!("img_{n}.png"),
        };
        (name, kind)
    }

    fn planner() -> Planner {
        let mut planner = Planner::new(Options::new());
        planner.begin_list();
        for n in 0..60 {
            planner.entry(ImageId(n), &format!("img_{n}.png"), Png, 10);
        }
        planner
    }

    fn steps(mut planner: Planner) -> Vec<Step> {
        let _ = planner.end_list(true);
        std::iter::from_fn(|| planner.next_move()).collect()
    }

    fn inventory(files: impl Iterator<Item = u64>) -> Inventory {
        let mut inventory = Inventory::new();
        for n in files {
            let (name, kind) = file(n);
            inventory.add(&name, kind);
        }
        inventory
    }

    #[test]
    fn a_folder_that_is_passed_on_in_parts_leads_to_the_same_steps() {
        for count in [0, 1, 40, 100] {
            let mut whole = planner();
            whole.set_folder(inventory(0..count));
            let whole = steps(whole);
            for size in [1_u64, 7, 64] {
                let mut parts = planner();
                // What was known of an earlier scan counts no more.
                parts.set_folder(inventory(500..520));
                let _ = parts.end_list(true);
                parts.begin_list();
                for n in 0..60 {
                    parts.entry(ImageId(n), &format!("img_{n}.png"), Png, 10);
                }
                let rest = count % size;
                for begin in (0..count / size).map(|part| part * size) {
                    parts.add_files(&inventory(begin..begin + size));
                }
                parts.set_folder(inventory(count - rest..count));
                assert_eq!(steps(parts), whole, "{count} files, {size} at once");
            }
        }
    }
}
