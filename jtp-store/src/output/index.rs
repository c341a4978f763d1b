//! The index of IDs: what earlier scans have read, and what was stored since.
//!
//! Records are appended in blocks while files are read or stored, so that a run that is killed loses few of them. Other
//! clients may append at the same time: before each block, the log is checked from the end of the last one.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::sync::{MutexGuard, PoisonError};

use cap_std::fs::OpenOptions;

use super::Inner;
use super::id_table::IdTable;
use super::moves::rename_over;
use super::scan::{self, ScanMode};
use super::tree::Located;
use crate::hash::{self, Links};
use crate::known::{self, LogReader, RECORD_LEN, Record};

/// The number of records that are appended at once.
const BLOCK: usize = 512;

/// Records of files with this many bytes are appended, however few they are: without them, the files are read again.
const BLOCK_BYTES: u64 = 64 * 1024 * 1024;

/// What is not in the index file yet, and where that ends.
#[derive(Debug, Default)]
pub(super) struct Index {
    pending: Vec<Record>,
    /// The total length of the pending files.
    bytes: u64,
    /// The length of the log, as far as it is known to be undamaged.
    end: Option<u64>,
    /// Its length when the last scan began.
    length_before: u64,
    /// The number of records that were appended since then.
    added: usize,
    /// The number of files, if nobody has compared the log with them: it may have outgrown them.
    uncompared: Option<usize>,
}

impl Inner {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a file in the index. Writes to the disk now and then.
    pub(super) fn add_to_index(&self, record: Record) {
        let mut index = self.index();
        index.pending.push(record);
        index.bytes = index.bytes.saturating_add(record.0.size);
        if index.pending.len() >= BLOCK || index.bytes >= BLOCK_BYTES {
            index.flush_or_log(self);
        }
    }

    /// Writes what was entered to the index file. An error is logged: the files are then read again.
    pub(super) fn flush_index(&self) {
        self.index().flush_or_log(self);
    }

    /// Reads the index, with what was entered until now, between two scans.
    pub(super) fn read_index(&self) -> IdTable {
        self.flush_index();
        open_log(self).map_or_else(IdTable::default, |(file, length)| {
            IdTable::read(file, expected_records(length)).0
        })
    }

    /// Reads the index for a scan, in the mode that uses it. A missing or damaged one is empty.
    pub(super) fn load_index(&self, mode: ScanMode) -> IdTable {
        self.flush_index();
        let mut index = self.index();
        index.added = 0;
        index.length_before = 0;
        let Some((file, length)) = open_log(self).filter(|_| mode != ScanMode::Names) else {
            return IdTable::default();
        };
        index.length_before = length;
        if mode == ScanMode::Rehash {
            return IdTable::default();
        }
        let (table, end) = IdTable::read(file, expected_records(length));
        index.end = end;
        table
    }

    /// Ends a scan that has found this number of files. Drops the records of files that are gone, if there are many.
    pub(super) fn save_index(
        &self,
        mode: ScanMode,
        before: &IdTable,
        seen: &scan::Seen,
    ) -> io::Result<()> {
        let mut index = self.index();
        if mode == ScanMode::Names {
            index.uncompared = Some(usize::try_from(seen.files).unwrap_or(usize::MAX));
            return Ok(());
        }
        index.flush(self)?;
        let logged = before.records() + index.added;
        let files = seen.known + index.added;
        let is_obsolete = mode == ScanMode::Rehash || known::is_overgrown(logged, files);
        // An incomplete scan does not know all files, so it must not drop records.
        if !seen.incomplete && is_obsolete && logged > 0 {
            // Records that were appended since then are kept.
            let length = index.length_before;
            let keep = &mut |at: u64, record: &Record| at >= length || before.is_used(record);
            return index.rewrite(self, &[], keep);
        }
        let is_damaged = index.end.is_none() && before.records() > 0;
        match is_damaged {
            true => index.rewrite(self, &[], &mut |_, _| true),
            false => Ok(()),
        }
    }
}

/// What became of records that were to be appended.
enum Appended {
    Done,
    /// The log is missing or damaged, or not this folder's alone.
    Unsuitable,
    /// The log is about many more files than there are.
    Overgrown,
}

impl Index {
    fn flush_or_log(&mut self, folder: &Inner) {
        if let Err(e) = self.flush(folder) {
            // A read-only folder can be scanned, too.
            tracing::debug!(folder = %folder.path.display(), error = %e, "cannot write the index");
        }
    }

