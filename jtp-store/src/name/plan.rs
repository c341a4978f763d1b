//! Assigns a file name to each image.

mod groups;
mod id_hash;
mod name_hash;
mod quick;

use std::borrow::Cow;

use hashbrown::HashTable;
use jtp_core::{FileType, ImageId, nfc};

use self::id_hash::IdHash;
use self::name_hash::NameHash;
use super::folder_table::FolderTable;
use super::{FileName, NameArena, fold_case, is_plain, suffix_id};

/// No slot.
const NONE: u32 = u32::MAX;

/// Set in the tag of a name, beside the type's code, if a newer image has the same name.
const SUPERSEDED: u8 = 0x80;

/// Set in the tag of a name that is its own safe form.
const PLAIN: u8 = 0x40;

/// Assigns each image of a catalog a unique file name that does not depend on the order of the images. // R5
///
/// Names are made safe ([`FileName::new`]). Names that are equal then, or that a file system may treat as equal
/// ([`fold_case`](super::fold_case)), all get their image's ID as a suffix. An image that is not in the plan is named
/// `<id>.<ext>`.
///
/// Add the whole catalog with [`NamePlan::add`] before the first call of [`NamePlan::name`], since one more image
/// can change the names of others. Add later images of WATCH with [`NamePlan::announce`], which knows that a new image
/// replaces one of the same name. Build a new plan from each LIST, or [remove](NamePlan::remove) what a LIST does not
/// name any more: only a LIST shows which images were removed.
///
/// It takes 35 to 40 bytes for each image beside its name, 8 more if any two names are equal. Adding, removing and naming
/// an image take constant time, however many names are equal. At most 4,294,967,295 images and 4 GiB of names are
/// held; an image beyond that is named `<id>.<ext>`.
///
/// ```
/// use jtp_core::{FileType::Png, ImageId};
/// use jtp_store::NamePlan;
///
/// let mut plan = NamePlan::new();
/// plan.add(ImageId(1), "a.png", Png);
/// plan.add(ImageId(2), "A.png", Png);
/// plan.add(ImageId(3), "b.png", Png);
/// assert_eq!(plan.name(ImageId(1), Png).as_str(), "a-0000000000000001.png");
/// assert_eq!(plan.name(ImageId(2), Png).as_str(), "A-0000000000000002.png");
/// assert_eq!(plan.name(ImageId(3), Png).as_str(), "b.png");
/// assert_eq!(plan.name(ImageId(4), Png).as_str(), "0000000000000004.png");
/// ```
#[derive(Debug, Clone, Default)]
pub struct NamePlan {
    /// The images by slot. A free slot has the address [`NONE`] in `names`.
    ids: Vec<ImageId>,
    /// The addresses of their names in the catalog, in NFC, tagged with the type's code, [`SUPERSEDED`] and [`PLAIN`].
    names: Vec<u32>,
    free: Vec<u32>,
    arena: NameArena,
    by_id: HashTable<u32>,
    id_hash: IdHash,
    /// The first image of each group: images whose safe names have equal folds. Superseded images are in no group.
    groups: HashTable<u32>,
    /// The previous and next image in the group. Equal catalog names are neighbours. Empty until two images meet.
    links: Vec<[u32; 2]>,
    /// For groups of two or more: the first image with each catalog name.
    listed: HashTable<u32>,
    hasher: NameHash,
    /// The folders of the names, with [`NamePlan::with_folders`].
    folders: Option<FolderTable>,
}

impl NamePlan {
    /// A plan without images, whose names have no folders.
    #[must_use]
    pub fn new() -> NamePlan {
        NamePlan::default()
    }

    /// A plan without images, whose names have the folders that a server puts in them ([`FileName::in_folders`]). A file
    /// whose name is that of a folder gets its ID as a suffix. // W9
    ///
    /// It takes some 20 bytes for each folder. Adding and removing an image takes time for each folder in its name that
    /// contains nothing else.
    ///
    /// ```
    /// use jtp_core::{FileType::Png, ImageId};
    /// use jtp_store::NamePlan;
    ///
    /// let mut plan = NamePlan::with_folders();
    /// plan.add(ImageId(1), "2024⧸a.png", Png);
    /// plan.add(ImageId(2), "2024⧸A.png⧸b.png", Png);
    /// assert_eq!(plan.name(ImageId(1), Png).as_str(), "2024/a-0000000000000001.png");
    /// assert_eq!(plan.name(ImageId(2), Png).as_str(), "2024/A.png/b.png");
    /// ```
    #[must_use]
    pub fn with_folders() -> NamePlan {
        NamePlan {
            folders: Some(FolderTable::default()),
            ..NamePlan::default()
        }
    }

