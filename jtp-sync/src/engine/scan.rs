//! Scans the folder on a thread while the first LIST arrives.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use event_listener::{Event, listener};
use jtp_store::{FileContent, OutputError, OutputFolder, ScanMode, ScanSummary, ScannedFile};

use super::error::Error;
use super::session::lock;
use crate::inventory::{FileKind, Inventory};
use crate::selection::Selection;

/// The most unreadable files that are reported one by one. // R3
const MAX_UNREADABLE: usize = 1000;

/// What a scan found.
pub(super) struct Scanned {
    /// What was not passed on before.
    pub(super) inventory: Inventory,
    pub(super) summary: ScanSummary,
    /// The first of them.
    pub(super) unreadable: Vec<(OsString, io::Error)>,
    unreadable_count: u64,
}

impl Scanned {
    /// The unreadable files that the selection concerns. Those that are not known by name count as such, and folders.
    pub(super) fn unreadable_in(&self, selection: &Selection) -> u64 {
        let is_out = |(name, _): &&(OsString, io::Error)| {
            let name = name.to_string_lossy();
            !name.ends_with('/') && !selection.selects_extra(&name, || None)
        };
        let out = self.unreadable.iter().filter(is_out).count();
        self.unreadable_count - u64::try_from(out).unwrap_or(0)
    }
}

/// The number of names that are passed on at once.
const PART: usize = 32 * 1024;

/// The most parts that wait for the LIST: until the planner has that, it cannot tell which names it need not remember.
const MAX_PARTS: usize = 8;

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// There is more in the queue.
    changed: Event,
    /// There is less in the queue, or the scan is to end.
    taken: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct Queue {
    parts: VecDeque<Inventory>,
    result: Option<Result<Scanned, OutputError>>,
    has_ended: bool,
}

/// A scan in progress. Dropping it ends the scan.
pub(super) struct FolderScan(Arc<Shared>);

impl FolderScan {
    /// `in_tree`: sub-folders, too. // W9
    /// `progress` is called for each file, with the number of files so far and of those that had to be read.
    pub(super) fn start(
        folder: &OutputFolder,
        mode: ScanMode,
        in_tree: bool,
        mut progress: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<FolderScan, Error> {
        let shared = Arc::new(Shared::default());
        let (folder, ours) = (folder.clone(), AtEnd(Arc::clone(&shared)));
        thread::Builder::new()
            .name("jtp-sync scan".to_owned())
            .spawn(move || {
                let result = scan(&folder, mode, in_tree, &ours.0, &mut progress);
                lock(&ours.0.queue).result = Some(result);
            })
            .map_err(Error::Thread)?;
        Ok(FolderScan(shared))
    }

    /// The next names; `None` once the scan has ended. Cancel safe.
    pub(super) async fn next_part(&mut self) -> Option<Inventory> {
        loop {
            listener!(self.0.changed => changed);
            {
                let mut queue = lock(&self.0.queue);
                if let Some(part) = queue.parts.pop_front() {
                    self.0.taken.notify_all();
                    return Some(part);
                }
                if queue.has_ended {
                    return None;
                }
            }
            changed.await;
        }
    }

    /// The result of a scan that has ended.
    pub(super) fn finish(&mut self) -> Result<Scanned, Error> {
        let result = lock(&self.0.queue).result.take();
        result.ok_or(Error::Panicked)?.map_err(Error::Folder)
    }
}

impl Drop for FolderScan {
    fn drop(&mut self) {
        self.0.end();
    }
}

impl Shared {
    fn end(&self) {
        // Under the lock, so that a thread that is about to wait sees it.
        let _queue = lock(&self.queue);
        self.stop.store(true, Ordering::Relaxed);
        self.taken.notify_all();
    }

