//! File names as the protocol wants them.

use alloc::borrow::Cow;
use alloc::string::String;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The name in Unicode's Normalization Form C; borrowed if it already is. // W6
///
/// ```
/// assert_eq!(jtp_core::nfc("cafe\u{301}.png"), "café.png");
/// ```
#[must_use]
pub fn nfc(name: &str) -> Cow<'_, str> {
    if name.is_ascii() || is_nfc_quick(name.chars()) == IsNormalized::Yes {
        Cow::Borrowed(name)
    } else {
        Cow::Owned(name.nfc().collect::<String>())
    }
}
