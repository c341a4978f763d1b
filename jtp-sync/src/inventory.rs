//! What the folder contains before the sync.

use std::collections::HashSet;

use jtp_core::ImageId;
use jtp_store::NameArena;

/// What a name in the folder stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// An image with known content: by its first bytes or its extension
    /// ([`has_image_extension`](jtp_store::has_image_extension)). Only such files are ever moved or replaced.
    Image(ImageId),
    /// A file with this content that may or may not be an image: its extension is `.img`, and its first bytes are those of
    /// no image. It is an image if the server lists it, and [`Other`](FileKind::Other) if not. // R5
    Unrecognised(ImageId),
    /// An image whose content is not known, because it was not read or cannot be read. It stays in place with
    /// [`Fetch::Missing`](crate::Fetch::Missing) and may be replaced with [`Fetch::All`](crate::Fetch::All).
    Unread,
    /// A regular file that is not an image. It is never moved or replaced. // R5
    Other,
    /// A folder. Images may be in it, and no image can have its name. // W9
    Folder,
    /// A link, a device: a name that cannot be used.
    Reserved,
}

impl FileKind {
    /// The code in the tag of a name.
    pub(crate) const fn code(self) -> u8 {
        match self {
            FileKind::Image(_) => 0,
            FileKind::Unread => 1,
            FileKind::Other => 2,
            FileKind::Reserved => 3,
            FileKind::Unrecognised(_) => 4,
            FileKind::Folder => 5,
        }
    }

    pub(crate) const fn new(code: u8, id: ImageId) -> FileKind {
        match code {
            0 => FileKind::Image(id),
            1 => FileKind::Unread,
            2 => FileKind::Other,
            4 => FileKind::Unrecognised(id),
            5 => FileKind::Folder,
            _ => FileKind::Reserved,
        }
    }
}

/// The names in the folder and what they stand for, as a scan found them: paths below the folder, joined by `/`.
///
/// It takes some 14 bytes for each name and the name itself. Hidden files need not be added: no image gets their
/// names. A file whose name is not UTF-8 cannot be added either; if it is an image that the server lists, that image is
/// fetched once, under its own name.
///
/// ```
/// use jtp_core::ImageId;
/// use jtp_sync::{FileKind, Inventory};
///
/// let mut inventory = Inventory::new();
/// inventory.add("a.png", FileKind::Image(ImageId(1)));
/// inventory.add("notes", FileKind::Reserved);
/// assert_eq!(inventory.len(), 2);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Inventory {
    arena: NameArena,
    ids: Vec<ImageId>,
    names: Vec<u32>,
    case_sensitive: bool,
}

impl Inventory {
    /// An empty folder.
    #[must_use]
    pub fn new() -> Inventory {
        Inventory::default()
    }

    /// Sets whether the file system keeps apart names that differ only in case or in their normal form. By default the
    /// planner assumes that it may not, and treats such names as one: it then moves some files without need, and does
    /// not rely on a file whose name is similar to one that it wrote.
    pub fn set_case_sensitive(&mut self, sensitive: bool) {
        self.case_sensitive = sensitive;
    }

    /// Whether the file system keeps apart names that differ only in case or in their normal form.
    #[must_use]
    pub fn is_case_sensitive(&self) -> bool {
        self.case_sensitive
    }

    /// Adds a name, which is unique in the folder. `false` if it does not fit ([`NameArena`]).
    pub fn add(&mut self, name: &str, kind: FileKind) -> bool {
        let Some(address) = self.arena.push(kind.code(), name) else {
            return false;
        };
        grow(&mut self.ids);
        grow(&mut self.names);
        self.ids.push(match kind {
            FileKind::Image(id) | FileKind::Unrecognised(id) => id,
            _ => ImageId(0),
        });
        self.names.push(address);
        true
    }

    /// Adds all names of another part of the folder.
    pub(crate) fn append(&mut self, part: &Inventory) {
        for (name, kind) in part.iter() {
            self.add(name, kind);
        }
    }

    /// Replaces unread files by the images that `known` returns for their names. On a file system that may ignore case,
    /// also by those that `alike` returns, with another name that the folder does not have.
    pub(crate) fn resolve(
        &mut self,
        known: impl Fn(&str) -> Option<ImageId>,
        alike: impl Fn(&str) -> Option<(String, ImageId)>,
    ) {
        let mut others = Vec::new();
        for (index, &address) in self.names.iter().enumerate() {
            if self.arena.tag(address) != FileKind::Unread.code() {
                continue;
            }
            let name = self.arena.name(address);
            if let Some(found) = known(name) {
                self.ids[index] = found;
                self.arena.set_tag(address, FileKind::Image(found).code());
            } else if let Some((other, found)) = alike(name).filter(|_| !self.case_sensitive) {
                others.push((index, other, found));
            }
        }
        if others.is_empty() {
            return;
        }
        let mut free: HashSet<&str> = others.iter().map(|(_, other, _)| &**other).collect();
        for &address in &self.names {
            free.remove(self.arena.name(address));
        }
        for (index, other, found) in &others {
            if free.contains(&**other) {
                self.ids[*index] = *found;
                let tag = FileKind::Image(*found).code();
                self.arena.set_tag(self.names[*index], tag);
            }
        }
    }

    /// Gives back the memory that was reserved for more names.
    pub(crate) fn shrink_to_fit(&mut self) {
        self.ids.shrink_to_fit();
        self.names.shrink_to_fit();
    }

    /// The names, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (&str, FileKind)> {
        self.names.iter().zip(&self.ids).map(|(&address, &id)| {
            let kind = FileKind::new(self.arena.tag(address), id);
            (self.arena.name(address), kind)
        })
    }

    /// The number of names.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no names.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// Makes room for one more, growing by an eighth: these tables are the bulk of a large inventory.
pub(crate) fn grow<T>(table: &mut Vec<T>) {
    if table.len() == table.capacity() {
        table.reserve_exact(table.len() / 8 + 16);
    }
}
