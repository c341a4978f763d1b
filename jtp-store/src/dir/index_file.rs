//! The file that keeps the index of a served folder between two runs.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

#[cfg(unix)]
use crate::fingerprint::Fingerprint;
use crate::known::{self, Known, Record};

/// Where the index is kept, and how it stands. Without it a run only takes longer: nothing that happens to it
/// is an error, and none of its records is believed unless its checksum is right.
pub(super) struct IndexFile {
    path: PathBuf,
    /// How long the log is that can be added to; none if it has to be written anew.
    whole: Option<u64>,
    logged: usize,
    /// What is known and not written yet.
    fresh: Vec<Record>,
}

impl IndexFile {
    /// The index as an earlier run left it; `anew` if it is not to be believed.
    pub(super) fn open(path: PathBuf, anew: bool) -> (IndexFile, Known) {
        let known = match File::open(&path) {
            // A pipe or a device would never end.
            Ok(file) if !anew && file.metadata().is_ok_and(|there| there.is_file()) => {
                Known::read(file)
            }
            _ => Known::default(),
        };
        let file = IndexFile {
            path,
            whole: known.whole,
            logged: known.logged(),
            fresh: Vec::new(),
        };
        (file, known)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Notes what was found out; whether that is enough to be written.
    pub(super) fn note(&mut self, record: Record) -> bool {
        self.fresh.push(record);
        self.fresh.len() >= known::BLOCK
    }

    /// Writes what is new, or all of `files` if the log cannot be added to or has too much in it that is of no
    /// use any more. Where another one writes just now, it is left for later.
    pub(super) fn save(
        &mut self,
        files: usize,
        all: impl FnOnce(&mut dyn FnMut(&mut dyn Iterator<Item = Record>)),
    ) -> io::Result<()> {
        let logged = self.logged + self.fresh.len();
        let overgrown = known::is_overgrown(logged, files);
        let result = match self.whole.filter(|_| !overgrown) {
            Some(_) if self.fresh.is_empty() => return Ok(()),
            Some(whole) => self.add(whole),
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
        self.fresh = Vec::new();
        Ok(())
    }

    fn add(&mut self, whole: u64) -> io::Result<()> {
        let file = File::options().append(true).open(&self.path)?;
        lock(&file)?;
        // Another server of this folder may have added to it; if it was cut, it is another log.
        let length = file.metadata()?.len();
        if length < whole {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut bytes = Vec::new();
        let added = known::append(self.fresh.iter().copied(), &mut bytes)?;
        // Half of it may be there if this fails, which no later addition mends.
        self.whole = None;
        (&file).write_all(&bytes)?;
        self.whole = Some(length + added);
        self.logged += self.fresh.len();
        Ok(())
    }

    fn replace(&mut self, records: &mut dyn Iterator<Item = Record>) -> io::Result<()> {
        if let Some(parent) = self
            .path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            crate::private::make_private(parent)?;
        }
        let mut temporary = self.path.as_os_str().to_owned();
        temporary.push(".part");
        let temporary = PathBuf::from(temporary);
        // Of one name, so that what a crash left is used again; locked, so that two do not write it at once.
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&temporary)?;
        lock(&file)?;
        if !is_at(&file, &temporary) {
            // Another one has just made it the index.
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let mut count = 0;
        let mut write = || {
            file.set_len(0)?;
            let mut to = BufWriter::new(&file);
            let whole = known::write(records.inspect(|_| count += 1), &mut to)?;
            to.flush()?;
            drop(to);
            fs::rename(&temporary, &self.path)?;
            Ok(whole)
        };
        match write() {
            Ok(whole) => {
                self.whole = Some(whole);
                self.logged = count;
                Ok(())
            }
            Err(e) => {
                let _ = fs::remove_file(&temporary);
                Err(e)
            }
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    let there = fs::metadata(path).map(|there| Fingerprint::of(&there));
    let here = Fingerprint::of_file(file);
    there.is_ok_and(|there| here.is_ok_and(|here| here.is_same_file(&there)))
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(unix)]
fn lock(file: &File) -> io::Result<()> {
    use rustix::fs::{FlockOperation, flock};
    match flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::ErrorKind::WouldBlock.into()),
        // A file system without locks: what two write at once is found to be broken, and written anew.
        _ => Ok(()),
    }
}

#[cfg(not(unix))]
fn lock(_: &File) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::fingerprint::Fingerprint;
    use crate::known::Contents;
    use jtp_core::ImageId;
    use std::io::Read;

    fn record(n: u64) -> Record {
        let fingerprint = Fingerprint {
            device: 1,
            inode: n,
            size: n,
            modified: 2,
            changed: 3,
        };
        let contents = Contents {
            id: ImageId(n),
            sniffed: None,
            unworthy: 0,
        };
        (fingerprint, contents)
    }

    struct Run {
        file: IndexFile,
        files: Vec<Record>,
        /// Whether the last saving wrote all.
        wrote_all: bool,
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
                wrote_all: false,
            }
        }

