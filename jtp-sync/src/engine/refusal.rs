//! Reports images that the planner has given up, or that do not have their names.

use jtp_core::ImageId;

use super::event::SyncEvent;
use super::session::Session;
use crate::blocker::{Blocker, BlockerKind};
use crate::inventory::FileKind;
use crate::step::Reason;

impl Session {
    /// The planner has given up an image.
    pub(super) fn refused(&self, id: ImageId, reason: Reason) {
        let (name, found, cause) = {
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
            (name, found, state.causes.remove(&id))
        };
        let blocker = found.map(|(path, kind, is_folder_of_name)| {
            let kind = self.blocker_kind(&path, kind);
            Blocker::new(path, kind, is_folder_of_name)
        });
        self.emit(&SyncEvent::Refused {
            id,
            name: name.as_ref(),
            reason,
            blocker: blocker.as_ref(),
            cause: cause.as_ref(),
        });
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
