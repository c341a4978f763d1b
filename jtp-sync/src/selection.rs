//! Which of the server's images a sync concerns.

use std::borrow::Cow;
use std::collections::BTreeSet;

use jtp_core::{FOLDER_SEPARATOR, FileType, ImageId, split_folders};
use jtp_store::{PatternError, Patterns};

/// Which of the server's images a sync concerns: all by default. The others are neither fetched, nor renamed, nor
/// replaced, nor counted as missing ([`Totals::left_out`](crate::Totals::left_out)). // R8
///
/// An image is selected if it satisfies all of these:
///
/// - Its ID is one of [`ids`](Selection::ids), if any were given.
/// - Its type is one of [`types`](Selection::types), if any were given.
/// - The patterns select its name as the server lists it, with `/` between its folders
///   ([`split_folders`](jtp_core::split_folders)): see [`Patterns`].
///
/// ```
/// use jtp_sync::{FileType, ImageId, Selection};
///
/// let selection = Selection::all()
///     .include("*.jpg")?
///     .exclude("*-small.jpg")?
///     .types([FileType::Jpeg]);
/// assert!(selection.selects(ImageId(1), "beach.jpg", FileType::Jpeg));
/// assert!(!selection.selects(ImageId(2), "beach-small.jpg", FileType::Jpeg));
/// assert!(!selection.selects(ImageId(3), "beach.png", FileType::Png));
/// # Ok::<(), jtp_sync::PatternError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Selection {
    patterns: Patterns,
    types: u8,
    ids: BTreeSet<ImageId>,
}

impl Selection {
    /// All images.
    #[must_use]
    pub fn all() -> Selection {
        Selection::default()
    }

    /// Selects the images whose names match the pattern, whatever earlier patterns say.
    ///
    /// # Errors
    ///
    /// [`PatternError`].
    pub fn include(mut self, pattern: &str) -> Result<Selection, PatternError> {
        self.patterns = self.patterns.include(pattern)?;
        Ok(self)
    }

    /// Leaves out the images whose names match the pattern, whatever earlier patterns say.
    ///
    /// # Errors
    ///
    /// [`PatternError`].
    pub fn exclude(mut self, pattern: &str) -> Result<Selection, PatternError> {
        self.patterns = self.patterns.exclude(pattern)?;
        Ok(self)
    }

    /// Selects the images whose names these patterns select, in place of the patterns given before.
    #[must_use]
    pub fn patterns(mut self, patterns: Patterns) -> Selection {
        self.patterns = patterns;
        self
    }

    /// Selects only images of these types, and of those given before. [`FileType::Other`] includes the reserved codes.
    #[must_use]
    pub fn types(mut self, types: impl IntoIterator<Item = FileType>) -> Selection {
        for file_type in types {
            self.types |= bit(file_type);
        }
        self
    }

    /// Selects only images with these IDs, and with those given before. An ID that the server does not list is reported
    /// by [`SyncEvent::NotListed`](crate::SyncEvent::NotListed).
    #[must_use]
    pub fn ids(mut self, ids: impl IntoIterator<Item = ImageId>) -> Selection {
        self.ids.extend(ids);
        self
    }

    /// Whether it selects every image.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.patterns.is_empty() && self.types == 0 && self.ids.is_empty()
    }

    /// The IDs that were asked for, in ascending order; none if the selection does not go by IDs.
    pub fn requested_ids(&self) -> impl Iterator<Item = ImageId> {
        self.ids.iter().copied()
    }

    /// Whether the image is selected. `name` is that which the server lists.
    #[must_use]
    pub fn selects(&self, id: ImageId, name: &str, file_type: FileType) -> bool {
        (self.ids.is_empty() || self.ids.contains(&id))
            && (self.types == 0 || self.types & bit(file_type) != 0)
            && self.selects_name(name)
    }

    /// Whether an image of the folder that the server does not list would be selected, by its name and its type: that is
    /// asked for only if it matters. If it is not known, the extension decides.
    pub(crate) fn selects_extra(
        &self,
        name: &str,
        file_type: impl FnOnce() -> Option<FileType>,
    ) -> bool {
        let by_name = || {
            let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
            FileType::from_extension(extension)
        };
        self.ids.is_empty()
            && self.selects_name(name)
            && (self.types == 0 || self.types & bit(file_type().unwrap_or_else(by_name)) != 0)
    }

    fn selects_name(&self, name: &str) -> bool {
        self.patterns.is_empty() || self.patterns.selects(&as_path(name))
    }
}