        fn find(&mut self, numbers: std::ops::Range<u64>) -> &mut Run {
            for n in numbers {
                self.files.push(record(n));
                self.file.note(record(n));
            }
            self
        }

        fn save(&mut self) -> &mut Run {
            let files = self.files.clone();
            let mut wrote_all = false;
            self.file
                .save(files.len(), |write| {
                    wrote_all = true;
                    write(&mut files.iter().copied());
                })
                .unwrap();
            self.wrote_all = wrote_all;
            self
        }
    }

    fn known(path: &Path) -> usize {
        Run::new(path).files.len()
    }

    #[test]
    fn what_is_new_is_added_and_the_log_written_anew_when_it_is_overgrown() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("made/index");
        let mut run = Run::new(&path);
        assert!(run.find(0..10_000).save().wrote_all);
        assert!(!run.find(10_000..10_001).save().wrote_all);
        let before = std::fs::metadata(&path).unwrap().len();
        assert!(!run.save().wrote_all, "nothing new");
        assert!(!run.find(10_001..10_002).save().wrote_all);
        let after = std::fs::metadata(&path).unwrap().len();
        assert_eq!(after - before, 12 + 51, "one changed file, one record");
        assert_eq!(known(&path), 10_002);
        // All of them go, and others come.
        run.files.clear();
        assert!(run.find(12_000..14_000).save().wrote_all);
        assert_eq!(known(&path), 2000);
    }

    #[test]
    fn a_crash_in_the_middle_of_a_save_loses_that_save_alone() {
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
            // What a crash in the middle of writing all leaves.
            std::fs::write(&part, "half").unwrap();
            let mut run = Run::new(&path);
            assert_eq!(run.files.len(), 100, "cut at {cut}");
            run.find(200..201).save();
            assert_eq!(run.wrote_all, cut != whole, "cut at {cut}");
            assert_eq!(known(&path), 101, "cut at {cut}");
        }
    }

    #[test]
    fn a_locked_index_is_written_later_and_two_servers_may_add_to_one() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("index");
        let mut one = Run::new(&path);
        one.find(0..10).save();
        let mut other = Run::new(&path);
        let locked = File::open(&path).unwrap();
        lock(&locked).unwrap();
        one.find(10..20).save();
        assert_eq!(known(&path), 10);
        drop(locked);
        other.find(20..30).save();
        one.save();
        assert!(!one.wrote_all);
        assert_eq!(known(&path), 30);
        // The file is replaced by something else, or goes.
        std::fs::write(&path, "short").unwrap();
        assert!(one.find(30..31).save().wrote_all);
        std::fs::remove_file(&path).unwrap();
        assert!(one.find(31..32).save().wrote_all);
        assert_eq!(known(&path), 22, "what this one knows");
    }

    /// `JTP_RECORDS=1000000 cargo test --release -p jtp-store --lib index_file -- --nocapture` prints the figures.
    #[test]
    fn a_large_index_is_loaded_added_to_and_written_anew() {
        use std::time::Instant;
        let count = std::env::var("JTP_RECORDS").map_or(10_000, |n| n.parse().unwrap());
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("index");
        let (mut file, _) = IndexFile::open(path.clone(), false);
        let begun = Instant::now();
        let all = |write: &mut dyn FnMut(&mut dyn Iterator<Item = Record>)| {
            write(&mut (0..count).map(record));
        };
        let files = usize::try_from(count).unwrap();
        file.note(record(0));
        file.save(files, all).unwrap();
        let written = begun.elapsed();
        let begun = Instant::now();
        let (mut file, known) = IndexFile::open(path.clone(), false);
        let loaded = begun.elapsed();
        let begun = Instant::now();
        assert!((0..count).all(|n| known.get(&record(n).0) == Some(record(n).1)));
        let found = begun.elapsed();
        let begun = Instant::now();
        file.note(record(count));
        file.save(files, |_| panic!("only what is new")).unwrap();
        let added = begun.elapsed();
        println!(
            "{count} records, {} bytes: written in {written:?}, loaded in {loaded:?}, all found in {found:?}, \
             one added in {added:?}",
            std::fs::metadata(&path).unwrap().len()
        );
    }
}
