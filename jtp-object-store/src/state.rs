//! The state of the catalog after a number of changes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use jtp_core::compress::Threshold;
use jtp_core::{Image, ImageId};

use crate::format::{Block, BlockWriter, Change, Object, Stamp};
use crate::names::listed_name;

/// Changes since the block was made are merged into a new one when they are more than this and than a 16th of its records.
/// Tests merge often.
const MIN_CHANGES: usize = if cfg!(test) { 4 } else { 1024 };

/// The records of all objects: a compact block that does not change, and what was changed since.
#[derive(Default)]
pub(crate) struct State {
    /// The last change. The epoch is 0 if no catalog was loaded.
    pub(crate) stamp: Stamp,
    /// Whether all objects of the bucket were read once.
    pub(crate) complete: bool,
    /// Log objects since the last snapshot that is known.
    pub(crate) since_head: u64,
    block: Block,
    /// A bit for each record of the block that was replaced or removed since. Empty if there is none.
    stale: Vec<u64>,
    stale_count: usize,
    /// The records that are newer than the block.
    newer: BTreeMap<Arc<str>, Object>,
    /// The images of `newer`, and their keys.
    newer_images: BTreeSet<(u64, Arc<str>)>,
}

impl State {
    pub(crate) fn new(stamp: Stamp, complete: bool, block: Block) -> State {
        State {
            stamp,
            complete,
            block,
            ..State::default()
        }
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.stamp.epoch != 0
    }

    /// The number of records.
    pub(crate) fn len(&self) -> usize {
        self.block.len() - self.stale_count + self.newer.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<Object> {
        if let Some(object) = self.newer.get(key) {
            return Some(object.clone());
        }
        self.find_in_block(key).map(|(_, object)| object)
    }

    /// The record of a key in the block, if it was not replaced or removed.
    fn find_in_block(&self, key: &str) -> Option<(usize, Object)> {
        self.block
            .find(key)
            .filter(|(index, _)| !self.is_stale(*index))
    }

    /// All records in the order of keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (String, Object)> {
        let mut block = self.block.iter().enumerate();
        let mut block = std::iter::from_fn(move || {
            let (_, record) = block.find(|(index, _)| !self.is_stale(*index))?;
            Some(record)
        })
        .peekable();
        let newer = self.newer.iter();
        let mut newer = newer
            .map(|(key, object)| (key.to_string(), object.clone()))
            .peekable();
        std::iter::from_fn(move || {
            let is_newer = match (block.peek(), newer.peek()) {
                (Some((one, _)), Some((other, _))) => other < one,
                (one, _) => one.is_none(),
            };
            if is_newer { newer.next() } else { block.next() }
        })
    }

    /// All images, each once.
    pub(crate) fn ids(&self) -> Vec<ImageId> {
        let images = self.iter().filter_map(|(_, object)| object.image());
        let mut ids: Vec<_> = images.map(|image| image.id).collect();
        ids.sort_unstable_by_key(|id| id.0);
        ids.dedup();
        ids
    }

    pub(crate) fn has_image(&self, id: ImageId) -> bool {
        self.first_newer(id).is_some() || self.first_in_block(id).is_some()
    }

    fn first_newer(&self, id: ImageId) -> Option<&Arc<str>> {
        let (found, key) = self.newer_images.range((id.0, Arc::from(""))..).next()?;
        (*found == id.0).then_some(key)
    }

    fn first_in_block(&self, id: ImageId) -> Option<usize> {
        self.block.indices(id).find(|index| !self.is_stale(*index))
    }

    /// The object of an image: that with the first key.
    pub(crate) fn source(&self, id: ImageId) -> Option<(String, Object)> {
        let block = self
            .first_in_block(id)
            .and_then(|index| self.block.get(index));
        match (block, self.first_newer(id)) {
            (Some(record), Some(key)) if record.0.as_str() < key.as_ref() => Some(record),
            (_, Some(key)) => Some((key.to_string(), self.newer.get(key)?.clone())),
            (block, None) => block,
        }
    }

