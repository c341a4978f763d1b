//! Which objects may be images, and the names under which they are listed.

use jtp_core::{FileType, join_folders};
use jtp_store::has_image_extension;

use crate::format::MAX_KEY_LEN;

/// The number of first bytes that show whether an object is an image.
pub(crate) const START_LEN: usize = 12;

/// The extension of received images whose name has none of an image: elsewhere it is that of disk images.
const UNKNOWN: &str = "img";

/// Whether an object of this key may be an image. Hidden ones, and those in hidden folders, are not; so the catalog is not,
/// either.
pub(crate) fn is_candidate(key: &str) -> bool {
    let is_visible = |part: &str| !part.is_empty() && !part.starts_with('.');
    key.len() <= MAX_KEY_LEN && key.split('/').all(is_visible) && listed_name(key).is_some()
}

/// The name in the catalog; `None` if it is too long, or has too many folders. // W6 W9 S14
pub(crate) fn listed_name(key: &str) -> Option<String> {
    join_folders(key.split('/'))
}

/// Whether the key alone shows that the object is an image.
pub(crate) fn has_certain_extension(key: &str) -> bool {
    has_image_extension(last(key)) && !extension(key).eq_ignore_ascii_case(UNKNOWN)
}

/// Whether first bytes are those of an image. Two letters are not enough for a BMP: its four reserved bytes are 0.
pub(crate) fn is_image_start(start: &[u8]) -> bool {
    match FileType::sniff(start) {
        Some(FileType::Bmp) => start.get(6..10) == Some(&[0; 4]),
        Some(_) => true,
        None => false,
    }
}

/// The type of an image: that of its first bytes, else that of its extension. // W5
pub(crate) fn file_type(start: &[u8], key: &str) -> FileType {
    FileType::sniff(start).unwrap_or_else(|| FileType::from_extension(extension(key)))
}

fn last(key: &str) -> &str {
    key.rsplit('/').next().unwrap_or(key)
}

fn extension(key: &str) -> &str {
    last(key)
        .rsplit_once('.')
        .map_or("", |(_, extension)| extension)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_objects_and_the_catalog_are_no_candidates() {
        for key in ["a.png", "2024/Rome/a.jpg", "README", "a⧸b.gif"] {
            assert!(is_candidate(key), "{key}");
        }
        let long = format!("{}.png", "x".repeat(MAX_KEY_LEN));
        let deep = format!("{}a.png", "d/".repeat(32));
        for key in [
            ".jtp/v1/head/0001",
            ".hidden.png",
            "a/.b/c.png",
            "a//b.png",
            &long,
            &deep,
        ] {
            assert!(!is_candidate(key), "{key}");
        }
    }

    #[test]
    fn w9_folders_are_joined_in_the_name() {
        assert_eq!(
            listed_name("2024/Rome/a.jpg").as_deref(),
            Some("2024⧸Rome⧸a.jpg")
        );
        assert_eq!(listed_name("e\u{301}.png").as_deref(), Some("é.png"));
    }

    #[test]
    fn w5_the_type_is_that_of_the_first_bytes() {
        assert_eq!(file_type(b"GIF89a", "a.png"), FileType::Gif);
        assert_eq!(file_type(b"?", "b/a.JPG"), FileType::Jpeg);
        assert!(has_certain_extension("d.x/a.tiff") && !has_certain_extension("a.img"));
        assert!(!has_certain_extension("d.png/a"));
        assert!(is_image_start(b"GIF89a") && !is_image_start(b"BMxxxxxxxxxx"));
    }
}
