//! The index of IDs: what earlier scans have read.

use std::ffi::OsStr;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;

use super::Inner;
use super::scan::{self, ScanMode};
use super::temporary::Temporary;
use crate::hash::{self, Links};
use crate::known::{self, KnownContents};

/// Reads the index, in the mode that uses it. A missing or damaged one is empty.
pub(super) fn load(folder: &Inner, mode: ScanMode) -> KnownContents {
    if mode != ScanMode::Ids {
        return KnownContents::default();
    }
    hash::open(&folder.dir, OsStr::new(scan::INDEX_NAME), Links::Refuse)
        .ok()
        // Reading a pipe or a device might never end.
        .filter(|file| file.metadata().is_ok_and(|m| m.is_file()))
        .map(KnownContents::read)
        .unwrap_or_default()
}

pub(super) fn save(
    folder: &Arc<Inner>,
    before: &KnownContents,
    seen: &scan::Seen,
) -> io::Result<()> {
    let files = seen.known.len() + seen.fresh.len();
    let logged = before.record_count() + seen.fresh.len();
    // An incomplete scan does not know all files, so it must not drop records.
    let overgrown = !seen.incomplete && known::is_overgrown(logged, files);
    if let Some(length) = before.appendable().filter(|_| !overgrown) {
        if seen.fresh.is_empty() {
            return Ok(());
        }
        if append(folder, length, &seen.fresh)? {
            return Ok(());
        }
    }
    if files == 0 && before.record_count() == 0 {
        return Ok(());
    }
    let mut temporary = Temporary::create(folder)?;
    let records = seen.known.iter().chain(&seen.fresh).copied();
    let mut to = BufWriter::new(&mut temporary);
    known::write(records, &mut to)?;
    to.flush()?;
    drop(to);
    temporary.rename(&folder.locate(scan::INDEX_NAME)?)
}

/// Appends to the index. `false` if it is not the one that was read any more.
fn append(folder: &Inner, length: u64, fresh: &[known::Record]) -> io::Result<bool> {
    let Ok(file) = hash::open_to_append(&folder.dir, OsStr::new(scan::INDEX_NAME)) else {
        return Ok(false);
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() || has_other_names(&metadata) || metadata.len() != length {
        return Ok(false);
    }
    let mut bytes = Vec::new();
    known::append(fresh.iter().copied(), &mut bytes)?;
    (&file).write_all(&bytes)?;
    Ok(true)
}

/// Whether the file has another name, perhaps in another folder: it may be another's then.
fn has_other_names(metadata: &std::fs::Metadata) -> bool {
    #[cfg(unix)]
    return std::os::unix::fs::MetadataExt::nlink(metadata) > 1;
    #[cfg(not(unix))]
    {
        let _ = metadata;
        false
    }
}
