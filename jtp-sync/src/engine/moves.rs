//! Carries out the planner's steps in the folder.
//!
//! The planner's knowledge is a hint. Each step looks at the folder first, and nothing is replaced that is not what the
//! planner expects. // R8

use jtp_core::ImageId;
use jtp_store::{FileName, FileState, MoveError, OutputError, OutputFolder, ReadError};

use super::error::Error;
use super::event::{Cause, SyncEvent};
use super::session::{Session, lock};
use crate::inventory::FileKind;
use crate::step::{Expect, Outcome, Step};

/// A step that moves an image.
pub(super) struct Move {
    pub(super) id: ImageId,
    /// The file to rename; `None` for an image that has arrived.
    pub(super) from: Option<String>,
    pub(super) to: FileName,
    pub(super) expect: Expect,
    pub(super) aside: bool,
}

/// What has the new name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// Nothing, or what may be replaced. `replaces`: it is another image.
    Allowed { replaces: bool },
    /// Not what the planner expects.
    Unexpected,
}

/// Why a move was not made.
pub(super) enum Obstacle {
    /// The folder is not what the planner expects.
    Stale,
    /// The name or its file cannot be used.
    Name(Cause),
    /// The whole folder fails.
    Folder(Error),
}

impl From<MoveError> for Obstacle {
    fn from(error: MoveError) -> Obstacle {
        match error {
            MoveError::Folder(error) if concerns_all(&error) => Obstacle::Folder(error.into()),
            MoveError::Folder(error) | MoveError::Name(error) => {
                Obstacle::Name(Cause::Folder(error))
            }
            _ => Obstacle::Stale,
        }
    }
}

impl Session {
    /// Carries out all steps that the planner has now. Several threads may do this at the same time.
    ///
    /// # Errors
    ///
    /// The whole folder fails.
    pub(super) fn run_moves(&self) -> Result<(), Error> {
        if self.read_only {
            return self.record_moves();
        }
        let mut any = false;
        while !self.has_failed() {
            let step = self.state().planner.next_move();
            if let Some(step) = step {
                if let Some(planned) = self.next_move_of(step) {
                    any = true;
                    self.carry_out(&planned)?;
                }
                continue;
            }
            match self.mirror {
                Some(max) if std::mem::take(&mut self.state().deletes) => {
                    self.delete_unlisted(max)?;
                }
                _ => break,
            }
        }
        if any {
            self.changed.notify(usize::MAX);
        }
        Ok(())
    }

    /// The move of this step; `None` if it moves nothing, and is done.
    pub(super) fn next_move_of(&self, step: Step) -> Option<Move> {
        Some(match step {
            Step::Discard { id } => {
                self.state().staged.remove(&id);
                return None;
            }
            Step::Refuse { id, reason } => {
                self.refused(id, reason);
                return None;
            }
            Step::Place { id, to } => Move::new(id, None, to, Expect::Nothing),
            Step::Replace { id, to, expect } => Move::new(id, None, to, expect),
            Step::Rename {
                id,
                from,
                to,
                expect,
            } => Move::new(id, Some(from), to, expect),
            Step::KeepAside { id, from, to } => Move {
                aside: true,
                ..Move::new(id, Some(from), to, Expect::Nothing)
            },
        })
    }

    fn carry_out(&self, planned: &Move) -> Result<(), Error> {
        let id = planned.id;
        let outcome = match self.try_move(planned) {
            Ok(event) => {
                {
                    let state = &mut *self.state();
                    if planned.from.is_none() {
                        state.staged.remove(&id);
                    }
                    state.planner.report(id, Outcome::Done);
                }
                self.io_errors.reset();
                self.emit(&event);
                return Ok(());
            }
            Err(Obstacle::Folder(error)) => {
                self.state().planner.report(id, Outcome::Failed);
                return Err(error);
            }
            Err(Obstacle::Name(cause)) => {
                tracing::debug!(%id, to = planned.to.as_str(), ?cause, "cannot use the name");
                match self.count_io_error(cause) {
                    Ok(cause) => self.state().remember_cause(id, cause),
                    Err(error) => {
                        self.state().planner.report(id, Outcome::Failed);
                        return Err(error);
                    }
                }
                Outcome::Failed
            }
            Err(Obstacle::Stale) => Outcome::Stale,
        };
        // The planner learns what the folder has under these names now.
        let other = match &planned.expect {
            Expect::Copy { other, .. } => Some(other.as_str()),
            _ => None,
        };
        for name in [planned.from.as_deref(), other, Some(planned.to.as_str())] {
            if let Some(name) = name.filter(|_| outcome == Outcome::Stale) {
                self.look_again(name)?;
            }
        }
        self.state().planner.report(id, outcome);
        Ok(())
    }

