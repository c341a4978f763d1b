//! Where the links in a folder lead.
//!
//! A link is translated to a path below the folder without links, so that the names on the way to the file are known.
//! On Linux, a link may lead out of the folder and back into it: outside, the translation follows links on the file
//! systems that the path of the folder crosses, and no others: those of another machine might not answer.

use std::ffi::OsStr;
#[cfg(not(target_os = "linux"))]
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use cap_std::fs::Dir;

use crate::path_parts::{MAX_LINKS, reversed};

/// The path below `dir`, without links, of the file to which the name leads.
///
/// # Errors
///
/// The name leads out of the folder, or to nothing but links.
pub(crate) fn resolve(dir: &Dir, name: &OsStr) -> io::Result<PathBuf> {
    let leads_out = || {
        let message = "the link leads out of the images folder";
        io::Error::new(io::ErrorKind::PermissionDenied, message)
    };
    let mut resolved = PathBuf::new();
    // What is left of the path, in reverse order.
    let mut rest = reversed(Path::new(name));
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            if !resolved.pop() {
                rest = from_parent(dir, &mut rest, &mut links).ok_or_else(leads_out)?;
                resolved = PathBuf::new();
            }
            continue;
        }
        let path = resolved.join(&part);
        let Ok(target) = dir.read_link_contents(&path) else {
            resolved = path; // No link, or missing.
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(too_many_links());
        }
        rest.extend(reversed(&target));
        if target.has_root() {
            rest = from_root(dir, &mut rest, &mut links).ok_or_else(leads_out)?;
            resolved = PathBuf::new();
        }
    }
    match resolved.as_os_str().is_empty() {
        true => Err(leads_out()), // The folder itself.
        false => Ok(resolved),
    }
}

fn too_many_links() -> io::Error {
    #[cfg(unix)]
    return rustix::io::Errno::LOOP.into();
    #[cfg(not(unix))]
    io::Error::other("too many links")
}

#[cfg(not(target_os = "linux"))]
fn from_parent(_: &Dir, _: &mut Vec<OsString>, _: &mut usize) -> Option<Vec<OsString>> {
    None
}

#[cfg(not(target_os = "linux"))]
fn from_root(_: &Dir, _: &mut Vec<OsString>, _: &mut usize) -> Option<Vec<OsString>> {
    None
}

#[cfg(target_os = "linux")]
use outside::{from_parent, from_root};

#[cfg(target_os = "linux")]
mod outside {
    use std::ffi::{OsStr, OsString};
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::ffi::OsStringExt;
    use std::path::{Path, PathBuf};

    use cap_std::fs::Dir;
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlink, readlinkat};

    use super::{MAX_LINKS, reversed};

    /// Follows `rest` from the parent of the folder back into it. Returns what is left.
    pub(super) fn from_parent(
        dir: &Dir,
        rest: &mut Vec<OsString>,
        links: &mut usize,
    ) -> Option<Vec<OsString>> {
        let base = real_path(dir)?;
        let parent = base.parent()?.to_owned();
        Some(reversed(&below(&base, parent, rest, links)?))
    }

    /// Follows `rest` from the root into the folder. Returns what is left.
    pub(super) fn from_root(
        dir: &Dir,
        rest: &mut Vec<OsString>,
        links: &mut usize,
    ) -> Option<Vec<OsString>> {
        let base = real_path(dir)?;
        Some(reversed(&below(&base, PathBuf::from("/"), rest, links)?))
    }

    /// Follows `rest` from `path`, a folder outside, up to the folder `base`. Returns what is left of `rest`.
    fn below(
        base: &Path,
        mut path: PathBuf,
        rest: &mut Vec<OsString>,
        links: &mut usize,
    ) -> Option<PathBuf> {
        while let Some(part) = rest.pop() {
            if part == ".." {
                path.pop();
            } else {
                match read_link(base, &path, &part)? {
                    Some(target) => {
                        *links += 1;
                        if *links > MAX_LINKS {
                            return None;
                        }
                        rest.extend(reversed(&target));
                        if target.is_absolute() {
                            path = PathBuf::from("/");
                        }
                        continue;
                    }
                    None => path.push(part),
                }
            }
            if path == base {
                return Some(rest.iter().rev().collect());
            }
        }
        None
    }

    /// The target of a link outside; `Some(None)` if that is no link, `None` if it is not looked at.
    fn read_link(base: &Path, parent: &Path, name: &OsStr) -> Option<Option<PathBuf>> {
        let path = parent.join(name);
        if base.starts_with(&path) {
            return Some(None);
        }
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let directory = flags | OFlags::DIRECTORY;
        let parent = openat(CWD, parent, directory, Mode::empty()).ok()?;
        let link = flags | OFlags::NOFOLLOW;
        let link = openat2(parent, name, link, Mode::empty(), ResolveFlags::NO_XDEV).ok()?;
        match readlinkat(link, "", Vec::new()) {
            Ok(target) => Some(Some(OsString::from_vec(target.into_bytes()).into())),
            Err(_) => Some(None),
        }
    }

    /// The path of an open folder.
    fn real_path(dir: &impl AsFd) -> Option<PathBuf> {
        let link = format!("/proc/self/fd/{}", dir.as_fd().as_raw_fd());
        let path = readlink(link, Vec::new()).ok()?;
        Some(PathBuf::from(OsString::from_vec(path.into_bytes())))
    }
}
