//! Safe file names from names that a peer chooses. // R5

mod arena;
mod candidate;
mod extension;
mod fold;
mod folder_table;
mod folders;
mod plain;
mod plan;

use std::borrow::{Borrow, Cow};
use std::ffi::OsStr;
use std::fmt;
use std::path::Path;

use jtp_core::{FileType, ImageId, nfc};

pub use arena::NameArena;
pub use candidate::is_temporary_name;
pub(crate) use candidate::{is_candidate, is_temporary};
pub use extension::has_image_extension;
pub(crate) use extension::{has_certain_extension, is_hidden};
pub use fold::fold_case;
use fold::is_joiner;
pub use folders::MAX_PATH_LEN;
use plain::is_plain;
pub use plan::NamePlan;

/// The longest file name, in bytes of UTF-8. File systems allow 255; the difference leaves room for what other programs
/// add to the names of their temporary files.
pub const MAX_FILE_NAME_LEN: usize = 240;

/// A file name that is safe on each system: in NFC, not hidden, without reserved characters and device names, with the
/// extension of an image, of at most [`MAX_FILE_NAME_LEN`] bytes. [`FileName::in_folders`] puts folders in front of it,
/// each as safe as the name, joined by `/`. // R5 W9
///
/// ```
/// use jtp_core::{FileType, ImageId};
/// use jtp_store::FileName;
///
/// let name = |from| FileName::new(from, ImageId(0xab), FileType::Png).to_string();
/// assert_eq!(name("../../etc/passwd"), "___.._etc_passwd.img");
/// assert_eq!(name("con.png"), "_con.png");
/// assert_eq!(name(""), "00000000000000ab.png");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileName(String);

impl FileName {
    /// The safe form of a name from a catalog, as one component; `<id>.<ext>` for an empty name. A safe name is not changed.
    #[must_use]
    pub fn new(name: &str, id: ImageId, file_type: FileType) -> FileName {
        match is_plain(name) {
            true => FileName(name.to_owned()),
            false => FileName::made_safe(name, id, file_type),
        }
    }

    /// The safe form of any name.
    fn made_safe(name: &str, id: ImageId, file_type: FileType) -> FileName {
        let mut safe = without_harm(name);
        if safe.is_empty() || name.chars().all(|c| c == '.' || c == ' ') {
            return FileName::of_id(id, file_type);
        }
        protect(&mut safe);
        if !has_image_extension(&safe) {
            safe.push_str(".img");
        }
        if safe.len() <= MAX_FILE_NAME_LEN {
            return FileName(safe);
        }
        let mut fitted = fit(&safe, "");
        // Shortening may remove all but spaces after the name of a device.
        if is_device(&fitted) {
            fitted.insert(0, '_');
            fitted = fit(&fitted, "");
        }
        FileName(fitted)
    }

    /// `<id>.<ext>`: the name of an image without a name of its own. // R5
    #[must_use]
    pub fn of_id(id: ImageId, file_type: FileType) -> FileName {
        FileName(format!("{id}.{}", file_type.extension()))
    }

    /// The name with `-<id>` before its extension, which is unique for the image; in the same folder. A name that has this
    /// suffix is not changed. // R5
    #[must_use]
    pub fn with_id(&self, id: ImageId) -> FileName {
        if self.suffix_id() == Some(id) {
            return self.clone();
        }
        let (folder, file) = self.parts();
        FileName(format!("{folder}{}", fit(file, &format!("-{id}"))))
    }

    /// `<id>` with the extension of this name, in the same folder: for a file system with short names.
    pub(crate) fn shortened(&self, id: ImageId) -> FileName {
        let (folder, file) = self.parts();
        FileName(format!("{folder}{id}{}", split(file).1))
    }

    /// The ID of a name that has `-<id>` before its extension.
    fn suffix_id(&self) -> Option<ImageId> {
        suffix_id(self.file())
    }

    /// The name as a string: a relative path, joined by `/`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name for comparison; see [`fold_case`].
    fn folded(&self) -> Cow<'_, str> {
        fold_case(&self.0)
    }
}

