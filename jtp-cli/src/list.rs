//! The output of `--list`.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use clap::ValueEnum;
use clap::builder::PossibleValue;
use indicatif::HumanBytes;
use jtp_core::client::CatalogEntry;
use jtp_core::{FOLDER_SEPARATOR, Flags, ImageId, split_folders};
use jtp_sync::Selection;

use crate::escape::escaped;
use crate::exit::{Exit, Failure};
use crate::json_log::JsonLog;
use crate::report::{self, not_listed_line};
use crate::terminal::stderr_line;

/// The order of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SortKey {
    /// By name, in the order of its characters.
    Name,
    /// Largest first.
    Size,
    /// By type, compressed images after others.
    Type,
}

// Not derived: descriptions of the values would give `--help` its long form.
impl ValueEnum for SortKey {
    fn value_variants<'a>() -> &'a [SortKey] {
        &[SortKey::Name, SortKey::Size, SortKey::Type]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        Some(PossibleValue::new(match self {
            SortKey::Name => "name",
            SortKey::Size => "size",
            SortKey::Type => "type",
        }))
    }
}

/// Sorts a catalog. Images that are equal in the key are sorted by name.
pub fn sort(entries: &mut [CatalogEntry<'_>], key: SortKey) {
    entries.sort_by(|a, b| {
        let order = match key {
            SortKey::Name => std::cmp::Ordering::Equal,
            SortKey::Size => b.length.cmp(&a.length),
            SortKey::Type => kind(a.flags).cmp(&kind(b.flags)),
        };
        order.then_with(|| a.name.cmp(&b.name))
    });
}

/// Prints a line to stderr for each ID of the selection that the server does not list, and returns the exit code.
#[must_use]
pub fn report_not_listed(
    selection: &Selection,
    entries: &[CatalogEntry<'_>],
    json: Option<&Arc<JsonLog>>,
) -> Exit {
    let mut missing: HashSet<ImageId> = selection.requested_ids().collect();
    for entry in entries {
        missing.remove(&entry.id);
    }
    let mut exit = Exit::Success;
    for id in selection.requested_ids().filter(|id| missing.contains(id)) {
        if let Some(json) = json {
            json.write_buffered(&report::json::not_listed(id));
        }
        not_listed_line(id);
        exit = Exit::SomeFailed;
    }
    exit
}

/// Prints to stderr that there is nothing to print. `listed`: the images that the selection leaves out.
pub(crate) fn note_empty(listed: usize, server: &str) {
    let listed = u64::try_from(listed).unwrap_or(u64::MAX);
    match listed {
        0 => stderr_line(format_args!("{server} lists no images")),
        _ => stderr_line(format_args!(
            "{server} lists {}, and none is selected",
            report::images(listed)
        )),
    }
}

/// Prints the catalog to stdout: ID, encoded size in bytes, type, name. `long`: size, type, ID, name. Folders in a name are
/// separated by `/`. A closed pipe, as in `client --list | head`, is not an error.
///
/// # Errors
///
/// Writing to stdout failed.
pub fn print(entries: &[CatalogEntry<'_>], long: bool) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    let written = match long {
        true => write_long(entries, &mut out),
        false => write(entries, &mut out),
    };
    match written.and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Disk,
            format!("cannot write the list: {error}"),
        )),
        _ => Ok(()),
    }
}

/// Writes an object for each image.
pub fn write_json(entries: &[CatalogEntry<'_>], json: &JsonLog) {
    for entry in entries {
        json.write_buffered(&report::json::entry(entry));
    }
}

fn write(entries: &[CatalogEntry<'_>], out: &mut impl Write) -> io::Result<()> {
    let largest = entries.iter().map(|entry| entry.length).max().unwrap_or(0);
    let width = largest.to_string().len();
    for entry in entries {
        let (id, size, kind) = (entry.id, entry.length, kind(entry.flags));
        writeln!(
            out,
            "{id}  {size:>width$}  {kind:<10}  {}",
            escaped(&path(&entry.name))
        )?;
    }
    Ok(())
}

/// For people: the sizes have units, and the columns are only as wide as they have to be.
fn write_long(entries: &[CatalogEntry<'_>], out: &mut impl Write) -> io::Result<()> {
    let size = |entry: &CatalogEntry<'_>| HumanBytes(u64::from(entry.length)).to_string();
    let sizes = entries.iter().map(|entry| size(entry).len()).max();
    let kinds = entries.iter().map(|entry| kind(entry.flags).len()).max();
    let (sizes, kinds) = (sizes.unwrap_or(0), kinds.unwrap_or(0));
    for entry in entries {
        let (id, size, kind) = (entry.id, size(entry), kind(entry.flags));
        let name = path(&entry.name);
        let name = escaped(&name);
        writeln!(out, "{size:>sizes$}  {kind:<kinds$}  {id}  {name}")?;
    }
    Ok(())
}

/// The name with `/` between its folders, as `--include` and `--exclude` compare it. // W9
fn path(name: &str) -> Cow<'_, str> {
    match split_folders(name) {
        Some(_) => name.replace(FOLDER_SEPARATOR, "/").into(),
        None => name.into(),
    }
}

/// The file type, and whether the image is transferred compressed.
fn kind(flags: Flags) -> String {
    let compressed = if flags.is_compressed() { "+zstd" } else { "" };
    format!("{}{compressed}", flags.file_type())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jtp_core::{FileType, Image};

    #[test]
    fn columns_are_aligned_and_names_escaped() {
        let entry = |id, file_type, compressed, name: &'static str, length| {
            let flags = Flags::new(file_type, compressed);
            CatalogEntry::new(name, Image::new(ImageId(id), flags, length))
        };
        let mut out = Vec::new();
        let entries = [
            entry(1, FileType::Png, false, "a b.png", 5),
            entry(2, FileType::Other, true, "x\x1b[2J\u{202e}", 12_345),
        ];
        write(&entries, &mut out).unwrap();
        let lines = "0000000000000001      5  PNG         a b.png\n\
                     0000000000000002  12345  other+zstd  x\\u{1b}[2J\\u{202e}\n";
        assert_eq!(String::from_utf8(out).unwrap(), lines);
        let mut out = Vec::new();
        write_long(&entries, &mut out).unwrap();
        let lines = "      5 B  PNG         0000000000000001  a b.png\n\
                     12.06 KiB  other+zstd  0000000000000002  x\\u{1b}[2J\\u{202e}\n";
        assert_eq!(String::from_utf8(out).unwrap(), lines);
    }

    #[test]
    fn entries_are_sorted_by_key_and_then_by_name() {
        let entry = |name: &'static str, file_type, length| {
            let flags = Flags::new(file_type, false);
            CatalogEntry::new(name, Image::new(ImageId(0), flags, length))
        };
        let mut entries = vec![
            entry("c", FileType::Png, 2),
            entry("a", FileType::Jpeg, 1),
            entry("B", FileType::Png, 2),
            entry("d", FileType::Gif, 9),
        ];
        for (key, expected) in [
            (SortKey::Name, "Bacd"),
            (SortKey::Size, "dBca"),
            (SortKey::Type, "daBc"),
        ] {
            sort(&mut entries, key);
            let names: String = entries.iter().map(|entry| &*entry.name).collect();
            assert_eq!(names, expected, "{key:?}");
        }
    }
}
