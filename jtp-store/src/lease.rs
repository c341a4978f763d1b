//! Whether a program has a file open for writing.
//!
//! Linux grants a read lease on a file (`F_SETLEASE`) only while no program has it open for writing, also through a
//! memory map. The lease is released at once: while it is held, a program that opens the file for writing waits in
//! `open`.
//!
//! Such an `open` sends a signal to the holder of the lease. By default that is SIGIO, which terminates a process
//! without a handler, so another signal is set before: SIGURG, which is ignored by default. It is not a real-time
//! signal, so the kernel never falls back to SIGIO for want of room in a queue.
//!
//! Windows opens a file that nobody may write to meanwhile only if no program has it open for writing. It is closed at
//! once: until then, a program that opens the file for writing gets an error.

#[cfg(any(not(target_os = "linux"), test))]
use std::ffi::OsStr;
#[cfg(any(not(any(windows, target_os = "linux")), test))]
use std::fs::File;

#[cfg(any(not(target_os = "linux"), test))]
use cap_std::fs::Dir;

/// Whether a program has a file open for writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(not(any(windows, target_os = "linux")), allow(dead_code))]
pub(crate) enum Writers {
    /// No program has.
    None,
    /// At least one has.
    Some,
    /// The system does not say: the file belongs to another user, or to a file system without leases, or another
    /// machine may write to it.
    Unknown,
}

/// Looks for writers. Keeps what it has learned about the last device.
#[derive(Debug, Default)]
pub(crate) struct WriterCheck {
    /// A device, and whether other machines or programs can write to it unseen by this kernel.
    #[cfg(target_os = "linux")]
    device: Option<(u64, bool)>,
}

#[cfg(not(any(windows, target_os = "linux")))]
impl WriterCheck {
    #[allow(clippy::unused_self)]
    pub(crate) fn look(&mut self, _: &File, _: (&Dir, &OsStr)) -> Writers {
        Writers::Unknown
    }
}

#[cfg(windows)]
impl WriterCheck {
    /// `path` is that of the file below the folder, without links.
    #[allow(clippy::unused_self)]
    pub(crate) fn look(&mut self, _: &std::fs::File, (dir, path): (&Dir, &OsStr)) -> Writers {
        use cap_std::fs::OpenOptions;

        let opened = crate::below::parent(dir, path).and_then(|(parent, name)| {
            crate::lock::open_alone(&parent, name, OpenOptions::new().read(true))
        });
        match opened {
            Ok(Some(_)) => Writers::None,
            Ok(None) => Writers::Some,
            Err(_) => Writers::Unknown,
        }
    }
}

