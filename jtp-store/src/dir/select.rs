//! Selects the files of a folder that are images, and gives the names under which they are listed.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::path::Path;

use jtp_core::wire::entry::MAX_NAME_LEN;
use jtp_core::{FileType, nfc};

use crate::name::is_shared_name;

/// The files that a store lists.
#[derive(Debug, Clone, Default)]
pub(super) struct Selection {
    /// A substring of the name, in lower-case NFC.
    only: Option<String>,
}

impl Selection {
    pub(super) fn only(substring: &str) -> Selection {
        let only = nfc(substring).to_lowercase();
        Selection {
            only: Some(only).filter(|only| !only.is_empty()),
        }
    }

    /// Whether a file of that name is selected.
    pub(super) fn takes(&self, name: &OsStr) -> bool {
        let lossy = name.to_string_lossy();
        is_shared_name(&lossy)
            && self
                .only
                .as_ref()
                .is_none_or(|only| nfc(&lossy).to_lowercase().contains(only.as_str()))
    }
}

fn extension(name: &OsStr) -> Option<Cow<'_, str>> {
    Path::new(name).extension().map(OsStr::to_string_lossy)
}

/// The type of an image: that of its first bytes, else that of its extension. // W5
pub(super) fn file_type(sniffed: Option<FileType>, name: &OsStr) -> FileType {
    sniffed.unwrap_or_else(|| {
        extension(name).map_or(FileType::Other, |extension| {
            FileType::from_extension(&extension)
        })
    })
}

/// The name in the catalog: NFC, with U+FFFD in place of invalid UTF-8. `None` if it is too long for an
/// entry. // W6 S14
pub(super) fn listed_name(name: &OsStr) -> Option<String> {
    let lossy = name.to_string_lossy();
    let listed = nfc(&lossy);
    (listed.len() <= MAX_NAME_LEN).then(|| listed.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_with_an_image_extension_are_selected_unless_hidden() {
        let all = Selection::default();
        for name in [
            "a.png", "A.JpEg", "x.y.tiff", "b.CR3", " .gif", "a.webp", "a.bmp", "c.jfif", "d.PDF",
        ] {
            assert!(all.takes(OsStr::new(name)), "{name}");
        }
        let none = [
            "a.txt",
            "disk.img",
            "png",
            ".png",
            ".a.png",
            "a.png~",
            "a.png.part",
            "~$a.png",
            "a.",
            "",
            ".jtp-1.part",
        ];
        for name in none {
            assert!(!all.takes(OsStr::new(name)), "{name}");
        }
    }

    #[test]
    fn only_matches_a_substring_in_any_case_and_any_normal_form() {
        let only = Selection::only("CAFE\u{301}");
        assert!(only.takes(OsStr::new("un café.png")));
        assert!(only.takes(OsStr::new("un Cafe\u{301}.png")));
        assert!(!only.takes(OsStr::new("cafe.png")));
        assert!(Selection::only("").takes(OsStr::new("a.png")));
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
    #[cfg(unix)]
    fn w6_a_name_that_is_not_utf8_is_listed_with_replacement_characters() {
        use std::os::unix::ffi::OsStrExt;
        let name = OsStr::from_bytes(b"a\xff\xc3.png");
        assert_eq!(listed_name(name).unwrap(), "a\u{fffd}\u{fffd}.png");
        assert_eq!(
            listed_name(OsStr::new("cafe\u{301}.png")).unwrap(),
            "café.png"
        );
    }

    #[test]
    fn s14_a_name_over_65535_bytes_is_not_listed() {
        assert!(listed_name(OsStr::new(&"x".repeat(65_535))).is_some());
        assert!(listed_name(OsStr::new(&"x".repeat(65_536))).is_none());
        // The length counts after normalisation.
        assert!(listed_name(OsStr::new(&"e\u{301}".repeat(30_000))).is_some());
    }
}
