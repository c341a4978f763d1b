//! How many files are left out of the catalog, and why.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use super::record::Name;

/// Why a file or folder in the images folder is left out of the catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LeftOutReason {
    /// A sub-folder, without [`recursive`](crate::DirStoreBuilder::recursive).
    Folder,
    /// The name has no image extension, and the first bytes are not those of a PNG, JPEG, WebP, BMP or GIF.
    NotAnImage,
    /// The name begins with a dot.
    Hidden,
    /// The name is that of a file that is being written (`a.png.part`), of a backup (`a.png~`) or of a lock.
    Temporary,
    /// [`only`](crate::DirStoreBuilder::only) or [`patterns`](crate::DirStoreBuilder::patterns) do not select it.
    Excluded,
    /// It has the same bytes as a file that is listed. // S4
    Duplicate,
    /// It has the ID of a file with other bytes. // S4
    SameId,
    /// A link that leads nowhere, out of the folder, to a folder, or to a hidden or temporary file.
    Link,
    /// A pipe, socket or device.
    Special,
    /// The system does not let this process read it: a file, or a sub-folder.
    Unreadable,
    /// It is longer than 4,294,967,295 bytes. // S14
    TooLarge,
    /// Its name is longer than 65,535 bytes. // S14
    NameTooLong,
    /// It is being written, or was changed a moment ago. It is listed once it is complete.
    Changing,
    /// The index is full.
    NoRoom,
    /// A sub-folder at the 32nd level: the path of a file in it has too many components. // W9
    TooDeep,
    /// It is empty, and was an image in an earlier run or under another name: a copy, an editor or a full disk may have
    /// failed. It is listed again once it has contents. An image that becomes empty while it is listed stays listed. // R8
    Emptied,
}

impl LeftOutReason {
    /// All reasons, in the order of [`LeftOut::reasons`].
    pub const ALL: &[LeftOutReason] = &[
        LeftOutReason::Folder,
        LeftOutReason::NotAnImage,
        LeftOutReason::Hidden,
        LeftOutReason::Temporary,
        LeftOutReason::Excluded,
        LeftOutReason::Duplicate,
        LeftOutReason::SameId,
        LeftOutReason::Link,
        LeftOutReason::Special,
        LeftOutReason::Unreadable,
        LeftOutReason::TooLarge,
        LeftOutReason::NameTooLong,
        LeftOutReason::Changing,
        LeftOutReason::NoRoom,
        LeftOutReason::TooDeep,
        LeftOutReason::Emptied,
    ];

    /// A short name in `snake_case`, for metrics and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            LeftOutReason::Folder => "folder",
            LeftOutReason::NotAnImage => "not_an_image",
            LeftOutReason::Hidden => "hidden",
            LeftOutReason::Temporary => "temporary",
            LeftOutReason::Excluded => "excluded",
            LeftOutReason::Duplicate => "duplicate",
            LeftOutReason::SameId => "same_id",
            LeftOutReason::Link => "link",
            LeftOutReason::Special => "special",
            LeftOutReason::Unreadable => "unreadable",
            LeftOutReason::TooLarge => "too_large",
            LeftOutReason::NameTooLong => "name_too_long",
            LeftOutReason::Changing => "changing",
            LeftOutReason::NoRoom => "no_room",
            LeftOutReason::TooDeep => "too_deep",
            LeftOutReason::Emptied => "emptied",
        }
    }
}

/// What is left out of the catalog of a [`DirStore`](crate::DirStore): counts and a few names by reason. Its size does
/// not depend on the number of files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeftOut {
    groups: [Group; LeftOutReason::ALL.len()],
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Group {
    count: u64,
    examples: Examples,
}

/// The first names in order of a set of any size.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Examples(BTreeSet<Name>);

impl LeftOut {
    /// The most examples of a reason.
    pub const MAX_EXAMPLES: usize = 20;

    /// The number of files (or folders) that are left out for this reason.
    #[must_use]
    pub fn count(&self, reason: LeftOutReason) -> u64 {
        self.groups.get(reason as usize).map_or(0, |g| g.count)
    }

    /// The number of all files and folders that are left out.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.groups.iter().map(|group| group.count).sum()
    }

    /// The reasons for which a file is left out.
    pub fn reasons(&self) -> impl Iterator<Item = LeftOutReason> + '_ {
        let all = LeftOutReason::ALL.iter().copied();
        all.filter(|reason| self.count(*reason) > 0)
    }

    /// The first names of this reason in order, at most [`LeftOut::MAX_EXAMPLES`]: paths below the folder.
    pub fn examples(&self, reason: LeftOutReason) -> impl Iterator<Item = &Path> {
        let group = self.groups.get(reason as usize);
        let names = group.into_iter().flat_map(|group| &group.examples.0);
        names.map(|name| Path::new(&**name))
    }

    pub(super) fn add(&mut self, reason: LeftOutReason, name: &OsStr) {
        if let Some(group) = self.groups.get_mut(reason as usize) {
            group.count += 1;
            group.examples.add(name);
        }
    }

    /// Adds `count` files, of which these are examples.
    pub(super) fn add_many(&mut self, reason: LeftOutReason, count: u64, examples: &Examples) {
        if let Some(group) = self.groups.get_mut(reason as usize) {
            group.count += count;
            group.examples.merge(examples);
        }
    }

    pub(super) fn merge(&mut self, other: &LeftOut) {
        for (group, other) in self.groups.iter_mut().zip(&other.groups) {
            group.count += other.count;
            group.examples.merge(&other.examples);
        }
    }
}

impl Examples {
    pub(super) fn add(&mut self, name: &OsStr) {
        if self.0.len() >= LeftOut::MAX_EXAMPLES {
            match self.0.last() {
                Some(last) if *name < **last => self.0.pop_last(),
                _ => return,
            };
        }
        self.0.insert(Name::from(name));
    }

    pub(super) fn remove(&mut self, name: &OsStr) {
        self.0.remove(name);
    }

    pub(super) fn merge(&mut self, other: &Examples) {
        other.0.iter().for_each(|name| self.add(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_place_and_a_name() {
        let mut names: Vec<_> = LeftOutReason::ALL.iter().map(|r| r.as_str()).collect();
        for (place, reason) in LeftOutReason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, place, "{reason:?}");
        }
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), LeftOutReason::ALL.len());
    }

    #[test]
    fn all_files_are_counted_and_the_first_names_are_kept() {
        let mut one = LeftOut::default();
        let mut other = LeftOut::default();
        for n in (0..100_000).rev() {
            let half = if n % 2 == 0 { &mut one } else { &mut other };
            half.add(LeftOutReason::Hidden, OsStr::new(&format!("{n:06}")));
        }
        other.add(LeftOutReason::Folder, OsStr::new("2026"));
        one.merge(&other);
        assert_eq!(one.count(LeftOutReason::Hidden), 100_000);
        assert_eq!((one.total(), one.count(LeftOutReason::Link)), (100_001, 0));
        let reasons: Vec<_> = one.reasons().collect();
        assert_eq!(reasons, [LeftOutReason::Folder, LeftOutReason::Hidden]);
        let names: Vec<_> = one.examples(LeftOutReason::Hidden).collect();
        let expected: Vec<_> = (0..20).map(|n| format!("{n:06}")).collect();
        assert_eq!(names, expected.iter().map(Path::new).collect::<Vec<_>>());
    }
}
