//! Links that lead out of a folder and back into it.
//!
//! A confined open refuses each absolute link, and each `..` beyond the folder, even if the file is in the folder. Here
//! such a path is translated to one below the folder, which is then opened confined like any other. Outside the folder, the
//! translation follows links on the file systems that the path of the folder crosses, and no others: those of another
//! machine might not answer.

/// The path below `dir`, without links, of the file to which the name leads. `None` if it leads out.
#[cfg(not(target_os = "linux"))]
pub(crate) fn inside(_: &cap_std::fs::Dir, _: &std::ffi::OsStr) -> Option<std::path::PathBuf> {
    None
}

#[cfg(target_os = "linux")]
pub(crate) use linux::inside;

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{OsStr, OsString};
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::ffi::OsStringExt;
    use std::path::{Component, Path, PathBuf};

    use cap_std::fs::Dir;
    use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2, readlink, readlinkat};

    /// The most links in a path, as in the kernel.
    const MAX_LINKS: usize = 40;

    pub(crate) fn inside(dir: &Dir, name: &OsStr) -> Option<PathBuf> {
        let base = real_path(dir)?;
        let mut resolved = PathBuf::new();
        // What is left of the path, in reverse order.
        let mut rest = vec![name.to_owned()];
        let mut links = 0;
        while let Some(part) = rest.pop() {
            if part == ".." {
                if resolved.pop() {
                    continue;
                }
                let outside = base.parent()?.to_owned();
                resolved = PathBuf::new();
                rest = reversed(&below(&base, outside, &mut rest, &mut links)?);
                continue;
            }
            let path = resolved.join(&part);
            let Ok(target) = dir.read_link_contents(&path) else {
                resolved = path; // No link, or missing.
                continue;
            };
            links += 1;
            if links > MAX_LINKS {
                return None;
            }
            rest.extend(reversed(&target));
            if target.is_absolute() {
                resolved = PathBuf::new();
                rest = reversed(&below(&base, PathBuf::from("/"), &mut rest, &mut links)?);
            }
        }
        Some(resolved).filter(|path| !path.as_os_str().is_empty())
    }

    /// The parts of a path in reverse order, without its root.
    fn reversed(path: &Path) -> Vec<OsString> {
        let parts = path.components().filter_map(|part| match part {
            Component::Normal(part) => Some(part.to_owned()),
            Component::ParentDir => Some("..".into()),
            _ => None,
        });
        let mut parts: Vec<_> = parts.collect();
        parts.reverse();
        parts
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
