//! Paths of files in sub-folders, as one name. // W9

#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

use alloc::string::String;
use core::str::Split;

use crate::name::nfc;
use crate::wire::entry::MAX_NAME_LEN;

/// Joins the components of a path in a name: U+29F8, which looks like a slash and has no meaning in file systems. // W9
pub const FOLDER_SEPARATOR: char = '\u{29f8}';

/// The most components of a path, the file itself included. // W9
pub const MAX_PATH_COMPONENTS: usize = 32;

/// The name of a file in sub-folders: its components in NFC, joined by [`FOLDER_SEPARATOR`], which becomes `_` within a
/// component. For servers. // W6 W9
///
/// `None` if there is no component or an empty one, if there are more than [`MAX_PATH_COMPONENTS`], or if the name would be
/// longer than the 65,535 bytes of an entry. // S14
///
/// ```
/// use jtp_core::join_folders;
///
/// assert_eq!(join_folders(["2024", "Rome", "a.jpg"]).as_deref(), Some("2024⧸Rome⧸a.jpg"));
/// assert_eq!(join_folders(["a⧸b", "c.jpg"]).as_deref(), Some("a_b⧸c.jpg"));
/// assert_eq!(join_folders(["2024", ""]), None);
/// ```
#[must_use]
pub fn join_folders<'a>(components: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let mut name = String::new();
    let mut count = 0;
    for component in components {
        count += 1;
        if count > MAX_PATH_COMPONENTS || component.is_empty() {
            return None;
        }
        if count > 1 {
            name.push(FOLDER_SEPARATOR);
        }
        if component.is_ascii() {
            name.push_str(component);
        } else {
            let replaced = |c| if c == FOLDER_SEPARATOR { '_' } else { c };
            name.extend(nfc(component).chars().map(replaced));
        }
        if name.len() > MAX_NAME_LEN {
            return None;
        }
    }
    (count > 0).then_some(name)
}

/// The components of a name that stands for a path in sub-folders; the last one is the file. For clients. // W9
///
/// `None` if the name is that of a file without folders: it has no [`FOLDER_SEPARATOR`], an empty component, or more than
/// [`MAX_PATH_COMPONENTS`]. The components are as unsafe as the name: R5 applies to each of them. // R5
///
/// ```
/// use jtp_core::split_folders;
///
/// let path: Vec<_> = split_folders("2024⧸Rome⧸a.jpg").unwrap().collect();
/// assert_eq!(path, ["2024", "Rome", "a.jpg"]);
/// assert!(split_folders("a.jpg").is_none());
/// assert!(split_folders("⧸a.jpg").is_none());
/// ```
#[must_use]
pub fn split_folders(name: &str) -> Option<Split<'_, char>> {
    let components = name.split(FOLDER_SEPARATOR);
    let count = components.clone().take(MAX_PATH_COMPONENTS + 1).count();
    let is_path =
        (2..=MAX_PATH_COMPONENTS).contains(&count) && components.clone().all(|c| !c.is_empty());
    is_path.then_some(components)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[test]
    fn w9_a_path_has_at_most_32_components() {
        let most = [const { "d" }; MAX_PATH_COMPONENTS];
        let name = join_folders(most).unwrap();
        assert_eq!(split_folders(&name).unwrap().count(), MAX_PATH_COMPONENTS);
        assert_eq!(join_folders(most.into_iter().chain(["a.png"])), None);
        assert!(split_folders(&(name + "⧸a.png")).is_none());
    }

    #[test]
    fn w9_names_without_folders_or_with_empty_ones_stay_one_component() {
        for name in ["", "a.png", "⧸", "a⧸", "⧸a", "a⧸⧸b", "a/b.png"] {
            assert!(split_folders(name).is_none(), "{name}");
        }
        assert_eq!(join_folders([]), None);
        assert_eq!(join_folders(["a", "", "b"]), None);
    }

    #[test]
    fn s14_a_joined_name_has_at_most_65535_bytes() {
        let long = "x".repeat(MAX_NAME_LEN - 4);
        assert_eq!(join_folders(["a", &long]).unwrap().len(), MAX_NAME_LEN);
        assert_eq!(join_folders(["ab", &long]), None);
    }

    proptest! {
        #[test]
        fn w9_a_joined_path_is_split_into_its_components(path in prop::collection::vec("[^⧸]{1,8}", 2..40)) {
            let joined = join_folders(path.iter().map(|c| &**c));
            prop_assert_eq!(joined.is_some(), path.len() <= MAX_PATH_COMPONENTS);
            if let Some(joined) = joined {
                prop_assert_eq!(&*nfc(&joined), &*joined);
                let components: Vec<_> = split_folders(&joined).unwrap().collect();
                let normal: Vec<_> = path.iter().map(|c| nfc(c)).collect();
                prop_assert_eq!(components, normal);
            }
        }
    }
}
