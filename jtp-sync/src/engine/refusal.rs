//! Reports images that the planner has given up, or that do not have their names.

use jtp_core::ImageId;
use jtp_store::FileName;

use super::event::{Cause, SyncEvent};
use super::session::Session;
use crate::blocker::{Blocker, BlockerKind};
use crate::inventory::FileKind;
use crate::step::Reason;

impl Session {
    /// The planner has given up an image.
    pub(super) fn refused(&self, id: ImageId, reason: Reason) {
        let is_stored = reason == Reason::NameTaken;
        let (name, stored_as, found, mut cause) = {
            let state = &mut *self.state();
            state.suspects.remove(&id);
            let is_name = matches!(
                reason,
                Reason::NameTaken | Reason::NamesTaken | Reason::CannotRename
            );
            let found = is_name.then(|| state.planner.blocker(id)).flatten();
            let name = match is_name {
                true => state.planner.own_name(id),
                false => state.planner.name(id),
            };
            let stored_as = is_stored.then(|| state.planner.name(id));
            (name, stored_as.flatten(), found, state.causes.remove(&id))
        };
        let blocker = found.map(|(path, kind, is_folder_of_name)| {
            let kind = self.blocker_kind(&path, kind);
            Blocker::new(path, kind, is_folder_of_name)
        });
        let late = match (&name, &cause) {
            (Some(name), Some(Cause::Folder(_))) if is_stored && blocker.is_none() => {
                self.blocker_on_the_way(name)
            }
            _ => None,
        };
        if late.is_some() {
            // It is as if the scan had found it.
            cause = None;
        }
        let blocker = blocker.or(late);
        self.emit(&SyncEvent::Refused {
            id,
            name: name.as_ref(),
            reason,
            blocker: blocker.as_ref(),
            cause: cause.as_ref(),
            stored_as: stored_as.as_ref(),
        });
    }

    /// What is in place of a folder of this name and came after the scan.
    fn blocker_on_the_way(&self, name: &FileName) -> Option<Blocker> {
        let folder = self.folder().ok()?.path();
        let ends = name.as_str().match_indices('/').map(|(end, _)| end);
        let mut folders = ends.filter_map(|end| name.as_str().get(..end));
        let path = folders.find(|path| {
            let found = folder.join(path).symlink_metadata();
            found.is_ok_and(|found| !found.is_dir())
        })?;
        let kind = self.blocker_kind(path, FileKind::Reserved);
        Some(Blocker::new(path, kind, true))
    }

    /// What the planner calls reserved is looked at, for a message.
    fn blocker_kind(&self, path: &str, kind: FileKind) -> BlockerKind {
        match kind {
            FileKind::Folder => BlockerKind::Folder,
            FileKind::Reserved => {
                let found = self
                    .folder()
                    .map(|folder| folder.path().join(path).symlink_metadata());
                match found {
                    Ok(Ok(found)) if found.is_dir() => BlockerKind::Folder,
                    Ok(Ok(found)) if found.is_file() => BlockerKind::File,
                    Ok(Ok(found)) if !found.is_symlink() => BlockerKind::Device,
                    _ => BlockerKind::Link,
                }
            }
            _ => BlockerKind::File,
        }
    }
}
