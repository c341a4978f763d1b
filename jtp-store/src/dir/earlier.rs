//! The images of earlier runs, for files that cannot be identified by their metadata at the start.

use std::collections::HashMap;
use std::sync::Arc;

use super::shared::SharedKnown;
use crate::fingerprint::Fingerprint;
use crate::known::Record;

/// What identifies a file whatever its size: the ID of its file system, and its inode or the hash of its name.
pub(super) type FileId = (u64, u64);

pub(super) fn file_id(found: &Fingerprint) -> FileId {
    (found.file_system, found.file)
}

/// Known until the initial index is complete.
#[derive(Default)]
pub(super) struct EarlierImages {
    known: Option<Arc<SharedKnown>>,
    /// The images of `known` that were not empty, once one is looked for.
    images: Option<HashMap<FileId, Record>>,
}

impl EarlierImages {
    pub(super) fn new(known: Arc<SharedKnown>) -> EarlierImages {
        EarlierImages {
            known: Some(known),
            images: None,
        }
    }

    /// The initial index is complete.
    pub(super) fn forget(&mut self) {
        *self = EarlierImages::default();
    }

    /// The image that the file was in an earlier run, whatever it contains now.
    pub(super) fn get(&mut self, found: &Fingerprint) -> Option<Record> {
        let known = self.known.as_ref()?;
        let images = self.images.get_or_insert_with(|| {
            let known = known.read();
            let images = known
                .records()
                .filter(|(print, contents)| print.size > 0 && !contents.is_not_an_image());
            images.map(|record| (file_id(&record.0), record)).collect()
        });
        images.get(&file_id(found)).copied()
    }
}
