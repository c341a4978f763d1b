//! Whether the path of the folder still leads to it.

use super::{Inner, OutputError, OutputFolder};

impl OutputFolder {
    /// Fails if the path of the folder does not lead to this folder any more: it was moved or removed, or another folder or
    /// disk is in its place. This handle still leads to the folder that was opened, so a program that goes on with it writes
    /// where nobody looks. Blocking; two system calls. // R8
    ///
    /// Where inodes prove nothing, folders on one file system are distinguished on Linux only, by the path that the kernel
    /// gives for the handle. On systems other than Unix, an open folder cannot be moved, and nothing is checked.
    ///
    /// # Errors
    ///
    /// [`OutputError::Replaced`]. If the system does not say what the path leads to, that is no error.
    pub fn check_path(&self) -> Result<(), OutputError> {
        match self.0.is_at_its_path() {
            true => Ok(()),
            false => Err(OutputError::Replaced {
                path: self.0.path.clone(),
            }),
        }
    }
}

impl Inner {
    #[cfg(unix)]
    fn is_at_its_path(&self) -> bool {
        use std::io::ErrorKind as Kind;

        use crate::fingerprint::Stat;
        let found = match std::fs::metadata(&self.path) {
            Ok(found) if !found.is_dir() => return false,
            Ok(found) => Stat::of(&found),
            Err(e) => return !matches!(e.kind(), Kind::NotFound | Kind::NotADirectory),
        };
        let Ok(own) = self.dir.dir_metadata() else {
            return true;
        };
        let own = Stat::of_cap(&own);
        match self.file_system.trusts_inodes() {
            true => own.is_same_file(&found),
            false => own.device == found.device && self.has_its_path(),
        }
    }

    /// Whether the kernel gives the same path for this folder and for the one that has its path.
    #[cfg(target_os = "linux")]
    fn has_its_path(&self) -> bool {
        use std::os::fd::AsRawFd;
        let path = |dir: &cap_std::fs::Dir| {
            let link = format!("/proc/self/fd/{}", dir.as_raw_fd());
            let path = std::fs::read_link(link).ok()?.into_os_string();
            // A network file system may have forgotten the path. Nothing can be written to a folder that was removed.
            (!path.as_encoded_bytes().ends_with(b" (deleted)")).then_some(path)
        };
        let found = super::open_dir(&self.path).ok();
        match (path(&self.dir), found.as_ref().and_then(path)) {
            (Some(own), Some(found)) => own == found,
            _ => true,
        }
    }

    #[cfg(all(unix, not(target_os = "linux")))]
    #[allow(clippy::unused_self)]
    fn has_its_path(&self) -> bool {
        true
    }

    #[cfg(not(unix))]
    #[allow(clippy::unused_self)]
    fn is_at_its_path(&self) -> bool {
        true
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn r8_folder_that_was_moved_replaced_or_removed_is_noticed_where_inodes_prove_nothing_too() {
        for open in [OutputFolder::open, OutputFolder::open_distrusting_inodes] {
            let temp = tempfile::tempdir().unwrap();
            let (path, old) = (temp.path().join("out"), temp.path().join("old"));
            let is_replaced = |folder: &OutputFolder| {
                let checked = folder.check_path();
                matches!(checked, Err(OutputError::Replaced { .. }))
            };
            let folder = open(path.clone()).unwrap();
            assert!(!is_replaced(&folder));
            fs::rename(&path, &old).unwrap();
            assert!(is_replaced(&folder), "moved");
            fs::create_dir(&path).unwrap();
            if folder.0.file_system.trusts_inodes() || cfg!(target_os = "linux") {
                assert!(is_replaced(&folder), "replaced");
            }
            fs::remove_dir(&path).unwrap();
            fs::write(&path, b"a file").unwrap();
            assert!(is_replaced(&folder), "replaced by a file");
            fs::remove_file(&path).unwrap();
            fs::rename(&old, &path).unwrap();
            assert!(!is_replaced(&folder), "moved back");
        }
    }
}
