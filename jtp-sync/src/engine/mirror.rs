//! Deletes what the server does not list any more, and keeps what is replaced or deleted in a backup folder. // R8

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::sync::OnceLock;

use jtp_core::ImageId;
use jtp_store::{FileState, MoveError, OutputError, OutputFolder};

use super::error::Error;
use super::event::{Cause, SyncEvent};
use super::moves::{Move, Obstacle, is_image, look};
use super::session::Session;
use crate::change::Change;
use crate::mirror::{MaxDelete, NotDeleted, Unlisted};
use crate::step::Expect;

/// Where files go that are replaced or deleted.
#[derive(Debug)]
pub(super) struct Backup {
    path: PathBuf,
    /// Created with the first file.
    folder: OnceLock<OutputFolder>,
}

impl Backup {
    pub(super) fn new(path: PathBuf) -> Backup {
        let folder = OnceLock::new();
        Backup { path, folder }
    }

    /// Fails if the two folders contain each other, so that backups would count as images of the folder. A hidden folder in
    /// it is not scanned.
    pub(super) fn check(&self, folder: &Path) -> Result<(), Error> {
        let (backup, folder) = (absolute(&self.path), absolute(folder));
        let is_visible = |below: &Path| {
            !below.components().any(|part| match part {
                Component::Normal(part) => part.as_encoded_bytes().starts_with(b"."),
                _ => false,
            })
        };
        let overlaps = match backup.strip_prefix(&folder) {
            Ok(below) => is_visible(below),
            Err(_) => folder.starts_with(&backup),
        };
        match overlaps {
            true => Err(Error::BackupFolder {
                path: self.path.clone(),
            }),
            false => Ok(()),
        }
    }

    fn folder(&self) -> Result<&OutputFolder, OutputError> {
        if let Some(folder) = self.folder.get() {
            folder.check_path()?;
            return Ok(folder);
        }
        let opened = OutputFolder::open(&self.path)?;
        Ok(self.folder.get_or_init(|| opened))
    }
}

/// The path without links and `..`. Below the part that exists, where there are no links, `..` removes the component before
/// it: the missing folders are going to be created. // R8
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut real = PathBuf::new();
    for part in path.components() {
        if part == Component::ParentDir {
            real.pop();
            continue;
        }
        real.push(part);
        if let Ok(existing) = real.canonicalize() {
            real = existing;
        }
    }
    real
}

impl Session {
    /// Moves a file that is about to be replaced to the backup folder. Without one, nothing is done, and it returns `false`.
    pub(super) fn back_up(
        &self,
        folder: &OutputFolder,
        name: &str,
        state: &FileState,
        id: ImageId,
    ) -> Result<bool, Obstacle> {
        let Some(backup) = &self.backup else {
            return Ok(false);
        };
        // Other images need no backup. // R8
        let into = backup
            .folder()
            .map_err(|error| Obstacle::Name(Cause::Backup(error)))?;
        let moved = folder.move_to(name, state, id, into);
        moved.map_err(|error| match error {
            MoveError::Name(error) => Obstacle::Name(Cause::Backup(error)),
            error => error.into(),
        })?;
        self.state().planner.backed_up();
        Ok(true)
    }

    /// The same for the file whose name a step needs.
    pub(super) fn back_up_replaced(
        &self,
        folder: &OutputFolder,
        planned: &Move,
        over: &FileState,
    ) -> Result<bool, Obstacle> {
        if self.backup.is_none() {
            return Ok(false);
        }
        let name = planned.to.as_str();
        let id = match &planned.expect {
            Expect::Image(id) | Expect::Copy { id, .. } => *id,
            _ => folder
                .read_id(name, over, self.halted())
                .unwrap_or(planned.id),
        };
        self.back_up(folder, name, over, id)
    }

    /// Deletes the files that the last LIST does not account for, or reports why not. In a dry run it reports them. On a
    /// worker thread, when no other step is left.
    pub(super) fn delete_unlisted(&self, max: MaxDelete) -> Result<(), Error> {
        self.check_folder()?;
        self.state().planner.begin_deleting();
        let (unlisted, refused) = self.choose_unlisted(max);
        let count = u64::try_from(unlisted.len()).unwrap_or(u64::MAX);
        let mut emptied = std::mem::take(&mut self.state().emptied);
        if let Some(reason) = refused {
            self.remove_emptied(&emptied);
            self.state().planner.not_deleted(count);
            self.emit(&SyncEvent::NotDeleted {
                files: count,
                reason,
            });
            return Ok(());
        }
        for file in &unlisted {
            self.check()?;
            if self.read_only {
                if self.is_alias(file).unwrap_or(false) {
                    continue;
                }
                self.state().planner.file_deleted(&file.name);
                let (id, name) = (file.id, file.name.clone());
                self.emit(&SyncEvent::Change(&Change::Delete { id, name }));
                continue;
            }
            match self.delete(file) {
                Ok(true) => {
                    self.state().planner.file_deleted(&file.name);
                    self.emit(&SyncEvent::Deleted {
                        id: file.id,
                        name: &file.name,
                    });
                    emptied.insert(file.name.clone());
                }
                // It has changed since the scan.
                Ok(false) | Err(Obstacle::Stale) => {
                    self.look_again(&file.name)?;
                    if let Some(copy) = &file.copy {
                        self.look_again(copy)?;
                    }
                }
                Err(Obstacle::Name(cause)) => {
                    self.state().planner.not_deleted(1);
                    let name = &file.name;
                    self.emit(&SyncEvent::DeleteFailed {
                        name,
                        cause: &cause,
                    });
                }
                Err(Obstacle::Folder(error)) => return Err(error),
            }
        }
        self.remove_emptied(&emptied);
        Ok(())
    }

