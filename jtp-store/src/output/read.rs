//! Reads a single file.

use std::io;
use std::sync::atomic::AtomicBool;
use std::time::SystemTime;

use jtp_core::{FileType, ImageId};

use super::scan::exceeds_packet;
use super::tree::Located;
use super::{FileState, Inner, OutputError};
use crate::fingerprint::Stat;
use crate::hash::{self, Links, START_LEN};
use crate::known::Contents;
use crate::name::has_certain_extension;

/// Why the ID of a file cannot be determined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file is not in the given state: it was changed, replaced or removed, or is not a regular file.
    #[error("the file was changed by another program at the same time")]
    Changed,
    /// The file is longer than 4,294,967,295 bytes, so it was not read: no packet can have such an image. // S14
    #[error("the file is longer than 4,294,967,295 bytes, the limit of an image")]
    TooLong,
    /// The caller has stopped the reading.
    #[error("reading the file was stopped")]
    Stopped,
    /// The file cannot be read.
    #[error(transparent)]
    Output(OutputError),
}

impl Inner {
    pub(super) fn is_image(&self, name: &str) -> io::Result<bool> {
        let at = self.locate(name)?;
        Ok(has_certain_extension(at.name) || sniff(&at)?.is_some())
    }

    pub(super) fn image_type(&self, name: &str) -> io::Result<FileType> {
        let at = self.locate(name)?;
        let extension = at
            .name
            .rsplit_once('.')
            .map_or("", |(_, extension)| extension);
        Ok(sniff(&at)?.unwrap_or_else(|| FileType::from_extension(extension)))
    }

    /// Enters a file in the index that had the state `before` and was renamed to `name` since. Reads its first bytes.
    pub(super) fn enter_renamed(
        &self,
        name: &str,
        before: &FileState,
        id: ImageId,
    ) -> io::Result<()> {
        let at = self.locate(name)?;
        let file = hash::open(&at.folder, at.name.as_ref(), Links::Refuse)?;
        let metadata = file.metadata()?;
        let now = FileState::of_open(&metadata, self.file_system);
        if !before.is_only_renamed(&now, SystemTime::now()) {
            return Ok(());
        }
        let mut start = [0; START_LEN];
        let length = hash::read_at(&file, 0, &mut start)?;
        let contents = Contents {
            id,
            sniffed: FileType::sniff(start.get(..length).unwrap_or_default()),
            incompressible_at: 0,
        };
        let stat = Stat::of(&metadata);
        self.add_to_index((self.file_system.fingerprint(&stat, name.as_ref()), contents));
        Ok(())
    }

    pub(super) fn read_id(
        &self,
        name: &str,
        state: &FileState,
        stop: &AtomicBool,
    ) -> Result<ImageId, ReadError> {
        let failed = |e| ReadError::Output(OutputError::new(&self.path.join(name), e));
        // Before the file is opened: opening a device may have effects.
        if !state.is_file() || self.look(name).map_err(failed)? != *state {
            return Err(ReadError::Changed);
        }
        if exceeds_packet(state.length()) {
            return Err(ReadError::TooLong);
        }
        let opened = self
            .locate(name)
            .and_then(|at| hash::open(&at.folder, at.name.as_ref(), Links::Refuse));
        let file = match opened {
            Ok(file) => file,
            Err(e) => {
                let is_changed = self.look(name).is_ok_and(|now| now != *state);
                return Err(if is_changed {
                    ReadError::Changed
                } else {
                    failed(e)
                });
            }
        };
        let is_unchanged = || -> io::Result<bool> {
            Ok(FileState::of_open(&file.metadata()?, self.file_system) == *state)
        };
        if !is_unchanged().map_err(failed)? {
            return Err(ReadError::Changed);
        }
        let hashed = hash::hash(&file, &mut hash::buffer_for(state.length()), stop)
            .map_err(failed)?
            .ok_or(ReadError::Stopped)?;
        if hashed.length != state.length() || !is_unchanged().map_err(failed)? {
            return Err(ReadError::Changed);
        }
        // The file may have been replaced by another one meanwhile.
        match self.look(name).map_err(failed)? == *state {
            true => Ok(hashed.id),
            false => Err(ReadError::Changed),
        }
    }
}

/// The type by the first bytes of a regular file.
fn sniff(at: &Located<'_>) -> io::Result<Option<FileType>> {
    let file = hash::open(&at.folder, at.name.as_ref(), Links::Refuse)?;
    // Reading a device might never end.
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut start = [0; START_LEN];
    let length = hash::read_at(&file, 0, &mut start)?;
    Ok(FileType::sniff(start.get(..length).unwrap_or_default()))
}
