//! Which client a temporary file belongs to.
//!
//! Each client that writes holds a lock on a hidden file of its own, `.jtp-<run>.lock`, whose number is in the names of
//! its temporary files. The folder itself may be locked by anybody, for example by `flock`, which then runs the client.
//! Locks are tried and never waited for.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::hash::BuildHasher;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use cap_std::fs::{Dir, OpenOptions};

use super::{Inner, STALE, TEMPORARY_PREFIX, TEMPORARY_SUFFIX};
use crate::fingerprint::Stat;
use crate::lock::open_locked;

const LOCK_SUFFIX: &str = ".lock";

/// The most lock files that are tried: another client may find one before it is locked, and remove it.
const ATTEMPTS: usize = 8;

/// The identity of this client: different for each `OutputFolder` that is opened.
pub(super) struct Run {
    number: u64,
    /// Locked until it is closed. `None` on a file system without locks.
    lock: Option<File>,
}

impl Run {
    /// Creates the lock file.
    pub(super) fn begin(dir: &Dir) -> Run {
        for _ in 0..ATTEMPTS {
            let hasher = std::collections::hash_map::RandomState::new();
            let number = hasher.hash_one(std::process::id());
            let name = lock_name(number);
            let mut options = OpenOptions::new();
            options.write(true).create_new(true);
            if dir.open_with(&name, &options).is_err() {
                return Run { number, lock: None }; // The first image reports the error.
            }
            match open_locked(dir, OsStr::new(&name)) {
                // Unless another client has just removed it.
                Ok(Some(lock)) if dir.symlink_metadata(&name).is_ok() => {
                    let lock = Some(lock);
                    return Run { number, lock };
                }
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(_) => {
                    let _ = dir.remove_file(&name);
                    return Run { number, lock: None };
                }
            }
        }
        let number = std::collections::hash_map::RandomState::new().hash_one(0);
        Run { number, lock: None }
    }

    /// Removes the lock file.
    pub(super) fn end(self, dir: &Dir) {
        if self.lock.is_some() {
            // If this fails, the next client removes it.
            let _ = dir.remove_file(lock_name(self.number));
        }
    }

    pub(super) fn temporary_name(&self, n: u64) -> String {
        format!(
            "{TEMPORARY_PREFIX}{:016x}-{n}{TEMPORARY_SUFFIX}",
            self.number
        )
    }
}

fn lock_name(number: u64) -> String {
    format!("{TEMPORARY_PREFIX}{number:016x}{LOCK_SUFFIX}")
}

/// Whether a name is that of a temporary file or of a lock file.
pub(super) fn is_temporary(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| {
        name.starts_with(TEMPORARY_PREFIX)
            && (name.ends_with(TEMPORARY_SUFFIX) || is_lock_name(name))
    })
}

fn is_lock_name(name: &str) -> bool {
    name.ends_with(LOCK_SUFFIX) && number(name).is_some()
}

