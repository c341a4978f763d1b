//! The names that images get.

use jtp_core::{FileType, ImageId};
use jtp_store::{FileName, fold_case};

use super::{Planner, mark};
use crate::files::Index;
use crate::inventory::FileKind;
use crate::options::{Fetch, Names};

impl Planner {
    /// The name that an image is to have.
    pub(super) fn target(&self, slot: usize, id: ImageId) -> FileName {
        // The type matters only for images without a name.
        let name = self.images.names.name(id, FileType::Other);
        if self.images.has(slot, mark::NUMBERED) {
            // Not in its folder: perhaps nothing can be written there. // W9
            let suffixed = name.with_id(id);
            let flat = suffixed.flattened(id, FileType::Other);
            return match flat != suffixed && self.is_usable(&flat, id, true) {
                true => flat,
                false => self.numbered(&flat, id, true),
            };
        }
        if self.images.has(slot, mark::DIVERTED) {
            return name.with_id(id);
        }
        name
    }

    /// The first of the names with a number in the same folder that no file has. With `own`, also one of a file that
    /// contains the image, or that was not read.
    pub(super) fn numbered(&self, name: &FileName, id: ImageId, own: bool) -> FileName {
        let (folder, file) = name
            .as_str()
            .split_at(name.as_str().len() - name.file().len());
        let (stem, extension) = file.rsplit_once('.').unwrap_or((file, "img"));
        let suffix = format!("-{id}");
        // Short enough that the ID and the number are not cut off.
        let stem: String = stem
            .strip_suffix(&suffix)
            .unwrap_or(stem)
            .chars()
            .take(50)
            .collect();
        let mut n = 1u64;
        loop {
            let name = FileName::beside(
                &format!("{folder}{stem}{suffix}-{n}.{extension}"),
                id,
                FileType::Other,
            );
            if self.is_usable(&name, id, own) {
                return name;
            }
            n += 1;
        }
    }

    /// Whether no file has the name, or, with `own`, one that contains the image or that was not read.
    fn is_usable(&self, name: &FileName, id: ImageId, own: bool) -> bool {
        let is_own = |file| match self.files.kind(file) {
            FileKind::Image(content) => own && content == id,
            // With this ID in its name. It is read before it is replaced.
            FileKind::Unread => own && self.options.fetch() == Fetch::All,
            _ => false,
        };
        self.is_unused(name) || self.files.named(name.as_str()).is_some_and(is_own)
    }

    /// The name that the image has unless something is in the way.
    pub(crate) fn own_name(&self, id: ImageId) -> Option<FileName> {
        self.images.slot(id)?;
        Some(self.images.names.name(id, FileType::Other))
    }

    /// What the folder has in place of this image's file, or of one of its folders (`true`), and under which name, as far as
    /// known.
    pub(crate) fn blocker(&self, id: ImageId) -> Option<(String, FileKind, bool)> {
        let name = self.own_name(id)?;
        let is_free = |file: &Index, free: FileKind| self.files.kind(*file) == free;
        let in_way = |name: &str, free| {
            let mut files = self.files_like(name).into_iter();
            files.find(|file| !is_free(file, free))
        };
        let described = |file, of_folder| (self.name_of(file), self.files.kind(file), of_folder);
        let mut folders = name.folders();
        if let Some(file) = folders.find_map(|folder| in_way(folder, FileKind::Folder)) {
            return Some(described(file, true));
        }
        in_way(name.as_str(), FileKind::Image(id)).map(|file| described(file, false))
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
            && !self.images.names.is_folder(&folded)
            && !holder.is_some_and(|holder| self.images.has(holder, mark::AT_PLAIN))
            && self.files.with_fold(&folded).is_empty()
    }

    /// Whether all files of the image have names that were made from its ID.
    pub(super) fn has_only_made_names(&self, slot: usize, id: ImageId) -> bool {
        let is_made = |file| is_made(self.files.name(file), id);
        !self.images.has(slot, mark::AT_PLAIN) && self.files.copies(id).all(is_made)
    }

    /// A file does not have this name any more. With [`Names::Any`], files are not moved for an image whose name is
    /// not free, so the image is looked at again.
    pub(super) fn name_is_free(&mut self, name: &str) {
        if self.options.names() != Names::Any {
            return;
        }
        let suffixed = id_in(name).filter(|id| self.images.slot(*id).is_some());
        let single = self.images.names.only_with_fold(&fold_case(name));
        for id in single.into_iter().chain(suffixed) {
            if let Some(slot) = self.images.slot(id) {
                self.images.clear(slot, mark::DIVERTED | mark::NUMBERED);
                self.ready.push_back(slot);
            }
        }
    }
}

/// Whether the name was made from the ID: `<id>.<ext>`, or one that ends in `-<id>` or `-<id>-<number>`. // R5
fn is_made(name: &str, id: ImageId) -> bool {
    id_in(name) == Some(id)
}

/// The ID that a name was made from.
fn id_in(name: &str) -> Option<ImageId> {
    let file = name.rsplit_once('/').map_or(name, |(_, file)| file);
    let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
    let (rest, last) = stem.rsplit_once('-').unwrap_or(("", stem));
    if let Ok(id) = last.parse() {
        return Some(id);
    }
    let is_number = !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit());
    let id = rest.rsplit_once('-').map_or(rest, |(_, id)| id);
    id.parse().ok().filter(|_| is_number)
}