    /// Adds an entry of a catalog. An entry with the same ID is replaced, and its [slot](NamePlan::slot) kept.
    pub fn add(&mut self, id: ImageId, name: &str, file_type: FileType) {
        let name = nfc(name);
        let known = self.slot(id).and_then(|slot| u32::try_from(slot).ok());
        if let Some(slot) = known {
            self.leave_group(slot);
            self.leave_folders(slot);
            self.arena.forget(self.names[index(slot)]);
        }
        if self.arena.is_wasteful() {
            self.compact();
        }
        let code = file_type.code();
        let tag = if is_plain(&name) { code | PLAIN } else { code };
        let stored = self.arena.push(tag, &name);
        let Some(address) = stored.or_else(|| self.arena.push(code, "")) else {
            return self.free_slot(known, id);
        };
        let Some(slot) = known.or_else(|| self.new_slot(id)) else {
            return;
        };
        self.names[index(slot)] = address;
        self.join_group(slot);
        // A plain name has no folders.
        if self.folders.is_some() && !self.is_plain(slot) {
            let safe = self.safe_name(slot);
            if let Some(folders) = &mut self.folders {
                folders.add(&safe.folded());
            }
        }
    }

    /// Adds a new image that WATCH announced. Images with exactly this name in the catalog count as replaced: they are
    /// removed from the plan and returned. Images whose names are merely similar stay. // N1
    ///
    /// If the server still lists a replaced image under that name (two files whose names are equal in NFC), the next
    /// LIST has both, and a plan of it gives both a suffix.
    pub fn announce(&mut self, id: ImageId, name: &str, file_type: FileType) -> Vec<ImageId> {
        let name = nfc(name);
        self.remove(id);
        let mut replaced = Vec::new();
        while let Some(other) = self.listed_as(&name) {
            self.remove(other);
            replaced.push(other);
        }
        self.add(id, &name, file_type);
        replaced
    }

    /// An image with this name in the catalog, compared in NFC, that is not [superseded](NamePlan::supersede).
    #[must_use]
    pub fn listed_as(&self, name: &str) -> Option<ImageId> {
        let name = nfc(name);
        // The type and the ID matter only for an empty name.
        let first = if name.is_empty() {
            None
        } else {
            let safe = self.file_name(&name, ImageId(0), FileType::Other);
            self.group(&safe.folded())
        };
        let first = first?;
        let found = if self.next(first) == NONE {
            (*self.listed_name(first) == *name).then_some(first)
        } else {
            self.first_listed(&name)
        };
        found.map(|slot| self.ids[index(slot)])
    }

    /// The only image whose safe name has this [fold](super::fold_case), superseded ones left out. `None` if there is none,
    /// if there are several, or if a folder has the name: then each of them has its ID as a suffix.
    #[must_use]
    pub fn only_with_fold(&self, folded: &str) -> Option<ImageId> {
        let first = self.group(folded)?;
        let is_only = self.next(first) == NONE && !self.is_folder(folded);
        is_only.then(|| self.ids[index(first)])
    }

    /// Whether an image of the plan is in a folder whose path has this [fold](super::fold_case). // W9
    #[must_use]
    pub fn is_folder(&self, folded: &str) -> bool {
        let folders = self.folders.as_ref();
        folders.is_some_and(|folders| folders.contains(folded))
    }

    /// The number of folders that the images are in.
    #[must_use]
    pub fn folders(&self) -> usize {
        self.folders.as_ref().map_or(0, FolderTable::len)
    }

