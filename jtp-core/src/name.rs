//! Normalization of file names.

#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

use alloc::borrow::Cow;
use alloc::string::String;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// Normalizes a name to Unicode Normalization Form C; borrows it if it is in that form. // W6
///
/// A server does this before it sends a name, a client when it receives one. It does not make a name safe: never use
/// the result as a path. // R5
///
/// ```
/// use std::borrow::Cow;
/// use jtp_core::nfc;
///
/// assert!(matches!(nfc("été.png"), Cow::Borrowed("été.png")));
/// assert_eq!(nfc("e\u{301}te\u{301}.png"), "été.png");
/// ```
#[must_use]
pub fn nfc(name: &str) -> Cow<'_, str> {
    if name.is_ascii() || is_nfc_quick(name.chars()) == IsNormalized::Yes {
        return Cow::Borrowed(name);
    }
    // The quick check can be inconclusive: then compare the result.
    let normal: String = name.nfc().collect();
    if normal == name {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(normal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w6_names_become_nfc_and_nfc_names_are_borrowed() {
        for same in ["", "a.png", "é", "한글.gif", "q\u{307}\u{323}x".trim_end()] {
            let normal: String = same.nfc().collect();
            assert_eq!(nfc(same), normal);
            assert_eq!(matches!(nfc(same), Cow::Borrowed(_)), normal == same);
        }
        assert_eq!(nfc("A\u{30a}"), "\u{c5}");
        // The quick check returns Maybe: the combining mark does not combine with "x".
        assert!(matches!(nfc("x\u{301}.png"), Cow::Borrowed(_)));
        // A singleton decomposition: U+212B becomes U+00C5.
        assert_eq!(nfc("\u{212b}"), "\u{c5}");
    }
}
