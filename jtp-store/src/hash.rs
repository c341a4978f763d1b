//! Opens and hashes files that other programs may be writing.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
#[cfg(not(windows))]
use std::io::Read;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use cap_std::fs::{Dir, Metadata, OpenOptions};
use jtp_core::{ImageHasher, ImageId};

use crate::below;
use crate::inside::resolve;
use crate::name::{is_candidate, is_hidden};

/// The buffer of a thread that reads files. It needs no more memory, whatever the size of a file.
pub(crate) const BUFFER_LEN: usize = 256 * 1024;

/// The number of first bytes that identify a type.
pub(crate) const START_LEN: usize = 12;

/// Whether symlinks inside the folder are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// If they lead to a file that may be shared: neither hidden nor temporary, nor in a hidden folder.
    Follow,
    Refuse,
}

/// Opens a file for reading. Never opens a file outside `dir`, even through links, and never blocks on a pipe.
pub(crate) fn open(dir: &Dir, name: &OsStr, links: Links) -> io::Result<File> {
    match links {
        Links::Follow => open_link(dir, name).1,
        Links::Refuse => open_path(dir, Path::new(name)),
    }
}

/// The same with [`Links::Follow`]. Also says whether the name is a link.
pub(crate) fn open_link(dir: &Dir, name: &OsStr) -> (bool, io::Result<File>) {
    match open_below(dir, name) {
        Err(e) if is_link_error(&e) => {
            let target = shared_target(dir, name);
            (
                true,
                target.and_then(|target| open_below(dir, target.as_os_str())),
            )
        }
        opened => (false, opened),
    }
}

/// The metadata of a file, or of the shared file in `dir` to which a link leads.
pub(crate) fn metadata(dir: &Dir, name: &OsStr) -> io::Result<Metadata> {
    let found = symlink_metadata(dir, name)?;
    target(dir, name, found).map(|(_, metadata)| metadata)
}

/// The path and metadata of a file, of which `found` is what its name says. If that is a link, those of the shared file
/// in `dir` to which it leads.
pub(crate) fn target(dir: &Dir, name: &OsStr, found: Metadata) -> io::Result<(PathBuf, Metadata)> {
    if !found.is_symlink() {
        return Ok((PathBuf::from(name), found));
    }
    let path = shared_target(dir, name)?;
    let metadata = symlink_metadata(dir, path.as_os_str())?;
    Ok((path, metadata))
}

/// What a relative path says of a file, which may be a link. No link is followed on the way.
pub(crate) fn symlink_metadata(dir: &Dir, path: &OsStr) -> io::Result<Metadata> {
    let (parent, name) = below::parent(dir, path)?;
    parent.symlink_metadata(name)
}

/// The path of the file to which a link leads, if that is one that is shared.
fn shared_target(dir: &Dir, name: &OsStr) -> io::Result<PathBuf> {
    let target = resolve(dir, name)?;
    let mut parts = target.components().rev().map(Component::as_os_str);
    let is_file = |name: &OsStr| is_candidate(&name.to_string_lossy());
    if parts.next().is_some_and(is_file) && !parts.any(is_hidden) {
        return Ok(target);
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        "the link leads to a hidden or temporary file",
    ))
}

/// Opens the file at a path without links. A link that has taken the place of a folder on the way is refused.
fn open_below(dir: &Dir, path: &OsStr) -> io::Result<File> {
    let (parent, name) = below::parent(dir, path)?;
    open_path(&parent, Path::new(name))
}

/// Whether a path leads out of the folder, or to a file that is not shared: an error without a code of the system.
pub(crate) fn leads_out(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied && error.raw_os_error().is_none()
}

/// Whether a link was refused.
pub(crate) fn is_link_error(error: &io::Error) -> bool {
    #[cfg(unix)]
    return error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    #[cfg(not(unix))]
    return error.kind() == io::ErrorKind::InvalidInput;
}

/// Refuses a link.
fn open_path(dir: &Dir, path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use cap_std::fs::OpenOptionsExt;
        use rustix::fs::OFlags;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        // The kernel's flags are a C int.
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
    #[cfg(not(unix))]
    if dir.symlink_metadata(path)?.is_symlink() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(dir.open_with(path, &options)?.into_std())
}

/// Opens an existing file for appending. A link is refused, and nothing is waited for.
pub(crate) fn open_to_append(dir: &Dir, name: &OsStr) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true);
    #[cfg(unix)]
    {
        use cap_std::fs::OpenOptionsExt;
        use rustix::fs::OFlags;
        let flags = OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW;
        options.custom_flags(i32::try_from(flags.bits()).unwrap_or(0));
    }
    #[cfg(not(unix))]
    if dir.symlink_metadata(name)?.is_symlink() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(dir.open_with(Path::new(name), &options)?.into_std())
}

/// Whether an error is due to a shortage of the process or the system, not to the file: another try may succeed.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let all = [Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::AGAIN];
        let is_one = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
        if all.into_iter().any(is_one) {
            return true;
        }
    }
    error.kind() == io::ErrorKind::OutOfMemory
}

/// Whether an error leaves open whether the file still exists: an I/O error, a lost connection, no permission. It does not
/// if the name leads nowhere, out of the folder, or to something else than a file.
pub(crate) fn is_inconclusive(error: &io::Error) -> bool {
    let is_conclusive = matches!(
        error.kind(),
        io::ErrorKind::NotFound
            | io::ErrorKind::NotADirectory
            | io::ErrorKind::IsADirectory
            | io::ErrorKind::InvalidInput
    ) || is_name_refused(error);
    // The errors of this crate have no code of the system.
    error.raw_os_error().is_some()
        && !is_conclusive
        && !is_link_error(error)
        && !is_special_error(error)
}

