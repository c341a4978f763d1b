//! Finds out whether the file system distinguishes names that differ only in case, without writing.

use std::ffi::OsStr;
use std::io;

use cap_std::fs::Metadata;

use super::Inner;
use super::moves::flip_case;
use crate::fingerprint::Fingerprint;

/// A name proves nothing if its file has hard links, or was removed. After this number of such names the scan ends its
/// attempts.
const MAX_TRIES: u32 = 64;

/// What is known so far.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct CaseProbe {
    case_sensitive: Option<bool>,
    tries: u32,
}

/// What distinguishes two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    fingerprint: Fingerprint,
    /// Whether the file may have another name: it has hard links.
    is_linked: bool,
}

impl CaseProbe {
    pub(super) fn case_sensitive(&self) -> Option<bool> {
        self.case_sensitive
    }

    /// Looks for a listed name with the case of one letter changed.
    pub(super) fn learn(&mut self, folder: &Inner, name: &OsStr) {
        self.learn_with(name, |name| match folder.dir.symlink_metadata(name) {
            Ok(metadata) => Ok(Some(Identity::of(&metadata))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        });
    }

    fn learn_with(&mut self, name: &OsStr, look: impl Fn(&str) -> io::Result<Option<Identity>>) {
        if self.case_sensitive.is_some() || self.tries == MAX_TRIES {
            return;
        }
        let Some((name, flipped)) = name
            .to_str()
            .and_then(|name| Some((name, flip_case(name)?)))
        else {
            return;
        };
        self.tries += 1;
        // The listed name last: if it is still there, it was when the other one was looked up.
        let (Ok(other), Ok(Some(listed))) = (look(&flipped), look(name)) else {
            return;
        };
        self.case_sensitive = match other {
            None => Some(true),
            Some(other) if !other.is_same_file(&listed) => Some(true),
            Some(_) if listed.is_linked => None,
            Some(_) => Some(false),
        };
    }
}

impl Identity {
    fn of(metadata: &Metadata) -> Identity {
        #[cfg(unix)]
        let is_linked = {
            use cap_std::fs::MetadataExt;
            !metadata.is_dir() && metadata.nlink() > 1
        };
        #[cfg(not(unix))]
        let is_linked = false;
        Identity {
            fingerprint: Fingerprint::of_cap(metadata),
            is_linked,
        }
    }

    fn is_same_file(&self, other: &Identity) -> bool {
        // Without inodes, equal metadata suggests it.
        self.fingerprint.is_same_file(&other.fingerprint)
            || cfg!(not(unix)) && self.fingerprint == other.fingerprint
    }
}
