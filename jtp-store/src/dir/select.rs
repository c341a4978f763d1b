//! Selects the files of a folder that are images, and gives the names under which they are listed.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;

use jtp_core::wire::entry::MAX_NAME_LEN;
use jtp_core::{FileType, MAX_PATH_COMPONENTS, join_folders, nfc};

use super::left_out::LeftOutReason;
use crate::name::{is_hidden, is_temporary};
use crate::patterns::Patterns;

/// The files that a store lists, if they are images.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    /// A substring of the name, in lower-case NFC.
    only: Option<String>,
    patterns: Patterns,
}

impl Selection {
    pub(super) fn set_only(&mut self, substring: &str) {
        let only = nfc(substring).to_lowercase();
        self.only = Some(only).filter(|only| !only.is_empty());
    }

    pub(super) fn set_patterns(&mut self, patterns: Patterns) {
        self.patterns = patterns;
    }

    /// Whether a file of that path is selected.
    pub(super) fn takes(&self, path: &OsStr) -> bool {
        let name = Path::new(path).file_name().unwrap_or(path);
        self.reason_against(path, name, false).is_none()
    }

    /// Why an entry of a folder is left out, as far as its path, which ends with its name, and its type say.
    pub(super) fn reason_against(
        &self,
        path: &OsStr,
        name: &OsStr,
        is_folder: bool,
    ) -> Option<LeftOutReason> {
        if is_hidden(name) {
            Some(LeftOutReason::Hidden)
        } else if is_folder {
            Some(LeftOutReason::Folder)
        } else if is_temporary(&name.to_string_lossy()) {
            Some(LeftOutReason::Temporary)
        } else if self.excludes(path) {
            Some(LeftOutReason::Excluded)
        } else {
            None
        }
    }

    fn excludes(&self, name: &OsStr) -> bool {
        if self.only.is_none() && self.patterns.is_empty() {
            return false;
        }
        let path = nfc(&name.to_string_lossy()).into_owned();
        #[cfg(windows)]
        let path = path.replace('\\', "/");
        let is_other = |only: &String| !path.to_lowercase().contains(only.as_str());
        self.only.as_ref().is_some_and(is_other) || !self.patterns.selects(&path)
    }
}

/// The same as `Path::extension`, which takes longer.
fn extension(path: &OsStr) -> Option<Cow<'_, str>> {
    let mut parts = path.as_encoded_bytes().rsplit(|byte| *byte == b'/');
    let name = parts.next()?;
    let dot = name.iter().rposition(|byte| *byte == b'.')?;
    let extension = name.get(dot + 1..)?;
    (dot > 0).then(|| String::from_utf8_lossy(extension))
}

/// The type of an image: that of its first bytes, else that of its extension. // W5
pub(super) fn file_type(sniffed: Option<FileType>, name: &OsStr) -> FileType {
    sniffed.unwrap_or_else(|| {
        extension(name).map_or(FileType::Other, |extension| {
            FileType::from_extension(&extension)
        })
    })
}

/// Which files a store shares, and so what the key of a file and its name in the catalog are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Naming {
    /// The files directly in the folder, by their names.
    #[default]
    Flat,
    /// Also those in sub-folders, by their paths below the folder, joined by `/`. // W9
    Tree,
}

impl Naming {
    /// Whether a path has a name in the catalog.
    pub(super) fn lists(self, path: &OsStr) -> bool {
        // NFC makes a character at most three times as long, and so do U+FFFD and the separator.
        let is_short = path.len() <= MAX_NAME_LEN / 9;
        let components = || path.as_encoded_bytes().split(|byte| *byte == b'/');
        let is_certain = match self {
            Naming::Flat => true,
            Naming::Tree => {
                components().count() <= MAX_PATH_COMPONENTS && components().all(|c| !c.is_empty())
            }
        };
        (is_short && is_certain) || self.listed(path).is_some()
    }

