//! The encoding of the records and names of 64 files.
//!
//! ```text
//! width and base of each column ─ columns: the differences from the base ─ prefix and suffix of all names ─ names
//! ```
//!
//! Files that are recorded in a row mostly are neighbours in one folder, so their numbers are alike: a column has the
//! smallest one, its base, and of each file the difference in as few bytes as the largest takes. Any field is found
//! without decoding those before it.

use jtp_core::ImageId;

/// The files of a page.
pub(super) const PAGE: usize = 64;

/// What is known of a file beside its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) id: ImageId,
    pub(super) file: u64,
    pub(super) modified: i64,
    pub(super) changed: i64,
    pub(super) length: u32,
    pub(super) rest: u32,
    pub(super) folder: u32,
}

const ID: usize = 0;
const FILE: usize = 1;
const MODIFIED: usize = 2;
/// The difference to `modified`, if that takes fewer bytes.
const CHANGED: usize = 3;
const LENGTH: usize = 4;
const REST: usize = 5;
const FOLDER: usize = 6;
/// The length of the name without the prefix and suffix.
const NAME: usize = 7;
const COLUMNS: usize = 8;

/// Added to the width of [`CHANGED`] if it has differences.
const RELATIVE: u8 = 0x80;

/// A width and a base for each column, and the lengths of the prefix and suffix.
const HEAD_LEN: usize = COLUMNS * 9 + 4;

/// A field is read as 8 bytes.
const PADDING: [u8; 8] = [0; 8];

/// Keeps the order.
fn of_time(time: i64) -> u64 {
    u64::from_ne_bytes(time.to_ne_bytes()) ^ 1 << 63
}

fn to_time(number: u64) -> i64 {
    i64::from_ne_bytes((number ^ 1 << 63).to_ne_bytes())
}

/// Up to [`PAGE`] files that can be changed.
#[derive(Debug, Default)]
pub(super) struct OpenPage {
    rows: Vec<Row>,
    /// Where each name ends in `names`.
    ends: Vec<usize>,
    names: Vec<u8>,
}

impl OpenPage {
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(super) fn clear(&mut self) {
        self.rows.clear();
        self.ends.clear();
        self.names.clear();
    }

    pub(super) fn push(&mut self, name: &[u8], row: Row) {
        self.rows.push(row);
        self.names.extend_from_slice(name);
        self.ends.push(self.names.len());
    }

    pub(super) fn row(&self, at: usize) -> Option<Row> {
        self.rows.get(at).copied()
    }

    fn start(&self, at: usize) -> usize {
        let before = at.checked_sub(1).and_then(|before| self.ends.get(before));
        before.copied().unwrap_or(0)
    }

    pub(super) fn name(&self, at: usize) -> &[u8] {
        let end = self.ends.get(at).copied().unwrap_or(0);
        self.names.get(self.start(at)..end).unwrap_or_default()
    }

    fn names(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|at| self.name(at))
    }

    /// Replaces a row, and the name if there is a new one.
    pub(super) fn replace(&mut self, at: usize, name: Option<&[u8]>, row: Row) {
        let Some(place) = self.rows.get_mut(at) else {
            return;
        };
        *place = row;
        if let Some(name) = name {
            let (start, old) = (self.start(at), self.name(at).len());
            self.names.splice(start..start + old, name.iter().copied());
            for end in self.ends.iter_mut().skip(at) {
                *end = *end - old + name.len();
            }
        }
    }

    /// The lengths of the beginning and the end that all names have.
    fn shared(&self) -> (usize, usize) {
        let first = self.name(0);
        let shortest = self.names().map(<[u8]>::len).min().unwrap_or(0);
        let (mut prefix, mut suffix) = (shortest, shortest);
        for name in self.names() {
            let pairs = || first.iter().zip(name);
            if pairs().take(prefix).any(|(a, b)| a != b) {
                prefix = pairs().take_while(|(a, b)| a == b).count();
            }
            let pairs = || first.iter().rev().zip(name.iter().rev());
            if pairs().take(suffix).any(|(a, b)| a != b) {
                suffix = pairs().take_while(|(a, b)| a == b).count();
            }
        }
        (prefix, suffix.min(shortest - prefix))
    }
}

