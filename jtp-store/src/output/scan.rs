//! What an output folder holds already.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cap_std::fs::Dir;
use jtp_core::ImageId;

use crate::hash::{self, Links};

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

/// Hashes the regular files right in the folder that are not hidden. `stop` breaks it off.
pub(super) fn scan(dir: &Dir, threads: NonZeroUsize, stop: &AtomicBool) -> io::Result<Scan> {
    let mut names = Vec::new();
    for entry in dir.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        let hidden = name.as_encoded_bytes().starts_with(b".");
        if !hidden && entry.file_type().is_ok_and(|file_type| file_type.is_file()) {
            names.push(name);
        }
    }
    let threads = threads.get().min(names.len());
    let queue = Mutex::new(names.into_iter());
    let found = Mutex::new(Scan::default());
    thread::scope(|scope| {
        let work = || {
            let mut buffer = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let next = queue.lock().unwrap_or_else(PoisonError::into_inner).next();
                let Some(name) = next else {
                    return;
                };
                let hashed = hash::open(dir, &name, Links::Refuse)
                    .and_then(|file| hash::hash(&file, &mut buffer, stop));
                let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                match hashed {
                    Ok(Some(hashed)) => found.ids.entry(hashed.id).or_default().push(name),
                    Ok(None) => {}
                    // Gone since it was listed: it is not held, and that is all.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => found.unreadable.push((name, e)),
                }
            }
        };
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    if stop.load(Ordering::Relaxed) {
        return Err(io::ErrorKind::Interrupted.into());
    }
    Ok(found.into_inner().unwrap_or_else(PoisonError::into_inner))
}
