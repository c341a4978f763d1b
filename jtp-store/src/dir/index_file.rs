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
