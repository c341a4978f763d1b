//! Reads the part of a file that is in the page cache, without waiting for a disk.

use std::fs::File;
use std::io;
#[cfg(target_os = "linux")]
use std::sync::atomic::{AtomicU8, Ordering};

/// Whether reads of a file may block; found out at the first read.
#[derive(Debug, Default)]
pub(crate) struct Ready {
    #[cfg(target_os = "linux")]
    mode: AtomicU8,
}

/// Ask the system at each read.
#[cfg(target_os = "linux")]
const ASK: u8 = 0;
/// Reads never block: the file is on a file system without a disk.
#[cfg(target_os = "linux")]
const NEVER_BLOCKS: u8 = 1;
/// The system cannot tell.
#[cfg(target_os = "linux")]
const UNKNOWN: u8 = 2;

impl Ready {
    /// Reads bytes that are in memory; `None` if there are none, or the system cannot tell.
    #[cfg(target_os = "linux")]
    pub(crate) fn read_at(
        &self,
        file: &File,
        offset: u64,
        buf: &mut [u8],
    ) -> io::Result<Option<usize>> {
        use rustix::io::{Errno, ReadWriteFlags, preadv2};

        if self.mode.load(Ordering::Relaxed) == ASK {
            let mut bufs = [io::IoSliceMut::new(buf)];
            match preadv2(file, &mut bufs, offset, ReadWriteFlags::NOWAIT) {
                Ok(count) => return Ok(Some(count)),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(None),
                // Not supported by this system, or not for this file.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
            let mode = if is_on_tmpfs(file) {
                NEVER_BLOCKS
            } else {
                UNKNOWN
            };
            self.mode.store(mode, Ordering::Relaxed);
        }
        match self.mode.load(Ordering::Relaxed) {
            NEVER_BLOCKS => crate::hash::read_at(file, offset, buf).map(Some),
            _ => Ok(None),
        }
    }

    #[cfg(not(target_os = "linux"))]
    #[allow(clippy::unused_self, clippy::unnecessary_wraps)]
    pub(crate) fn read_at(&self, _: &File, _: u64, _: &mut [u8]) -> io::Result<Option<usize>> {
        Ok(None)
    }
}

/// Whether the file is on tmpfs. It does not support non-blocking reads, but blocks only for swap, like all memory.
#[cfg(target_os = "linux")]
fn is_on_tmpfs(file: &File) -> bool {
    const TMPFS: u64 = 0x0102_1994;
    rustix::fs::fstatfs(file).is_ok_and(|there| u64::try_from(there.f_type) == Ok(TMPFS))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn bytes_just_written_are_read_without_blocking_where_supported() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut buf = [0; 4];
        let ready = Ready::default();
        for (offset, due) in [(0, &b"0123"[..]), (8, b"89"), (10, b"")] {
            match ready.read_at(&file, offset, &mut buf).unwrap() {
                Some(count) => assert_eq!(&buf[..count], due),
                None => assert!(!is_on_tmpfs(&file)),
            }
        }
        // A directory cannot be read: that is an error, not a reason to read it in another way.
        let directory = File::open(std::env::temp_dir()).unwrap();
        assert!(!matches!(
            Ready::default().read_at(&directory, 0, &mut buf),
            Ok(Some(_))
        ));
    }

    #[test]
    fn a_file_without_support_for_non_blocking_reads_is_never_read() {
        // procfs has no page cache.
        let file = File::open("/proc/self/status").unwrap();
        let ready = Ready::default();
        for _ in 0..2 {
            assert!(matches!(ready.read_at(&file, 0, &mut [0; 16]), Ok(None)));
        }
        assert_eq!(ready.mode.load(Ordering::Relaxed), UNKNOWN);
    }
}
