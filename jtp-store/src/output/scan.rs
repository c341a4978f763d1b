//! Finds the images that an output folder contains.

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
use crate::file_system::FileSystem;
use crate::fingerprint::{Fingerprint, Stat};
use crate::hash::{self, Links};
use crate::known::{Contents, KnownContents, Record};

/// The images in an output folder, by ID. // R2
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Scan {
    /// The files of each ID, in no particular order.
    pub ids: HashMap<ImageId, Vec<OsString>>,
    /// Files that could not be read.
    pub unreadable: Vec<(OsString, io::Error)>,
    /// Files that were not read because they are longer than 4,294,967,295 bytes: no packet can have such an image,
    /// so no ID of a server can be theirs. // S14
    pub too_long: Vec<OsString>,
}

impl Scan {
    /// Whether the folder contains the image, under any name.
    #[must_use]
    pub fn contains(&self, id: ImageId) -> bool {
        self.ids.contains_key(&id)
    }
}

/// The index of IDs: hidden, and not a name that an image can get.
pub(super) const INDEX_NAME: &str = ".jtp-index";

/// The number of files that a thread takes at once.
const BATCH: usize = 64;

/// The files that a scan has seen.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Records that the index has.
    pub(super) known: Vec<Record>,
    /// Records that the index does not have.
    pub(super) fresh: Vec<Record>,
    /// Files with the name of a temporary file.
    pub(super) temporaries: Vec<OsString>,
    /// Set if the scan was stopped, so that there may be more files.
    pub(super) incomplete: bool,
}

/// Finds the IDs of the regular files directly in the folder that are not hidden. Reads those that the index does not
/// have.
pub(super) fn scan(scanner: &Scanner<'_>, threads: NonZeroUsize) -> io::Result<(Scan, Seen)> {
    let stop = scanner.stop;
    let entries = Mutex::new(scanner.dir.entries()?);
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
                let mut looks = Vec::with_capacity(batch.len());
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
                    let look = scanner.look(&entry, &name, &mut buffer);
                    looks.push((name, look));
                }
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                let (scan, seen, _) = &mut *found;
                for (name, look) in looks {
                    match look {
                        Ok(Look::Skipped) if is_temporary(&name) => seen.temporaries.push(name),
                        Ok(Look::Skipped) => {}
                        Ok(Look::Known(print, contents)) => {
                            scan.ids.entry(contents.id).or_default().push(name);
                            seen.known.push((print, contents));
                        }
                        Ok(Look::Read(contents, print)) => {
                            scan.ids.entry(contents.id).or_default().push(name);
                            seen.fresh.extend(print.map(|print| (print, contents)));
                        }
                        Ok(Look::TooLong) => {
                            tracing::info!(
                                file = ?name,
                                reason = "it is longer than 4,294,967,295 bytes, the limit of a packet",
                                "a file in the output folder is not read"
                            );
                            scan.too_long.push(name);
                        }
                        // Removed since it was listed.
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
    seen.incomplete = stop.load(Ordering::Relaxed);
    Ok((scan, seen))
}

/// The result of looking at a file.
enum Look {
    /// It is not a candidate, or the scan was stopped.
    Skipped,
    /// No image can be that long. // S14
    TooLong,
    Known(Fingerprint, Contents),
    /// With the fingerprint, if that identifies the contents from now on.
    Read(Contents, Option<Fingerprint>),
}

/// An output folder, and what is known of it.
pub(super) struct Scanner<'a> {
    pub(super) dir: &'a Dir,
    /// That of `dir`.
    pub(super) file_system: FileSystem,
    /// The index of an earlier scan.
    pub(super) before: &'a KnownContents,
    /// Set to end the scan.
    pub(super) stop: &'a AtomicBool,
}

impl Scanner<'_> {
    fn look(&self, entry: &DirEntry, name: &OsStr, buffer: &mut Vec<u8>) -> io::Result<Look> {
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if hidden || !entry.file_type().is_ok_and(|file_type| file_type.is_file()) {
            return Ok(Look::Skipped);
        }
        if !self.before.is_empty() {
            let stat = entry.metadata().ok().map(|there| Stat::of_cap(&there));
            let print = stat.map(|stat| self.file_system.fingerprint(&stat, name));
            let known = print.and_then(|print| Some((print, self.before.get(&print)?)));
            if let Some((print, contents)) = known {
                return Ok(Look::Known(print, contents));
            }
        }
        self.read(name, buffer)
    }

    fn read(&self, name: &OsStr, buffer: &mut Vec<u8>) -> io::Result<Look> {
        let file = hash::open(self.dir, name, Links::Refuse)?;
        let fingerprint = || -> io::Result<Fingerprint> {
            let stat = Stat::of_file(&file)?;
            Ok(self.file_system.fingerprint(&stat, name))
        };
        let print = fingerprint()?;
        if u32::try_from(print.size).is_err() {
            return Ok(Look::TooLong);
        }
        let settled = print.is_settled(SystemTime::now());
        let Some(hashed) = hash::hash(&file, buffer, self.stop)? else {
            return Ok(Look::Skipped);
        };
        let contents = Contents {
            id: hashed.id,
            sniffed: FileType::sniff(hashed.start()),
            incompressible_at: 0,
        };
        let unchanged = fingerprint()? == print && hashed.length == print.size;
        Ok(Look::Read(
            contents,
            Some(print).filter(|_| settled && unchanged),
        ))
    }
}
