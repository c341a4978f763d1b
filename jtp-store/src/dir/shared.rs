//! State that the threads of a store share, each behind its own lock.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};
use std::time::Instant;

use cap_std::fs::Dir;
#[cfg(feature = "zstd")]
use jtp_core::ImageId;

use super::file_log::FileLog;
use super::index::Index;
use super::mounts::SharedMounts;
use super::retained::Retained;
use crate::fingerprint::Fingerprint;
use crate::known::{Contents, KnownContents};
#[cfg(feature = "zstd")]
use crate::variants::VariantUser;

/// The index. Only the indexer thread (and the initial scan that it waits for) writes it.
pub(super) struct SharedIndex {
    index: RwLock<Index>,
    log: FileLog,
    mounts: Arc<SharedMounts>,
}

impl SharedIndex {
    pub(super) fn new(index: Index) -> SharedIndex {
        SharedIndex {
            log: FileLog::new(index.naming()),
            index: RwLock::new(index),
            mounts: Arc::default(),
        }
    }

    /// The log lines about files of the index.
    pub(super) fn log(&self) -> &FileLog {
        &self.log
    }

    /// The mount points in the folder.
    pub(super) fn mounts(&self) -> &Arc<SharedMounts> {
        &self.mounts
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does not wait; `None` while another thread writes, or waits to write.
    pub(super) fn try_read(&self) -> Option<RwLockReadGuard<'_, Index>> {
        match self.index.try_read() {
            Ok(index) => Some(index),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Deadlocks if the calling thread holds a guard of [`SharedIndex::read`].
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(feature = "zstd")]
impl VariantUser for SharedIndex {
    fn uses(&self, id: ImageId) -> bool {
        self.read().has_cached_variant(id)
    }
}

/// The open folder; `None` while it is missing.
#[derive(Default)]
pub(super) struct SharedDir(RwLock<Option<Arc<Dir>>>);

impl SharedDir {
    pub(super) fn get(&self) -> Option<Arc<Dir>> {
        let dir = self.0.read().unwrap_or_else(PoisonError::into_inner);
        dir.clone()
    }

    pub(super) fn set(&self, dir: Option<Arc<Dir>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = dir;
    }
}

/// The contents of the index file until the initial index is complete, then those of missing files.
pub(super) struct SharedKnown(RwLock<Retained>);

impl SharedKnown {
    pub(super) fn new(known: KnownContents) -> SharedKnown {
        SharedKnown(RwLock::new(Retained::new(known, Instant::now())))
    }

    pub(super) fn get(&self, fingerprint: &Fingerprint) -> Option<Contents> {
        self.read().get(fingerprint)
    }

    /// An upper bound of the number of files whose contents are known.
    pub(super) fn len(&self) -> usize {
        self.read().len()
    }

    pub(super) fn read(&self) -> RwLockReadGuard<'_, Retained> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Retained> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}
