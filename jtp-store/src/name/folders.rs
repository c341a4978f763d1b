//! File names with folders in front of them. // W9

use jtp_core::{FileType, ImageId, split_folders};

use super::{
    FileName, MAX_FILE_NAME_LEN, fold_case, has_image_extension, is_device, protect, split,
    suffix_id, trim_end, without_harm,
};

/// The longest name with folders, in bytes, before a suffix with an ID is added: what the system with the shortest paths
/// allows (macOS). A longer one stays one component.
pub const MAX_PATH_LEN: usize = 1024;

impl FileName {
    /// The safe form of a name from a catalog, in the folders that are part of the name
    /// ([`split_folders`](jtp_core::split_folders)). A name without folders, and one of more than [`MAX_PATH_LEN`] bytes,
    /// becomes one component, as with [`FileName::new`]. // R5 W9
    ///
    /// ```
    /// use jtp_core::{FileType, ImageId};
    /// use jtp_store::FileName;
    ///
    /// let name = |from| FileName::in_folders(from, ImageId(1), FileType::Png).to_string();
    /// assert_eq!(name("2024⧸Rome⧸a.png"), "2024/Rome/a.png");
    /// assert_eq!(name("..⧸..⧸etc⧸passwd"), "__/__/etc/passwd.img");
    /// assert_eq!(name("con⧸a.png"), "_con/a.png");
    /// ```
    #[must_use]
    pub fn in_folders(name: &str, id: ImageId, file_type: FileType) -> FileName {
        // The separator of folders is not ASCII.
        let path = Some(name).filter(|name| !name.is_ascii());
        let Some(mut rest) = path.and_then(split_folders) else {
            return FileName::new(name, id, file_type);
        };
        let file = rest.next_back().unwrap_or_default();
        let mut path = String::with_capacity(name.len());
        for folder in rest {
            path.push_str(&safe_folder(folder));
            path.push('/');
        }
        path.push_str(FileName::new(file, id, file_type).as_str());
        match path.len() <= MAX_PATH_LEN {
            true => FileName(path),
            false => FileName::new(name, id, file_type),
        }
    }

    /// The safe form of the last component of a path of the output folder, in the folder that it has there.
    #[must_use]
    pub fn beside(path: &str, id: ImageId, file_type: FileType) -> FileName {
        let (folder, file) = split_path(path);
        let file = FileName::new(file, id, file_type);
        FileName(format!("{folder}{}", file.0))
    }

    /// The same name without folders: they become a part of its only component.
    #[must_use]
    pub fn flattened(&self, id: ImageId, file_type: FileType) -> FileName {
        let flat = self.0.replace('/', "\u{29f8}");
        FileName::new(&flat, id, file_type)
    }

    /// The folder with its last `/`, empty without one, and the last component.
    pub(super) fn parts(&self) -> (&str, &str) {
        split_path(&self.0)
    }

    /// The last component.
    #[must_use]
    pub fn file(&self) -> &str {
        self.parts().1
    }

    /// The paths of the folders in which the file is, the innermost first.
    ///
    /// ```
    /// use jtp_core::{FileType, ImageId};
    /// use jtp_store::FileName;
    ///
    /// let name = FileName::in_folders("2024⧸Rome⧸a.png", ImageId(1), FileType::Png);
    /// assert_eq!(name.folders().collect::<Vec<_>>(), ["2024/Rome", "2024"]);
    /// ```
    pub fn folders(&self) -> impl Iterator<Item = &str> {
        folders_of(&self.0)
    }
}

/// The paths of the folders of a path, the innermost first.
pub(super) fn folders_of(path: &str) -> impl Iterator<Item = &str> {
    path.rmatch_indices('/').map(|(at, _)| &path[..at])
}

/// A path as its folder with the last `/`, and the last component.
fn split_path(path: &str) -> (&str, &str) {
    path.split_at(path.rfind('/').map_or(0, |at| at + 1))
}

/// The safe form of a folder's name: as that of a file, but no extension is added. It is not like the names
/// that are made from IDs, so that no file of this or another image needs it. // R5
fn safe_folder(name: &str) -> String {
    let mut safe = without_harm(name);
    if safe.is_empty() {
        safe.push('_');
    }
    protect(&mut safe);
    cut(&mut safe, MAX_FILE_NAME_LEN);
    // Shortening may remove all but spaces after the name of a device.
    if is_device(&safe) {
        safe.insert(0, '_');
        cut(&mut safe, MAX_FILE_NAME_LEN);
    }
    if is_made(&safe) {
        cut(&mut safe, MAX_FILE_NAME_LEN - 1);
        safe.push('_');
    }
    safe
}

/// Whether a file could get this name because of its ID: `<id>.<ext>`, or `-<id>` before the extension of an image.
fn is_made(name: &str) -> bool {
    let name = &*fold_case(name);
    let is_id = |stem: &str| stem.parse::<ImageId>().is_ok();
    has_image_extension(name) && (suffix_id(name).is_some() || is_id(split(name).0))
}

/// Cuts a name at a character boundary.
fn cut(name: &mut String, len: usize) {
    if name.len() > len {
        let mut end = len;
        while !name.is_char_boundary(end) {
            end -= 1;
        }
        name.truncate(end);
        trim_end(name);
    }
}

#[cfg(test)]
mod tests {
    use super::super::is_harmful;
    use super::*;
    use jtp_core::{FOLDER_SEPARATOR, MAX_PATH_COMPONENTS, nfc};
    use proptest::prelude::*;

    const ID: ImageId = ImageId(0x0123_4567_89ab_cdef);

    fn safe(name: &str) -> String {
        FileName::in_folders(name, ID, FileType::Jpeg).to_string()
    }

