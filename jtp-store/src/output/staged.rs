//! A verified image without a name.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use jtp_core::ImageId;

use super::moves::Source;
use super::temporary::Temporary;
use super::tree::Folder;
use super::{FileState, Inner, MoveError, OutputError};
use crate::FileName;
use crate::hash::is_name_refused;
use crate::known::Contents;

/// A complete and verified image that is not visible yet, from [`PendingFile::finish`](super::PendingFile::finish).
/// Dropping it removes it. // R2
///
/// It holds up to 256 KiB in memory and no descriptor, or a closed temporary file.
pub struct StagedFile {
    folder: Arc<Inner>,
    image: Contents,
    length: u64,
    content: Content,
}

/// Where the bytes are.
pub(super) enum Content {
    Memory(Vec<u8>),
    Temporary(Temporary),
    /// Visible under a name.
    Placed,
}

impl StagedFile {
    pub(super) fn new(
        folder: Arc<Inner>,
        image: Contents,
        length: u64,
        content: Content,
    ) -> StagedFile {
        StagedFile {
            folder,
            image,
            length,
            content,
        }
    }

    /// The ID of the image.
    #[must_use]
    pub fn id(&self) -> ImageId {
        self.image.id
    }

    /// The length of the image in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Moves what is in memory to a temporary file and closes that, so that a waiting image takes neither memory nor a
    /// descriptor. Blocking; does nothing the second time, or once the image is visible.
    ///
    /// # Errors
    ///
    /// [`OutputError`] is about the folder: the bytes cannot be written. They stay in memory, so that another try may
    /// succeed.
    pub fn settle(&mut self) -> Result<(), OutputError> {
        if matches!(self.content, Content::Placed) {
            return Ok(());
        }
        match self.temporary() {
            Ok(_) => Ok(()),
            Err(e) => Err(OutputError::new(&self.folder.path, e)),
        }
    }

    /// Makes the image visible under `to` in one atomic step. Blocking. // R2 R5 R8
    ///
    /// `over` is what [`OutputFolder::look`](super::OutputFolder::look) has found under that name: nothing, or the
    /// file to replace. Where there was nothing, nothing is replaced, whatever another program does at the same time
    /// (on Linux and macOS, and on other systems with hard links). A file is replaced only if its state is still
    /// equal directly before. Links and folders are never replaced, nor the file behind a short name of FAT or NTFS
    /// that is not an image.
    ///
    /// After an error the image is still hidden, so that another name can be tried after [`MoveError::Changed`] and
    /// [`MoveError::Name`], and the same one when the folder can be written again. After success it is spent.
    ///
    /// # Errors
    ///
    /// [`MoveError`].
    pub fn place(&mut self, to: &FileName, over: &FileState) -> Result<(), MoveError> {
        match &mut self.content {
            Content::Memory(bytes) => place_bytes((&self.folder, self.image), bytes, to, over)?,
            Content::Temporary(temporary) => temporary.place(to, over)?,
            Content::Placed => {
                let path = self.folder.path.join(to.as_str());
                let spent = OutputError::new(&path, io::ErrorKind::InvalidInput.into());
                return Err(MoveError::Folder(spent));
            }
        }
        self.content = Content::Placed;
        Ok(())
    }

    /// Makes the image visible under `name`, or under one with its ID if a folder has that name or it is too long.
    /// Replaces a file or link, except one that R5 protects.
    pub(super) fn replace_any(&mut self, name: &FileName) -> io::Result<FileName> {
        let (folder, id) = (Arc::clone(&self.folder), self.image.id);
        let at = folder.locate_or_create(name.as_str())?;
        if let Content::Memory(bytes) = &self.content {
            let mut temporary = Temporary::create_in(&folder, &at)?;
            temporary.write_all(bytes)?;
            temporary.complete(self.image, self.length);
            self.content = Content::Temporary(temporary);
        }
        let temporary = self.temporary()?;
        let renamed = if folder.is_short_alias(&at)? {
            Err(io::ErrorKind::PermissionDenied.into())
        } else {
            temporary.rename(&at)
        };
        let Err(first) = renamed else {
            temporary.enter(name.as_str());
            return Ok(name.clone());
        };
        let suffixed = name.with_id(id);
        let is_in_the_way = at
            .folder
            .symlink_metadata(at.name)
            .is_ok_and(|found| found.is_dir());
        let mut rename = |other: &FileName| {
            let renamed = temporary.rename(&at.beside(other.file()));
            renamed.map(|()| temporary.enter(other.as_str())).is_ok()
        };
        if suffixed != *name && is_in_the_way && rename(&suffixed) {
            return Ok(suffixed);
        }
        let short = name.shortened(id);
        if is_name_refused(&first) && rename(&short) {
            return Ok(short);
        }
        Err(first)
    }

    /// The temporary file, which is written if the bytes are in memory.
    fn temporary(&mut self) -> io::Result<&mut Temporary> {
        if let Content::Memory(bytes) = &self.content {
            let mut temporary = Temporary::create(&self.folder)?;
            temporary.write_all(bytes)?;
            temporary.complete(self.image, self.length);
            temporary.close();
            self.content = Content::Temporary(temporary);
        }
        match &mut self.content {
            Content::Temporary(temporary) => Ok(temporary),
            Content::Memory(_) | Content::Placed => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Writes the bytes to a temporary file in the folder of the new name, and gives it that name. It has the new name or is
/// removed.
fn place_bytes(
    (folder, image): (&Arc<Inner>, Contents),
    bytes: &[u8],
    to: &FileName,
    over: &FileState,
) -> Result<(), MoveError> {
    let at = folder
        .locate_or_create(to.as_str())
        .map_err(|e| folder.move_error(Source::Temporary, to, e))?;
    let write = || -> io::Result<Temporary> {
        let mut temporary = Temporary::create_in(folder, &at)?;
        temporary.write_all(bytes)?;
        temporary.complete(image, u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(temporary)
    };
    let mut temporary = write().map_err(|e| match at.folder {
        Folder::Root(_) => MoveError::Folder(OutputError::new(&folder.path.join(to.as_str()), e)),
        Folder::Below(_) => folder.move_error(Source::Temporary, to, e),
    })?;
    temporary
        .place_at(&at, over)
        .map_err(|unmoved| folder.unmoved(Source::Temporary, to, unmoved))?;
    temporary.enter(to.as_str());
    Ok(())
}

impl fmt::Debug for StagedFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StagedFile")
            .field("id", &self.image.id)
            .field("length", &self.length)
            .finish_non_exhaustive()
    }
}
