//! The file that keeps the contents of a served folder's files between two runs.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions};

#[cfg(unix)]
use crate::fingerprint::Stat;
use crate::known::{self, KnownContents, Record};
use crate::{hash, private};

/// The index file and its state. Losing it only makes a start slower, so a missing or damaged file is no error. A
/// record is used only if its checksum is right.
pub(super) struct IndexFile {
    path: PathBuf,
    /// The length of the log if it can be appended to; `None` if it has to be rewritten.
    appendable: Option<u64>,
    /// The number of records in the log.
    logged: usize,
    /// Records that are not written yet.
    pending: Vec<Record>,
}

impl IndexFile {
    /// Reads the file of an earlier run; with `rehash` it is ignored and rewritten.
    pub(super) fn open(path: PathBuf, rehash: bool) -> (IndexFile, KnownContents) {
        let known = match read(&path) {
            Ok(file) if !rehash => KnownContents::read(file),
            _ => KnownContents::default(),
        };
        let file = IndexFile {
            path,
            appendable: known.appendable(),
            logged: known.record_count(),
            pending: Vec::new(),
        };
        (file, known)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Adds a record; `true` if there are enough to be written.
    pub(super) fn add(&mut self, record: Record) -> bool {
        self.pending.push(record);
        self.pending.len() >= known::BLOCK
    }

    /// Appends the pending records. If the log cannot be appended to or has too many outdated records, it is
    /// rewritten: `all` passes the records of all `files` to its argument. If another process is writing the
    /// file, nothing is written now.
    pub(super) fn save(
        &mut self,
        files: usize,
        all: impl FnOnce(&mut dyn FnMut(&mut dyn Iterator<Item = Record>)),
    ) -> io::Result<()> {
        let logged = self.logged + self.pending.len();
        let overgrown = known::is_overgrown(logged, files);
        let result = match self.appendable.filter(|_| !overgrown) {
            Some(_) if self.pending.is_empty() => return Ok(()),
            Some(length) => self.append(length),
            None if files == 0 && self.logged == 0 => return Ok(()),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        match result {
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let mut result = Ok(());
                all(&mut |records| result = self.replace(records));
                match result {
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    result => result?,
                }
            }
            result => result?,
        }
        self.pending = Vec::new();
        Ok(())
    }

    fn append(&mut self, expected: u64) -> io::Result<()> {
        let dir = private::open_folder(parent(&self.path))?;
        let name = name(&self.path)?;
        let mut options = OpenOptions::new();
        options.append(true);
        #[cfg(windows)]
        crate::lock::refuse_writers(&mut options);
        let file = match private::open_file(&dir, name, &mut options) {
            Ok(file) => file,
            Err(e) if crate::lock::is_sharing_violation(&e) => {
                return Err(io::ErrorKind::WouldBlock.into());
            }
            Err(e) if hash::is_shortage(&e) => return Err(e),
            // Whatever has the name is replaced by a new file.
            Err(_) => return Err(io::ErrorKind::NotFound.into()),
        };
        lock(&file)?;
        // Another server of this folder may have appended to it. If it is shorter, it is another log.
        let length = file.metadata()?.len();
        if length < expected {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut bytes = Vec::new();
        let added = known::append(self.pending.iter().copied(), &mut bytes)?;
        // If the write fails, part of it may be in the log, and nothing can be appended any more.
        self.appendable = None;
        (&file).write_all(&bytes)?;
        self.appendable = Some(length + added);
        self.logged += self.pending.len();
        Ok(())
    }

    fn replace(&mut self, records: &mut dyn Iterator<Item = Record>) -> io::Result<()> {
        let dir = private::create_and_open(parent(&self.path))?;
        let name = name(&self.path)?;
        let mut temporary = OsString::from(name);
        temporary.push(".part");
        let file = open_alone(&dir, &temporary)?;
        lock(&file)?;
        if !is_at(&file, &dir, &temporary) {
            // Another process has just renamed it to the index file.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = 0;
        let mut write = || {
            file.set_len(0)?;
            let mut to = BufWriter::new(&file);
            let length = known::write(records.inspect(|_| count += 1), &mut to)?;
            to.flush()?;
            drop(to);
            dir.rename(&temporary, &dir, name)?;
            Ok(length)
        };
        match write() {
            Ok(length) => {
                self.appendable = Some(length);
                self.logged = count;
                Ok(())
            }
            Err(e) => {
                let _ = dir.remove_file(&temporary);
                Err(e)
            }
        }
    }
}

fn read(path: &Path) -> io::Result<File> {
    let dir = private::open_folder(parent(path))?;
    private::open_file(&dir, name(path)?, OpenOptions::new().read(true))
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|path| !path.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

fn name(path: &Path) -> io::Result<&OsStr> {
    path.file_name()
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

#[cfg(unix)]
fn is_at(file: &File, dir: &Dir, name: &OsStr) -> bool {
    let found = dir.symlink_metadata(name);
    let found = found.map(|metadata| Stat::of_cap(&metadata));
    let open = Stat::of_file(file);
    found.is_ok_and(|found| open.is_ok_and(|open| open.is_same_file(&found)))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Dir, _: &OsStr) -> bool {
    true
}

#[cfg(not(windows))]
fn open_alone(dir: &Dir, name: &OsStr) -> io::Result<File> {
    private::open_or_replace(dir, name)
}

/// Nobody else can write to the file while it is open.
#[cfg(windows)]
fn open_alone(dir: &Dir, name: &OsStr) -> io::Result<File> {
    let opened = private::open_or_replace_with(dir, name, |options| {
        crate::lock::refuse_writers(options);
    });
    opened.map_err(|e| match crate::lock::is_sharing_violation(&e) {
        true => io::ErrorKind::WouldBlock.into(),
        false => e,
    })
}

#[cfg(unix)]
fn lock(file: &File) -> io::Result<()> {
    use rustix::fs::{FlockOperation, flock};
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
        // A file system without locks: if two processes write at once, the checksums are wrong and the file is
        // rewritten.
        _ => Ok(()),
    }
}

/// On Windows, whoever has opened the file has locked it.
#[cfg(not(unix))]
fn lock(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, any(unix, windows)))]
mod tests {
    use super::*;
    use crate::known::tests::record;
    use std::io::Read;

    struct Run {
        file: IndexFile,
        files: Vec<Record>,
        /// Whether the last save rewrote the file.
        rewrote: bool,
    }

    impl Run {
        fn new(path: &Path) -> Run {
            let (file, known) = IndexFile::open(path.to_owned(), false);
            let files = (0..20_000).map(record);
            Run {
                file,
                files: files
                    .filter(|(print, _)| known.get(print).is_some())
                    .collect(),
                rewrote: false,
            }
        }

        fn find(&mut self, numbers: std::ops::Range<u64>) -> &mut Run {
            for n in numbers {
                self.files.push(record(n));
                self.file.add(record(n));
            }
            self
        }

        fn save(&mut self) -> &mut Run {
            let files = self.files.clone();
            let mut rewrote = false;
            self.file
                .save(files.len(), |write| {
                    rewrote = true;
                    write(&mut files.iter().copied());
                })
                .unwrap();
            self.rewrote = rewrote;
            self
        }
    }

    fn known(path: &Path) -> usize {
        Run::new(path).files.len()
    }

    #[test]
    fn new_records_are_appended_and_an_overgrown_log_is_rewritten() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("made/index");
        let mut run = Run::new(&path);
        assert!(run.find(0..10_000).save().rewrote);
        assert!(!run.find(10_000..10_001).save().rewrote);
        let before = std::fs::metadata(&path).unwrap().len();
        assert!(!run.save().rewrote, "nothing new");
        assert!(!run.find(10_001..10_002).save().rewrote);
        let after = std::fs::metadata(&path).unwrap().len();
        assert_eq!(after - before, 12 + 51, "one changed file, one record");
        assert_eq!(known(&path), 10_002);
        // All files are replaced by others.
        run.files.clear();
        assert!(run.find(12_000..14_000).save().rewrote);
        assert_eq!(known(&path), 2000);
    }

    #[test]
    fn a_crash_during_a_save_loses_only_that_save() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("index");
        Run::new(&path).find(0..100).save();
        let whole = std::fs::metadata(&path).unwrap().len();
        Run::new(&path).find(100..200).save();
        let mut bytes = Vec::new();
        File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        let mut part = path.clone().into_os_string();
        part.push(".part");
        for cut in [whole, whole + 1, whole + 12, whole + 500] {
            std::fs::write(&path, &bytes[..usize::try_from(cut).unwrap()]).unwrap();
            // A crash during a rewrite leaves this.
            std::fs::write(&part, "half").unwrap();
            let mut run = Run::new(&path);
            assert_eq!(run.files.len(), 100, "cut at {cut}");
            run.find(200..201).save();
            assert_eq!(run.rewrote, cut != whole, "cut at {cut}");
            assert_eq!(known(&path), 101, "cut at {cut}");
        }
    }