    /// Whatever happens, nothing is pending afterwards.
    fn flush(&mut self, folder: &Inner) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        self.bytes = 0;
        let records = std::mem::take(&mut self.pending);
        self.added += records.len();
        if folder.read_only {
            return Ok(());
        }
        match self.append(folder, &records)? {
            Appended::Done => Ok(()),
            Appended::Unsuitable => self.rewrite(folder, &records, &mut |_, _| true),
            Appended::Overgrown => self.rewrite(folder, &records, &mut |_, _| false),
        }
    }

    /// Appends to the log.
    fn append(&mut self, folder: &Inner, records: &[Record]) -> io::Result<Appended> {
        let Ok(mut file) = hash::open_to_append(&folder.dir, OsStr::new(scan::INDEX_NAME)) else {
            return Ok(Appended::Unsuitable);
        };
        let metadata = file.metadata()?;
        let length = metadata.len();
        if !metadata.is_file() || has_other_names(&metadata) || length >= known::MAX_LEN {
            return Ok(Appended::Unsuitable);
        }
        if self.end != Some(length) && find_end(folder, self.end) != Some(length) {
            return Ok(Appended::Unsuitable);
        }
        let logged = usize::try_from(length).unwrap_or(usize::MAX) / RECORD_LEN;
        if (self.uncompared.take()).is_some_and(|files| known::is_overgrown(logged, files)) {
            return Ok(Appended::Overgrown);
        }
        let mut bytes = Vec::new();
        known::append(records.iter().copied(), &mut bytes)?;
        // Known again once it is written.
        self.end = None;
        // In one call: another client may append, too.
        file.write_all(&bytes)?;
        self.end = Some(length + u64::try_from(bytes.len()).unwrap_or(0));
        Ok(Appended::Done)
    }

    /// Replaces the log by one with the undamaged records that pass `keep`, which also gets the offset of their block, and
    /// these.
    fn rewrite(
        &mut self,
        folder: &Inner,
        records: &[Record],
        keep: &mut dyn FnMut(u64, &Record) -> bool,
    ) -> io::Result<()> {
        self.end = None;
        let new = NewLog::create(folder)?;
        let mut to = BufWriter::new(&new.file);
        let mut length = known::write(std::iter::empty(), &mut to)?;
        let reader = open_log(folder).and_then(|(file, _)| LogReader::new(file));
        if let Some(mut reader) = reader {
            loop {
                let at = reader.position();
                let Some(block) = reader.next().filter(|block| !block.is_empty()) else {
                    break;
                };
                let kept = block.iter().filter(|record| keep(at, record)).copied();
                length += known::append(kept, &mut to)?;
            }
        }
        length += known::append(records.iter().copied(), &mut to)?;
        to.flush()?;
        drop(to);
        new.rename()?;
        self.end = Some(length);
        Ok(())
    }
}

/// A log that is being written. It is removed when it is dropped, unless it was renamed.
struct NewLog<'a> {
    folder: &'a Inner,
    /// That of a temporary file. Those of crashed clients are not looked for: this may be during the scan that does.
    name: String,
    file: File,
    is_renamed: bool,
}

impl<'a> NewLog<'a> {
    fn create(folder: &'a Inner) -> io::Result<NewLog<'a>> {
        folder.check_writable()?;
        let name = folder.temporary_name();
        let mut options = OpenOptions::new();
        // With create_new a link of that name is an error and is not followed.
        options.write(true).create_new(true);
        let file = folder.dir.open_with(&name, &options)?.into_std();
        Ok(NewLog {
            folder,
            name,
            file,
            is_renamed: false,
        })
    }

    fn rename(mut self) -> io::Result<()> {
        let to = self.folder.locate(scan::INDEX_NAME)?;
        rename_over(
            &Located {
                name: &self.name,
                ..to.clone()
            },
            &to,
        )?;
        self.is_renamed = true;
        Ok(())
    }
}

impl Drop for NewLog<'_> {
    fn drop(&mut self) {
        if !self.is_renamed {
            // If this fails, the next client removes the file.
            let _ = self.folder.dir.remove_file(&self.name);
        }
    }
}

/// How many records fit in this length.
fn expected_records(length: u64) -> usize {
    usize::try_from(length.min(known::MAX_LEN)).unwrap_or(0) / RECORD_LEN
}

/// The index file and its length.
fn open_log(folder: &Inner) -> Option<(File, u64)> {
    let file = hash::open(&folder.dir, OsStr::new(scan::INDEX_NAME), Links::Refuse).ok()?;
    // Reading a pipe or a device might never end.
    let metadata = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some((file, metadata.len()))
}

/// The length of the log if it is undamaged. It is read from `end` on, where a block ends unless it was replaced.
fn find_end(folder: &Inner, end: Option<u64>) -> Option<u64> {
    let (mut file, length) = open_log(folder)?;
    if let Some(end) = end.filter(|end| *end < length) {
        file.seek(SeekFrom::Start(end)).ok()?;
        if let Some(end) = read_to_end(LogReader::at(&file, end)) {
            return Some(end);
        }
        file.rewind().ok()?;
    }
    read_to_end(LogReader::new(&file)?)
}

fn read_to_end(mut reader: LogReader<&File>) -> Option<u64> {
    loop {
        let at = reader.position();
        if reader.next()?.is_empty() {
            return Some(at);
        }
    }
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
