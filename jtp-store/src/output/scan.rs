//! Finds out what an output folder contains.

use std::ffi::OsStr;
use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::SystemTime;

use jtp_core::{FileType, ImageId};

use super::Inner;
use super::case::CaseProbe;
use super::id_table::IdTable;
use super::listing::{ListedFolder, Listing, Unlisted};
use super::run::{Stray, is_temporary};
use crate::entries::{Kind, Part};
use crate::fingerprint::{Fingerprint, Stat};
use crate::hash::{self, Links};
use crate::known::Contents;
use crate::name::{has_certain_extension, has_image_extension, is_hidden};

/// What a scan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ScanMode {
    /// Names and kinds only: no file is opened.
    Names,
    /// The IDs of all regular files. A file that is unchanged since an earlier scan is not read again.
    Ids,
    /// The IDs of all regular files. All are read.
    Rehash,
}

/// An entry of the folder, or of the tree. Hidden entries are left out.
#[derive(Debug)]
#[non_exhaustive]
pub struct ScannedFile<'a> {
    /// The name, below the folder and joined by `/`.
    pub name: &'a OsStr,
    /// What it stands for.
    pub content: FileContent,
    /// Whether it was read for that: it is not known from an earlier scan.
    pub was_read: bool,
}

/// What a name in the folder stands for.
#[derive(Debug)]
#[non_exhaustive]
pub enum FileContent {
    /// A regular file that is an image by its extension ([`has_image_extension`]) or its first bytes, with its ID.
    Image(ImageId),
    /// A regular file with the extension `.img`, whose first bytes are those of no image, with its ID: an image of a kind
    /// that has no first bytes of its own, or a disk image. // R5
    Unrecognised(ImageId),
    /// A regular file that is an image by its extension and was not read ([`ScanMode::Names`]).
    Unread,
    /// A regular file that is an image by its extension and cannot be read.
    Unreadable(io::Error),
    /// A regular file that is an image by its extension, is longer than 4,294,967,295 bytes, and was therefore not read: no
    /// packet can have such an image, so no ID of a server can be that of the file. // S14
    TooLong,
    /// A regular file that is no image: not by its extension, nor by its first bytes if it was read. In sub-folders, only
    /// files with the extension of an image are read.
    Other,
    /// A folder.
    Folder,
    /// A folder that cannot be listed, or not to its end, reported in addition to [`Folder`](FileContent::Folder). Nobody
    /// knows what else it contains. // W9
    UnreadableFolder(io::Error),
    /// A link, a device: neither a regular file nor a folder.
    Reserved,
}

/// The result of a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScanSummary {
    /// Regular files that are not hidden.
    pub files: u64,
    /// Files that were opened and hashed.
    pub read: u64,
    /// Whether the file system distinguishes names that differ only in case; `None` if the folder had no name to find
    /// it out with.
    pub case_sensitive: Option<bool>,
    /// A file that was there during the scan, and whose state [is older](super::FileState::is_older) than this, has not
    /// changed since the scan looked at it, unless the clock was set back. `None` if the times of the file system do
    /// not prove that.
    pub settled_before: Option<SystemTime>,
}

/// The index of IDs: hidden, and not a name that an image can get.
pub(super) const INDEX_NAME: &str = ".jtp-index";

/// What a scan has seen, apart from what it passes on.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// The number of files that the index has.
    pub(super) known: usize,
    /// Files with the name of a temporary file.
    pub(super) temporaries: Vec<Stray>,
    /// Set if the scan was stopped, so that there may be more files.
    pub(super) incomplete: bool,
    pub(super) files: u64,
    pub(super) read: u64,
    pub(super) case: CaseProbe,
}

/// What the threads of a scan share.
struct Shared<'a> {
    seen: Seen,
    found: &'a mut (dyn FnMut(ScannedFile<'_>) + Send),
    listed: io::Result<()>,
}

