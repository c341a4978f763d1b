//! The header Range of HTTP, for one range.

use std::ops::Range;

/// What a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ByteRange {
    Whole,
    Part(Range<u64>),
    NotSatisfiable,
}

impl ByteRange {
    /// A header that is malformed or has several ranges is ignored, as RFC 9110 allows.
    pub(crate) fn parse(header: Option<&str>, length: u64) -> ByteRange {
        let Some(range) = header.and_then(|header| parse_range(header, length)) else {
            return ByteRange::Whole;
        };
        if range.is_empty() {
            ByteRange::NotSatisfiable
        } else {
            ByteRange::Part(range)
        }
    }
}

/// The range, empty if it is not within the image; `None` if the header is not one range.
fn parse_range(header: &str, length: u64) -> Option<Range<u64>> {
    let (first, last) = header.strip_prefix("bytes=")?.split_once('-')?;
    if first.is_empty() {
        let count: u64 = last.parse().ok()?;
        return Some(length.saturating_sub(count)..length);
    }
    let first: u64 = first.parse().ok()?;
    let end = if last.is_empty() {
        length
    } else {
        let last: u64 = last.parse().ok()?;
        if last < first {
            return None;
        }
        last.saturating_add(1).min(length)
    };
    Some(first..end)
}
