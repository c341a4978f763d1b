//! Removes files, or moves them to a backup folder.

use std::io;
use std::sync::atomic::AtomicBool;

use jtp_core::ImageId;

use super::tree::is_cross_device;
use super::{FileState, Inner, MoveError, OutputError, OutputFolder};
use crate::name::split;

/// The most names that are tried in a backup folder.
const MAX_NAMES: u32 = 10_000;

/// The longest stem of a name with a suffix in a backup folder, in bytes.
const MAX_STEM: usize = 200;

impl OutputFolder {
    /// Removes the regular file with this name. Blocking. // R8
    ///
    /// `state` comes from [`OutputFolder::look`], and is compared with the folder directly before the file is removed. Links
    /// and folders are never removed. A file that has other hard links keeps those.
    ///
    /// # Errors
    ///
    /// [`MoveError`].
    pub fn remove(&self, name: &str, state: &FileState) -> Result<(), MoveError> {
        let failed = |e| self.0.not_removed(name, e);
        self.0.check_writable().map_err(failed)?;
        let at = self.0.locate(name).map_err(failed)?;
        if !state.is_file() || at.look(self.0.file_system).map_err(failed)? != *state {
            return Err(MoveError::Changed);
        }
        at.folder.remove_file(at.name).map_err(failed)
    }

    /// Moves the regular file with this name to another folder, under the same path there; returns that path. Blocking. // R8
    ///
    /// If something has that path, the file gets the ID as a suffix, and then a number: nothing is replaced. If a file with the
    /// same content has one of these paths, this file is removed. Between two file systems the file is copied with its mode
    /// and times, and removed once the copy is complete. `state` is as in [`OutputFolder::remove`].
    ///
    /// # Errors
    ///
    /// [`MoveError`]: [`MoveError::Name`] for each error of the other folder. The file is where it was.
    pub fn move_to(
        &self,
        name: &str,
        state: &FileState,
        id: ImageId,
        backup: &OutputFolder,
    ) -> Result<String, MoveError> {
        let failed = |e| self.0.not_removed(name, e);
        self.0.check_writable().map_err(failed)?;
        let from = self.0.locate(name).map_err(failed)?;
        if !state.is_file() || from.look(self.0.file_system).map_err(failed)? != *state {
            return Err(MoveError::Changed);
        }
        for n in 0..MAX_NAMES {
            let path = numbered(name, id, n);
            let failed = |e| backup.0.not_backed_up(&path, e);
            let to = backup.0.locate_or_create(&path).map_err(failed)?;
            let moved = match backup.0.rename_to_free(&from, &to) {
                Err(e) if is_cross_device(&e) => {
                    let source = (&from, state, self.0.file_system);
                    let moved = backup.0.move_across(source, &to, &FileState::NOTHING);
                    if moved.is_ok()
                        && !from.look(self.0.file_system).map_err(&failed)?.is_nothing()
                    {
                        // It was changed meanwhile, and stays.
                        return Err(MoveError::Changed);
                    }
                    moved
                }
                moved => moved.map_err(Into::into),
            };
            let error = match moved {
                Ok(()) => return Ok(path),
                Err(super::moves::Unmoved::Changed) => return Err(MoveError::Changed),
                Err(super::moves::Unmoved::Io(e)) => e,
            };
            let is_taken = error.kind() == io::ErrorKind::AlreadyExists
                || to
                    .look(backup.0.file_system)
                    .is_ok_and(|found| !found.is_nothing());
            if !is_taken {
                return Err(failed(error));
            }
            if self.is_equal((name, state), &path, backup) {
                self.remove(name, state)?;
                return Ok(path);
            }
        }
        let full = io::Error::new(io::ErrorKind::AlreadyExists, "too many files of this name");
        Err(backup.0.not_backed_up(name, full))
    }

    /// Whether a file of the backup folder has the content of this file. Both are read.
    fn is_equal(
        &self,
        (name, state): (&str, &FileState),
        path: &str,
        backup: &OutputFolder,
    ) -> bool {
        let Ok(other) = backup.0.look(path) else {
            return false;
        };
        if !other.is_file() || other.length() != state.length() {
            return false;
        }
        let stop = AtomicBool::new(false);
        let id = self.0.read_id(name, state, &stop);
        let other = backup.0.read_id(path, &other, &stop);
        matches!((id, other), (Ok(id), Ok(other)) if id == other)
    }

    /// Removes the folders of this path that are empty, the innermost first, and returns their paths. The output folder itself
    /// stays. Blocking. // W9
    #[must_use]
    pub fn remove_empty_folders<'a>(&self, name: &'a str) -> Vec<&'a str> {
        let mut removed = Vec::new();
        let mut path = name;
        while let Some((folder, _)) = path.rsplit_once('/') {
            path = folder;
            let done = self
                .0
                .locate(path)
                .and_then(|at| at.folder.remove_dir(at.name));
            if done.is_err() {
                break;
            }
            removed.push(path);
        }
        removed
    }
}

