//! Names that are safe as they are: those of most files.

use super::{MAX_FILE_NAME_LEN, has_image_extension, is_device};

/// Whether a byte is a character of its own that a safe name may contain: ASCII, no control character and none that a
/// system reserves.
const fn is_plain_byte(byte: u8) -> bool {
    matches!(byte, b' '..=b'~')
        && !matches!(
            byte,
            b'/' | b'\\' | b':' | b'<' | b'>' | b'"' | b'|' | b'?' | b'*'
        )
}

/// Bytes by [`is_plain_byte`].
static PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0u8;
    loop {
        plain[byte as usize] = is_plain_byte(byte);
        if byte == u8::MAX {
            break plain;
        }
        byte += 1;
    }
};

/// Whether a name is one component and its own safe form, found by one pass over its bytes. `false` for a name that is
/// not ASCII: that needs a closer look. // R5
pub(super) fn is_plain(name: &str) -> bool {
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    bytes.len() <= MAX_FILE_NAME_LEN
        && bytes.iter().all(|byte| PLAIN[usize::from(*byte)])
        && !matches!(first, b'.' | b'-' | b'~')
        && !matches!(last, b'.' | b' ')
        && has_image_extension(name)
        && !is_device(name)
}

#[cfg(test)]
mod tests {
    use jtp_core::{FileType, ImageId};
    use proptest::prelude::*;

    use super::super::FileName;
    use super::*;

    const ID: ImageId = ImageId(0x0123_4567_89ab_cdef);

    proptest! {
        #[test]
        fn r5_a_plain_name_is_its_own_safe_form(
            name in "x{235,237}\\.png|[ -~]{0,12}\\.(png|jpg|PNG|img|bmp)|[.~ -]{0,2}(con|NUL|lpt1|a)[. ]{0,2}(png|jpg)?|.{0,20}\\.png",
        ) {
            if is_plain(&name) {
                let safe = FileName::made_safe(&name, ID, FileType::Png);
                prop_assert_eq!(safe.as_str(), &name);
                let in_folders = FileName::in_folders(&name, ID, FileType::Png);
                prop_assert_eq!(in_folders.as_str(), &name);
            }
            let safe = FileName::made_safe(&name, ID, FileType::Png);
            prop_assert_eq!(is_plain(safe.as_str()), safe.as_str().is_ascii());
        }
    }
}
