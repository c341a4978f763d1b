//! Escapes text from a peer for terminals and for logs with one line per message.

use std::error::Error;
use std::fmt;

use crate::exit::error_chain;

/// Displays `text` with control, line-breaking, bidirectional and invisible characters escaped, as in `\u{202e}`.
/// A backslash is doubled, so that the output is unambiguous.
///
/// ```
/// use jtp_cli::escape::escaped;
/// assert_eq!(escaped("Zürich.png").to_string(), "Zürich.png");
/// assert_eq!(escaped("a\x1b[2J\n.png").to_string(), r"a\u{1b}[2J\n.png");
/// ```
#[must_use]
pub fn escaped(text: &str) -> Escaped<'_> {
    Escaped {
        text,
        is_unsafe: |c| c == '\\' || is_unsafe(c),
    }
}

/// Like [`escaped`], for text of which parts may be escaped already: a backslash stays as it is.
///
/// ```
/// use jtp_cli::escape::escaped_again;
/// assert_eq!(escaped_again("a\\n \n").to_string(), r"a\n \n");
/// ```
#[must_use]
pub fn escaped_again(text: &str) -> Escaped<'_> {
    Escaped { text, is_unsafe }
}

/// See [`escaped`] and [`escaped_again`].
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a> {
    text: &'a str,
    is_unsafe: fn(char) -> bool,
}

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.text;
        while let Some(at) = rest.find(self.is_unsafe) {
            let (plain, from) = rest.split_at(at);
            f.write_str(plain)?;
            let mut chars = from.chars();
            match chars.next() {
                Some('\n') => f.write_str("\\n")?,
                Some('\r') => f.write_str("\\r")?,
                Some('\t') => f.write_str("\\t")?,
                Some('\\') => f.write_str("\\\\")?,
                Some(c) => write!(f, "{}", c.escape_unicode())?,
                None => {}
            }
            rest = chars.as_str();
        }
        f.write_str(rest)
    }
}

/// An error and its causes in one line, escaped, for errors that contain text from a peer.
///
/// ```
/// use jtp_cli::escape::escaped_chain;
/// assert_eq!(escaped_chain(&std::io::Error::other("a\nb")), r"a\nb");
/// ```
#[must_use]
pub fn escaped_chain(error: &dyn Error) -> String {
    escaped(&error_chain(error)).to_string()
}

fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Bidirectional marks, embeddings, overrides and isolates.
            '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // Line and paragraph separators, invisible operators, the byte order mark, annotations.
            | '\u{2028}' | '\u{2029}' | '\u{2060}'..='\u{2065}' | '\u{206a}'..='\u{206f}' | '\u{200b}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{00ad}' | '\u{180e}'
            // Tag characters, which are invisible.
            | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_bidi_and_invisible_characters_are_escaped() {
        for plain in [
            "",
            "a b.png",
            "Überfahrt—1.jpg",
            "写真.png",
            "صورة.png",
            "👨\u{200d}👩.gif",
        ] {
            assert_eq!(escaped(plain).to_string(), plain);
        }
        for (bad, good) in [
            ("\0", r"\u{0}"),
            ("\x1b]0;title\x07", r"\u{1b}]0;title\u{7}"),
            ("a\r\nb\t", r"a\r\nb\t"),
            ("\u{7f}\u{9b}31m", r"\u{7f}\u{9b}31m"),
            ("gnp.\u{202e}exe", r"gnp.\u{202e}exe"),
            ("\u{2066}x\u{2069}", r"\u{2066}x\u{2069}"),
            (r"\u{202e}", r"\\u{202e}"),
            ("\u{e0041}", r"\u{e0041}"),
        ] {
            assert_eq!(escaped(bad).to_string(), good);
        }
    }
}