impl Inner {
    fn not_removed(&self, name: &str, e: io::Error) -> MoveError {
        // A sub-folder may be on another file system than the root. // W9
        let is_folder = !name.contains('/') && self.concerns_folder(&e);
        let is_gone = e.kind() == io::ErrorKind::NotFound && !is_folder;
        let error = OutputError::new(&self.path.join(name), e);
        match is_folder {
            true => MoveError::Folder(error),
            false if is_gone => MoveError::Changed,
            false => MoveError::Name(error),
        }
    }

    fn not_backed_up(&self, name: &str, e: io::Error) -> MoveError {
        MoveError::Name(OutputError::new(&self.path.join(name), e))
    }
}

/// The `n`th name of a file in a backup folder.
fn numbered(path: &str, id: ImageId, n: u32) -> String {
    if n == 0 {
        return path.to_owned();
    }
    let (folder, file) = match path.rsplit_once('/') {
        Some((folder, file)) => (format!("{folder}/"), file),
        None => (String::new(), path),
    };
    let (stem, extension) = split(file);
    let mut end = stem.len().min(MAX_STEM);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let stem = stem.get(..end).unwrap_or_default();
    match n {
        1 => format!("{folder}{stem}-{id}{extension}"),
        n => format!("{folder}{stem}-{id}-{n}{extension}"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ID: ImageId = ImageId(0xab);

    fn open(temp: &tempfile::TempDir, name: &str) -> OutputFolder {
        OutputFolder::open(temp.path().join(name)).unwrap()
    }

    #[cfg(unix)]
    #[test]
    fn r8_links_and_folders_are_not_removed() {
        let (temp, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let folder = open(&temp, "out");
        let out = temp.path().join("out");
        fs::write(outside.path().join("a.png"), b"a").unwrap();
        std::os::unix::fs::symlink(outside.path().join("a.png"), out.join("link.png")).unwrap();
        std::os::unix::fs::symlink(outside.path(), out.join("folder")).unwrap();
        fs::create_dir(out.join("sub.png")).unwrap();
        for name in ["link.png", "folder", "sub.png", "folder/a.png"] {
            let state = folder.look(name).unwrap();
            assert!(folder.remove(name, &state).is_err(), "{name}");
            let backup = open(&temp, "backup");
            assert!(folder.move_to(name, &state, ID, &backup).is_err(), "{name}");
        }
        assert!(outside.path().join("a.png").exists() && out.join("link.png").is_symlink());
    }

    #[test]
    fn r8_a_backup_never_replaces_a_file() {
        let temp = tempfile::tempdir().unwrap();
        let (folder, backup) = (open(&temp, "out"), open(&temp, "backup"));
        let long = numbered(&format!("x{}.png", "é".repeat(120)), ID, 1);
        assert_eq!(long, format!("x{}-{ID}.png", "é".repeat(99)));
        let mut paths = Vec::new();
        for content in [b"1", b"2", b"3"] {
            fs::create_dir_all(temp.path().join("out/2024")).unwrap();
            fs::write(temp.path().join("out/2024/a.png"), content).unwrap();
            let state = folder.look("2024/a.png").unwrap();
            paths.push(folder.move_to("2024/a.png", &state, ID, &backup).unwrap());
        }
        let expected = [
            "2024/a.png",
            "2024/a-00000000000000ab.png",
            "2024/a-00000000000000ab-2.png",
        ];
        assert_eq!(paths, expected);
        for (path, content) in paths.iter().zip([b"1", b"2", b"3"]) {
            assert_eq!(
                fs::read(temp.path().join("backup").join(path)).unwrap(),
                content
            );
        }
        assert!(!temp.path().join("out/2024/a.png").exists());
        assert_eq!(folder.remove_empty_folders("2024/a.png"), ["2024"]);
        assert!(!temp.path().join("out/2024").exists() && temp.path().join("out").exists());
    }

    #[test]
    fn w9_folders_that_are_not_empty_stay() {
        let temp = tempfile::tempdir().unwrap();
        let folder = open(&temp, "out");
        fs::create_dir_all(temp.path().join("out/a/b/c")).unwrap();
        fs::write(temp.path().join("out/a/notes.txt"), b"").unwrap();
        assert_eq!(folder.remove_empty_folders("a/b/c/x.png"), ["a/b/c", "a/b"]);
        assert!(temp.path().join("out/a/notes.txt").exists());
        assert!(!temp.path().join("out/a/b").exists());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn r8_a_backup_has_the_contents_and_the_time_of_the_file_on_each_file_system() {
        use std::time::{Duration, SystemTime};
        let temp = tempfile::tempdir().unwrap();
        let others = [
            tempfile::tempdir().ok(),
            tempfile::tempdir_in("/dev/shm").ok(),
        ];
        let time = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_700);
        for other in others.into_iter().flatten() {
            let folder = open(&temp, "out");
            let backup = OutputFolder::open(other.path().join("backup")).unwrap();
            let path = temp.path().join("out/a.png");
            fs::write(&path, vec![7; 300_000]).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(time).unwrap();
            let state = folder.look("a.png").unwrap();
            folder.move_to("a.png", &state, ID, &backup).unwrap();
            let copy = other.path().join("backup/a.png");
            let modified = fs::metadata(&copy).unwrap().modified().unwrap();
            assert_eq!(modified, time, "{}", copy.display());
            assert!(!path.exists() && fs::read(copy).unwrap() == vec![7; 300_000]);
        }
    }

    #[test]
    fn r8_a_file_that_is_backed_up_already_gets_no_second_copy() {
        let (temp, other) = (
            tempfile::tempdir().unwrap(),
            tempfile::tempdir_in("/dev/shm"),
        );
        let mut places = vec![temp.path().join("backup")];
        places.extend(other.iter().map(|other| other.path().join("backup")));
        for place in places {
            let folder = open(&temp, "out");
            let backup = OutputFolder::open(&place).unwrap();
            let out = temp.path().join("out/a.png");
            let mut back_up = |content: &[u8]| {
                fs::write(&out, content).unwrap();
                let state = folder.look("a.png").unwrap();
                let id = ImageId::of(content);
                let path = folder.move_to("a.png", &state, id, &backup).unwrap();
                assert!(!out.exists());
                assert_eq!(fs::read(place.join(&path)).unwrap(), content);
                path
            };
            let second = format!("a-{}.png", ImageId::of(b"other"));
            let expected = ["a.png", "a.png", &second, &second, "a.png"];
            let contents: [&[u8]; 5] = [b"first", b"first", b"other", b"other", b"first"];
            assert_eq!(contents.map(&mut back_up), expected);
            let images = fs::read_dir(&place)
                .unwrap()
                .map(|entry| entry.unwrap().file_name());
            let images = images.filter(|name| name.to_string_lossy().ends_with(".png"));
            assert_eq!(images.count(), 2);
        }
    }

    /// The caller gives another ID if the file cannot be read.
    #[test]
    fn r8_a_file_is_not_removed_because_the_backup_has_another_image_with_its_id_in_the_name() {
        let temp = tempfile::tempdir().unwrap();
        let (folder, backup) = (open(&temp, "out"), open(&temp, "backup"));
        fs::write(temp.path().join("backup/a.png"), b"one").unwrap();
        fs::write(temp.path().join("out/a.png"), b"two").unwrap();
        let state = folder.look("a.png").unwrap();
        let id = ImageId::of(b"one");
        let path = folder.move_to("a.png", &state, id, &backup).unwrap();
        assert_eq!(path, format!("a-{id}.png"));
        let moved = fs::read(temp.path().join("backup").join(path)).unwrap();
        assert_eq!(moved, b"two");
    }

    /// A copy that stays has the name that was free before, so each further name would get a copy, too.
    #[cfg(target_os = "linux")]
    #[test]
    fn r8_file_that_cannot_be_removed_leaves_no_copy_on_another_file_system() {
        use std::os::unix::fs::PermissionsExt;
        let Ok(other) = tempfile::tempdir_in("/dev/shm") else {
            return;
        };
        let temp = tempfile::tempdir().unwrap();
        let folder = open(&temp, "out");
        let backup = OutputFolder::open(other.path().join("backup")).unwrap();
        let sub = temp.path().join("out/2024");
        fs::create_dir(&sub).unwrap();
        let path = sub.join("a.png");
        fs::write(&path, b"a").unwrap();
        // Root may write in any folder, but not remove an immutable file.
        let set_immutable = |flag: &str| {
            let chattr = std::process::Command::new("chattr")
                .arg(flag)
                .arg(&path)
                .output();
            chattr.is_ok_and(|output| output.status.success())
        };
        let set_mode = |mode| fs::set_permissions(&sub, fs::Permissions::from_mode(mode)).unwrap();
        if rustix::process::geteuid().is_root() {
            if !set_immutable("+i") {
                return;
            }
        } else {
            set_mode(0o555);
        }
        let state = folder.look("2024/a.png").unwrap();
        let moved = folder.move_to("2024/a.png", &state, ID, &backup);
        set_immutable("-i");
        set_mode(0o755);
        assert!(matches!(moved, Err(MoveError::Name(_))), "{moved:?}");
        assert_eq!(fs::read(&path).unwrap(), b"a");
        let copies = fs::read_dir(other.path().join("backup/2024")).unwrap();
        assert_eq!(copies.count(), 0);
    }
}
