//! The buffer of ReadDirectoryChangesW: a list of FILE_NOTIFY_INFORMATION.

use std::path::{Path, PathBuf};

use super::hints::Change;

/// From winnt.h; the other actions concern names.
const FILE_ACTION_MODIFIED: u32 = 3;

/// The lengths of the three fields before the name: offset of the next record, action, bytes of the name.
const HEADER: usize = 12;

/// The changes in a buffer, with paths below the folder. `None` if it is not such a list.
pub(super) fn changes(mut buffer: &[u8]) -> Option<Vec<(PathBuf, Change)>> {
    let mut changes = Vec::new();
    loop {
        let next = usize::try_from(number(buffer, 0)?).ok()?;
        let action = number(buffer, 4)?;
        let length = usize::try_from(number(buffer, 8)?).ok()?;
        let name = buffer.get(HEADER..HEADER.checked_add(length)?)?;
        let units: Vec<u16> = name
            .chunks_exact(2)
            .filter_map(|unit| Some(u16::from_le_bytes(unit.try_into().ok()?)))
            .collect();
        let change = match action {
            FILE_ACTION_MODIFIED => Change::Contents,
            _ => Change::Name,
        };
        changes.push((path(&units), change));
        match next {
            0 => return Some(changes),
            next => buffer = buffer.get(next..)?,
        }
    }
}

/// Whether a path may contain a short name (`IMAGES~1.PNG`), by which a program has opened a file or folder. The system
/// may report that one, and scans know the long one.
pub(super) fn may_be_short(path: &Path) -> bool {
    let mut names = path.iter().map(|name| name.to_string_lossy());
    names.any(|name| {
        let stem = name.split('.').next().unwrap_or_default();
        let number = stem.rsplit_once('~').map(|(_, number)| number);
        let is_number = |number: &str| number.starts_with(|digit: char| digit.is_ascii_digit());
        name.len() <= 12 && number.is_some_and(is_number)
    })
}

fn number(buffer: &[u8], at: usize) -> Option<u32> {
    let bytes = buffer.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(windows)]
fn path(units: &[u16]) -> PathBuf {
    use std::os::windows::ffi::OsStringExt;
    std::ffi::OsString::from_wide(units).into()
}

#[cfg(not(windows))]
fn path(units: &[u16]) -> PathBuf {
    String::from_utf16_lossy(units).replace('\\', "/").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record, padded to `align` bytes unless it is the last one.
    fn record(action: u32, name: &str, align: Option<usize>) -> Vec<u8> {
        let units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let length = HEADER + units.len();
        let next = align.map_or(0, |align| length.next_multiple_of(align));
        let fields = [next, usize::try_from(action).unwrap(), units.len()];
        let fields = fields.map(|field| u32::try_from(field).unwrap().to_le_bytes());
        let mut record = [fields.concat(), units].concat();
        record.resize(length.max(next), 0);
        record
    }

    #[test]
    fn all_records_of_a_buffer_are_read_whatever_their_alignment() {
        // Wine aligns them to 2 bytes.
        for align in [2, 4, 8] {
            let mut buffer = [
                record(1, "a.png", Some(align)),
                record(3, "b\\ä.png", Some(align)),
                record(4, "c", Some(align)),
                record(5, "d", None),
            ]
            .concat();
            // The buffer is longer than its contents.
            buffer.resize(1024, 0xff);
            let due = [
                ("a.png", Change::Name),
                ("b/ä.png", Change::Contents),
                ("c", Change::Name),
                ("d", Change::Name),
            ];
            let due = due.map(|(path, change)| (path.split('/').collect(), change));
            assert_eq!(changes(&buffer).unwrap(), due, "{align}");
        }
    }

    #[test]
    fn a_path_with_a_short_name_is_recognized() {
        for path in ["IMAGES~1.PNG", "a/LONGNA~2/x.png", "AB12CD~1"] {
            assert!(may_be_short(Path::new(path)), "{path}");
        }
        for path in [
            "image.png",
            "a~b.png",
            "long name~1.png",
            "x.png~1",
            "~",
            "",
        ] {
            assert!(!may_be_short(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_buffer_that_is_cut_off_has_no_changes() {
        let buffer = [record(1, "a.png", Some(4)), record(2, "bc", None)].concat();
        assert_eq!(changes(&buffer).unwrap().len(), 2);
        for length in 0..buffer.len() {
            assert_eq!(changes(&buffer[..length]), None, "{length}");
        }
    }
}