    /// The safe form of a name from a catalog, with folders if the plan has them. It does not matter which images are in
    /// the plan. // R5
    #[must_use]
    pub fn file_name(&self, name: &str, id: ImageId, file_type: FileType) -> FileName {
        make_name(self.folders.is_some(), name, id, file_type)
    }

    /// Marks an image as the older one of two with one name: it always gets its ID as a suffix, and the newer image
    /// does not get one for its sake. [Adding](NamePlan::add) the image again ends this. `false` if it is not in the
    /// plan.
    pub fn supersede(&mut self, id: ImageId) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        self.leave_group(slot);
        let address = self.names[index(slot)];
        self.arena
            .set_tag(address, self.arena.tag(address) | SUPERSEDED);
        true
    }

    /// Whether the image is in the plan and [superseded](NamePlan::supersede).
    #[must_use]
    pub fn is_superseded(&self, id: ImageId) -> bool {
        self.find(id).is_some_and(|slot| self.has_mark(slot))
    }

    /// Removes an image. `false` if it is not in the plan.
    pub fn remove(&mut self, id: ImageId) -> bool {
        let Some(slot) = self.find(id) else {
            return false;
        };
        self.leave_group(slot);
        self.leave_folders(slot);
        self.arena.forget(self.names[index(slot)]);
        self.free_slot(Some(slot), id);
        true
    }

    /// The file name of an image. `file_type` gives the extension of an image that is not in the plan.
    #[must_use]
    pub fn name(&self, id: ImageId, file_type: FileType) -> FileName {
        let Some(slot) = self.find(id) else {
            let name = FileName::of_id(id, file_type);
            let folded = name.folded();
            let is_taken = self.group(&folded).is_some() || self.is_folder(&folded);
            return match is_taken {
                true => name.with_id(id),
                false => name,
            };
        };
        let safe = self.safe_name(slot);
        if self.has_mark(slot) || self.conflicts(slot, safe.as_str()) {
            safe.with_id(id)
        } else {
            safe
        }
    }

    /// The safe form of the image's name in the catalog, without regard to other images. `None` if the image is not in
    /// the plan.
    #[must_use]
    pub fn safe(&self, id: ImageId) -> Option<FileName> {
        self.find(id).map(|slot| self.safe_name(slot))
    }

    /// The image's name in the catalog, in NFC. `None` if the image is not in the plan.
    #[must_use]
    pub fn listed(&self, id: ImageId) -> Option<&str> {
        self.find(id).map(|slot| self.listed_name(slot))
    }

    /// The type that the image was added with. `None` if the image is not in the plan.
    #[must_use]
    pub fn file_type(&self, id: ImageId) -> Option<FileType> {
        self.find(id).map(|slot| self.type_of(slot))
    }

    /// A small number that identifies the image until it is removed, for tables beside the plan: below
    /// [`NamePlan::slots`]. Slots of removed images are used again.
    #[must_use]
    pub fn slot(&self, id: ImageId) -> Option<usize> {
        self.find(id).map(index)
    }

    /// The image with this slot.
    #[must_use]
    pub fn at(&self, slot: usize) -> Option<ImageId> {
        let is_used = *self.names.get(slot)? != NONE;
        is_used.then(|| self.ids[slot])
    }

    /// All [slots](NamePlan::slot) are below this number.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.ids.len()
    }

    /// Gives back the memory that was reserved for more images.
    pub fn shrink_to_fit(&mut self) {
        self.ids.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    /// The number of images in the plan.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Whether the plan has no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }
}

/// Slots and names.
impl NamePlan {
    fn find(&self, id: ImageId) -> Option<u32> {
        let hash = self.id_hash.of(id);
        let is = |slot: &u32| self.ids[index(*slot)] == id;
        self.by_id.find(hash, is).copied()
    }

