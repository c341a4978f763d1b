//! The first scan of a folder. After a restart with an unchanged folder it is all that the store has to wait for.

use std::ffi::OsString;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use cap_std::fs::Dir;
use jtp_core::FileType;

use super::left_out::LeftOut;
use super::non_images::SharedLeftOut;
use super::record::{FileRecord, Name};
use super::scan::{fingerprint_and_links, is_candidate};
use super::select::{Naming, Selection};
use super::shared::{SharedIndex, SharedKnown};
use super::tree::{Batch, Entry, Walk};
use crate::entries::Kind;
use crate::file_system::FileSystem;
use crate::fingerprint::Fingerprint;
use crate::known::Contents;
use crate::name::has_certain_extension;

/// The first scan of a folder, by several threads.
pub(super) struct InitialScan<'a> {
    pub(super) dir: &'a Dir,
    pub(super) file_system: FileSystem,
    pub(super) selection: &'a Selection,
    pub(super) index: &'a SharedIndex,
    pub(super) known: &'a SharedKnown,
    pub(super) left_out: &'a SharedLeftOut,
    pub(super) stop: &'a AtomicBool,
}

/// What a thread of the scan uses again for each file.
#[derive(Default)]
struct Buffers {
    path: OsString,
    /// Where the known contents of the next file probably are.
    near: usize,
}

struct Progress<'a> {
    walk: Mutex<Walk<'a>>,
    found: Mutex<Found>,
    now: SystemTime,
    nothing_known: bool,
}

/// The result of the initial scan.
pub(super) struct Found {
    /// The files to be read.
    pub(super) to_read: Vec<Name>,
    /// The recorded files that can change under another name.
    pub(super) links: Vec<Name>,
    /// The number of files recorded.
    pub(super) recorded: usize,
    /// The files that are left out by their names and types.
    pub(super) left_out: LeftOut,
    /// The sub-folders that are left out.
    pub(super) skipped: Vec<(Name, io::Error)>,
    /// The sub-folders that cannot be read.
    pub(super) unreadable: Vec<(Name, io::Error)>,
    /// The mount points in sub-folders.
    pub(super) mounts: Vec<Name>,
    result: io::Result<()>,
}

