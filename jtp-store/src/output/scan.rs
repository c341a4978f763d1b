//! What an output folder holds already.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::SystemTime;

use cap_std::fs::{Dir, DirEntry};
use jtp_core::{FileType, ImageId};

use super::is_temporary;
use crate::fingerprint::{Fingerprint, SETTLE};
use crate::hash::{self, Links};
use crate::known::{Contents, KnownContents, Record};

/// The images in an output folder, by ID. // R2
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Scan {
    /// The files of each ID, in no order.
    pub ids: HashMap<ImageId, Vec<OsString>>,
    /// Files that could not be read.
    pub unreadable: Vec<(OsString, io::Error)>,
}

impl Scan {
    /// Whether the folder holds the image, under whatever name.
    #[must_use]
    pub fn contains(&self, id: ImageId) -> bool {
        self.ids.contains_key(&id)
    }
}

/// The index of IDs: hidden, and no name that an image can get.
pub(super) const INDEX_NAME: &str = ".jtp-index";

/// How many files a thread takes at once.
const BATCH: usize = 64;

/// What is known of the files that were seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// What was known before,
    pub(super) known: Vec<Record>,
    /// and what was not.
    pub(super) fresh: Vec<Record>,
    /// Hidden files that are called as temporaries are.
    pub(super) temporaries: Vec<OsString>,
    /// Whether there may be more files.
    pub(super) broken_off: bool,
}

/// Finds the IDs of the regular files right in the folder that are not hidden, and reads those that `before` does not
/// know. `stop` breaks it off.
pub(super) fn scan(
    dir: &Dir,
    threads: NonZeroUsize,
    before: &KnownContents,
    stop: &AtomicBool,
) -> io::Result<(Scan, Seen)> {
    let entries = Mutex::new(dir.entries()?);
    let found = Mutex::new((Scan::default(), Seen::default(), Ok(())));
    thread::scope(|scope| {
        let work = || {
            let mut buffer = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let batch: Vec<_> = {
                    let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
                    entries.by_ref().take(BATCH).collect()
                };
                if batch.is_empty() {
                    return;
                }
                let mut looked_at = Vec::with_capacity(batch.len());
                for entry in batch {
                    let entry = match entry {
                        Ok(entry) => entry,
                        Err(e) => {
                            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                            found.2 = Err(e);
                            return;
                        }
                    };
                    let name = entry.file_name();
                    let look = look(dir, &entry, &name, before, &mut buffer, stop);
                    looked_at.push((name, look));
                }
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                let (scan, seen, _) = &mut *found;
                for (name, look) in looked_at {
                    match look {
                        Ok(Look::Passed) if is_temporary(&name) => seen.temporaries.push(name),
                        Ok(Look::Passed) => {}
                        Ok(Look::Known(print, contents)) => {
                            scan.ids.entry(contents.id).or_default().push(name);
                            seen.known.push((print, contents));
                        }
                        Ok(Look::Read(contents, print)) => {
                            scan.ids.entry(contents.id).or_default().push(name);
                            seen.fresh.extend(print.map(|print| (print, contents)));
                        }
                        // Gone since it was listed: it is not held, and that is all.
                        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                        Err(e) => scan.unreadable.push((name, e)),
                    }
                }
            }
        };
        for _ in 1..threads.get() {
            scope.spawn(work);
        }
        work();
    });
    let (scan, mut seen, listed) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    listed?;
    seen.broken_off = stop.load(Ordering::Relaxed);
    Ok((scan, seen))
}

/// What a look at a file found.
enum Look {
    /// It is no image, or the scan is broken off.
    Passed,
    Known(Fingerprint, Contents),
    /// Its fingerprint comes with it if its contents can be known by that for good.
    Read(Contents, Option<Fingerprint>),
}

fn look(
    dir: &Dir,
    entry: &DirEntry,
    name: &OsStr,
    before: &KnownContents,
    buffer: &mut Vec<u8>,
    stop: &AtomicBool,
) -> io::Result<Look> {
    let hidden = name.as_encoded_bytes().starts_with(b".");
    if hidden || !entry.file_type().is_ok_and(|file_type| file_type.is_file()) {
        return Ok(Look::Passed);
    }
    if !before.is_empty() {
        let print = entry
            .metadata()
            .ok()
            .map(|there| Fingerprint::of_cap(&there));
        if let Some((print, contents)) = print.and_then(|print| Some((print, before.get(&print)?)))
        {
            return Ok(Look::Known(print, contents));
        }
    }
    let read = read(dir, name, buffer, stop)?;
    Ok(read.map_or(Look::Passed, |(contents, print)| {
        Look::Read(contents, print)
    }))
}

/// Reads a file; its fingerprint comes with it if its contents can be known by that for good.
fn read(
    dir: &Dir,
    name: &OsStr,
    buffer: &mut Vec<u8>,
    stop: &AtomicBool,
) -> io::Result<Option<(Contents, Option<Fingerprint>)>> {
    let file = hash::open(dir, name, Links::Refuse)?;
    let before = Fingerprint::of_file(&file)?;
    let settled = before
        .age(SystemTime::now())
        .is_some_and(|age| age >= SETTLE);
    let Some(hashed) = hash::hash(&file, buffer, stop)? else {
        return Ok(None);
    };
    let contents = Contents {
        id: hashed.id,
        sniffed: FileType::sniff(hashed.start()),
        incompressible_at: 0,
    };
    let unchanged = Fingerprint::of_file(&file)? == before && hashed.length == before.size;
    Ok(Some((
        contents,
        Some(before).filter(|_| settled && unchanged),
    )))
}