    fn try_move<'a>(&self, planned: &'a Move) -> Result<SyncEvent<'a>, Obstacle> {
        let folder = self.folder().map_err(Obstacle::Folder)?;
        let (id, to) = (planned.id, &planned.to);
        let over = match planned.expect {
            // Placing it fails if there is a file.
            Expect::Nothing if planned.from.is_none() => FileState::NOTHING,
            _ => look(folder, to.as_str())?,
        };
        let Some(from) = &planned.from else {
            let Over::Allowed { replaces } = self.may_replace(folder, planned, &over)? else {
                return Err(Obstacle::Stale);
            };
            let staged = {
                let state = self.state();
                let is_current = state.planner.is_current(id);
                state.staged.get(&id).filter(|_| is_current).cloned()
            };
            let Some(staged) = staged else {
                return Err(Obstacle::Stale);
            };
            let staged = &mut *lock(&staged);
            let backed_up = replaces && self.back_up_replaced(folder, planned, &over)?;
            let over = if backed_up { FileState::NOTHING } else { over };
            let placed = staged.place(to, &over);
            self.placed_after_backup(to, backed_up, placed)?;
            return Ok(SyncEvent::Placed {
                id,
                name: to,
                bytes: staged.length(),
                replaced: replaces,
            });
        };
        let source = look(folder, from)?;
        // Where inodes prove nothing, an equal content under the other name is enough: nothing is lost.
        let is_own = source.is_same_file(&over)
            || (folder.may_be_same_file((from, &source), (to.as_str(), &over))
                && self.surely_holds(folder, to.as_str(), &over, id)?);
        if !self.surely_holds(folder, from, &source, id)?
            || !(is_own || self.may_replace(folder, planned, &over)? != Over::Unexpected)
            || !self.state().planner.is_current(id)
        {
            return Err(Obstacle::Stale);
        }
        let replaces = !is_own && !over.is_nothing();
        let backed_up = replaces && self.back_up_replaced(folder, planned, &over)?;
        let over = if backed_up { FileState::NOTHING } else { over };
        let renamed = folder.rename(from, &source, to, &over);
        self.placed_after_backup(to, backed_up, renamed)?;
        folder.index_renamed(to, &source, id);
        if self.mirror.is_some() && is_below(from) {
            self.state().emptied.insert(from.clone());
        }
        Ok(SyncEvent::Renamed {
            id,
            from,
            to,
            aside: planned.aside,
        })
    }

    /// If a file could not get a name whose file is in the backup folder now, the planner learns that the name is free.
    fn placed_after_backup(
        &self,
        to: &FileName,
        backed_up: bool,
        placed: Result<(), MoveError>,
    ) -> Result<(), Obstacle> {
        if backed_up && placed.is_err() {
            self.look_again(to.as_str()).map_err(Obstacle::Folder)?;
        }
        Ok(placed?)
    }

    /// Whether what has the new name is what the planner expects there. // R5 R8
    pub(super) fn may_replace(
        &self,
        folder: &OutputFolder,
        planned: &Move,
        over: &FileState,
    ) -> Result<Over, Obstacle> {
        if over.is_nothing() {
            return Ok(Over::Allowed { replaces: false });
        }
        if !over.is_file() {
            return Ok(Over::Unexpected);
        }
        let to = planned.to.as_str();
        let is_expected = match &planned.expect {
            Expect::Nothing => Ok(false),
            Expect::Image(expected) => self.surely_holds(folder, to, over, *expected),
            Expect::Copy { id, other } => {
                let copy = look(folder, other)?;
                Ok(self.surely_holds(folder, other, &copy, *id)?
                    && self.surely_holds(folder, to, over, *id)?)
            }
            // It is read only now. It may be the only copy of another image that the server still has.
            Expect::Unread => match folder.read_id(to, over, self.halted()) {
                // The same image: nothing is lost.
                Ok(found) if found == planned.id => return Ok(Over::Allowed { replaces: false }),
                // A file that only its extension `.img` makes an image may be a disk image. // R5
                Ok(_) | Err(ReadError::Output(_) | ReadError::TooLong) if !is_image(folder, to) => {
                    Ok(false)
                }
                Ok(found) => Ok(self.may_replace_unread(planned.id, Some(found))),
                Err(ReadError::Output(_) | ReadError::TooLong) => {
                    Ok(self.may_replace_unread(planned.id, None))
                }
                Err(error) => not_read(&error).map(|()| false),
            },
        };
        is_expected.map(|is_expected| match is_expected {
            true => Over::Allowed {
                replaces: planned.expect != Expect::Image(planned.id),
            },
            false => Over::Unexpected,
        })
    }

    fn may_replace_unread(&self, id: ImageId, content: Option<ImageId>) -> bool {
        self.state().planner.may_replace_unread(id, content)
    }

    /// Whether a file contains the image: it has not changed since the scan read it, or it is read again.
    fn holds(
        &self,
        folder: &OutputFolder,
        name: &str,
        file: &FileState,
        id: ImageId,
    ) -> Result<bool, Obstacle> {
        let settled = self.state().settled_before;
        if file.is_file() && settled.is_some_and(|time| file.is_older(time)) {
            return Ok(true);
        }
        self.contains(folder, name, file, id)
    }

    /// The same directly before a file is moved, replaced or deleted. In a sub-folder its age proves nothing: the path may lead
    /// to another old file since a folder was moved, which changes no time of the files in it. The index of the scan knows
    /// the file by its inode, under whatever path; others are read again.
    pub(super) fn surely_holds(
        &self,
        folder: &OutputFolder,
        name: &str,
        file: &FileState,
        id: ImageId,
    ) -> Result<bool, Obstacle> {
        if !is_below(name) {
            return self.holds(folder, name, file, id);
        }
        match folder.known_id(file) {
            Some(known) if known == id => Ok(true),
            _ => self.contains(folder, name, file, id),
        }
    }

    /// Reads a file, and says whether it contains the image.
    fn contains(
        &self,
        folder: &OutputFolder,
        name: &str,
        file: &FileState,
        id: ImageId,
    ) -> Result<bool, Obstacle> {
        if !file.is_file() {
            return Ok(false);
        }
        match folder.read_id(name, file, self.halted()) {
            Ok(found) => Ok(found == id),
            Err(error) => not_read(&error).map(|()| false),
        }
    }

    /// Passes to the planner what the folder has under a name.
    pub(super) fn look_again(&self, name: &str) -> Result<(), Error> {
        let folder = self.folder()?;
        let file = match folder.look(name) {
            // It is not known what has this name.
            Err(_) if is_below(name) => return self.name_is_reserved(name),
            file => file?,
        };
        let kind = if file.is_nothing() {
            None
        } else if file.is_folder() {
            Some(FileKind::Folder)
        } else if !file.is_file() {
            Some(FileKind::Reserved)
        } else {
            Some(match folder.read_id(name, &file, self.halted()) {
                Ok(id) if is_image(folder, name) => FileKind::Image(id),
                Ok(id) => FileKind::Unrecognised(id),
                Err(ReadError::Stopped) => return Err(Error::Cancelled),
                Err(_) if !is_image(folder, name) => FileKind::Other,
                // The next scan reads it again.
                Err(_) => FileKind::Unread,
            })
        };
        let planner = &mut self.state().planner;
        match kind {
            Some(kind) => planner.file_found(name, kind),
            None => planner.file_gone(name),
        }
        Ok(())
    }

    fn name_is_reserved(&self, name: &str) -> Result<(), Error> {
        let planner = &mut self.state().planner;
        planner.file_found(name, FileKind::Reserved);
        Ok(())
    }
}

