//! Which names a file system may treat as equal.

use std::borrow::Cow;

use jtp_core::nfc;

/// Maps names that a file system may treat as equal to the same text. // R5
///
/// The name is normalised to NFC; each character is mapped to lower, to upper and to lower case; joiners, which HFS+
/// ignores, are removed; and the result is normalised again. So `ß`, `ẞ` and `ss` are equal, and `Σ`, `σ` and `ς`.
/// The result is only for comparison and is no file name. Code that compares file names uses this function, so that
/// all parts of a program agree.
///
/// ```
/// use jtp_store::fold_case;
///
/// assert_eq!(fold_case("É.PNG"), fold_case("e\u{301}.png"));
/// assert_eq!(fold_case("STRASSE"), fold_case("straße"));
/// ```
#[must_use]
pub fn fold_case(name: &str) -> Cow<'_, str> {
    // One pass without branches, which the compiler vectorizes.
    let look = |(is_ascii, has_upper), byte: u8| {
        (
            is_ascii & byte.is_ascii(),
            has_upper | byte.is_ascii_uppercase(),
        )
    };
    match name.bytes().fold((true, false), look) {
        (true, false) => return Cow::Borrowed(name),
        (true, true) => return Cow::Owned(name.to_ascii_lowercase()),
        (false, _) => {}
    }
    let normal = nfc(name);
    // Lower case first, so that ẞ becomes ß, whose upper case is SS.
    let folded: String = normal
        .chars()
        .filter(|c| !is_joiner(*c))
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect();
    Cow::Owned(nfc(&folded).into_owned())
}

/// The joiners of scripts and emoji. They are kept in names, but HFS+ ignores them when it compares names.
pub(super) fn is_joiner(c: char) -> bool {
    matches!(c, '\u{200c}' | '\u{200d}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r5_names_that_differ_only_in_case_have_equal_folds() {
        for (a, b) in [
            ("A.PNG", "a.png"),
            ("É", "e\u{301}"),
            ("straße", "STRASSE"),
            ("STRAẞE", "straße"),
            ("ΟΔΟΣ", "οδος"),
            ("a\u{200d}b", "ab"),
            ("e\u{200c}\u{301}", "é"),
            ("\u{212a}", "k"),
        ] {
            assert_eq!(fold_case(a), fold_case(b));
        }
        assert_ne!(fold_case("a"), fold_case("á"));
        assert!(matches!(fold_case("a-1.png"), Cow::Borrowed(_)));
    }
}