    fn new_slot(&mut self, id: ImageId) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.ids.len()).ok();
                let slot = slot.filter(|slot| *slot != NONE)?;
                grow(&mut self.ids);
                grow(&mut self.names);
                self.ids.push(id);
                self.names.push(NONE);
                if !self.links.is_empty() {
                    self.links.push([NONE; 2]);
                }
                slot
            }
        };
        self.ids[index(slot)] = id;
        let (ids, id_hash) = (&self.ids, &self.id_hash);
        let hash = |slot: &u32| id_hash.of(ids[index(*slot)]);
        self.by_id.insert_unique(hash(&slot), slot, hash);
        Some(slot)
    }

    fn free_slot(&mut self, slot: Option<u32>, id: ImageId) {
        let Some(slot) = slot else { return };
        let hash = self.id_hash.of(id);
        if let Ok(entry) = self.by_id.find_entry(hash, |other| *other == slot) {
            entry.remove();
        }
        self.names[index(slot)] = NONE;
        self.free.push(slot);
    }

    fn listed_name(&self, slot: u32) -> &str {
        self.arena.name(self.names[index(slot)])
    }

    fn listed_bytes(&self, slot: u32) -> &[u8] {
        self.arena.name_bytes(self.names[index(slot)])
    }

    fn type_of(&self, slot: u32) -> FileType {
        FileType::from_code(self.arena.tag(self.names[index(slot)]))
    }

    fn has_mark(&self, slot: u32) -> bool {
        self.arena.tag(self.names[index(slot)]) & SUPERSEDED != 0
    }

    fn is_plain(&self, slot: u32) -> bool {
        self.arena.tag(self.names[index(slot)]) & PLAIN != 0
    }

    fn safe_name(&self, slot: u32) -> FileName {
        if self.is_plain(slot) {
            return FileName(self.listed_name(slot).to_owned());
        }
        self.file_name(
            self.listed_name(slot),
            self.ids[index(slot)],
            self.type_of(slot),
        )
    }

    /// The same as text, which need not be copied if the name is plain.
    fn safe_text(&self, slot: u32) -> Cow<'_, str> {
        match self.is_plain(slot) {
            true => Cow::Borrowed(self.listed_name(slot)),
            false => Cow::Owned(self.safe_name(slot).0),
        }
    }

    /// Whether another image needs the same name.
    fn conflicts(&self, slot: u32, safe: &str) -> bool {
        if self.is_linked(slot) {
            return true;
        }
        // Without a hyphen there is no suffix, and no other character has one in its folded form.
        if !safe.contains('-') && !self.has_folders() {
            return false;
        }
        let folded = fold_case(safe);
        if self.is_folder(&folded) {
            return true;
        }
        // The name may equal another image's name with its suffix. It does not matter here whether that image needs
        // the suffix, since that could in turn depend on this one.
        let suffixed = |other: ImageId| Some(self.safe(other)?.with_id(other));
        suffix_id(&folded)
            .filter(|other| *other != self.ids[index(slot)])
            .and_then(suffixed)
            .is_some_and(|other| other.folded() == folded)
    }

    fn has_folders(&self) -> bool {
        self.folders() > 0
    }

    /// The image's file is in its folders no more.
    fn leave_folders(&mut self, slot: u32) {
        if self.folders.is_some() && !self.is_plain(slot) {
            let safe = self.safe_name(slot);
            if let Some(folders) = &mut self.folders {
                folders.remove(&safe.folded());
            }
        }
    }

    /// Copies the names to a new arena, without those that were removed.
    fn compact(&mut self) {
        let mut arena = NameArena::new();
        for address in self.names.iter_mut().filter(|address| **address != NONE) {
            let (tag, name) = (self.arena.tag(*address), self.arena.name(*address));
            // It fits, because the old arena held more.
            if let Some(moved) = arena.push(tag, name) {
                *address = moved;
            }
        }
        self.arena = arena;
    }
}

fn make_name(in_folders: bool, name: &str, id: ImageId, file_type: FileType) -> FileName {
    match in_folders {
        true => FileName::in_folders(name, id, file_type),
        false => FileName::new(name, id, file_type),
    }
}

fn index(slot: u32) -> usize {
    #[cfg(test)]
    tests::ACCESSES.set(tests::ACCESSES.get() + 1);
    usize::try_from(slot).unwrap_or(usize::MAX)
}

/// Makes room for one more, growing by an eighth: these tables are the bulk of a large plan.
fn grow<T>(table: &mut Vec<T>) {
    if table.len() == table.capacity() {
        table.reserve_exact(table.len() / 8 + 16);
    }
}

#[cfg(test)]
mod tests;
