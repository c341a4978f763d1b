//! The state of the catalog after a number of changes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jtp_core::{Image, ImageId};

use crate::format::{Change, Object, Stamp};
use crate::names::listed_name;

/// The records of all objects.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// The last change. The epoch is 0 if no catalog was loaded.
    pub(crate) stamp: Stamp,
    /// Whether all objects of the bucket were read once.
    pub(crate) complete: bool,
    /// Log objects since the last snapshot that is known.
    pub(crate) since_head: u64,
    objects: BTreeMap<Arc<str>, Object>,
    ids: HashMap<ImageId, Keys>,
}

/// The keys of the objects with the same image.
#[derive(Debug)]
enum Keys {
    One(Arc<str>),
    Many(BTreeSet<Arc<str>>),
}

impl Keys {
    fn first(&self) -> Option<&Arc<str>> {
        match self {
            Keys::One(key) => Some(key),
            Keys::Many(keys) => keys.first(),
        }
    }
}

impl State {
    pub(crate) fn new(stamp: Stamp, complete: bool) -> State {
        State {
            stamp,
            complete,
            ..State::default()
        }
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.stamp.epoch != 0
    }

    /// The number of records.
    pub(crate) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(crate) fn get(&self, key: &str) -> Option<&Object> {
        self.objects.get(key)
    }

    /// All records in the order of keys.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Object)> {
        self.objects.iter()
    }

    /// All images.
    pub(crate) fn ids(&self) -> impl Iterator<Item = ImageId> {
        self.ids.keys().copied()
    }

    pub(crate) fn has_image(&self, id: ImageId) -> bool {
        self.ids.contains_key(&id)
    }

    /// The object of an image: that with the first key.
    pub(crate) fn source(&self, id: ImageId) -> Option<(&Arc<str>, &Object)> {
        let key = self.ids.get(&id)?.first()?;
        Some((key, self.objects.get(key)?))
    }

    /// The entry of an image in the catalog.
    pub(crate) fn listed(&self, id: ImageId) -> Option<(String, Image)> {
        let (key, object) = self.source(id)?;
        Some((listed_name(key)?, object.image()?))
    }

    /// Replaces the record of a key. Adds the images whose entries may have changed to `affected`.
    pub(crate) fn set(&mut self, change: &Change, affected: &mut Vec<ImageId>) {
        let key: Arc<str> = change.key.as_ref().into();
        let old = match &change.object {
            Some(object) => {
                let old = self.objects.insert(Arc::clone(&key), object.clone());
                if let Some(image) = object.image() {
                    self.add(image.id, &key);
                    affected.push(image.id);
                }
                old
            }
            None => self.objects.remove(&key),
        };
        if let Some(old) = old.and_then(|old| old.image()) {
            let new = change.object.as_ref().and_then(Object::image);
            if new.is_none_or(|new| new.id != old.id) {
                self.remove(old.id, &key);
            }
            affected.push(old.id);
        }
    }

    fn add(&mut self, id: ImageId, key: &Arc<str>) {
        match self.ids.get_mut(&id) {
            None => _ = self.ids.insert(id, Keys::One(Arc::clone(key))),
            Some(Keys::Many(keys)) => _ = keys.insert(Arc::clone(key)),
            Some(Keys::One(one)) if one == key => {}
            Some(keys @ Keys::One(_)) => {
                let first = keys.first().into_iter().chain([key]);
                *keys = Keys::Many(first.cloned().collect());
            }
        }
    }

    fn remove(&mut self, id: ImageId, key: &Arc<str>) {
        let is_last = match self.ids.get_mut(&id) {
            None => false,
            Some(Keys::One(one)) => one == key,
            Some(Keys::Many(keys)) => {
                keys.remove(key);
                keys.is_empty()
            }
        };
        if is_last {
            self.ids.remove(&id);
        }
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
                let before: Vec<_> = (1..4).map(|id| state.listed(ImageId(id))).collect();
                let mut affected = Vec::new();
                let change = Change { key: key.as_str().into(), object: id.map(object) };
                state.set(&change, &mut affected);
                match id {
                    Some(id) => model.insert(key, id),
                    None => model.remove(&key),
                };
                for id in 1..4 {
                    let expected = model.iter().find(|(_, of)| **of == id).map(|(key, _)| key.clone());
                    let listed = state.listed(ImageId(id));
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