impl fmt::Display for FileName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for FileName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl AsRef<OsStr> for FileName {
    fn as_ref(&self) -> &OsStr {
        OsStr::new(&self.0)
    }
}

impl AsRef<Path> for FileName {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl Borrow<str> for FileName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// The name in NFC without what is harmful in it: one component, not hidden, perhaps empty. It may be that of a device.
fn without_harm(name: &str) -> String {
    // NFC first, so that replacing characters does not leave others to be composed.
    let normal = nfc(name);
    let mut safe = if normal.chars().any(is_harmful) {
        let replace = |c| if is_harmful(c) { '_' } else { c };
        normal.chars().map(replace).collect()
    } else {
        normal.into_owned()
    };
    // "..", and names that would be hidden, also on file systems that ignore joiners.
    let dots = |&c: &char| c == '.' || is_joiner(c);
    let (count, len) = safe
        .chars()
        .take_while(dots)
        .fold((0, 0), |(count, len), c| (count + 1, len + c.len_utf8()));
    safe.replace_range(..len, &"_".repeat(count));
    trim_end(&mut safe);
    safe
}

/// Prepends `_` to the names of devices, and to what a shell or a program may treat as an option or a home directory.
fn protect(safe: &mut String) {
    if is_device(safe) || safe.starts_with(['-', '~']) {
        safe.insert(0, '_');
    }
}

/// The ID of a file name that has `-<id>` before its extension.
fn suffix_id(file: &str) -> Option<ImageId> {
    let (stem, _) = split(file);
    let (_, id) = stem.rsplit_once('-')?;
    id.parse().ok()
}

/// Separators and reserved characters of any system, control characters, and characters that make a name look like
/// another one: invisible ones, and those that change the direction of text.
fn is_harmful(c: char) -> bool {
    matches!(c, '/' | '\\' | ':' | '<' | '>' | '"' | '|' | '?' | '*')
        || c.is_control()
        || matches!(c,
            '\u{00ad}' | '\u{034f}' | '\u{061c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e001f}')
}

/// Removes trailing dots and spaces, as Windows does.
fn trim_end(name: &mut String) {
    let len = name.trim_end_matches(['.', ' ']).len();
    name.truncate(len);
}

/// Whether the name is that of a Windows device, with any extension and in any case.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end_matches(' ');
    let devices = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"];
    if devices
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
    {
        return true;
    }
    let Some((port, number)) = stem.split_at_checked(3) else {
        return false;
    };
    let ports = ["COM", "LPT"];
    let mut number = number.chars();
    ports.iter().any(|known| port.eq_ignore_ascii_case(known))
        && matches!(
            (number.next(), number.next()),
            (Some('0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}'), None)
        )
}

/// The stem and the extension with its dot. Each file name has an extension.
pub(crate) fn split(name: &str) -> (&str, &str) {
    name.split_at(name.rfind('.').unwrap_or(name.len()))
}