    /// Reports the files that would make room on the full disk that has ended the run: nothing is deleted before all images
    /// have arrived. // R8
    pub(super) fn emit_room(&self) {
        let mut unlisted = {
            let planner = &self.state().planner;
            let is_untouched = planner.is_complete() && planner.totals().deleted == 0;
            match self.mirror.is_some() && !self.read_only && is_untouched {
                true => planner.unlisted(),
                false => return,
            }
        };
        unlisted.retain(|file| self.selects_extra(&file.name));
        let Ok(folder) = self.folder() else {
            return;
        };
        let length = |file: &Unlisted| folder.look(&file.name).map_or(0, |found| found.length());
        let bytes = unlisted.iter().map(length).sum();
        let files = u64::try_from(unlisted.len()).unwrap_or(u64::MAX);
        if files > 0 {
            let reason = NotDeleted::DiskFull { bytes };
            self.emit(&SyncEvent::NotDeleted { files, reason });
        }
    }

    /// Whether a file that the last LIST does not name would be selected. Reads its first bytes if its type matters.
    pub(super) fn selects_extra(&self, name: &str) -> bool {
        self.selection.selects_extra(name, || {
            let folder = self.folder().ok()?;
            folder.image_type(name).ok()
        })
    }

    /// The files to delete, and why they must not be deleted.
    fn choose_unlisted(&self, max: MaxDelete) -> (Vec<Unlisted>, Option<NotDeleted>) {
        let mut unlisted = self.state().planner.unlisted();
        unlisted.retain(|file| self.selects_extra(&file.name));
        let state = &*self.state();
        let planner = &state.planner;
        let count = u64::try_from(unlisted.len()).unwrap_or(u64::MAX);
        let listed = u64::try_from(planner.len()).unwrap_or(u64::MAX);
        let selected = listed.saturating_sub(planner.totals().left_out.images);
        let limit = max.files(state.present);
        let refused = if count == 0 {
            None
        } else if !planner.is_complete() {
            Some(NotDeleted::IncompleteCatalog)
        } else if state.server_changed {
            Some(NotDeleted::ServerChanged)
        } else if planner.totals().failed() > 0 {
            Some(NotDeleted::Failed)
        } else if selected == 0 && !max.allows_all() {
            Some(NotDeleted::EmptyCatalog)
        } else if count > limit {
            let present = state.present;
            Some(NotDeleted::OverLimit { limit, present })
        } else {
            None
        };
        (unlisted, refused)
    }

    /// Deletes a file, if it is still what the scan found. `false` if it is not.
    fn delete(&self, file: &Unlisted) -> Result<bool, Obstacle> {
        let folder = self.folder().map_err(Obstacle::Folder)?;
        let state = look(folder, &file.name)?;
        // A file that only the last LIST but one made an image may be a disk image. // R5
        if !self.surely_holds(folder, &file.name, &state, file.id)? || !is_image(folder, &file.name)
        {
            return Ok(false);
        }
        if let Some(copy) = &file.copy {
            let other = look(folder, copy)?;
            if self.is_alias(file)? || !self.surely_holds(folder, copy, &other, file.id)? {
                return Ok(false);
            }
        }
        if !self.back_up(folder, &file.name, &state, file.id)? {
            folder.remove(&file.name, &state)?;
        }
        Ok(true)
    }

    /// Whether the file and its copy are one file under two paths: a hard link, in a folder that is mounted twice, or with a
    /// short name on FAT.
    fn is_alias(&self, file: &Unlisted) -> Result<bool, Obstacle> {
        let Some(copy) = &file.copy else {
            return Ok(false);
        };
        let folder = self.folder().map_err(Obstacle::Folder)?;
        let (state, other) = (look(folder, &file.name)?, look(folder, copy)?);
        Ok(other.is_same_file(&state) || other == state)
    }

    /// Removes the folders that were emptied by renaming and deleting files.
    fn remove_emptied(&self, names: &BTreeSet<String>) {
        if let (Ok(folder), false) = (self.folder(), self.read_only) {
            for name in names.iter().rev() {
                for removed in folder.remove_empty_folders(name) {
                    // An image may need its name.
                    self.state().planner.folder_removed(removed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn r8_backup_folder_whose_path_leads_into_the_folder_over_missing_ones_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let temp = temp.path();
        fs::create_dir(temp.join("out")).unwrap();
        let is_accepted = |backup: &str, out: &str| {
            let backup = Backup::new(temp.join(backup));
            backup.check(&temp.join(out)).is_ok()
        };
        for (backup, out, expected) in [
            ("out/.missing/../old", "out", false),
            ("missing/../out/old", "out", false),
            ("missing/a/../../out", "out", false),
            ("missing/../old", "out", true),
            ("out/missing/../.old", "out", true),
            ("new/old", "missing/../new", false),
        ] {
            assert_eq!(is_accepted(backup, out), expected, "{backup} {out}");
        }
    }
}
