//! Escapes text from a peer for terminals and for logs with one line per message.

use std::borrow::Cow;
use std::error::Error;
use std::fmt::{self, Write};

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
    Escaped(text)
}

/// See [`escaped`].
#[derive(Debug, Clone, Copy)]
pub struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(|c| c == '\\' || is_unsafe(c)) {
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

/// The most bytes of an error with its causes.
const MAX_CHAIN: usize = 2_000;

/// An error and its causes in one line, escaped and cut to some 2,000 bytes, for errors that contain text from a peer.
///
/// ```
/// use jtp_cli::escape::escaped_chain;
/// assert_eq!(escaped_chain(&std::io::Error::other("a\nb")), r"a\nb");
/// ```
#[must_use]
pub fn escaped_chain(error: &dyn Error) -> String {
    shortened(&error_chain(error), MAX_CHAIN)
}

/// `text` escaped, at most `limit` bytes of it; then the number of bytes of `text` that are left out.
///
/// ```
/// use jtp_cli::escape::shortened;
/// assert_eq!(shortened("a\nbcdefg", 4), r"a\nb… (5 more bytes)");
/// ```
#[must_use]
pub fn shortened(text: &str, limit: usize) -> String {
    bounded(text, Escaping::Message, limit).into_owned()
}

/// `text` escaped, at most `limit` bytes of it.
pub(crate) fn bounded(text: &str, escaping: Escaping, limit: usize) -> Cow<'_, str> {
    if text.len() <= limit && !text.contains(|c| escaping.escapes(c)) {
        return Cow::Borrowed(text);
    }
    let mut short = String::new();
    let mut writer = BoundedWriter::new(&mut short, escaping, limit);
    // Writing to a string does not fail.
    let _ = writer.write_str(text).and_then(|()| writer.finish());
    Cow::Owned(short)
}

/// What is escaped, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Escaping {
    /// As [`escaped`] does.
    Message,
    /// Backslashes stay: what was escaped before is not escaped twice.
    Log,
    /// For a JSON string.
    Json,
}

impl Escaping {
    fn escapes(self, c: char) -> bool {
        is_unsafe(c)
            || match self {
                Escaping::Message => c == '\\',
                Escaping::Log => false,
                Escaping::Json => c == '\\' || c == '"',
            }
    }

    fn write(self, c: char, out: &mut String) -> fmt::Result {
        match c {
            '\n' => out.write_str("\\n"),
            '\r' => out.write_str("\\r"),
            '\t' => out.write_str("\\t"),
            '\\' => out.write_str("\\\\"),
            '"' => out.write_str("\\\""),
            c if self == Escaping::Json => c
                .encode_utf16(&mut [0; 2])
                .iter()
                .try_for_each(|unit| write!(out, "\\u{unit:04x}")),
            c => write!(out, "{}", c.escape_unicode()),
        }
    }
}

/// Escapes what is written, and leaves out what is over a limit. `finish` says how much that was.
pub(crate) struct BoundedWriter<'a, W> {
    out: &'a mut W,
    escaping: Escaping,
    /// Bytes that still fit.
    left: usize,
    /// Bytes left out, before escaping.
    cut: usize,
}

impl<'a, W: Write> BoundedWriter<'a, W> {
    pub(crate) fn new(out: &'a mut W, escaping: Escaping, limit: usize) -> BoundedWriter<'a, W> {
        BoundedWriter {
            out,
            escaping,
            left: limit,
            cut: 0,
        }
    }

    pub(crate) fn finish(self) -> fmt::Result {
        match self.cut {
            0 => Ok(()),
            cut => write!(self.out, "… ({cut} more bytes)"),
        }
    }

    fn write_piece(&mut self, piece: &str, original: usize) -> fmt::Result {
        if self.cut > 0 || piece.len() > self.left {
            self.cut += original;
            return Ok(());
        }
        self.left -= piece.len();
        self.out.write_str(piece)
    }
}

impl<W: Write> Write for BoundedWriter<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.cut > 0 {
            self.cut += text.len();
            return Ok(());
        }
        if text.len() <= self.left && !text.contains(|c| self.escaping.escapes(c)) {
            return self.write_piece(text, text.len());
        }
        let mut piece = String::new();
        for c in text.chars() {
            piece.clear();
            match self.escaping.escapes(c) {
                true => self.escaping.write(c, &mut piece)?,
                false => piece.push(c),
            }
            self.write_piece(&piece, c.len_utf8())?;
        }
        Ok(())
    }
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

    #[test]
    fn text_over_the_limit_is_left_out_and_counted() {
        assert_eq!(shortened("", 0), "");
        assert_eq!(shortened("abc", 3), "abc");
        assert_eq!(shortened("abcd", 3), "abc… (1 more bytes)");
        // The escaped text counts, and no escape is cut in two.
        assert_eq!(shortened("ab\x1b[0m", 7), "ab… (4 more bytes)");
        // Nothing follows a cut, even if it would fit.
        assert_eq!(shortened("a写b", 3), "a… (4 more bytes)");
        let long = shortened(&"\n\u{202e}".repeat(16_000), 1_000);
        assert!(long.len() < 1_030, "{long}");
        assert!(long.ends_with("more bytes)"), "{long}");
    }

    #[test]
    fn each_kind_of_output_escapes_what_it_must() {
        let text = "a\\\"\n\u{9b}\u{e0041}写";
        let escaped = |escaping| bounded(text, escaping, 100).into_owned();
        assert_eq!(escaped(Escaping::Message), super::escaped(text).to_string());
        assert_eq!(escaped(Escaping::Log), "a\\\"\\n\\u{9b}\\u{e0041}写");
        let twice = escaped(Escaping::Log);
        assert_eq!(bounded(&twice, Escaping::Log, 100), twice);
        let json = format!("\"{}\"", escaped(Escaping::Json));
        assert_eq!(json, r#""a\\\"\n\u009b\udb40\udc41写""#);
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