/// The least number of a column, and the bytes that the differences from it take.
fn measure(numbers: &[u64; PAGE]) -> (u64, usize) {
    let base = numbers.iter().copied().min().unwrap_or(0);
    let most = numbers.iter().copied().max().unwrap_or(0) - base;
    let bits = u64::BITS - most.leading_zeros();
    (base, usize::try_from(bits.div_ceil(8)).unwrap_or(8))
}

/// The records and names of [`PAGE`] files, or nothing.
#[derive(Debug, Default)]
pub(super) struct Page(Box<[u8]>);

impl Page {
    /// Packs a full page.
    pub(super) fn pack(open: &OpenPage) -> Page {
        let (prefix, suffix) = open.shared();
        let mut columns = [[0; PAGE]; COLUMNS];
        for (at, (row, name)) in open.rows.iter().zip(open.names()).enumerate().take(PAGE) {
            let middle = name.len() - prefix - suffix;
            let numbers = [
                row.id.0,
                row.file,
                of_time(row.modified),
                of_time(row.changed),
                row.length.into(),
                row.rest.into(),
                row.folder.into(),
                u64::try_from(middle).unwrap_or(0),
            ];
            for (column, number) in columns.iter_mut().zip(numbers) {
                column[at] = number;
            }
        }
        let mut since = columns[CHANGED];
        for (changed, modified) in since.iter_mut().zip(&columns[MODIFIED]) {
            *changed = changed.wrapping_sub(*modified);
        }
        let is_relative = measure(&since).1 < measure(&columns[CHANGED]).1;
        if is_relative {
            columns[CHANGED] = since;
        }
        let measured = columns.each_ref().map(measure);
        let width: usize = measured.iter().map(|(_, width)| width).sum();
        let names = open.names.len() - (PAGE - 1) * (prefix + suffix);
        let len = HEAD_LEN + width * PAGE + names + PADDING.len();

        let mut bytes = Vec::with_capacity(len);
        for (column, (_, width)) in measured.iter().enumerate() {
            let relative = if is_relative && column == CHANGED {
                RELATIVE
            } else {
                0
            };
            bytes.push(u8::try_from(*width).unwrap_or(8) | relative);
        }
        for (base, _) in &measured {
            bytes.extend_from_slice(&base.to_le_bytes());
        }
        for len in [prefix, suffix] {
            bytes.extend_from_slice(&u16::try_from(len).unwrap_or(0).to_le_bytes());
        }
        for (column, (base, width)) in columns.iter().zip(measured) {
            for number in column {
                let difference = (number - base).to_le_bytes();
                bytes.extend_from_slice(difference.get(..width).unwrap_or_default());
            }
        }
        let first = open.name(0);
        bytes.extend_from_slice(first.get(..prefix).unwrap_or_default());
        bytes.extend_from_slice(first.get(first.len() - suffix..).unwrap_or_default());
        for name in open.names() {
            let middle = name.get(prefix..name.len() - suffix);
            bytes.extend_from_slice(middle.unwrap_or_default());
        }
        bytes.extend_from_slice(&PADDING);
        Page(bytes.into_boxed_slice())
    }

    pub(super) fn unpack(&self) -> OpenPage {
        let mut open = OpenPage::default();
        let mut name = Vec::new();
        for at in 0..PAGE {
            if let Some(row) = self.row(at) {
                name.clear();
                self.append_name(at, &mut name);
                open.push(&name, row);
            }
        }
        open
    }

    #[inline]
    fn width(&self, column: usize) -> usize {
        let width = self.0.get(column).copied().unwrap_or(0);
        usize::from(width & !RELATIVE)
    }

    fn u64_at(&self, at: usize) -> Option<u64> {
        let bytes = self.0.get(at..)?.first_chunk()?;
        Some(u64::from_le_bytes(*bytes))
    }

    fn base(&self, column: usize) -> Option<u64> {
        self.u64_at(COLUMNS + 8 * column)
    }

    /// Where a column begins.
    #[inline]
    fn column(&self, column: usize) -> usize {
        let before: usize = (0..column).map(|before| self.width(before)).sum();
        HEAD_LEN + PAGE * before
    }