    /// Passes names on. Waits while too many wait.
    fn push(&self, part: Inventory) {
        let is_full = |queue: &mut Queue| {
            queue.parts.len() >= MAX_PARTS && !self.stop.load(Ordering::Relaxed)
        };
        let queue = lock(&self.queue);
        let queue = self.taken.wait_while(queue, is_full);
        let mut queue = queue.unwrap_or_else(PoisonError::into_inner);
        queue.parts.push_back(part);
        drop(queue);
        self.changed.notify(usize::MAX);
    }
}

/// Notes that the thread has ended, even by a panic.
struct AtEnd(Arc<Shared>);

impl Drop for AtEnd {
    fn drop(&mut self) {
        lock(&self.0.queue).has_ended = true;
        self.0.changed.notify(usize::MAX);
    }
}

fn scan(
    folder: &OutputFolder,
    mode: ScanMode,
    in_tree: bool,
    shared: &Shared,
    progress: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Scanned, OutputError> {
    let mut inventory = Inventory::new();
    let mut unreadable = Vec::new();
    let mut unreadable_count = 0;
    let (mut files, mut read) = (0, 0);
    let mut found = |file: ScannedFile<'_>| {
        let is_file = !matches!(
            file.content,
            FileContent::Reserved | FileContent::Folder | FileContent::UnreadableFolder(_)
        );
        files += u64::from(is_file);
        read += u64::from(file.was_read);
        progress(files, read);
        let kind = match file.content {
            FileContent::Image(id) => FileKind::Image(id),
            FileContent::Unrecognised(id) => FileKind::Unrecognised(id),
            FileContent::Unread => FileKind::Unread,
            FileContent::Unreadable(error) => {
                unreadable_count += 1;
                if unreadable.len() < MAX_UNREADABLE {
                    unreadable.push((file.name.to_owned(), error));
                }
                FileKind::Unread
            }
            // No image of a server, but one of the user: it is treated like one that cannot be read.
            FileContent::TooLong => {
                unreadable_count += 1;
                if unreadable.len() < MAX_UNREADABLE {
                    unreadable.push((file.name.to_owned(), too_long()));
                }
                FileKind::Unread
            }
            FileContent::Other => FileKind::Other,
            FileContent::Folder => FileKind::Folder,
            // Its name is known.
            FileContent::UnreadableFolder(error) => {
                unreadable_count += 1;
                if unreadable.len() < MAX_UNREADABLE {
                    let mut name = file.name.to_owned();
                    name.push("/");
                    unreadable.push((name, error));
                }
                return;
            }
            _ => FileKind::Reserved,
        };
        // No image gets a name that is not UTF-8.
        if let Some(name) = file.name.to_str() {
            inventory.add(name, kind);
        }
        if inventory.len() >= PART {
            shared.push(std::mem::take(&mut inventory));
        }
    };
    let stop = &shared.stop;
    let summary = match in_tree {
        true => folder.scan_tree(mode, stop, &mut found)?,
        false => folder.scan(mode, stop, &mut found)?,
    };
    inventory.set_case_sensitive(summary.case_sensitive == Some(true));
    Ok(Scanned {
        inventory,
        summary,
        unreadable,
        unreadable_count,
    })
}

fn too_long() -> io::Error {
    let limit = "it is longer than 4,294,967,295 bytes, the limit of an image";
    io::Error::new(io::ErrorKind::FileTooLarge, limit)
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use jtp_core::ImageId;

    use super::*;

    fn scanned(files: impl FnOnce(&Path)) -> (Scanned, Vec<(u64, u64)>) {
        let place = tempfile::tempdir().unwrap();
        files(place.path());
        let folder = OutputFolder::open(place.path()).unwrap();
        let (shared, mut seen) = (Shared::default(), Vec::new());
        let mut progress = |files, read| seen.push((files, read));
        let scanned = scan(&folder, ScanMode::Ids, false, &shared, &mut progress).unwrap();
        (scanned, seen)
    }

    #[test]
    fn each_kind_of_file_is_known_as_what_it_is() {
        let image = b"\x89PNG\r\n\x1a\n...";
        let (scanned, seen) = scanned(|folder| {
            fs::write(folder.join("a.png"), image).unwrap();
            fs::write(folder.join("b.txt"), b"text").unwrap();
            fs::create_dir(folder.join("c.png")).unwrap();
            symlink("a.png", folder.join("d.png")).unwrap();
            // S14: longer than an image can be.
            File::create(folder.join("e.png"))
                .and_then(|file| file.set_len(1 << 32))
                .unwrap();
        });
        let mut kinds: Vec<_> = scanned.inventory.iter().collect();
        kinds.sort_by_key(|(name, _)| *name);
        let expected = [
            ("a.png", FileKind::Image(ImageId::of(image))),
            ("b.txt", FileKind::Other),
            ("c.png", FileKind::Folder),
            ("d.png", FileKind::Reserved),
            ("e.png", FileKind::Unread),
        ];
        assert_eq!(kinds, expected);
        assert_eq!(scanned.unreadable.len(), 1);
        assert_eq!(scanned.unreadable_in(&Selection::all()), 1);
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!(seen.last(), Some(&(3, scanned.summary.read)));
        assert!(scanned.summary.read >= 1, "an image is read");
    }

    #[test]
    fn r3_the_first_thousand_unreadable_files_are_named_and_all_are_counted() {
        let (scanned, _) = scanned(|folder| {
            for n in 0..=MAX_UNREADABLE {
                let file = File::create(folder.join(format!("{n}.png"))).unwrap();
                file.set_len(1 << 32).unwrap();
            }
        });
        assert_eq!(scanned.unreadable.len(), 1_000);
        assert_eq!(scanned.unreadable_in(&Selection::all()), 1_001);
    }

    /// The next part, once there is one.
    fn next_part(scan: &mut FolderScan) -> Option<Inventory> {
        let mut next = pin!(scan.next_part());
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(part) = next.as_mut().poll(&mut cx) {
                return part;
            }
            thread::yield_now();
        }
    }

    /// A thread that passes on this many parts.
    fn pushing(shared: &Arc<Shared>, parts: usize) -> thread::JoinHandle<()> {
        let ours = AtEnd(Arc::clone(shared));
        thread::spawn(move || (0..parts).for_each(|_| ours.0.push(Inventory::new())))
    }

    #[test]
    fn r3_no_more_than_eight_parts_wait_for_their_reader() {
        let shared = Arc::new(Shared::default());
        let mut scan = FolderScan(Arc::clone(&shared));
        let pushing = pushing(&shared, 100);
        let mut parts = 0;
        while next_part(&mut scan).is_some() {
            parts += 1;
            assert!(lock(&shared.queue).parts.len() <= MAX_PARTS);
        }
        assert_eq!(parts, 100);
        pushing.join().unwrap();
    }

    #[test]
    fn a_scan_that_nobody_waits_for_any_longer_ends() {
        let shared = Arc::new(Shared::default());
        let pushing = pushing(&shared, MAX_PARTS + 1);
        drop(FolderScan(Arc::clone(&shared)));
        pushing.join().unwrap();
        assert!(shared.stop.load(Ordering::Relaxed));
    }
}