    #[test]
    fn a_locked_file_is_written_later_and_two_servers_can_append_to_it() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("index");
        let mut one = Run::new(&path);
        one.find(0..10).save();
        let mut other = Run::new(&path);
        let locked = File::options().append(true).open(&path).unwrap();
        lock(&locked).unwrap();
        one.find(10..20).save();
        assert_eq!(known(&path), 10);
        drop(locked);
        other.find(20..30).save();
        one.save();
        assert!(!one.rewrote);
        assert_eq!(known(&path), 30);
        // The file is replaced, then removed.
        std::fs::write(&path, "short").unwrap();
        assert!(one.find(30..31).save().rewrote);
        std::fs::remove_file(&path).unwrap();
        assert!(one.find(31..32).save().rewrote);
        assert_eq!(known(&path), 22, "what this run knows");
    }

    #[test]
    fn while_another_server_rewrites_the_file_it_is_left_alone() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("index");
        let part = File::create(place.path().join("index.part")).unwrap();
        lock(&part).unwrap();
        let mut run = Run::new(&path);
        run.find(0..10).save();
        assert!(!path.exists());
        drop(part);
        assert!(run.save().rewrote);
        assert_eq!(known(&path), 10);
    }

    #[test]
    fn a_folder_without_images_has_no_file_and_a_full_block_is_written_at_once() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("index");
        let mut run = Run::new(&path);
        assert!(!run.save().rewrote);
        let added = (0..known::BLOCK as u64).map(|n| run.file.add(record(n)));
        assert_eq!(added.filter(|full| *full).count(), 1, "the last");
        // A file has the place of the folder: an error is reported, and the records are kept.
        std::fs::write(&path, "file").unwrap();
        run.file.path.push("index");
        let result = run
            .file
            .save(1, |write| write(&mut [record(0)].iter().copied()));
        assert_ne!(result.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(run.file.pending.len(), known::BLOCK);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_in_place_of_the_file_is_replaced_and_not_followed() {
        let place = tempfile::tempdir().unwrap();
        let (path, target) = (place.path().join("index"), place.path().join("target"));
        let mut run = Run::new(&path);
        run.find(0..10).save();
        std::fs::rename(&path, &target).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(run.find(10..20).save().rewrote);
        assert_eq!((known(&path), known(&target)), (20, 10));
    }
}
