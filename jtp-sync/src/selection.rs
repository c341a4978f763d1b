//! Which of the server's images a sync concerns.

use std::borrow::Cow;
use std::collections::BTreeSet;

use globset::{GlobBuilder, GlobMatcher};
use jtp_core::{FOLDER_SEPARATOR, FileType, ImageId, nfc, split_folders};

/// The longest pattern in bytes: longer than any name that it could match. // W6
const MAX_PATTERN: usize = 65_535;

/// Which of the server's images a sync concerns: all by default. The others are neither fetched, nor renamed, nor
/// replaced, nor counted as missing ([`Totals::left_out`](crate::Totals::left_out)). // R8
///
/// An image is selected if it satisfies all of these:
///
/// - Its ID is one of [`ids`](Selection::ids), if any were given.
/// - Its type is one of [`types`](Selection::types), if any were given.
/// - The patterns select its name: the last pattern that matches decides, as in gitignore and ripgrep. If none matches,
///   the image is selected, unless the first pattern is an [`include`](Selection::include).
///
/// A pattern is compared with the name as the server lists it, both in NFC, with regard to case. The folders in a name are
/// separated by `/` for that ([`split_folders`](jtp_core::split_folders)):
///
/// - `*` stands for any characters except `/`; `{a,b}` for one of several patterns; `\` takes the next character literally.
/// - `?` stands for one ASCII character except `/`; `[abc]` and `[a-z]` for one of these, `[!a]` for any other. For other
///   characters, use `*` or `{é,è}`.
/// - A pattern without `/` is compared with the last component of a name. One with `/` is compared with the whole name; `**`
///   stands for any folders in it. A `/` at its start only says that it is compared with the whole name.
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
    patterns: Vec<Pattern>,
    types: u8,
    ids: BTreeSet<ImageId>,
}

#[derive(Debug, Clone)]
struct Pattern {
    matcher: GlobMatcher,
    /// It has a `/`.
    is_path: bool,
    includes: bool,
}

/// A pattern that [`Selection::include`] and [`Selection::exclude`] do not accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PatternError {
    /// It is not well-formed.
    #[error("invalid pattern: {reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// A character class contains a character that is not ASCII.
    #[error("{class} may contain ASCII characters only: use {{a,b}} for others")]
    NotAscii {
        /// The class, such as `[éè]`.
        class: String,
    },
    /// It has no characters, so it matches no name.
    #[error("the pattern is empty")]
    Empty,
    /// It is longer than any name: 65,535 bytes.
    #[error("the pattern is longer than 65535 bytes")]
    TooLong,
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
    pub fn include(self, pattern: &str) -> Result<Selection, PatternError> {
        self.with(pattern, true)
    }

    /// Leaves out the images whose names match the pattern, whatever earlier patterns say.
    ///
    /// # Errors
    ///
    /// [`PatternError`].
    pub fn exclude(self, pattern: &str) -> Result<Selection, PatternError> {
        self.with(pattern, false)
    }

    fn with(mut self, pattern: &str, includes: bool) -> Result<Selection, PatternError> {
        self.patterns.push(Pattern::new(pattern, includes)?);
        Ok(self)
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

    fn selects_name(&self, name: &str) -> bool {
        let Some(first) = self.patterns.first() else {
            return true;
        };
        let name = as_path(nfc(name));
        let last = self.patterns.iter().rev().find(|p| p.matches(&name));
        last.map_or(!first.includes, |pattern| pattern.includes)
    }

    /// Whether an image of the folder that the server does not list would be selected, by its name alone.
    pub(crate) fn selects_extra(&self, name: &str) -> bool {
        let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
        let file_type = FileType::from_extension(extension);
        self.ids.is_empty() && self.selects(ImageId(0), name, file_type)
    }
}

impl Pattern {
    fn new(pattern: &str, includes: bool) -> Result<Pattern, PatternError> {
        let rooted = pattern.strip_prefix('/').unwrap_or(pattern);
        if rooted.is_empty() {
            return Err(PatternError::Empty);
        }
        if rooted.len() > MAX_PATTERN {
            return Err(PatternError::TooLong);
        }
        let glob = GlobBuilder::new(&nfc(rooted))
            .literal_separator(true)
            .backslash_escape(true)
            .build()
            .map_err(|error| PatternError::Invalid {
                reason: error.kind().to_string(),
            })?;
        if let Some(class) = classes(rooted).find(|class| !class.is_ascii()) {
            let class = class.to_owned();
            return Err(PatternError::NotAscii { class });
        }
        Ok(Pattern {
            matcher: glob.compile_matcher(),
            is_path: pattern.contains('/'),
            includes,
        })
    }

    fn matches(&self, name: &str) -> bool {
        let last = name.rsplit_once('/').map_or(name, |(_, last)| last);
        self.matcher
            .is_match(if self.is_path { name } else { last })
    }
}