/// Whether the file system does not accept the name, for its length in particular. Compares the code, since
/// `ErrorKind::InvalidFilename` is newer than the oldest supported compiler.
pub(crate) fn is_name_refused(error: &io::Error) -> bool {
    #[cfg(unix)]
    let codes = [rustix::io::Errno::NAMETOOLONG.raw_os_error()];
    #[cfg(not(unix))]
    let codes = [206, 123]; // ERROR_FILENAME_EXCED_RANGE, ERROR_INVALID_NAME
    error
        .raw_os_error()
        .is_some_and(|code| codes.contains(&code))
}

/// Whether the name is that of a socket or device.
pub(crate) fn is_special_error(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let all = [Errno::NXIO, Errno::NODEV];
        let is_one = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
        all.into_iter().any(is_one)
    }
    #[cfg(not(unix))]
    {
        let _ = error;
        false
    }
}

/// A file's ID and first bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hashed {
    pub(crate) id: ImageId,
    start: [u8; START_LEN],
    /// The number of bytes read.
    pub(crate) length: u64,
}

impl Hashed {
    pub(crate) fn start(&self) -> &[u8] {
        let known = usize::try_from(self.length)
            .unwrap_or(START_LEN)
            .min(START_LEN);
        self.start.get(..known).unwrap_or_default()
    }
}

/// A buffer for one file of this length and its end. Clearing 256 KiB for each small file takes longer than reading it.
pub(crate) fn buffer_for(length: u64) -> Vec<u8> {
    let length = usize::try_from(length).unwrap_or(BUFFER_LEN);
    vec![0; length.saturating_add(1).min(BUFFER_LEN)]
}

/// Hashes an open file from the beginning. `None` if `stop` was set.
pub(crate) fn hash(
    file: &File,
    buffer: &mut Vec<u8>,
    stop: &AtomicBool,
) -> io::Result<Option<Hashed>> {
    let mut hasher = ImageHasher::new();
    let mut start = [0; START_LEN];
    let mut length = 0;
    let mut reader = Chunks::new(file, buffer);
    while let Some(chunk) = reader.next()? {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if length == 0 {
            for (known, byte) in start.iter_mut().zip(chunk) {
                *known = *byte;
            }
        }
        hasher.update(chunk);
        length += u64::try_from(chunk.len()).unwrap_or(0);
    }
    Ok(Some(Hashed {
        id: hasher.id(),
        start,
        length,
    }))
}

/// Reads a file in full buffers. Only the last one may be shorter.
pub(crate) struct Chunks<'a> {
    file: &'a File,
    buffer: &'a mut Vec<u8>,
    /// [`read_at`] moves the position of the file on Windows.
    #[cfg(windows)]
    position: u64,
}

impl<'a> Chunks<'a> {
    /// Reads from the beginning of a file that was only read by [`read_at`]. Uses the buffer as it is, unless it is empty.
    pub(crate) fn new(file: &'a File, buffer: &'a mut Vec<u8>) -> Chunks<'a> {
        if buffer.is_empty() {
            buffer.resize(BUFFER_LEN, 0);
        }
        Chunks {
            file,
            buffer,
            #[cfg(windows)]
            position: 0,
        }
    }

    /// The next bytes; `None` at the end of the file.
    pub(crate) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        let mut filled = 0;
        while let Some(rest) = self
            .buffer
            .get_mut(filled..)
            .filter(|rest| !rest.is_empty())
        {
            #[cfg(not(windows))]
            let read = self.file.read(rest);
            #[cfg(windows)]
            let read = read_at(self.file, self.position, rest);
            match read {
                Ok(0) => break,
                Ok(n) => {
                    filled += n;
                    #[cfg(windows)]
                    {
                        self.position += n as u64;
                    }
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(self.buffer.get(..filled).filter(|chunk| !chunk.is_empty()))
    }
}

/// Reads at an offset. May read less than `buf` holds.
pub(crate) fn read_at(file: &File, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        #[cfg(unix)]
        let result = std::os::unix::fs::FileExt::read_at(file, buf, offset);
        #[cfg(windows)]
        let result = std::os::windows::fs::FileExt::seek_read(file, buf, offset);
        match result {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_is_hashed_from_its_beginning_after_a_read_at_an_offset() {
        let bytes: Vec<u8> = (0..=255).cycle().take(BUFFER_LEN + 300).collect();
        let mut temporary = tempfile::NamedTempFile::new().unwrap();
        temporary.write_all(&bytes).unwrap();
        let file = temporary.reopen().unwrap();
        assert_eq!(read_at(&file, 1000, &mut [0; 100]).unwrap(), 100);
        let hashed = hash(&file, &mut Vec::new(), &AtomicBool::new(false));
        assert_eq!(hashed.unwrap().unwrap().id, ImageId::of(&bytes));
    }

    #[test]
    fn a_buffer_for_one_file_is_not_longer_than_the_file_and_its_end() {
        let stop = AtomicBool::new(false);
        for length in [0, 1, 100, BUFFER_LEN - 1, BUFFER_LEN, 3 * BUFFER_LEN + 1] {
            let mut temporary = tempfile::NamedTempFile::new().unwrap();
            temporary.write_all(&vec![7; length]).unwrap();
            let file = temporary.reopen().unwrap();
            let mut buffer = buffer_for(u64::try_from(length).unwrap());
            let hashed = hash(&file, &mut buffer, &stop).unwrap().unwrap();
            assert_eq!(hashed.length, u64::try_from(length).unwrap());
            assert_eq!(hashed.id, ImageId::of(&vec![7; length]));
            assert_eq!(buffer.len(), BUFFER_LEN.min(length + 1), "{length}");
        }
    }
}
