//! The folders that have files, each under a number, so that a file's path takes a number and a name.

use hashbrown::HashTable;

use crate::secret_hash::SecretHash;

/// The paths of folders, relative to the images folder. That of the images folder itself is empty.
#[derive(Debug, Default)]
pub(super) struct FolderPaths {
    folders: Vec<Folder>,
    vacant: Vec<u32>,
    by_path: HashTable<u32>,
    hash: SecretHash,
}

#[derive(Debug, Default)]
struct Folder {
    path: Box<[u8]>,
    /// The number of files in it.
    files: u32,
}

impl FolderPaths {
    pub(super) fn path(&self, number: u32) -> &[u8] {
        path_of(&self.folders, number)
    }

    /// An exclusive upper bound of all numbers.
    pub(super) fn numbers_end(&self) -> usize {
        self.folders.len()
    }

    /// The number of a folder that has files.
    pub(super) fn number(&self, path: &[u8]) -> Option<u32> {
        let is_match = |number: &u32| self.path(*number) == path;
        let hash = self.hash.of_bytes(path);
        self.by_path.find(hash, is_match).copied()
    }

    /// Adds a file to a folder, of which `number` is the number if it has one. Returns the folder's number; `None` if
    /// there is no room.
    pub(super) fn enter(&mut self, path: &[u8], number: Option<u32>) -> Option<u32> {
        let number = match number {
            Some(number) => number,
            None => self.add(path)?,
        };
        let folder = self.folders.get_mut(index(number))?;
        folder.files += 1;
        Some(number)
    }

    fn add(&mut self, path: &[u8]) -> Option<u32> {
        let folder = Folder {
            path: path.into(),
            files: 0,
        };
        let number = match self.vacant.pop() {
            Some(number) => {
                *self.folders.get_mut(index(number))? = folder;
                number
            }
            None => {
                self.folders.push(folder);
                u32::try_from(self.folders.len() - 1).ok()?
            }
        };
        let (folders, hash) = (&self.folders, &self.hash);
        let hash_of = |number: &u32| hash.of_bytes(path_of(folders, *number));
        self.by_path
            .insert_unique(hash.of_bytes(path), number, hash_of);
        Some(number)
    }

    /// Removes a file from a folder. A folder without files loses its number.
    pub(super) fn leave(&mut self, number: u32) {
        let Some(folder) = self.folders.get_mut(index(number)) else {
            return;
        };
        folder.files = folder.files.saturating_sub(1);
        if folder.files > 0 {
            return;
        }
        let hash = self.hash.of_bytes(&folder.path);
        folder.path = Box::default();
        if let Ok(entry) = self.by_path.find_entry(hash, |other| *other == number) {
            entry.remove();
        }
        self.vacant.push(number);
    }
}

fn path_of(folders: &[Folder], number: u32) -> &[u8] {
    folders
        .get(index(number))
        .map_or(&[], |folder| &folder.path)
}

fn index(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The folder and the name of a path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&[], path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_keeps_its_number_until_its_last_file_is_removed() {
        let mut folders = FolderPaths::default();
        let enter = |folders: &mut FolderPaths, path: &[u8]| {
            let number = folders.number(path);
            folders.enter(path, number).unwrap()
        };
        let root = enter(&mut folders, b"");
        let album = enter(&mut folders, b"2024/album");
        assert_eq!(enter(&mut folders, b"2024/album"), album);
        assert_ne!(root, album);
        assert_eq!(folders.path(root), b"");
        assert_eq!(folders.path(album), b"2024/album");
        folders.leave(album);
        assert_eq!(folders.number(b"2024/album"), Some(album));
        folders.leave(album);
        assert_eq!(folders.number(b"2024/album"), None);
        let other = enter(&mut folders, b"other");
        assert_eq!(other, album, "the number is used again");
        assert_eq!(folders.number(b"other"), Some(album));
        assert_eq!(folders.number(b""), Some(root));
    }

    #[test]
    fn a_path_is_split_at_its_last_slash() {
        assert_eq!(split(b"a.png"), (&b""[..], &b"a.png"[..]));
        assert_eq!(split(b"a/b/c.png"), (&b"a/b"[..], &b"c.png"[..]));
    }
}
