//! What the metadata of a file proves on the file system that it is on.

use std::ffi::OsStr;

use cap_std::fs::Dir;
use jtp_core::ImageId;

#[cfg(target_os = "linux")]
use crate::fingerprint::BY_NAME;
use crate::fingerprint::{Fingerprint, Stat};

/// The file system of a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileSystem {
    /// The device number. It identifies the file system only while that is mounted.
    device: u64,
    trust: Trust,
}

/// What identifies the contents of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Inode, size, mtime and ctime: the inode is that of the file as long as the file exists, and each change sets the
    /// ctime. `id` is the same after each mount; 0 if the file system has no such ID.
    #[cfg_attr(
        not(any(target_os = "linux", target_vendor = "apple")),
        allow(dead_code)
    )]
    Inodes { id: u64 },
    /// Name, size and mtime. Inodes may be given in the order of look-ups, the ctime may be the mtime, and both may be
    /// rounded to 2 s (FAT, exFAT, FUSE, NFS, SMB).
    Names,
}

impl FileSystem {
    /// The file system of an open folder. If the system does not say which it is, or with `distrust_inodes`, it is not
    /// trusted. At most three system calls.
    pub(crate) fn of(dir: &Dir, distrust_inodes: bool) -> FileSystem {
        let device = dir
            .dir_metadata()
            .map(|metadata| Stat::of_cap(&metadata).device);
        let trust = match &device {
            Ok(_) if !distrust_inodes => trust(dir),
            _ => Trust::Names,
        };
        FileSystem {
            device: device.unwrap_or(0),
            trust,
        }
    }

    pub(crate) fn trusts_inodes(&self) -> bool {
        self.trust != Trust::Names
    }

    /// Whether to log that inodes are not trusted. On other systems, that holds for all file systems.
    pub(crate) fn is_notable(&self) -> bool {
        !self.trusts_inodes() && cfg!(any(target_os = "linux", target_vendor = "apple"))
    }

    /// Whether inode and ctime of a file in the folder prove something. They do not if the file is on another file
    /// system: a link leads there, or the file is a mount point.
    pub(crate) fn trusts(&self, stat: &Stat) -> bool {
        self.trusts_inodes() && stat.device == self.device
    }

    /// The fingerprint of a file in the folder. A file on another file system, to which a link leads, is identified by
    /// its name.
    pub(crate) fn fingerprint(&self, stat: &Stat, name: &OsStr) -> Fingerprint {
        match self.trust {
            Trust::Inodes { id } if self.trusts(stat) => stat.by_inode(id),
            _ => stat.by_name(name),
        }
    }
}

/// Stands for a file name in a fingerprint.
pub(crate) fn name_hash(name: &OsStr) -> u64 {
    ImageId::of(name.as_encoded_bytes()).0
}

#[cfg(target_os = "linux")]
fn trust(dir: &Dir) -> Trust {
    // The type is signed, unsigned, or 32 bits wide, by architecture.
    #[allow(clippy::useless_conversion, clippy::unnecessary_fallible_conversions)]
    let magic = rustix::fs::fstatfs(dir)
        .ok()
        .and_then(|there| i64::try_from(there.f_type).ok());
    let Some(magic) = magic else {
        return Trust::Names;
    };
    let id = || rustix::fs::fstatvfs(dir).map_or(0, |there| there.f_fsid);
    trust_in(magic & 0xffff_ffff, id)
}