/// The name with a `/` between its folders. // W9
fn as_path(name: Cow<'_, str>) -> Cow<'_, str> {
    match split_folders(&name) {
        Some(_) => name.replace(FOLDER_SEPARATOR, "/").into(),
        None => name,
    }
}

/// The character classes of a valid pattern: globset compares them byte by byte.
fn classes(pattern: &str) -> impl Iterator<Item = &str> {
    let mut rest = pattern;
    std::iter::from_fn(move || {
        let mut chars = rest.char_indices();
        let start = loop {
            match chars.next()? {
                (_, '\\') => _ = chars.next(),
                (at, '[') => break at,
                _ => {}
            }
        };
        let class = &rest[start..];
        // A `]` at the beginning is one of the characters.
        let inner = &class[1..];
        let inner = inner.strip_prefix(['!', '^']).unwrap_or(inner);
        let skipped = class.len() - inner.len() + usize::from(inner.starts_with(']'));
        let end = class[skipped..].find(']')? + skipped + 1;
        rest = &class[end..];
        Some(&class[..end])
    })
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
        let names = ["a.jpg", "a.png", "b.jpg", "raw.dng"];
        for (rules, expected) in [
            ("", &names[..]),
            // Without a match: out after a first include, in after a first exclude.
            ("+*.jpg", &["a.jpg", "b.jpg"]),
            ("-*.jpg", &["a.png", "raw.dng"]),
            ("+*.jpg -a.*", &["b.jpg"]),
            ("-a.* +*.jpg", &["a.jpg", "b.jpg", "raw.dng"]),
            ("-*.jpg +a.*", &["a.jpg", "a.png", "raw.dng"]),
            ("+a.* -*.jpg", &["a.png"]),
            ("+* -*.jpg +b.jpg", &["a.png", "b.jpg", "raw.dng"]),
            ("-*", &[]),
            ("-* +raw.dng", &["raw.dng"]),
            ("+*.jpg +*.png", &["a.jpg", "a.png", "b.jpg"]),
            ("+nothing", &[]),
            ("-nothing", &names),
        ] {
            assert_eq!(selected(rules, &names), expected, "{rules}");
        }
    }

    #[test]
    fn patterns_match_names_as_documented() {
        for (pattern, name, matches) in [
            ("a.png", "a.png", true),
            ("a.png", "A.PNG", false),
            ("*.PNG", "a.png", false),
            ("*.[pP][nN][gG]", "a.PnG", true),
            ("*.png", "é.png", true),
            ("?.png", "b.png", true),
            ("{é,ü}.png", "ü.png", true),
            ("[]-]é", "]é", true),
            ("?.png", "ab.png", false),
            ("*", ".hidden.png", true),
            ("[!a]*", "a.png", false),
            ("[!a]*", "b.png", true),
            ("{a,b}.*", "b.jpg", true),
            (r"\*.png", "*.png", true),
            (r"\*.png", "a.png", false),
            (r"a\b.png", "ab.png", true),
            ("a+b (1).png", "a+b (1).png", true),
            // Composed and decomposed.
            ("é.png", "e\u{301}.png", true),
            ("e\u{301}.png", "é.png", true),
            // Names with folders in them.
            ("*.png", "2026/06/a.png", true),
            ("a.png", "2026/a.png", true),
            ("/a.png", "2026/a.png", false),
            ("/a.png", "a.png", true),
            ("2026/*", "2026/a.png", true),
            ("2026/*", "2026/06/a.png", false),
            ("2026/**", "2026/06/a.png", true),
            ("**/06/*", "2026/06/a.png", true),
            ("06/*", "2026/06/a.png", false),
            ("2026/*", "2026⧸a.png", true),
            ("*.png", "2026⧸06⧸a.png", true),
            ("2026/**", "2026⧸06⧸a.png", true),
            ("2026/*", "2026⧸06⧸a.png", false),
            ("2026*", "2026⧸a.png", false),
            ("/a.png", "2026⧸a.png", false),
            // Not a path: it has an empty component.
            ("2026/*", "2026⧸⧸a.png", false),
            ("2026*", "2026⧸⧸a.png", true),
            // Names that no folder should have.
            ("*", "../../etc/passwd", true),
            ("*", "", true),
            ("a?b", "a\nb", true),
        ] {
            let pattern_and_name = format!("{pattern} {name:?}");
            let included = Selection::all().include(pattern).unwrap();
            let selects = included.selects(ImageId(1), name, FileType::Png);
            assert_eq!(selects, matches, "{pattern_and_name}");
            let excluded = Selection::all().exclude(pattern).unwrap();
            let selects = excluded.selects(ImageId(1), name, FileType::Png);
            assert_eq!(selects, !matches, "{pattern_and_name}");
        }
    }

    #[test]
    fn invalid_patterns_are_refused() {
        for pattern in ["[", "[z-a]", "{a,b", "a}", "\\", "", "/"] {
            let error = Selection::all().include(pattern).unwrap_err();
            assert!(!error.to_string().is_empty(), "{pattern}: {error}");
        }
        let long = "a".repeat(65_536);
        assert_eq!(
            Selection::all().exclude(&long).unwrap_err(),
            PatternError::TooLong
        );
        // Larger than the limit of the regular expressions that patterns become.
        let large = "?".repeat(65_000);
        if let Ok(selection) = Selection::all().include(&large) {
            assert!(!selection.selects(ImageId(1), "a", FileType::Png));
        }
    }

    #[test]
    fn character_classes_beyond_ascii_are_refused() {
        for (pattern, class) in [
            ("[é].png", "[é]"),
            ("a[b]é[!xß]", "[!xß]"),
            (r"\[é[a-é]", "[a-é]"),
            ("[]é]", "[]é]"),
        ] {
            let error = Selection::all().include(pattern).unwrap_err();
            let class = class.to_owned();
            assert_eq!(error, PatternError::NotAscii { class }, "{pattern}");
        }
        for pattern in [r"\[é]", "[a]é[b]", "é*", "[[]é"] {
            assert!(Selection::all().include(pattern).is_ok(), "{pattern}");
        }
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
    fn extra_files_are_selected_by_their_names_alone() {
        assert!(Selection::all().selects_extra("a.png"));
        assert!(!selection("-a.*").selects_extra("a.png"));
        let types = Selection::all().types([FileType::Jpeg]);
        assert!(types.selects_extra("a.JPG") && !types.selects_extra("a.png"));
        assert!(!Selection::all().ids([ImageId(0)]).selects_extra("a.png"));
    }
}
