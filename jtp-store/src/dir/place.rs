//! Where the images folder is: which folder its path leads to at the start, and which others are accepted there later.
//!
//! The folder may be removed and come back: a disk is unplugged and plugged in again, or a new folder takes its place. So
//! the path is resolved again. On its way there may be folders in which other users can rename what they like, and thereby
//! have another folder published: one of this user's that is not for the public, for example. Therefore:
//!
//! - At the start, the path is followed wherever it leads, links included: who starts the program has chosen it.
//! - Later, the same folder is accepted again, wherever it was in between. Another one is accepted only if no one but
//!   root, this process's user or the owner of the images folder can have put it there. Then it has to have the same
//!   owner; a folder of root or of this process's user is accepted if the owner of the images folder, too, cannot have put
//!   it there.
//! - The root of a file system that is mounted in the same place is accepted: only root can mount.
//! - A link is followed later if one of these users owns it and no one else can replace it: a link `current` that is
//!   switched from one release to the next. If there was any other link at the start, the path is from then on that to
//!   which it led.

use std::io;
use std::path::PathBuf;

use cap_std::fs::Dir;

#[cfg(unix)]
pub(super) use unix::Place;

#[cfg(not(unix))]
pub(super) use other::Place;

#[cfg(unix)]
mod unix {
    use std::fs::File;
    use std::os::fd::{AsFd, BorrowedFd};

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat, fstat, openat, statat};

    use super::{Dir, PathBuf, io};
    use crate::walk::{Trusted, walk};

    /// The path of the images folder.
    pub(in crate::dir) struct Place {
        /// As the caller gave it; once it was opened, perhaps without links.
        path: PathBuf,
        /// The current folder when the program was started.
        start: Option<File>,
        accepted: Option<Accepted>,
    }

    /// The last folder that was accepted.
    #[derive(Clone, Copy)]
    struct Accepted {
        folder: Stat,
        parent: Option<Stat>,
    }

    impl Accepted {
        fn new(folder: &impl AsFd, stat: Stat) -> Accepted {
            Accepted {
                folder: stat,
                parent: statat(folder, "..", AtFlags::empty()).ok(),
            }
        }

        /// Whether another folder is the root of a file system that was mounted in the same place.
        fn is_mounted_over(&self, folder: &File, now: &Accepted) -> bool {
            let same = self.parent.zip(now.parent);
            same.is_some_and(|(before, now)| is_same(&before, &now)) && is_mounted(folder)
        }
    }

    impl Place {
        pub(in crate::dir) fn new(path: PathBuf) -> Place {
            let start = openat(CWD, ".", folder_flags(), Mode::empty());
            Place {
                path,
                start: start.ok().map(File::from),
                accepted: None,
            }
        }

        fn start(&self) -> BorrowedFd<'_> {
            self.start.as_ref().map_or(CWD, AsFd::as_fd)
        }

        /// Whether the path leads to this folder. One or two system calls.
        pub(in crate::dir) fn leads_to(&self, dir: &Dir) -> io::Result<bool> {
            let found = statat(self.start(), &self.path, AtFlags::empty())?;
            Ok(is_same(&found, &fstat(dir)?))
        }

        /// Opens the folder to which the path leads.
        ///
        /// # Errors
        ///
        /// The system's error, or `PermissionDenied` if other users may have put that folder there.
        pub(in crate::dir) fn open(&mut self) -> io::Result<Dir> {
            match self.accepted {
                None => self.open_first(),
                Some(before) => self.open_again(&before),
            }
        }

        fn open_first(&mut self) -> io::Result<Dir> {
            let opened = openat(self.start(), &self.path, folder_flags(), Mode::empty())?;
            let found = fstat(&opened)?;
            let trusted = Trusted::and(found.st_uid);
            let walked = walk(&self.start(), &self.path, trusted);
            let is_same_folder =
                |folder: &File| fstat(folder).is_ok_and(|walked| is_same(&walked, &found));
            if !walked.is_ok_and(|walked| is_same_folder(&walked.folder)) {
                // There is a link on the way that others can change.
                self.path = std::fs::canonicalize(&self.path)?;
            }
            self.accepted = Some(Accepted::new(&opened, found));
            Ok(Dir::from_std_file(File::from(opened)))
        }

        fn open_again(&mut self, before: &Accepted) -> io::Result<Dir> {
            let owner = before.folder.st_uid;
            let walked = walk(&self.start(), &self.path, Trusted::and(owner))?;
            let found = fstat(&walked.folder)?;
            let now = Accepted::new(&walked.folder, found);
            let user = found.st_uid;
            let is_same_folder = is_same(&found, &before.folder) && user == owner;
            if !is_same_folder && !before.is_mounted_over(&walked.folder, &now) {
                if !walked.is_controlled {
                    return Err(refused("may have been put there by another user"));
                }
                if user != owner && !(walked.is_own && Trusted::OWN.includes(user)) {
                    return Err(refused(&format!("belongs to another user (uid {user})")));
                }
            }
            self.accepted = Some(now);
            Ok(Dir::from_std_file(walked.folder))
        }
    }

    fn refused(why: &str) -> io::Error {
        let message =
            format!("another folder has taken its place, which {why}; start again to serve it");
        io::Error::new(io::ErrorKind::PermissionDenied, message)
    }

    fn is_same(one: &Stat, two: &Stat) -> bool {
        (one.st_dev, one.st_ino) == (two.st_dev, two.st_ino)
    }

    fn folder_flags() -> OFlags {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        #[cfg(any(target_os = "linux", target_os = "android"))]
        let flags = flags | OFlags::PATH;
        flags
    }

    /// Whether the folder is the root of a mounted file system. `false` if the system does not say.
    #[cfg(target_os = "linux")]
    fn is_mounted(folder: &File) -> bool {
        crate::dir::mounts::is_mount_root(folder).unwrap_or(false)
    }

    #[cfg(not(target_os = "linux"))]
    fn is_mounted(folder: &File) -> bool {
        let parent = statat(folder, "..", AtFlags::empty());
        parent.is_ok_and(|parent| fstat(folder).is_ok_and(|own| own.st_dev != parent.st_dev))
    }
}

#[cfg(not(unix))]
mod other {
    use super::{Dir, PathBuf, io};

    /// The path of the images folder.
    pub(in crate::dir) struct Place {
        path: PathBuf,
    }

    impl Place {
        pub(in crate::dir) fn new(path: PathBuf) -> Place {
            Place { path }
        }

        /// Whether the path leads to a folder. Without inodes it is known by its path alone.
        pub(in crate::dir) fn leads_to(&self, dir: &Dir) -> io::Result<bool> {
            std::fs::metadata(&self.path)?;
            dir.dir_metadata().map(|_| true)
        }

        pub(in crate::dir) fn open(&mut self) -> io::Result<Dir> {
            Dir::open_ambient_dir(&self.path, cap_std::ambient_authority())
        }
    }
}
