//! The output of `--list`.

use std::io::{self, BufWriter, Write};

use jtp_core::Flags;
use jtp_core::client::CatalogEntry;

use crate::escape::escaped;
use crate::exit::{Exit, Failure};

/// Prints the catalog to stdout: ID, encoded size in bytes, type, name. A closed pipe, as in `client --list | head`,
/// is not an error.
///
/// # Errors
///
/// Writing to stdout failed.
pub fn print(entries: &[CatalogEntry<'_>]) -> Result<(), Failure> {
    let mut out = BufWriter::new(io::stdout().lock());
    match write(entries, &mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
            Exit::Disk,
            format!("cannot write the list: {error}"),
        )),
        _ => Ok(()),
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
            escaped(&entry.name)
        )?;
    }
    Ok(())
}

/// The file type, and whether the image is transferred compressed.
fn kind(flags: Flags) -> String {
    let compressed = if flags.is_compressed() { "+zstd" } else { "" };
    format!("{}{compressed}", flags.file_type())
}

#[cfg(test)]
mod tests {
    use super::*;
    use jtp_core::{FileType, Image, ImageId};

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
    }
}