    /// The entry of an image in the catalog: its variant, if that is below the threshold. // S6
    pub(crate) fn listed(&self, id: ImageId, threshold: Threshold) -> Option<(String, Image)> {
        let (key, object) = self.source(id)?;
        Some((listed_name(&key)?, object.listed(threshold)?))
    }

    /// Replaces the record of a key. Adds the images whose entries may have changed to `affected`.
    pub(crate) fn set(&mut self, change: &Change, affected: &mut Vec<ImageId>) {
        let key: Arc<str> = change.key.as_ref().into();
        let mut old = self.newer.remove(&key);
        if let Some(image) = old.as_ref().and_then(Object::image) {
            self.newer_images.remove(&(image.id.0, Arc::clone(&key)));
        }
        if let Some((index, object)) = self.find_in_block(&key) {
            self.mark_stale(index);
            old = Some(object);
        }
        if let Some(object) = &change.object {
            if let Some(image) = object.image() {
                self.newer_images.insert((image.id.0, Arc::clone(&key)));
                affected.push(image.id);
            }
            self.newer.insert(key, object.clone());
        }
        affected.extend(old.and_then(|old| old.image()).map(|image| image.id));
        let changes = self.newer.len() + self.stale_count;
        if changes > MIN_CHANGES.max(self.block.len() / 16) {
            self.merge();
        }
    }

    /// Makes one block of all records.
    fn merge(&mut self) {
        let mut writer = BlockWriter::default();
        for (key, object) in self.iter() {
            writer.push(&key, &object);
        }
        self.block = writer.finish();
        self.stale = Vec::new();
        self.stale_count = 0;
        self.newer.clear();
        self.newer_images.clear();
    }

    fn is_stale(&self, index: usize) -> bool {
        self.stale
            .get(index / 64)
            .is_some_and(|bits| bits >> (index % 64) & 1 == 1)
    }

    fn mark_stale(&mut self, index: usize) {
        if self.stale.is_empty() {
            self.stale.resize(self.block.len().div_ceil(64), 0);
        }
        if let Some(bits) = self.stale.get_mut(index / 64) {
            *bits |= 1 << (index % 64);
            self.stale_count += 1;
        }
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State")
            .field("stamp", &self.stamp)
            .field("complete", &self.complete)
            .field("objects", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use jtp_core::FileType;
    use proptest::prelude::*;

    use super::*;
    use crate::format::{Contents, Identity};

    fn object(id: u64) -> Object {
        let contents = match id {
            0 => Contents::NotImage,
            _ => Contents::Image {
                id: ImageId(id),
                file_type: FileType::Png,
            },
        };
        Object::new(Identity::new(Some("e"), None, id), contents)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn an_image_is_listed_under_the_first_of_its_keys(
            changes in prop::collection::vec(("[a-d]", prop::option::of(0..4u64)), 0..40),
        ) {
            let mut state = State::default();
            let mut model = BTreeMap::new();
            for (key, id) in changes {
                let before: Vec<_> = (1..4).map(|id| state.listed(ImageId(id), Threshold::default())).collect();
                let mut affected = Vec::new();
                let change = Change { key: key.as_str().into(), object: id.map(object) };
                state.set(&change, &mut affected);
                match id {
                    Some(id) => model.insert(key, id),
                    None => model.remove(&key),
                };
                for id in 1..4 {
                    let expected = model.iter().find(|(_, of)| **of == id).map(|(key, _)| key.clone());
                    let listed = state.listed(ImageId(id), Threshold::default());
                    prop_assert_eq!(listed.as_ref().map(|(name, _)| name), expected.as_ref());
                    prop_assert_eq!(state.has_image(ImageId(id)), expected.is_some());
                    let before = &before[usize::try_from(id - 1).unwrap()];
                    prop_assert!(&listed == before || affected.contains(&ImageId(id)));
                }
                prop_assert_eq!(state.len(), model.len());
            }
        }
    }
}
