//! What tests do in a folder.

use std::fs;
use std::path::Path;

/// Calls of [`std::fs`] with names in a folder. They panic with the path where those fail.
pub trait Folder {
    /// Creates a folder, and those on the way to it.
    fn make_dir(&self, name: impl AsRef<Path>);

    /// Writes a file.
    fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>);

    /// Reads a file.
    fn read(&self, name: impl AsRef<Path>) -> Vec<u8>;

    /// Gives a file or folder another name.
    fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>);

    /// Gives a file a second name.
    fn hard_link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>);

    /// Creates a symbolic link.
    #[cfg(unix)]
    fn link(&self, target: impl AsRef<Path>, name: impl AsRef<Path>);

    /// Removes a file or link, or a folder with all that is in it.
    fn remove(&self, name: impl AsRef<Path>);

    /// Sets the permissions of a file or folder.
    #[cfg(unix)]
    fn set_mode(&self, name: impl AsRef<Path>, mode: u32);

    /// The names of hidden files, except the client's index.
    fn temporaries(&self) -> Vec<String>;
}

/// What shows whether anything in a folder was touched: everything that can be seen of it, but for access times.
#[cfg(unix)]
#[must_use]
pub fn stamps(path: &Path) -> Vec<String> {
    use std::hash::{DefaultHasher, Hash, Hasher};
    use std::os::unix::fs::MetadataExt;
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Vec::new();
    };
    let (mode, inode, links) = (metadata.mode(), metadata.ino(), metadata.nlink());
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    let changed = (metadata.ctime(), metadata.ctime_nsec());
    let mut content = DefaultHasher::new();
    if metadata.is_file() {
        fs::read(path).unwrap_or_default().hash(&mut content);
    }
    let (name, content) = (path.display(), content.finish());
    let mut seen = vec![format!(
        "{name} {mode:o} {inode} {links} {modified:?} {changed:?} {content:x}"
    )];
    if metadata.is_dir() {
        let entries = done(fs::read_dir(path), path);
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        seen.extend(paths.iter().flat_map(|path| stamps(path)));
    }
    seen
}

#[track_caller]
fn done<T>(result: std::io::Result<T>, path: &Path) -> T {
    result.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

impl Folder for Path {
    #[track_caller]
    fn make_dir(&self, name: impl AsRef<Path>) {
        let path = self.join(name);
        done(fs::create_dir_all(&path), &path);
    }

    #[track_caller]
    fn write(&self, name: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.join(name);
        done(fs::write(&path, bytes), &path);
    }

    #[track_caller]
    fn read(&self, name: impl AsRef<Path>) -> Vec<u8> {
        let path = self.join(name);
        done(fs::read(&path), &path)
    }

    #[track_caller]
    fn rename(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let path = self.join(from);
        done(fs::rename(&path, self.join(to)), &path);
    }

    #[track_caller]
    fn hard_link(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let path = self.join(from);
        done(fs::hard_link(&path, self.join(to)), &path);
    }

    #[cfg(unix)]
    #[track_caller]
    fn link(&self, target: impl AsRef<Path>, name: impl AsRef<Path>) {
        let path = self.join(name);
        done(std::os::unix::fs::symlink(target, &path), &path);
    }

    #[track_caller]
    fn remove(&self, name: impl AsRef<Path>) {
        let path = self.join(name);
        let is_folder = fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        let removed = match is_folder {
            true => fs::remove_dir_all(&path),
            false => fs::remove_file(&path),
        };
        done(removed, &path);
    }

    #[cfg(unix)]
    #[track_caller]
    fn set_mode(&self, name: impl AsRef<Path>, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.join(name);
        done(
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)),
            &path,
        );
    }

    #[track_caller]
    fn temporaries(&self) -> Vec<String> {
        let names = done(fs::read_dir(self), self);
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let is_temporary = |name: &String| name.starts_with('.') && name != ".jtp-index";
        names.filter(is_temporary).collect()
    }
}