    /// The name in the catalog: NFC, with U+FFFD in place of invalid UTF-8. `None` if it is too long for an
    /// entry. // W6 W9 S14
    pub(super) fn listed(self, name: &OsStr) -> Option<String> {
        let lossy = name.to_string_lossy();
        if self == Naming::Tree {
            return join_folders(lossy.split('/'));
        }
        let listed = nfc(&lossy);
        (listed.len() <= MAX_NAME_LEN).then(|| listed.into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn only(substring: &str) -> Selection {
        let mut selection = Selection::default();
        selection.set_only(substring);
        selection
    }

    #[test]
    fn all_names_are_selected_unless_hidden_or_temporary() {
        let all = Selection::default();
        for name in [
            "a.png",
            "A.JpEg",
            "x.y.tiff",
            "b.CR3",
            " .gif",
            "IMG_0001",
            "photo.bin",
            "disk.img",
            "a.",
            "a.txt",
        ] {
            assert!(all.takes(OsStr::new(name)), "{name}");
        }
        for (name, reason) in [
            (".png", LeftOutReason::Hidden),
            (".a.png", LeftOutReason::Hidden),
            (".jtp-1.part", LeftOutReason::Hidden),
            ("a.png~", LeftOutReason::Temporary),
            ("a.png.part", LeftOutReason::Temporary),
            ("~$a.png", LeftOutReason::Temporary),
        ] {
            let name = OsStr::new(name);
            let found = all.reason_against(name, name, false);
            assert_eq!(found, Some(reason), "{name:?}");
        }
        let folder = |name| all.reason_against(OsStr::new(name), OsStr::new(name), true);
        assert_eq!(folder("2026.png"), Some(LeftOutReason::Folder));
        assert_eq!(folder(".git"), Some(LeftOutReason::Hidden));
    }

    #[test]
    fn a_file_must_satisfy_the_substring_and_the_patterns() {
        let mut both = only("beach");
        let patterns = Patterns::new().include("*.jpg").unwrap();
        both.set_patterns(patterns.exclude("2025/*").unwrap());
        for (name, is_taken) in [
            ("Beach 1.jpg", true),
            ("2026/beach.jpg", true),
            ("beach.png", false),
            ("town.jpg", false),
            ("2025/beach.jpg", false),
            ("beach\n.jpg", true),
        ] {
            assert_eq!(both.takes(OsStr::new(name)), is_taken, "{name:?}");
        }
        let excluded = both.reason_against(OsStr::new("beach.png"), OsStr::new("beach.png"), false);
        assert_eq!(excluded, Some(LeftOutReason::Excluded));
    }

    #[test]
    fn only_matches_a_substring_in_any_case_and_any_normal_form() {
        let only = only("CAFE\u{301}");
        assert!(only.takes(OsStr::new("un café.png")));
        assert!(only.takes(OsStr::new("un Cafe\u{301}.png")));
        assert!(!only.takes(OsStr::new("cafe.png")));
        assert!(super::tests::only("").takes(OsStr::new("a.png")));
    }

    #[test]
    fn w5_the_type_is_that_of_the_first_bytes_else_of_the_extension() {
        assert_eq!(
            file_type(Some(FileType::Gif), OsStr::new("a.png")),
            FileType::Gif
        );
        assert_eq!(file_type(None, OsStr::new("a.PNG")), FileType::Png);
        assert_eq!(file_type(None, OsStr::new("a.heic")), FileType::Other);
    }

    #[test]
    fn s14_a_name_over_65535_bytes_is_not_listed() {
        let is_listed = |name: String| Naming::Flat.listed(OsStr::new(&name)).is_some();
        assert!(is_listed("x".repeat(65_535)) && !is_listed("x".repeat(65_536)));
        // The length counts after normalisation.
        assert!(is_listed("e\u{301}".repeat(30_000)));
    }

    #[test]
    fn s14_w9_what_is_certain_to_be_listed_is_listed() {
        let mut paths = ["a", "a/b", "a//b", "/a", "a/"].map(str::to_owned).to_vec();
        paths.extend((30..35).map(|folders| "a/".repeat(folders) + "b"));
        // The last two are longer in NFC.
        for character in ["x", "/", "\u{fb2c}", "\u{1d160}"] {
            let lengths = [MAX_NAME_LEN / 9, MAX_NAME_LEN / 3, MAX_NAME_LEN];
            let counts = lengths.map(|length| length / character.len());
            paths.extend(counts.map(|count| character.repeat(count)));
            paths.extend(counts.map(|count| character.repeat(count + 1)));
        }
        for naming in [Naming::Flat, Naming::Tree] {
            for path in &paths {
                let is_listed = naming.listed(OsStr::new(path)).is_some();
                let start: String = path.chars().take(9).collect();
                assert_eq!(naming.lists(OsStr::new(path)), is_listed, "{start}…");
            }
        }
        assert_eq!(extension(OsStr::new("a.b/.png")), None);
    }
}