/// The name with a `/` between its folders. // W9
fn as_path(name: &str) -> Cow<'_, str> {
    match split_folders(name) {
        Some(_) => name.replace(FOLDER_SEPARATOR, "/").into(),
        None => name.into(),
    }
}

fn bit(file_type: FileType) -> u8 {
    match file_type {
        FileType::Reserved5 | FileType::Reserved6 => bit(FileType::Other),
        other => 1 << other.code(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` and `-` begin an include and an exclude.
    fn selection(rules: &str) -> Selection {
        rules
            .split_whitespace()
            .fold(Selection::all(), |selection, rule| {
                let (sign, pattern) = rule.split_at(1);
                match sign {
                    "+" => selection.include(pattern).unwrap(),
                    _ => selection.exclude(pattern).unwrap(),
                }
            })
    }

    fn selected<'a>(rules: &str, names: &[&'a str]) -> Vec<&'a str> {
        let selection = selection(rules);
        let is_selected = |name: &&&str| selection.selects(ImageId(1), name, FileType::Png);
        names.iter().filter(is_selected).copied().collect()
    }

    #[test]
    fn last_pattern_that_matches_decides() {
        let names = ["a.jpg", "a.png", "b.jpg"];
        assert_eq!(selected("", &names), names);
        assert_eq!(selected("+*.jpg -a.*", &names), ["b.jpg"]);
        let patterns = Patterns::new().include("a.*").unwrap();
        let replaced = selection("-a.*").patterns(patterns);
        assert!(replaced.selects(ImageId(1), "a.png", FileType::Png));
        assert!(!replaced.selects(ImageId(1), "b.jpg", FileType::Png));
    }

    #[test]
    fn types_and_ids_restrict_the_selection_further() {
        let all = Selection::all();
        assert!(all.is_all() && all.selects(ImageId(1), "x", FileType::Reserved5));
        let types = Selection::all().types([FileType::Png, FileType::Other]);
        let by_type = |file_type| types.selects(ImageId(1), "x", file_type);
        assert!(!types.is_all() && by_type(FileType::Png) && by_type(FileType::Other));
        assert!(by_type(FileType::Reserved5) && by_type(FileType::Reserved6));
        assert!(!by_type(FileType::Jpeg) && !by_type(FileType::Gif));
        let ids = selection("-b.png").ids([ImageId(7), ImageId(8)]);
        assert!(ids.selects(ImageId(7), "a.png", FileType::Png));
        assert!(!ids.selects(ImageId(8), "b.png", FileType::Png));
        assert!(!ids.selects(ImageId(9), "a.png", FileType::Png));
        assert!(ids.requested_ids().eq([ImageId(7), ImageId(8)]));
    }

    #[test]
    fn extra_files_are_selected_by_their_names_and_types() {
        let unasked = || panic!("the type does not matter");
        assert!(Selection::all().selects_extra("a.png", unasked));
        assert!(!selection("-a.*").selects_extra("a.png", unasked));
        assert!(
            !Selection::all()
                .ids([ImageId(0)])
                .selects_extra("a.png", unasked)
        );
        let types = Selection::all().types([FileType::Jpeg]);
        let selects = |name, file_type| types.selects_extra(name, || file_type);
        assert!(selects("a.JPG", None) && !selects("a.png", None));
        assert!(selects("a.png", Some(FileType::Jpeg)) && !selects("a.jpg", Some(FileType::Png)));
    }

    #[test]
    fn w9_patterns_see_the_folders_of_a_name_separated_by_slashes() {
        for (pattern, name, expected) in [
            ("2026/*", "2026⧸a.png", true),
            ("*.png", "2026⧸06⧸a.png", true),
            ("2026/**", "2026⧸06⧸a.png", true),
            ("2026/*", "2026⧸06⧸a.png", false),
            ("2026*", "2026⧸a.png", false),
            ("/a.png", "2026⧸a.png", false),
            // Not a path: it has an empty component.
            ("2026/*", "2026⧸⧸a.png", false),
            ("2026*", "2026⧸⧸a.png", true),
        ] {
            let selection = Selection::all().include(pattern).unwrap();
            let selects = selection.selects(ImageId(1), name, FileType::Png);
            assert_eq!(selects, expected, "{pattern} {name}");
        }
    }
}