/// The name with `suffix` before its extension; the stem is cut so that the result is short enough.
fn fit(name: &str, suffix: &str) -> String {
    let (stem, extension) = split(name);
    let room = MAX_FILE_NAME_LEN - suffix.len() - extension.len();
    let mut end = stem.len().min(room);
    while !stem.is_char_boundary(end) {
        end -= 1;
    }
    let mut fitted = stem.get(..end).unwrap_or_default().to_owned();
    fitted.push_str(suffix);
    fitted.push_str(extension);
    trim_end(&mut fitted);
    fitted
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: ImageId = ImageId(0x0123_4567_89ab_cdef);

    fn safe(name: &str) -> String {
        FileName::new(name, ID, FileType::Jpeg).to_string()
    }

    #[test]
    fn r5_hostile_names_are_made_safe() {
        for (name, expected) in [
            ("a.png", "a.png"),
            ("été 2026 (1).jpg", "été 2026 (1).jpg"),
            ("e\u{301}.png", "é.png"),
            ("../../x.png", "___.._x.png"),
            ("..", "0123456789abcdef.jpg"),
            (".", "0123456789abcdef.jpg"),
            ("", "0123456789abcdef.jpg"),
            (" . .", "0123456789abcdef.jpg"),
            ("/etc/passwd", "_etc_passwd.img"),
            ("C:\\x.png", "C__x.png"),
            ("a.png:stream", "a.png_stream.img"),
            ("a\0b\n\u{1b}[31m.png", "a_b__[31m.png"),
            (".hidden.png", "_hidden.png"),
            ("...png", "___png.img"),
            ("a.png. . ", "a.png"),
            ("a<>\"|?*.png", "a______.png"),
            ("CON", "_CON.img"),
            ("nul.tar.png", "_nul.tar.png"),
            ("conout$.png", "_conout$.png"),
            ("com1 .png", "_com1 .png"),
            ("LPT\u{b2}.gif", "_LPT\u{b2}.gif"),
            ("com10.png", "com10.png"),
            ("console.png", "console.png"),
            ("a\u{202e}gnp.exe", "a_gnp.exe.img"),
            ("a\u{ad}\u{3164}\u{2066}.png", "a___.png"),
            ("\u{200d}.jtp", "__jtp.img"),
            (".\u{200c}.\u{200d}", "____.img"),
            ("\u{200d}", "_.img"),
            ("👩\u{200d}💻.png", "👩\u{200d}💻.png"),
            ("~", "_~.img"),
            ("~/.ssh/x.png", "_~_.ssh_x.png"),
            ("-rf.png", "_-rf.png"),
            ("a-b~.png", "a-b~.png"),
            ("cert.pem", "cert.pem.img"),
            ("Makefile", "Makefile.img"),
            ("a.png.py", "a.png.py.img"),
            ("a.JPG", "a.JPG"),
            ("a.Heic", "a.Heic"),
            ("a.img", "a.img"),
            ("a.", "a.img"),
            (".png", "_png.img"),
        ] {
            assert_eq!(safe(name), expected, "{name:?}");
        }
    }

    #[test]
    fn r5_long_names_are_cut_at_a_character_boundary_and_keep_their_extension() {
        let name = safe(&format!("{}.jpeg", "é".repeat(300)));
        assert!(name.len() <= MAX_FILE_NAME_LEN && name.len() > MAX_FILE_NAME_LEN - 2);
        assert!(name.ends_with("é.jpeg"));
        assert_eq!(safe(&"x".repeat(65_535)).len(), MAX_FILE_NAME_LEN);
        assert_eq!(
            safe(&format!("a.{}", "x".repeat(300))).len(),
            MAX_FILE_NAME_LEN
        );
        let long = FileName::new(&format!("{}.png", "x".repeat(300)), ID, FileType::Png);
        let suffixed = long.with_id(ID);
        assert!(suffixed.as_str().ends_with("x-0123456789abcdef.png"));
        assert_eq!(suffixed.as_str().len(), MAX_FILE_NAME_LEN);
        assert_eq!(suffixed.with_id(ID), suffixed);
    }

    #[test]
    fn r5_a_name_that_shortening_makes_a_device_gets_an_underscore() {
        let name = safe(&format!("con{}x.png", " ".repeat(300)));
        assert!(name.starts_with("_con ") && name.ends_with(" .png") && !is_device(&name));
    }

    proptest! {
        #[test]
        fn r5_a_safe_name_is_one_visible_component_and_does_not_change_again(name in "\\PC{0,40}|.{0,300}") {
            let once = FileName::new(&name, ID, FileType::Png);
            let text = once.as_str();
            prop_assert!(!text.is_empty() && text.len() <= MAX_FILE_NAME_LEN);
            prop_assert!(!text.starts_with(['.', '-', '~']) && !text.ends_with(['.', ' ']));
            prop_assert!(has_image_extension(text));
            prop_assert!(!text.chars().any(is_harmful) && !is_device(text));
            prop_assert_eq!(nfc(text), text);
            prop_assert_eq!(Path::new(text).components().count(), 1);
            prop_assert_eq!(&FileName::new(text, ID, FileType::Png), &once);
            let suffixed = once.with_id(ID);
            prop_assert_eq!(&FileName::new(suffixed.as_str(), ID, FileType::Png), &suffixed);
        }
    }
}
