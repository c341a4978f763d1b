//! The catalog in the store: its state here, and how it follows the log, changes it, and makes snapshots.

mod commit;
mod compact;
mod conditions;
mod fill;
mod heads;
mod load;
mod pull;

use std::collections::HashSet;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{
    Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use jtp_core::compress::Threshold;
use jtp_core::{CatalogWriter, ImageId};
use jtp_driver::store::LiveCatalog;
use object_store::path::Path;

use crate::bucket::Bucket;
use crate::format::{Contents, Identity, LogRecord, Object, Stamp};
use crate::state::State;

pub(crate) use commit::Proposal;
use fill::fill;
use heads::HeadCache;

/// The catalog of a bucket, as far as this process knows it. All changes go through the log.
pub(crate) struct SharedCatalog {
    bucket: Bucket,
    live: LiveCatalog,
    state: RwLock<State>,
    /// A random number of this process.
    writer: u64,
    /// Whether the backend has conditional puts, if that is known.
    is_conditional: OnceLock<bool>,
    is_sole_writer: AtomicBool,
    /// Variants are listed below it.
    threshold: Threshold,
    epochs: AtomicU64,
    heads: Mutex<HeadCache>,
    /// Hashes of the keys that were changed since [`SharedCatalog::begin_pass`]; `None` while no pass is under way.
    touched: Mutex<Option<HashSet<u64>>>,
    hasher: RandomState,
}

impl SharedCatalog {
    pub(crate) fn new(bucket: Bucket, writer: u64, threshold: Threshold) -> SharedCatalog {
        SharedCatalog {
            bucket,
            live: LiveCatalog::new(),
            state: RwLock::default(),
            writer,
            is_conditional: OnceLock::new(),
            is_sole_writer: AtomicBool::new(false),
            threshold,
            epochs: AtomicU64::new(0),
            heads: Mutex::default(),
            touched: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    pub(crate) fn bucket(&self) -> &Bucket {
        &self.bucket
    }

    pub(crate) fn live(&self) -> &LiveCatalog {
        &self.live
    }

    pub(crate) fn writer(&self) -> u64 {
        self.writer
    }

    pub(crate) fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn stamp(&self) -> Stamp {
        self.state().stamp
    }

    /// A number for a new epoch.
    fn new_epoch(&self) -> u64 {
        let count = self.epochs.fetch_add(1, Ordering::Relaxed);
        let bytes = [self.writer.to_le_bytes(), count.to_le_bytes()].concat();
        ImageId::of(&bytes).0.max(1)
    }

    fn log_path(&self, stamp: Stamp) -> Path {
        let Stamp { epoch, seq } = stamp;
        self.bucket.own(&format!("log/{epoch:016x}/{seq:016x}"))
    }

    fn head_path(&self, seq: u64) -> Path {
        self.bucket.own(&format!("head/{seq:016x}"))
    }

    fn part_path(&self, seq: u64, writer: u64, number: u64) -> Path {
        let name = format!("part/{seq:016x}/{writer:016x}-{number:016x}");
        self.bucket.own(&name)
    }

    /// Applies a log object if it is the next one. Watchers are notified of it.
    fn apply(&self, stamp: Stamp, record: &LogRecord) -> bool {
        let mut state = self.state_mut();
        if stamp != state.stamp.next() {
            return false;
        }
        let affected = apply_to(&mut state, stamp, record);
        self.touch(record.changes.iter().map(|change| &change.key));
        // While the state is locked, so that two records are published in their order.
        self.live.edit(|writer| {
            for id in affected {
                publish(&state, id, self.threshold, writer);
            }
        });
        true
    }

    /// Replaces the state by that of a snapshot and the log after it, unless it is older. Watchers are notified of the
    /// difference.
    fn replace(&self, new: State) -> bool {
        let mut state = self.state_mut();
        let is_same_epoch = new.stamp.epoch == state.stamp.epoch;
        if is_same_epoch && new.stamp.seq <= state.stamp.seq {
            return false;
        }
        if !is_same_epoch && state.complete && !new.complete {
            return false; // Images would disappear until they were read again.
        }
        let is_first = !state.is_loaded();
        let old = std::mem::replace(&mut *state, new);
        self.touch(state.iter().chain(old.iter()).map(|(key, _)| key));
        self.live.edit(|writer| {
            if is_first {
                writer.set_history(0); // No one watches yet.
                fill(writer, &state, self.threshold);
                return;
            }
            for id in old.ids() {
                if !state.has_image(id) {
                    writer.remove(id);
                }
            }
            for id in state.ids() {
                publish(&state, id, self.threshold, writer);
            }
        });
        if is_first {
            self.live
                .edit(|writer| writer.set_history(CatalogWriter::HISTORY));
        }
        true
    }

    fn touched(&self) -> MutexGuard<'_, Option<HashSet<u64>>> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn touch(&self, keys: impl Iterator<Item = impl AsRef<str>>) {
        if let Some(touched) = &mut *self.touched() {
            touched.extend(keys.map(|key| self.hash(key.as_ref())));
        }
    }

    /// Remembers the keys that are changed, until [`end_pass`](Self::end_pass).
    pub(crate) fn begin_pass(&self) {
        *self.touched() = Some(HashSet::new());
    }

    pub(crate) fn end_pass(&self) {
        *self.touched() = None;
    }

    /// The records whose keys are not in `listed`, and were not changed since [`begin_pass`](Self::begin_pass).
    pub(crate) fn unlisted(&self, listed: &HashSet<u64>) -> Vec<(Box<str>, Object)> {
        let state = self.state();
        let touched = self.touched();
        let is_unlisted = |key: &str| {
            let hash = self.hash(key);
            !listed.contains(&hash)
                && touched
                    .as_ref()
                    .is_some_and(|touched| !touched.contains(&hash))
        };
        state
            .iter()
            .filter(|(key, _)| is_unlisted(key))
            .map(|(key, object)| (key.into(), object))
            .collect()
    }

    /// The record of an object that was read. Its image may be known under another key, and have a variant.
    pub(crate) fn record(&self, identity: Identity, contents: Contents) -> Object {
        let mut object = Object::new(identity, contents);
        if let Contents::Image { id, .. } = contents {
            let known = self.state().source(id);
            object.variant = known.and_then(|(_, known)| known.variant);
        }
        object
    }

    /// A hash of a key, with a random seed.
    pub(crate) fn hash(&self, key: &str) -> u64 {
        self.hasher.hash_one(key)
    }
}

/// Applies the next log object to a state. Returns the images whose entries may have changed, in order.
fn apply_to(state: &mut State, stamp: Stamp, record: &LogRecord) -> Vec<ImageId> {
    let mut affected = Vec::with_capacity(record.changes.len());
    for change in &record.changes {
        state.set(change, &mut affected);
    }
    state.stamp = stamp;
    state.complete |= record.complete;
    state.since_head += 1;
    affected
}

fn publish(state: &State, id: ImageId, threshold: Threshold, writer: &mut CatalogWriter) {
    match state.listed(id, threshold) {
        // An error leaves the image out: its name is too long, or the catalog is full. // S14
        Some((name, image)) if writer.insert(&name, image).is_ok() => {}
        _ => _ = writer.remove(id),
    }
}

impl fmt::Debug for SharedCatalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("SharedCatalog")
            .field("bucket", &self.bucket)
            .field("stamp", &state.stamp)
            .field("objects", &state.len())
            .finish_non_exhaustive()
    }
}
