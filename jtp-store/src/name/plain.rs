//! Recognises names that are safe as they are.

use super::{MAX_FILE_NAME_LEN, has_image_extension, is_device};

/// Whether [`FileName::new`](super::FileName::new) leaves the name as it is, as far as that can be seen at once. Most names
/// are such, and a plan makes the safe form of each several times.
pub(super) fn is_plain(name: &str) -> bool {
    let bytes = name.as_bytes();
    let [first, .., last] = bytes else {
        return false;
    };
    bytes.iter().all(|byte| is_harmless(*byte))
        && !matches!(first, b'.' | b'-' | b'~')
        && !matches!(last, b'.' | b' ')
        && bytes.len() <= MAX_FILE_NAME_LEN
        && has_image_extension(name)
        && !is_device(name)
}

const fn is_harmless(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
        && !matches!(
            byte,
            b'/' | b'\\' | b':' | b'<' | b'>' | b'"' | b'|' | b'?' | b'*'
        )
}

#[cfg(test)]
mod tests {
    use super::super::{is_harmful, without_harm};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn r5_harmless_bytes_are_those_of_harmless_characters() {
        for byte in 0..=127 {
            assert_eq!(is_harmless(byte), !is_harmful(char::from(byte)), "{byte}");
        }
        assert!((128..=255).all(|byte| !is_harmless(byte)));
    }

    #[test]
    fn r5_names_that_are_changed_are_not_plain() {
        for name in [
            "",
            "a",
            ".",
            ".png",
            "..png",
            "-a.png",
            "~a.png",
            "con.png",
            "NUL.tar.png",
            "a.py",
            "a.png ",
            "a.png.",
            "é.png",
            "a⧸b.png",
            "a/b.png",
            "a\n.png",
            "a:b.png",
        ] {
            assert!(!is_plain(name), "{name}");
        }
        assert!(!is_plain(&format!("{}.png", "x".repeat(MAX_FILE_NAME_LEN))));
        for name in [
            "a.png",
            "IMG 1 (2).JPG",
            "console.png",
            "a..png",
            "x-~.tiff",
        ] {
            assert!(is_plain(name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn r5_a_plain_name_is_its_own_safe_form(name in "[ -~]{0,12}(\\.(png|JPG|img|gif|py))?") {
            if is_plain(&name) {
                prop_assert_eq!(&without_harm(&name), &name);
                prop_assert!(!name.starts_with(['-', '~']) && !is_device(&name));
                prop_assert!(has_image_extension(&name));
            }
        }
    }
}