    #[test]
    fn w9_each_component_of_a_hostile_path_is_made_safe() {
        for (name, expected) in [
            ("a⧸b.png", "a/b.png"),
            ("..⧸..⧸etc⧸x.png", "__/__/etc/x.png"),
            (".⧸.ssh⧸.hidden.png", "_/_ssh/_hidden.png"),
            ("/⧸\\⧸a\0b⧸x.png", "_/_/a_b/x.png"),
            ("C:⧸x.png", "C_/x.png"),
            ("con⧸nul.txt⧸com1.png", "_con/_nul.txt/_com1.png"),
            ("~⧸-rf⧸~a.png", "_~/_-rf/_~a.png"),
            (" ⧸a. . ⧸x.png", "_/a/x.png"),
            ("a⧸..", "a/0123456789abcdef.jpg"),
            ("Make⧸Makefile", "Make/Makefile.img"),
            ("e\u{301}⧸e\u{301}.png", "é/é.png"),
            ("scan.tif⧸1.png", "scan.tif/1.png"),
            // Names that W9 does not split.
            ("⧸", "⧸.img"),
            ("a⧸⧸b.png", "a⧸⧸b.png"),
            ("⧸a.png", "⧸a.png"),
            ("a.png⧸", "a.png⧸.img"),
            // Names that are made from IDs.
            (
                "a-0123456789abcdef.png⧸x.png",
                "a-0123456789abcdef.png_/x.png",
            ),
            (
                "A-0123456789ABCDEF.PNG⧸x.png",
                "A-0123456789ABCDEF.PNG_/x.png",
            ),
            (
                "0123456\u{200d}789abcdef.jpg⧸x.png",
                "0123456\u{200d}789abcdef.jpg_/x.png",
            ),
            ("0123456789abcdef.jpg⧸x.png", "0123456789abcdef.jpg_/x.png"),
            ("0123456789abcdef⧸x.png", "0123456789abcdef/x.png"),
        ] {
            assert_eq!(safe(name), expected, "{name:?}");
        }
    }

    #[test]
    fn w9_too_many_components_and_too_long_paths_stay_one_component() {
        let path = |folders: usize, folder: &str| {
            [&*[folder].repeat(folders).join("⧸"), "a.png"].join("⧸")
        };
        let most = safe(&path(MAX_PATH_COMPONENTS - 1, "d"));
        assert_eq!(most.split('/').count(), MAX_PATH_COMPONENTS);
        assert!(!safe(&path(MAX_PATH_COMPONENTS, "d")).contains('/'));
        let long = "x".repeat(MAX_FILE_NAME_LEN);
        assert_eq!(safe(&path(4, &long)).len(), 4 * 241 + 5);
        let flat = safe(&path(5, &long));
        assert!(!flat.contains('/') && flat.len() <= MAX_FILE_NAME_LEN);
        let cut = safe(&path(1, &"é".repeat(300)));
        assert_eq!(cut.split('/').next().unwrap().len(), MAX_FILE_NAME_LEN);
        let made = format!("{}-0123456789abcdef.png", "x".repeat(219));
        let kept = safe(&path(1, &made));
        assert_eq!(kept, format!("{}_/a.png", &made[..239]));
    }

    #[test]
    fn r5_the_suffix_with_an_id_is_added_to_the_last_component() {
        let name = FileName::in_folders("a-b.png⧸c", ID, FileType::Png);
        assert_eq!(name.as_str(), "a-b.png/c.img");
        let suffixed = name.with_id(ID);
        assert_eq!(suffixed.as_str(), "a-b.png/c-0123456789abcdef.img");
        assert_eq!(suffixed.with_id(ID), suffixed);
        assert_eq!(name.shortened(ID).as_str(), "a-b.png/0123456789abcdef.img");
        let folder = FileName::in_folders("a-0123456789abcdef⧸c.png", ID, FileType::Png);
        assert_eq!(
            folder.with_id(ID).as_str(),
            "a-0123456789abcdef/c-0123456789abcdef.png"
        );
        assert_eq!(name.flattened(ID, FileType::Png).as_str(), "a-b.png⧸c.img");
        let beside = FileName::beside("-x/\u{202e}.png", ID, FileType::Png);
        assert_eq!(beside.as_str(), "-x/_.png");
    }

    proptest! {
        #[test]
        fn r5_each_component_of_a_path_is_safe_and_does_not_change_again(
            path in prop::collection::vec("\\PC{1,9}|.{1,250}|[cC][oO][nN] {0,250}.?|[-~. ]{1,3}", 1..8),
        ) {
            let name = path.join("⧸");
            let once = FileName::in_folders(&name, ID, FileType::Png);
            let text = once.as_str();
            prop_assert!(text.len() <= MAX_PATH_LEN);
            prop_assert!(text.split('/').count() <= MAX_PATH_COMPONENTS);
            prop_assert_eq!(nfc(text), text);
            for part in text.split('/') {
                prop_assert!(!part.is_empty() && part.len() <= MAX_FILE_NAME_LEN);
                prop_assert!(!part.starts_with(['.', '-', '~']) && !part.ends_with(['.', ' ']));
                prop_assert!(!part.chars().any(is_harmful) && !is_device(part));
            }
            prop_assert!(has_image_extension(text));
            prop_assert!(once.folders().all(|folder| !is_made(split_path(folder).1)));
            // A name that stayed one component may have been cut.
            if text.contains('/') {
                let again = text.replace('/', &FOLDER_SEPARATOR.to_string());
                prop_assert_eq!(&FileName::in_folders(&again, ID, FileType::Png), &once);
            }
            let folds: Vec<_> = text.split('/').map(|part| fold_case(part)).collect();
            prop_assert_eq!(&*fold_case(text), &*folds.join("/"));
        }
    }
}
