//! The lock of a variant cache.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cap_std::fs::Dir;

/// How often, and at which interval, a lock is tried that another program holds: for 1 s.
const ATTEMPTS: u32 = 200;
const INTERVAL: Duration = Duration::from_millis(5);

/// Takes a lock that all programs respect, held until it is dropped. Our programs hold it for a moment only. If another
/// one holds it for longer, the result is `None` and the work goes on without: the total may then be wrong until the
/// folder is listed again.
pub(super) fn take<'a>(
    dir: &'a Dir,
    file: &'a File,
    is_held: &AtomicBool,
) -> io::Result<Option<Lock<'a>>> {
    // A lock that was not free the last time is not waited for again.
    let attempts = match is_held.load(Ordering::Relaxed) {
        true => 1,
        false => ATTEMPTS,
    };
    for attempt in 1..=attempts {
        if let Some(lock) = Lock::attempt(dir, file)? {
            is_held.store(false, Ordering::Relaxed);
            return Ok(Some(lock));
        }
        if attempt < attempts {
            thread::sleep(INTERVAL);
        }
    }
    is_held.store(true, Ordering::Relaxed);
    Ok(None)
}

/// The lock, until it is dropped.
#[cfg(unix)]
pub(super) struct Lock<'a>(&'a File);

#[cfg(unix)]
impl<'a> Lock<'a> {
    /// `None` if another program holds it.
    fn attempt(_: &Dir, file: &'a File) -> io::Result<Option<Lock<'a>>> {
        use rustix::fs::{FlockOperation, flock};
        use rustix::io::Errno;
        loop {
            return match flock(file, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) => Ok(None),
                // Also a file system without locks.
                Ok(()) | Err(Errno::NOTSUP | Errno::NOSYS | Errno::NOLCK) => Ok(Some(Lock(file))),
                Err(e) => Err(e.into()),
            };
        }
    }
}

#[cfg(unix)]
impl Drop for Lock<'_> {
    fn drop(&mut self) {
        let _ = rustix::fs::flock(self.0, rustix::fs::FlockOperation::Unlock);
    }
}

/// The lock, until it is dropped: an open file that nobody else can open meanwhile. Not the file with the total, which
/// each program has open.
#[cfg(windows)]
pub(super) struct Lock<'a>(#[allow(dead_code)] File, std::marker::PhantomData<&'a ()>);

#[cfg(windows)]
impl<'a> Lock<'a> {
    /// `None` if another program holds it.
    fn attempt(dir: &'a Dir, _: &File) -> io::Result<Option<Lock<'a>>> {
        let mut options = cap_std::fs::OpenOptions::new();
        options.write(true).create(true);
        let file = crate::lock::open_alone(dir, "lock1".as_ref(), &mut options)?;
        Ok(file.map(|file| Lock(file, std::marker::PhantomData)))
    }
}

#[cfg(not(any(unix, windows)))]
pub(super) struct Lock<'a>(#[allow(dead_code)] &'a File);

#[cfg(not(any(unix, windows)))]
impl<'a> Lock<'a> {
    fn attempt(_: &Dir, file: &'a File) -> io::Result<Option<Lock<'a>>> {
        Ok(Some(Lock(file)))
    }
}

#[cfg(all(test, any(unix, windows)))]
mod tests {
    use super::*;

    #[test]
    fn one_program_at_a_time_has_the_lock_and_a_lock_that_is_held_for_long_is_not_waited_for_again()
    {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
        let [one, other] = [(); 2].map(|()| {
            let mut options = File::options();
            options.read(true).write(true).create(true).truncate(false);
            options.open(folder.path().join("used")).unwrap()
        });
        let lock = Lock::attempt(&dir, &one).unwrap();
        assert!(lock.is_some() && Lock::attempt(&dir, &other).unwrap().is_none());
        let is_held = AtomicBool::new(true);
        assert!(take(&dir, &other, &is_held).unwrap().is_none());
        drop(lock);
        assert!(take(&dir, &other, &is_held).unwrap().is_some());
        assert!(!is_held.load(Ordering::Relaxed));
        assert!(Lock::attempt(&dir, &one).unwrap().is_some());
    }
}
