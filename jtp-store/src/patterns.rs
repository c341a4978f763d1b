//! Patterns that select names, as in `*.jpg` and `2026/**`.

use globset::{GlobBuilder, GlobMatcher};
use jtp_core::nfc;

/// The longest pattern in bytes: longer than any name that it could match. // W6
const MAX_PATTERN: usize = 65_535;

/// A list of patterns that select names: all names by default.
///
/// The last pattern that matches decides, as in gitignore and ripgrep. If none matches, the name is selected, unless the
/// first pattern is an [`include`](Patterns::include).
///
/// A pattern is compared with a name or a path with `/` between its folders, both in NFC, with regard to case:
///
/// - `*` stands for any characters except `/`; `{a,b}` for one of several patterns; `\` takes the next character literally.
/// - `?` stands for one ASCII character except `/`; `[abc]` and `[a-z]` for one of these, `[!a]` for any other. For other
///   characters, use `*` or `{é,è}`.
/// - A pattern without `/` is compared with the last component of a name. One with `/` is compared with the whole name; `**`
///   stands for any folders in it. A `/` at its start only says that it is compared with the whole name.
///
/// ```
/// use jtp_store::Patterns;
///
/// let patterns = Patterns::new().include("*.jpg")?.exclude("drafts/**")?;
/// assert!(patterns.selects("2026/beach.jpg"));
/// assert!(!patterns.selects("drafts/beach.jpg"));
/// assert!(!patterns.selects("beach.png"));
/// # Ok::<(), jtp_store::PatternError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct Patterns(Vec<Pattern>);

#[derive(Debug, Clone)]
struct Pattern {
    matcher: GlobMatcher,
    /// It has a `/`.
    is_path: bool,
    includes: bool,
}

/// A pattern that [`Patterns::include`] and [`Patterns::exclude`] do not accept.
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

impl Patterns {
    /// No patterns: every name is selected.
    #[must_use]
    pub fn new() -> Patterns {
        Patterns::default()
    }

    /// Selects the names that match the pattern, whatever earlier patterns say.
    ///
    /// # Errors
    ///
    /// [`PatternError`].
    pub fn include(self, pattern: &str) -> Result<Patterns, PatternError> {
        self.with(pattern, true)
    }

    /// Leaves out the names that match the pattern, whatever earlier patterns say.
    ///
    /// # Errors
    ///
    /// [`PatternError`].
    pub fn exclude(self, pattern: &str) -> Result<Patterns, PatternError> {
        self.with(pattern, false)
    }

    fn with(mut self, pattern: &str, includes: bool) -> Result<Patterns, PatternError> {
        self.0.push(Pattern::new(pattern, includes)?);
        Ok(self)
    }

    /// Whether there are no patterns.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the name is selected.
    #[must_use]
    pub fn selects(&self, name: &str) -> bool {
        let Some(first) = self.0.first() else {
            return true;
        };
        let name = nfc(name);
        let last = self.0.iter().rev().find(|p| p.matches(&name));
        last.map_or(!first.includes, |pattern| pattern.includes)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// `+` and `-` begin an include and an exclude.
    fn patterns(rules: &str) -> Patterns {
        rules
            .split_whitespace()
            .fold(Patterns::new(), |patterns, rule| {
                let (sign, pattern) = rule.split_at(1);
                match sign {
                    "+" => patterns.include(pattern).unwrap(),
                    _ => patterns.exclude(pattern).unwrap(),
                }
            })
    }

    fn selected<'a>(rules: &str, names: &[&'a str]) -> Vec<&'a str> {
        let patterns = patterns(rules);
        let is_selected = |name: &&&str| patterns.selects(name);
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
            // Names that no folder should have.
            ("*", "../../etc/passwd", true),
            ("*", "", true),
            ("a?b", "a\nb", true),
        ] {
            let pattern_and_name = format!("{pattern} {name:?}");
            let included = Patterns::new().include(pattern).unwrap();
            let selects = included.selects(name);
            assert_eq!(selects, matches, "{pattern_and_name}");
            let excluded = Patterns::new().exclude(pattern).unwrap();
            let selects = excluded.selects(name);
            assert_eq!(selects, !matches, "{pattern_and_name}");
        }
    }

    #[test]
    fn invalid_patterns_are_refused() {
        for pattern in ["[", "[z-a]", "{a,b", "a}", "\\", "", "/"] {
            let error = Patterns::new().include(pattern).unwrap_err();
            assert!(!error.to_string().is_empty(), "{pattern}: {error}");
        }
        let long = "a".repeat(65_536);
        assert_eq!(
            Patterns::new().exclude(&long).unwrap_err(),
            PatternError::TooLong
        );
        // Larger than the limit of the regular expressions that patterns become.
        let large = "?".repeat(65_000);
        if let Ok(patterns) = Patterns::new().include(&large) {
            assert!(!patterns.selects("a"));
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
            let error = Patterns::new().include(pattern).unwrap_err();
            let class = class.to_owned();
            assert_eq!(error, PatternError::NotAscii { class }, "{pattern}");
        }
        for pattern in [r"\[é]", "[a]é[b]", "é*", "[[]é"] {
            assert!(Patterns::new().include(pattern).is_ok(), "{pattern}");
        }
    }
}