#[cfg(target_os = "linux")]
pub(crate) use linux::is_remote;

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::OsStr;
    use std::fs::File;
    use std::os::fd::{AsFd, AsRawFd};
    use std::os::unix::fs::MetadataExt;

    use cap_std::fs::Dir;
    use rustix::io::Errno;

    use super::{WriterCheck, Writers};

    /// From asm-generic/fcntl.h, of all architectures that Rust supports. The libc crate lacks it.
    const F_SETSIG: libc::c_int = 10;

    impl WriterCheck {
        /// `file` has to be open for reading alone.
        pub(crate) fn look(&mut self, file: &File, _: (&Dir, &OsStr)) -> Writers {
            match Lease::take(file) {
                Ok(lease) => drop(lease),
                Err(Errno::AGAIN) => return Writers::Some,
                Err(_) => return Writers::Unknown,
            }
            match self.is_shared(file) {
                true => Writers::Unknown,
                false => Writers::None,
            }
        }

        fn is_shared(&mut self, file: &File) -> bool {
            let Ok(metadata) = file.metadata() else {
                return true;
            };
            match self.device {
                Some((device, shared)) if device == metadata.dev() => shared,
                _ => {
                    let shared = is_remote(rustix::fs::fstatfs(file));
                    self.device = Some((metadata.dev(), shared));
                    shared
                }
            }
        }
    }

    /// Whether a file system can change unseen by this kernel: one of another machine, or one in user space.
    pub(crate) fn is_remote(file_system: rustix::io::Result<rustix::fs::StatFs>) -> bool {
        // From linux/magic.h and the file systems' own headers.
        const NFS: i64 = 0x6969;
        const SMB: i64 = 0x517b;
        const CIFS: i64 = 0xff53_4d42;
        const SMB2: i64 = 0xfe53_4d42;
        const FUSE: i64 = 0x6573_5546;
        const CEPH: i64 = 0x00c3_6400;
        const AFS: i64 = 0x5346_414f;
        const V9FS: i64 = 0x0102_1997;
        const GFS2: i64 = 0x0116_1970;
        const OCFS2: i64 = 0x7461_636f;
        const LUSTRE: i64 = 0x0bd0_0bd0;
        const REMOTE: [i64; 11] = [
            NFS, SMB, CIFS, SMB2, FUSE, CEPH, AFS, V9FS, GFS2, OCFS2, LUSTRE,
        ];
        // The type is signed, unsigned, or 32 bits wide, by architecture.
        #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
        let kind = file_system
            .ok()
            .and_then(|fs| i64::try_from(fs.f_type).ok());
        kind.is_some_and(|kind| REMOTE.contains(&(kind & 0xffff_ffff)))
    }

    /// A read lease, until it is dropped.
    pub(super) struct Lease<'a>(&'a File);

    impl Lease<'_> {
        pub(super) fn take(file: &File) -> rustix::io::Result<Lease<'_>> {
            // In this order: once the lease is held, its signal may come.
            fcntl(file, F_SETSIG, libc::SIGURG)?;
            fcntl(file, libc::F_SETLEASE, libc::F_RDLCK)?;
            Ok(Lease(file))
        }
    }

    impl Drop for Lease<'_> {
        fn drop(&mut self) {
            // Fails only if the kernel has removed the lease already.
            let _ = fcntl(self.0, libc::F_SETLEASE, libc::F_UNLCK);
        }
    }

    /// A command of `fcntl` with an argument that is a number. Neither rustix nor nix has those of leases.
    #[allow(unsafe_code)]
    fn fcntl(
        file: impl AsFd,
        command: libc::c_int,
        argument: libc::c_int,
    ) -> rustix::io::Result<()> {
        debug_assert!([F_SETSIG, libc::F_SETLEASE].contains(&command));
        // SAFETY: the descriptor is open as long as `file` is borrowed, and the two commands take a number, so that
        // the kernel accesses no memory of this process.
        match unsafe { libc::fcntl(file.as_fd().as_raw_fd(), command, argument) } {
            -1 => {
                Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::INVAL))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    use super::linux::Lease;
    use super::*;

    fn look(file: &File) -> Writers {
        let dir = Dir::open_ambient_dir("/", cap_std::ambient_authority()).unwrap();
        WriterCheck::default().look(file, (&dir, OsStr::new("unused")))
    }

    #[test]
    fn a_file_has_writers_until_the_last_one_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let first = File::create(&path).unwrap();
        let second = File::options().append(true).open(&path).unwrap();
        let file = File::open(&path).unwrap();
        assert_eq!(look(&file), Writers::Some);
        let shared = second.try_clone().unwrap();
        drop((first, second));
        assert_eq!(look(&file), Writers::Some);
        drop(shared);
        let _reader = File::open(&path).unwrap();
        assert_eq!(look(&file), Writers::None);
        // Also a file that the user cannot write to.
        fs::remove_file(&path).unwrap();
        assert_eq!(look(&file), Writers::None);
    }

    #[test]
    fn a_file_system_of_several_machines_is_known() {
        let mut there = rustix::fs::fstatfs(File::open("/").unwrap()).unwrap();
        // ext4 and NFS.
        for (kind, expected) in [(0xef53, false), (0x6969, true)] {
            there.f_type = kind;
            assert_eq!(is_remote(Ok(there)), expected);
        }
    }

    #[test]
    fn a_file_without_leases_may_have_writers() {
        assert_eq!(look(&File::open("/dev/null").unwrap()), Writers::Unknown);
    }

    #[test]
    fn a_program_that_opens_a_leased_file_ends_neither_process_nor_lease() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, b"a").unwrap();
        let file = File::open(&path).unwrap();
        let lease = Lease::take(&file).unwrap();
        // Sends the signal, and does not wait.
        let mut options = File::options();
        options
            .write(true)
            .custom_flags(OFlags::NONBLOCK.bits() as i32);
        let error = options.open(&path).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        drop(lease);
        options.open(&path).unwrap();
        assert_eq!(look(&file), Writers::None);
    }
}

#[cfg(all(test, windows))]
mod windows_tests {
    use super::*;

    #[test]
    fn a_file_has_writers_until_the_last_one_closes_it() {
        let folder = tempfile::tempdir().unwrap();
        let dir = Dir::open_ambient_dir(folder.path(), cap_std::ambient_authority()).unwrap();
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        let path = folder.path().join("sub/a");
        let first = File::create(&path).unwrap();
        let second = File::options().append(true).open(&path).unwrap();
        let file = File::open(&path).unwrap();
        let look = || WriterCheck::default().look(&file, (&dir, OsStr::new("sub/a")));
        assert_eq!(look(), Writers::Some);
        drop(first);
        assert_eq!(look(), Writers::Some);
        drop(second);
        assert_eq!(look(), Writers::None);
        // The look has left nothing open.
        drop(File::options().append(true).open(&path).unwrap());
        drop(file);
        std::fs::remove_file(&path).unwrap();
    }
}