    /// The number of a file in the column that begins at `start`.
    #[inline]
    fn number_from(&self, start: usize, column: usize, at: usize) -> Option<u64> {
        let base = self.base(column)?;
        let width = self.width(column);
        let bytes = self.u64_at(start + width * at)?;
        let mask = match width {
            0 => 0,
            width => u64::MAX >> (64 - 8 * width),
        };
        Some(base.wrapping_add(bytes & mask))
    }

    #[inline]
    fn number(&self, column: usize, at: usize) -> Option<u64> {
        self.number_from(self.column(column), column, at)
    }

    pub(super) fn row(&self, at: usize) -> Option<Row> {
        let mut numbers = [0; COLUMNS];
        let mut start = HEAD_LEN;
        for (column, number) in numbers.iter_mut().enumerate().take(NAME) {
            *number = self.number_from(start, column, at)?;
            start += PAGE * self.width(column);
        }
        let u32 = |number| u32::try_from(number).unwrap_or(0);
        let changed = match self.0.get(CHANGED)? & RELATIVE {
            0 => numbers[CHANGED],
            _ => numbers[CHANGED].wrapping_add(numbers[MODIFIED]),
        };
        Some(Row {
            id: ImageId(numbers[ID]),
            file: numbers[FILE],
            modified: to_time(numbers[MODIFIED]),
            changed: to_time(changed),
            length: u32(numbers[LENGTH]),
            rest: u32(numbers[REST]),
            folder: u32(numbers[FOLDER]),
        })
    }

    #[inline]
    pub(super) fn id(&self, at: usize) -> Option<ImageId> {
        self.number(ID, at).map(ImageId)
    }

    pub(super) fn folder(&self, at: usize) -> Option<u32> {
        u32::try_from(self.number(FOLDER, at)?).ok()
    }

    /// The beginning of all names, the part of a file's own, and the end of all names.
    fn name(&self, at: usize) -> Option<[&[u8]; 3]> {
        let u16_at = |at: usize| {
            Some(usize::from(u16::from_le_bytes(
                *self.0.get(at..)?.first_chunk()?,
            )))
        };
        let (prefix, suffix) = (u16_at(HEAD_LEN - 4)?, u16_at(HEAD_LEN - 2)?);
        let start = self.column(NAME);
        let length = |at| usize::try_from(self.number_from(start, NAME, at)?).ok();
        let before = match self.width(NAME) {
            0 => length(0)? * at,
            _ => (0..at).filter_map(length).sum(),
        };
        let names = self.0.get(self.column(COLUMNS)..)?;
        let (prefix, names) = names.split_at_checked(prefix)?;
        let (suffix, names) = names.split_at_checked(suffix)?;
        let middle = names.get(before..before + length(at)?)?;
        Some([prefix, middle, suffix])
    }

    pub(super) fn append_name(&self, at: usize, to: &mut Vec<u8>) {
        for part in self.name(at).unwrap_or_default() {
            to.extend_from_slice(part);
        }
    }

    pub(super) fn has_name(&self, at: usize, name: &[u8]) -> bool {
        self.name(at).is_some_and(|[prefix, middle, suffix]| {
            let rest = name.strip_prefix(prefix);
            rest.and_then(|rest| rest.strip_suffix(suffix)) == Some(middle)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_folder_that_were_written_in_a_row_take_some_20_bytes() {
        let row = |n: u32| Row {
            id: ImageId(u64::from(n).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
            file: 1_234_567 + 2 * u64::from(n),
            modified: 1_700_000_000_000_000_000 + 4_000_000 * i64::from(n),
            changed: 1_700_000_000_000_000_000 + 4_000_000 * i64::from(n),
            length: 3_000_000 + 30_000 * (n % 17),
            rest: 8,
            folder: 300,
        };
        let mut open = OpenPage::default();
        for n in 0..64 {
            open.push(format!("IMG_{:04}.JPG", 1000 + n).as_bytes(), row(n));
        }
        let page = Page::pack(&open);
        // ID 8, inode 1, time 4, length 3, name 2, and the head.
        assert_eq!(
            page.0.len(),
            64 * (8 + 1 + 4 + 3 + 2) + HEAD_LEN + 6 + 4 + PADDING.len()
        );
        assert_eq!(page.unpack().rows, open.rows);
        assert_eq!(page.unpack().names, open.names);
    }
}