/// Passes on the entries of the folder that are not hidden. In the modes that need it, reads the regular files that the
/// index does not have.
pub(super) fn scan(
    scanner: &Scanner<'_>,
    threads: NonZeroUsize,
    found: &mut (dyn FnMut(ScannedFile<'_>) + Send),
) -> io::Result<Seen> {
    let (folder, stop) = (scanner.folder, scanner.stop);
    let listing = Mutex::new(Listing::new(folder, scanner.in_tree)?);
    let shared = Mutex::new(Shared {
        seen: Seen::default(),
        found,
        listed: Ok(()),
    });
    let lock = || shared.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        let work = || {
            let (mut buffer, mut looks) = (Vec::new(), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let next = listing
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .next();
                let batch = match next {
                    Ok(Some(batch)) => batch,
                    Ok(None) => return,
                    Err(e) => {
                        lock().listed = Err(e);
                        return;
                    }
                };
                looks.clear();
                for at in batch.entries.clone() {
                    looks.push(scanner.look(&batch.part, at, &batch.folder, &mut buffer));
                }
                let mut shared = lock();
                for (at, look) in batch.entries.zip(looks.drain(..)) {
                    shared.add(folder, &batch.folder, batch.part.name(at), look);
                }
            }
        };
        // Names alone are read by one thread.
        let threads = match scanner.mode {
            ScanMode::Names => 1,
            ScanMode::Ids | ScanMode::Rehash => threads.get(),
        };
        for _ in 1..threads {
            // Fewer threads do as well, where the system refuses more.
            if thread::Builder::new().spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    let shared = shared.into_inner().unwrap_or_else(PoisonError::into_inner);
    shared.listed?;
    let listing = listing.into_inner().unwrap_or_else(PoisonError::into_inner);
    for Unlisted { path, error } in listing.unlisted {
        let content = FileContent::UnreadableFolder(error);
        let name = &path;
        (shared.found)(ScannedFile {
            name,
            content,
            was_read: false,
        });
    }
    let mut seen = shared.seen;
    seen.incomplete = stop.load(Ordering::Relaxed);
    Ok(seen)
}

impl Shared<'_> {
    fn add(&mut self, root: &Inner, folder: &ListedFolder, name: &OsStr, look: io::Result<Look>) {
        let exists = |path: &str| root.has_name(path);
        self.seen.case.learn(folder.prefix(), name, exists);
        let is_image = |sniffed: Option<FileType>| {
            sniffed.is_some() || has_image_extension(&name.to_string_lossy())
        };
        let content = |contents: Contents| match contents.sniffed {
            Some(_) => FileContent::Image(contents.id),
            None if has_certain_extension(&name.to_string_lossy()) => {
                FileContent::Image(contents.id)
            }
            None if is_image(None) => FileContent::Unrecognised(contents.id),
            None => FileContent::Other,
        };
        let was_read = matches!(look, Ok(Look::Read(..)));
        let content = match look {
            Ok(Look::Hidden) => {
                if is_temporary(name) {
                    self.seen.temporaries.push(Stray {
                        folder: folder.prefix().to_owned(),
                        name: name.to_owned(),
                    });
                }
                return;
            }
            Ok(Look::Stopped) => return,
            Ok(Look::Folder) => FileContent::Folder,
            Ok(Look::NotAFile) => FileContent::Reserved,
            Ok(Look::Unread) if is_image(None) => FileContent::Unread,
            Ok(Look::Unread) => FileContent::Other,
            Ok(Look::TooLong) if is_image(None) => FileContent::TooLong,
            Ok(Look::TooLong) => FileContent::Other,
            Ok(Look::Known(contents)) => {
                self.seen.known += 1;
                content(contents)
            }
            Ok(Look::Read(contents)) => {
                self.seen.read += 1;
                content(contents)
            }
            // Removed since it was listed.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return,
            Err(e) if is_image(None) => FileContent::Unreadable(e),
            Err(_) => FileContent::Other,
        };
        if !matches!(content, FileContent::Reserved | FileContent::Folder) {
            self.seen.files += 1;
        }
        let name = &folder.path(name);
        (self.found)(ScannedFile {
            name,
            content,
            was_read,
        });
    }
}

/// Whether a file is longer than any image that a packet can have. // S14
pub(super) fn exceeds_packet(length: u64) -> bool {
    u32::try_from(length).is_err()
}

/// The result of looking at an entry.
enum Look {
    Hidden,
    /// The scan was stopped before the file was read.
    Stopped,
    Folder,
    /// Neither a file nor a folder.
    NotAFile,
    /// A regular file.
    Unread,
    /// No image can be that long. // S14
    TooLong,
    /// The index has it.
    Known(Contents),
    /// It was read.
    Read(Contents),
}

/// An output folder, and what is known of it.
pub(super) struct Scanner<'a> {
    pub(super) folder: &'a Arc<Inner>,
    pub(super) mode: ScanMode,
    /// Sub-folders are scanned, too. // W9
    pub(super) in_tree: bool,
    /// The index of an earlier scan.
    pub(super) before: &'a IdTable,
    /// Set to end the scan.
    pub(super) stop: &'a AtomicBool,
}

impl Scanner<'_> {
    fn look(
        &self,
        part: &Part,
        at: usize,
        folder: &ListedFolder,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Look> {
        let name = part.name(at);
        if is_hidden(name) {
            return Ok(Look::Hidden);
        }
        match part.kind(at) {
            Kind::File => {}
            Kind::Folder => return Ok(Look::Folder),
            Kind::Link | Kind::Other => return Ok(Look::NotAFile),
        }
        // The tree may be a home directory. Files that a client puts into sub-folders have these extensions.
        let is_skipped = || !folder.is_root() && !has_image_extension(&name.to_string_lossy());
        if self.mode == ScanMode::Names || is_skipped() {
            return Ok(Look::Unread);
        }
        if !self.before.is_empty() {
            let stat = part.stat(folder.dir(self.folder), at);
            let print = stat.map(|stat| self.fingerprint(&stat, folder, name));
            let known = print.and_then(|print| self.before.get(&print));
            if let Some((at, contents)) = known {
                self.before.set_used(at);
                return Ok(Look::Known(contents));
            }
        }
        let dir = folder.dir(self.folder);
        match self.read(folder, name, buffer) {
            Err(e) if !dir.symlink_metadata(name)?.is_file() => {
                // It was replaced since it was listed.
                tracing::debug!(?name, error = %e, "not a regular file any more");
                Ok(Look::NotAFile)
            }
            look => look,
        }
    }

    /// A file that is known by its name has its path as its name.
    fn fingerprint(&self, stat: &Stat, folder: &ListedFolder, name: &OsStr) -> Fingerprint {
        self.folder
            .file_system
            .fingerprint(stat, &folder.path(name))
    }

    /// Reads a file. Enters it in the index if its fingerprint identifies the contents from now on.
    fn read(&self, folder: &ListedFolder, name: &OsStr, buffer: &mut Vec<u8>) -> io::Result<Look> {
        let file = hash::open(folder.dir(self.folder), name, Links::Refuse)?;
        // Reading a pipe or a device might never end.
        if !file.metadata()?.is_file() {
            return Ok(Look::NotAFile);
        }
        let fingerprint = || -> io::Result<Fingerprint> {
            let stat = Stat::of_file(&file)?;
            Ok(self.fingerprint(&stat, folder, name))
        };
        let print = fingerprint()?;
        if exceeds_packet(print.size) {
            return Ok(Look::TooLong);
        }
        let settled = print.is_settled(SystemTime::now());
        let Some(hashed) = hash::hash(&file, buffer, self.stop)? else {
            return Ok(Look::Stopped);
        };
        let contents = Contents {
            id: hashed.id,
            sniffed: FileType::sniff(hashed.start()),
            incompressible_at: 0,
        };
        let unchanged = fingerprint()? == print && hashed.length == print.size;
        if settled && unchanged {
            self.folder.add_to_index((print, contents));
        }
        Ok(Look::Read(contents))
    }
}