/// The trust in a file system of that type. `id` asks for its ID.
#[cfg(target_os = "linux")]
fn trust_in(magic: i64, id: impl FnOnce() -> u64) -> Trust {
    // From linux/magic.h and the file systems' own headers.
    const EXT2_TO_4: i64 = 0xef53;
    const BTRFS: i64 = 0x9123_683e;
    const BCACHEFS: i64 = 0xca45_1a4e;
    const XFS: i64 = 0x5846_5342;
    const F2FS: i64 = 0xf2f5_2010;
    const ZFS: i64 = 0x2fc1_2fc1;
    const TMPFS: i64 = 0x0102_1994;
    match magic {
        // The ID is derived from a UUID on the disk. BY_NAME is no ID.
        EXT2_TO_4 | BTRFS | BCACHEFS => Trust::Inodes {
            id: Some(id()).filter(|id| *id != BY_NAME).unwrap_or(0),
        },
        // The ID is the device number, or new after each mount.
        XFS | F2FS | ZFS | TMPFS => Trust::Inodes { id: 0 },
        // Also overlayfs: it passes on the inodes of its layers, and a container cannot see which those are.
        _ => Trust::Names,
    }
}

#[cfg(target_vendor = "apple")]
fn trust(dir: &Dir) -> Trust {
    let Ok(there) = rustix::fs::fstatfs(dir) else {
        return Trust::Names;
    };
    let name = there.f_fstypename.iter().take_while(|byte| **byte != 0);
    let name: Vec<u8> = name.map(|byte| byte.to_ne_bytes()[0]).collect();
    match name.as_slice() {
        b"apfs" | b"hfs" => Trust::Inodes { id: 0 },
        _ => Trust::Names,
    }
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn trust(_: &Dir) -> Trust {
    Trust::Names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(device: u64, inode: u64) -> Stat {
        Stat {
            device,
            inode,
            size: 3,
            modified: 4,
            changed: 5,
        }
    }

    fn file_system(trust: Trust) -> FileSystem {
        FileSystem { device: 1, trust }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn only_listed_file_systems_are_trusted() {
        assert_eq!(trust_in(0xef53, || 7), Trust::Inodes { id: 7 });
        assert_eq!(trust_in(0xef53, || BY_NAME), Trust::Inodes { id: 0 });
        // xfs: its ID is the device number.
        let xfs = trust_in(0x5846_5342, || panic!("not asked for"));
        assert_eq!(xfs, Trust::Inodes { id: 0 });
        // FAT, exFAT, FUSE, NFS, SMB2, overlayfs, NTFS, unknown.
        let others = [
            0x4d44,
            0x2011_bab0,
            0x6573_5546,
            0x6969,
            0xfe53_4d42,
            0x794c_7630,
            0x7366_746e,
            1,
        ];
        for magic in others {
            assert_eq!(trust_in(magic, || 7), Trust::Names, "{magic:x}");
        }
    }

    #[test]
    fn device_numbers_of_trusted_file_systems_are_not_part_of_fingerprints() {
        let (first, second) = (
            FileSystem {
                device: 1,
                trust: Trust::Inodes { id: 9 },
            },
            FileSystem {
                device: 2,
                trust: Trust::Inodes { id: 9 },
            },
        );
        let name = OsStr::new("a.png");
        let print = first.fingerprint(&stat(1, 5), name);
        assert_eq!(print, second.fingerprint(&stat(2, 5), name));
        assert_ne!(print, second.fingerprint(&stat(2, 6), name), "the inode");
        let other = file_system(Trust::Inodes { id: 8 });
        assert_ne!(print, other.fingerprint(&stat(1, 5), name), "another disk");
    }

    #[test]
    fn a_file_on_an_untrusted_or_another_file_system_is_identified_by_its_name() {
        let trusted = file_system(Trust::Inodes { id: 9 });
        let untrusted = file_system(Trust::Names);
        for (file_system, device) in [(untrusted, 1), (untrusted, 2), (trusted, 2)] {
            let of = |inode, name| {
                let name: &str = name;
                file_system.fingerprint(&stat(device, inode), name.as_ref())
            };
            assert_eq!(of(5, "a.png"), of(6, "a.png"), "renumbered");
            assert_ne!(of(5, "a.png"), of(5, "b.png"));
            assert!(!of(5, "a.png").is_same_file(&of(5, "a.png")), "no inode");
        }
    }
}
