//! File names as the protocol wants them.

use alloc::borrow::Cow;
use alloc::string::String;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The name in Normalization Form C; borrowed if it is in that form already. // W6
///
/// Both sides do this: a server before it sends a name, a client when it receives one. It makes no name safe:
/// what comes out is still not to be used as a path. // R5
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
    // The quick check may also not know: then only the result tells.
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
    fn w6_names_become_nfc_and_those_that_are_stay_borrowed() {
        for same in ["", "a.png", "é", "한글.gif", "q\u{307}\u{323}x".trim_end()] {
            let normal: String = same.nfc().collect();
            assert_eq!(nfc(same), normal);
            assert_eq!(matches!(nfc(same), Cow::Borrowed(_)), normal == same);
        }
        assert_eq!(nfc("A\u{30a}"), "\u{c5}");
        // The quick check says "maybe" here: a combining mark that has nothing to combine with.
        assert!(matches!(nfc("x\u{301}.png"), Cow::Borrowed(_)));
        // Singletons change even though nothing combines.
        assert_eq!(nfc("\u{212b}"), "\u{c5}");
    }
}