/// The number of the client in a name.
fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(TEMPORARY_PREFIX)?.get(..16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// Whether the client of a temporary file still runs.
enum Owner {
    Running,
    /// Crashed. Holds the lock, so that no other client removes the same files.
    Crashed(#[allow(dead_code)] File),
    /// There is no such lock file: it was removed, or the client is of an earlier version.
    Missing,
    /// The lock file cannot be opened or locked, for example because it is another user's.
    Unknown,
}

/// A file with the name of a temporary file or of a lock file.
#[derive(Debug, Clone)]
pub(super) struct Stray {
    /// The path of its folder, with a `/` at its end; empty for the root.
    pub(super) folder: OsString,
    pub(super) name: OsString,
}

/// Who owns the temporary files, by folder and number.
#[derive(Default)]
struct Owners(HashMap<(OsString, u64), Owner>);

impl Owners {
    /// The owner of a file, by the lock file in this folder.
    fn of(&mut self, dir: &Dir, folder: &OsStr, number: u64) -> &Owner {
        let key = (folder.to_owned(), number);
        self.0.entry(key).or_insert_with(|| owner(dir, number))
    }
}

/// Removes the files of crashed clients.
pub(super) fn remove_stale(root: &Inner, strays: &[Stray]) {
    let mut owners = Owners::default();
    let (in_root, below): (Vec<_>, Vec<_>) =
        strays.iter().partition(|stray| stray.folder.is_empty());
    // While the lock files of their clients are there.
    for stray in below {
        remove_stale_below(root, stray, &mut owners);
    }
    let dir = &root.dir;
    // Without a lock file, and with one that does not answer.
    let (mut missing, mut unknown) = (Vec::new(), Vec::new());
    let mut locks = Vec::new();
    for Stray { folder, name } in in_root {
        let Some(number) = name.to_str().and_then(number) else {
            missing.push(name);
            continue;
        };
        let is_lock = name.to_str().is_some_and(is_lock_name);
        match owners.of(dir, folder, number) {
            Owner::Running => {}
            // After the temporary files, so that these have an owner until they are removed.
            Owner::Crashed(_) if is_lock => locks.push(name),
            Owner::Crashed(_) => remove(dir, name),
            Owner::Missing => missing.push(name),
            Owner::Unknown => unknown.push(name),
        }
    }
    for name in locks {
        remove(dir, name);
    }
    // Clients of earlier versions have a lock on the folder alone.
    if missing.is_empty() || is_unlocked(dir) {
        missing.drain(..).for_each(|name| remove(dir, name));
    }
    for name in missing.into_iter().chain(unknown) {
        if is_old(dir, name) {
            remove(dir, name);
        }
    }
}

/// The same in a sub-folder. It, or one around it, may be the output folder of another client, which has its lock file
/// there. // W9
fn remove_stale_below(root: &Inner, stray: &Stray, owners: &mut Owners) {
    // Without the slash at its end.
    let path = Path::new(&stray.folder).components().as_path();
    let Ok(dir) = root.open_folder(path.as_os_str()) else {
        return;
    };
    let name = &stray.name;
    let mut is_crashed = false;
    if let Some(number) = name.to_str().and_then(number) {
        // The lock file of another client's sub-folder is not ours to judge.
        let is_lock = name.to_str().is_some_and(is_lock_name);
        let around = path.ancestors().take(if is_lock { 1 } else { usize::MAX });
        for folder in around {
            let found = match folder.as_os_str().is_empty() {
                true => owners.of(&root.dir, OsStr::new(""), number),
                false => match root.open_folder(folder.as_os_str()) {
                    Ok(dir) => owners.of(&dir, folder.as_os_str(), number),
                    Err(_) => return,
                },
            };
            match found {
                Owner::Running => return,
                Owner::Crashed(_) => is_crashed = true,
                Owner::Missing | Owner::Unknown => {}
            }
        }
    }
    if is_crashed || is_old(&dir, name) {
        remove(&dir, name);
    }
}

fn owner(dir: &Dir, number: u64) -> Owner {
    let name = lock_name(number);
    let is_file = |metadata: cap_std::fs::Metadata| metadata.is_file();
    match dir.symlink_metadata(&name).map(is_file) {
        Ok(true) => {}
        // A pipe, a folder or a link is no lock file.
        Ok(false) => return Owner::Missing,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Owner::Missing,
        Err(_) => return Owner::Unknown,
    }
    match open_locked(dir, OsStr::new(&name)) {
        Ok(Some(lock)) => Owner::Crashed(lock),
        Ok(None) => Owner::Running,
        Err(_) => Owner::Unknown,
    }
}

/// Removes a link, not its target. A folder of that name is not ours and stays.
fn remove(dir: &Dir, name: &OsStr) {
    // A file that cannot be removed does no harm; the next client tries again.
    let _ = dir.remove_file(name);
}

fn is_old(dir: &Dir, name: &OsStr) -> bool {
    dir.symlink_metadata(name).is_ok_and(|metadata| {
        let age = Stat::of_cap(&metadata).age(SystemTime::now());
        age.is_some_and(|age| age > STALE)
    })
}

/// Whether no program has locked the folder.
#[cfg(unix)]
fn is_unlocked(dir: &Dir) -> bool {
    use rustix::fs::{FlockOperation, flock};
    let unlocked = flock(dir, FlockOperation::NonBlockingLockExclusive).is_ok();
    let _ = flock(dir, FlockOperation::Unlock);
    unlocked
}

#[cfg(not(unix))]
fn is_unlocked(_: &Dir) -> bool {
    false
}