impl Move {
    fn new(id: ImageId, from: Option<String>, to: FileName, expect: Expect) -> Move {
        Move {
            id,
            from,
            to,
            expect,
            aside: false,
        }
    }
}

/// Whether a file is certain to be an image.
pub(super) fn is_image(folder: &OutputFolder, name: &str) -> bool {
    folder.is_image(name).unwrap_or(false)
}

/// A file could not be read. That is no reason to give up, unless the run has ended.
fn not_read(error: &ReadError) -> Result<(), Obstacle> {
    match error {
        ReadError::Stopped => Err(Obstacle::Folder(Error::Cancelled)),
        _ => Ok(()),
    }
}

/// Whether an error of the folder would affect each further image. Others concern one file: a size limit, a bad
/// sector. // R8
pub(super) fn concerns_all(error: &OutputError) -> bool {
    matches!(
        error,
        OutputError::DiskFull { .. }
            | OutputError::ReadOnly { .. }
            | OutputError::Permission { .. }
            | OutputError::Vanished { .. }
            | OutputError::Replaced { .. }
    )
}

/// What has this name now. An error below a sub-folder concerns that alone. // W9
pub(super) fn look(folder: &OutputFolder, name: &str) -> Result<FileState, Obstacle> {
    folder.look(name).map_err(|error| match is_below(name) {
        true => Obstacle::Name(Cause::Folder(error)),
        false => Obstacle::Folder(error.into()),
    })
}

/// Whether a name is that of a file in a sub-folder.
fn is_below(name: &str) -> bool {
    name.contains('/')
}

#[cfg(test)]
mod tests;
