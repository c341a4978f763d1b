//! IDs of files that the last scan has read.

use std::ffi::OsStr;
use std::sync::{Arc, MutexGuard, PoisonError};

use jtp_core::ImageId;

use super::id_table::IdTable;
use super::{FileState, Inner, OutputFolder};
use crate::fingerprint::BY_NAME;

impl OutputFolder {
    /// The ID of the file in this state, by the index of the last scan: whatever its name is now, it is the same file, and
    /// unchanged. `None` if that is not known; then [`OutputFolder::read_id`] tells. Blocking. // R8
    ///
    /// The first call after a scan reads the index, which then takes 16 bytes of memory for each file until the next
    /// scan or [`OutputFolder::close`].
    #[must_use]
    pub fn known_id(&self, state: &FileState) -> Option<ImageId> {
        let stat = state.trusted_stat()?;
        let print = self.0.file_system.fingerprint(stat, OsStr::new(""));
        if print.file_system == BY_NAME {
            return None;
        }
        let known = {
            let mut known = self.0.known();
            let load = || Arc::new(self.0.read_index());
            Arc::clone(known.get_or_insert_with(load))
        };
        known.get(&print).map(|(_, contents)| contents.id)
    }
}

impl Inner {
    /// The index, if it was read since the last scan.
    pub(super) fn known(&self) -> MutexGuard<'_, Option<Arc<IdTable>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
