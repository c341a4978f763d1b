//! Keeps the contents of the files for the next run, if the store has an index file.

use std::sync::Arc;

use super::index_file::IndexFile;
use super::non_images::SharedLeftOut;
use super::shared::{SharedIndex, SharedKnown};
use crate::known::Record;

/// The index file, and what is to be written to it. An error ends it: the next run takes longer, nothing else.
pub(super) struct IndexLog {
    file: Option<IndexFile>,
    index: Arc<SharedIndex>,
    known: Arc<SharedKnown>,
    left_out: Arc<SharedLeftOut>,
}

impl IndexLog {
    pub(super) fn new(
        file: Option<IndexFile>,
        index: Arc<SharedIndex>,
        known: Arc<SharedKnown>,
        left_out: Arc<SharedLeftOut>,
    ) -> IndexLog {
        IndexLog {
            file,
            index,
            known,
            left_out,
        }
    }

    /// Adds records, and writes them once there are enough.
    pub(super) fn add(&mut self, records: impl IntoIterator<Item = Record>) {
        let mut is_full = false;
        for record in records {
            is_full |= self.file.as_mut().is_some_and(|file| file.add(record));
        }
        if is_full {
            self.save();
        }
    }

    /// Writes the records that were added.
    pub(super) fn save(&mut self) {
        let Some(file) = &mut self.file else {
            return;
        };
        let (index, known) = (self.index.read(), self.known.read());
        let others = self.left_out.non_images();
        let files = index.len() + known.len() + others.len();
        // The files of the index last: of one fingerprint the last record is the valid one.
        let saved = file.save(files, |write| {
            write(&mut known.records().chain(others.known()).chain(index.known()));
        });
        drop((index, known, others));
        if let Err(e) = saved {
            tracing::warn!(
                file = %file.path().display(), error = %e,
                "cannot write the index file; the next start reads the files again"
            );
            self.file = None;
        }
    }
}
