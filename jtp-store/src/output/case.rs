//! Finds out whether the file system distinguishes names that differ only in case, without writing.

use std::ffi::{OsStr, OsString};
use std::io;

use cap_std::fs::Dir;

use super::Inner;
use super::moves::flip_case;

/// The most names that are looked up during a scan.
const MAX_TRIES: u32 = 8;

/// What is known so far.
#[derive(Debug, Default)]
pub(super) struct CaseProbe {
    case_sensitive: Option<bool>,
    tries: u32,
    /// The listed path and the one with another case, if both were found: one file or two.
    both: Option<(String, String)>,
}

impl CaseProbe {
    /// Looks for a listed name with the case of one letter changed. `folder` is its folder with a `/` at its end.
    pub(super) fn learn(
        &mut self,
        folder: &OsStr,
        name: &OsStr,
        exists: impl Fn(&str) -> io::Result<bool>,
    ) {
        if self.case_sensitive.is_some() || self.tries == MAX_TRIES {
            return;
        }
        let flipped = name
            .to_str()
            .and_then(|name| Some((folder.to_str()?, name, flip_case(name)?)));
        let Some((folder, name, flipped)) = flipped else {
            return;
        };
        let (path, flipped) = (format!("{folder}{name}"), format!("{folder}{flipped}"));
        self.tries += 1;
        // The listed name last: if it still exists, it did so when the other one was looked up.
        match (exists(&flipped), exists(&path)) {
            (Ok(false), Ok(true)) => self.case_sensitive = Some(true),
            (Ok(true), Ok(true)) => self.both = Some((path, flipped)),
            _ => {}
        }
    }

    /// The result. Asks for another listing of a folder if all names were found in the other case, too: only that shows
    /// whether they are listed, since two names of one file may have different inodes (FUSE) and two files one (hard
    /// links).
    pub(super) fn finish<I>(self, list: impl FnOnce(&str) -> io::Result<I>) -> Option<bool>
    where
        I: Iterator<Item = io::Result<OsString>>,
    {
        let (Some((path, flipped)), None) = (self.both, self.case_sensitive) else {
            return self.case_sensitive;
        };
        let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
        let flipped = &flipped[path.len() - name.len()..];
        let (mut has_name, mut has_flipped) = (false, false);
        for found in list(folder).ok()? {
            let found = found.ok()?;
            has_name |= found == *name;
            has_flipped |= found == *flipped;
        }
        match (has_name, has_flipped) {
            (true, flipped) => Some(flipped),
            // It was removed meanwhile.
            (false, _) => None,
        }
    }
}

impl Inner {
    pub(super) fn has_name(&self, name: &str) -> io::Result<bool> {
        Ok(!self.look(name)?.is_nothing())
    }

    /// The names in a folder of the tree, hidden ones included; in the root if its path is empty.
    pub(super) fn names_in(
        &self,
        folder: &str,
    ) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
        match folder {
            "" => names(&self.dir),
            folder => names(&self.open_folder(folder.as_ref())?),
        }
    }
}

/// The names in a folder, hidden ones included.
pub(super) fn names(dir: &Dir) -> io::Result<impl Iterator<Item = io::Result<OsString>> + use<>> {
    Ok(dir.entries()?.map(|entry| Ok(entry?.file_name())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a folder with these names answers to a scan.
    fn probe(listed: &[&str], is_case_sensitive: bool) -> Option<bool> {
        let mut probe = CaseProbe::default();
        let exists = |name: &str| {
            Ok(listed.iter().any(|listed| match is_case_sensitive {
                true => *listed == name,
                false => listed.eq_ignore_ascii_case(name),
            }))
        };
        for name in listed {
            probe.learn(OsStr::new("d/"), OsStr::new(name), |path| {
                exists(path.strip_prefix("d/").unwrap())
            });
        }
        probe.finish(|_| Ok(listed.iter().map(|name| Ok(OsString::from(name)))))
    }

    #[test]
    fn r5_one_name_with_a_letter_shows_whether_case_is_distinguished() {
        for names in [&["a.png"][..], &["1", "2.png"], &["é", "É", "Éa"]] {
            assert_eq!(probe(names, true), Some(true), "{names:?}");
            assert_eq!(probe(names, false), Some(false), "{names:?}");
        }
        assert_eq!(probe(&["a.png", "A.png"], true), Some(true));
        assert_eq!(probe(&[], true), None);
        assert_eq!(probe(&["1", "é"], false), None);
    }

    #[test]
    fn a_name_that_is_removed_during_the_scan_shows_nothing() {
        let mut probe = CaseProbe::default();
        probe.learn(OsStr::new(""), OsStr::new("a"), |_| Ok(false));
        probe.learn(OsStr::new(""), OsStr::new("b"), |_| Ok(true));
        let names = ["c"].map(|name| Ok(OsString::from(name)));
        assert_eq!(probe.finish(|_| Ok(names.into_iter())), None);
        let mut probe = CaseProbe::default();
        probe.learn(OsStr::new(""), OsStr::new("b"), |_| Ok(true));
        let failed = |_: &str| Err::<std::iter::Empty<_>, _>(io::ErrorKind::NotFound.into());
        assert_eq!(probe.finish(failed), None);
    }
}