impl InitialScan<'_> {
    /// Records the files whose contents are known from an earlier run.
    pub(super) fn run(&self, walk: Walk<'_>, threads: usize) -> io::Result<Found> {
        let known = self.known.len();
        self.index.write().reserve(known);
        let progress = Progress {
            walk: Mutex::new(walk),
            found: Mutex::new(Found {
                to_read: Vec::new(),
                links: Vec::new(),
                recorded: 0,
                left_out: LeftOut::default(),
                skipped: Vec::new(),
                unreadable: Vec::new(),
                mounts: Vec::new(),
                result: Ok(()),
            }),
            now: SystemTime::now(),
            nothing_known: known == 0,
        };
        thread::scope(|scope| {
            // Without known contents no metadata is needed, and one thread is enough.
            let others = if known == 0 {
                0
            } else {
                threads.saturating_sub(1)
            };
            for _ in 0..others {
                // Fewer threads do as well, where the system refuses more.
                let thread = thread::Builder::new();
                if thread.spawn_scoped(scope, || self.work(&progress)).is_err() {
                    break;
                }
            }
            self.work(&progress);
        });
        let found = progress.found.into_inner();
        let mut found = found.unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut found.result, Ok(()))?;
        let walk = progress.walk.into_inner();
        let rest = walk.unwrap_or_else(PoisonError::into_inner).finish();
        found.left_out.merge(&rest.left_out);
        found.skipped = rest.skipped;
        found.unreadable = rest.unreadable;
        found.mounts = rest.mounts;
        Ok(found)
    }

    fn work(&self, progress: &Progress<'_>) {
        let naming = self.index.read().naming();
        let mut buffers = Buffers::default();
        loop {
            let next = {
                let walk = progress.walk.lock();
                walk.unwrap_or_else(PoisonError::into_inner).next()
            };
            match next {
                Ok(Some(batch)) if !self.stop.load(Ordering::Relaxed) => {
                    self.take(&batch, progress, naming, &mut buffers);
                }
                Ok(_) => return,
                Err(e) => {
                    let found = progress.found.lock();
                    found.unwrap_or_else(PoisonError::into_inner).result = Err(e);
                    return;
                }
            }
        }
    }

    /// Records the files of a batch.
    fn take(
        &self,
        batch: &Batch<'_>,
        progress: &Progress<'_>,
        naming: Naming,
        buffers: &mut Buffers,
    ) {
        let (mut to_read, mut known) = (Vec::new(), Vec::new());
        let (mut links, mut non_images) = (Vec::new(), Vec::new());
        let mut left_out = LeftOut::default();
        let earlier = self.known.read();
        for entry in batch.entries() {
            let path = entry.path(&mut buffers.path);
            if !is_candidate(self.selection, entry, path, &mut left_out) {
                continue;
            }
            let print = match progress.nothing_known {
                true => None,
                false => fingerprint_and_links(self.dir, self.file_system, entry, path),
            };
            let (print, is_linked) = print.unzip();
            let found = print.and_then(|print| {
                let contents = earlier.get_near(&print, &mut buffers.near)?;
                is_usable(&print, contents, progress.now).then_some(())?;
                Some((print, contents, shows_type(entry, contents)?))
            });
            match found {
                Some((print, _, false)) => non_images.push((Name::from(path), print)),
                Some((print, contents, true)) if naming.lists(path) => {
                    links.extend((is_linked == Some(true)).then(|| Name::from(path)));
                    let length = u32::try_from(print.size).unwrap_or(u32::MAX);
                    known.push((entry, FileRecord::new(print, length, contents, true)));
                }
                _ => to_read.push(Name::from(path)),
            }
        }
        drop(earlier);
        let mut index = self.index.write();
        let mut recorded = 0;
        for (entry, record) in known {
            let path = entry.path(&mut buffers.path);
            if index.record(path, &record) {
                self.index.log().listed(path);
                recorded += 1;
            } else {
                to_read.push(Name::from(path));
            }
        }
        drop(index);
        let mut found = progress
            .found
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        found.to_read.append(&mut to_read);
        found.links.append(&mut links);
        found.recorded += recorded + non_images.len();
        found.left_out.merge(&left_out);
        if !non_images.is_empty() {
            self.left_out.non_images().merge(&non_images);
        }
    }
}

/// Whether the contents of a fingerprint are certain to be those of the file, and can be listed.
fn is_usable(print: &Fingerprint, contents: Contents, now: SystemTime) -> bool {
    let is_listable = u32::try_from(print.size).is_ok() || contents == Contents::NOT_AN_IMAGE; // S14
    is_listable && print.is_settled(now)
}

/// Whether a file of known contents is an image under its name; `None` if it has to be looked at.
fn shows_type(entry: Entry<'_>, contents: Contents) -> Option<bool> {
    // The name of a link's target counts.
    let is_link = entry.kind() == Kind::Link;
    let has_extension = has_certain_extension(&entry.name().to_string_lossy());
    match contents {
        Contents::NOT_AN_IMAGE => (!is_link && !has_extension).then_some(false),
        _ if has_extension && !is_link => Some(true),
        // The first bytes of a BMP are looked at more closely without an extension.
        Contents {
            sniffed: Some(found),
            ..
        } => (found != FileType::Bmp).then_some(true),
        Contents { sniffed: None, .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fingerprint::nanoseconds;
    use jtp_core::ImageId;
    use std::time::Duration;

    #[test]
    fn s14_contents_are_used_if_the_file_is_older_than_now_and_can_be_listed() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let print = |size, age: i64| Fingerprint {
            size,
            changed: nanoseconds(1000 - age, 1),
            ..Fingerprint::sample(1)
        };
        let image = Contents {
            id: ImageId(1),
            ..Contents::NOT_AN_IMAGE
        };
        let (long, longest) = (1 << 32, (1 << 32) - 1);
        for (print, contents, usable) in [
            (print(longest, 60), image, true),
            (print(longest, 0), image, false),
            (print(long, 60), image, false),
            (print(long, 60), Contents::NOT_AN_IMAGE, true),
            (print(long, 0), Contents::NOT_AN_IMAGE, false),
        ] {
            assert_eq!(is_usable(&print, contents, now), usable, "{print:?}");
        }
    }
}
