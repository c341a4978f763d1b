//! Making the next snapshot of a catalog.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::chunk::Chunk;
use super::history::History;
use super::{Catalog, Shape};
use crate::image::{Flags, Image, ImageId};
use crate::name::nfc;
use crate::wire::entry::{self, Entry};
use crate::wire::response::Header;

/// Why an image cannot enter a catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The name is over 65,535 bytes in NFC. // S14
    #[error("the file name is longer than 65,535 bytes")]
    NameTooLong,
    /// There are 4,294,967,295 images already: a response could not count one more.
    #[error("the catalog is full")]
    Full,
}

/// The one that writes a catalog: collects changes, and publishes them as the next snapshot.
///
/// An image whose ID was in no snapshot before the publishing, or not in the last one, is an event of the
/// history, which watchers are told; a new name or form for an ID that was there is none. // N1 S9
#[derive(Debug)]
pub struct CatalogWriter {
    shape: Shape,
    /// Slots of chunks that are gone.
    free: Vec<usize>,
    published: Arc<Catalog>,
    history: History,
    /// IDs inserted since then, in order; what was there before is sorted out at publishing.
    inserted: Vec<ImageId>,
    changed: bool,
}

impl CatalogWriter {
    /// How many events the history keeps unless [`CatalogWriter::set_history`] says otherwise. // N2
    pub const HISTORY: u64 = 1_000_000;

    /// A writer whose published catalog is empty.
    #[must_use]
    pub fn new() -> CatalogWriter {
        let history = History::new();
        let published = Arc::new(Catalog::new(Shape::new(), 0, history.last().clone()));
        CatalogWriter {
            shape: published.shape.clone(),
            free: Vec::new(),
            published,
            history,
            inserted: Vec::new(),
            changed: false,
        }
    }

    /// How many events of the history are kept for whoever is behind, 1,000,000 by default: not more, whatever
    /// old snapshots and slow watchers there are. A watcher that is further behind is disconnected. // N2
    ///
    /// With 0 what is published is no news to anyone, for a first publishing that nobody can have waited for.
    pub fn set_history(&mut self, events: u64) {
        self.history.set_bound(events);
    }

    /// The last published snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Catalog> {
        &self.published
    }

    /// How many images the next snapshot holds as it stands.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.index.len()
    }

    /// Whether the next snapshot holds no image as it stands.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of an ID, as the next snapshot holds it so far.
    #[must_use]
    pub fn entry(&self, id: ImageId) -> Option<Entry<'_>> {
        let (place, index) = self.shape.find(id)?;
        self.shape.spine.get(place)?.entry(index)
    }

    /// All entries in catalog order, as the next snapshot holds them so far. // S5
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.shape.spine.iter().flat_map(|chunk| chunk.entries())
    }

    /// Puts an image under a name, normalised to NFC. One of the same ID is replaced, whatever its name and
    /// form. Reserved flags and types are not taken over. // S4 W4 W5 W6
    ///
    /// # Errors
    ///
    /// [`CatalogError`]; the catalog stays as it was.
    pub fn insert(&mut self, name: &str, image: Image) -> Result<(), CatalogError> {
        let name = nfc(name);
        if name.len() > entry::MAX_NAME_LEN {
            return Err(CatalogError::NameTooLong);
        }
        let flags = Flags::new(image.flags.file_type(), image.flags.is_compressed());
        let new = Entry::new(&name, Image::new(image.id, flags, image.length));
        match self.entry(image.id) {
            Some(old) if old == new => return Ok(()),
            Some(_) => self.take_out(image.id),
            None if u32::try_from(self.len()).is_ok_and(|len| len < u32::MAX) => {
                self.inserted.push(image.id);
            }
            None => return Err(CatalogError::Full),
        }
        self.changed = true;
        self.put_in(&new)
    }

    /// Takes the image of an ID out; whether there was one.
    pub fn remove(&mut self, id: ImageId) -> bool {
        let there = self.shape.index.slot(id).is_some();
        if there {
            self.take_out(id);
            self.changed = true;
        }
        there
    }

    /// Removes the entries for which `keep` returns `false`. If `keep` panics, nothing is removed.
    ///
    /// ```
    /// use jtp_core::{CatalogWriter, FileType, Flags, Image, ImageId};
    ///
    /// let mut writer = CatalogWriter::new();
    /// for (n, name) in [(1, "a.png"), (2, "b.png")] {
    ///     writer.insert(name, Image::new(ImageId(n), Flags::new(FileType::Png, false), 100))?;
    /// }
    /// writer.retain(|entry| entry.name != "a.png");
    /// assert!(writer.entries().map(|entry| entry.name).eq(["b.png"]));
    /// # Ok::<(), jtp_core::CatalogError>(())
    /// ```
    pub fn retain(&mut self, mut keep: impl FnMut(Entry<'_>) -> bool) {
        let chunks = self.shape.spine.iter().enumerate();
        let changed: Vec<_> = chunks
            .filter_map(|(place, chunk)| Some((place, chunk.retained(&mut keep)?)))
            .collect();
        if changed.is_empty() {
            return;
        }
        self.changed = true;
        for (place, (chunk, removed)) in changed {
            for id in removed {
                self.shape.index.remove(id);
            }
            if chunk.len() == 0 {
                self.free.push(chunk.slot);
            }
            if let Some(old) = self.shape.spine.get_mut(place) {
                *old = Arc::new(chunk);
            }
        }
        self.shape.spine.retain(|chunk| chunk.len() > 0);
        self.renumber(0);
    }

    /// Makes the changes since the last publishing visible, all at once. Without any, the last snapshot
    /// stands.
    pub fn publish(&mut self) -> Arc<Catalog> {
        if core::mem::take(&mut self.changed) {
            let (events, frames) = self.news();
            let generation = self.published.generation + 1;
            // The place before is the old snapshot's: who holds neither needs no events.
            if events > 0 {
                self.history.append(events, frames);
            }
            let latest = self.history.last().clone();
            self.published = Arc::new(Catalog::new(self.shape.clone(), generation, latest));
        }
        Arc::clone(&self.published)
    }

    /// The events of this publishing: how many, and their frames.
    fn news(&mut self) -> (u64, Vec<u8>) {
        let mut news = core::mem::take(&mut self.inserted);
        news.retain(|id| !self.published.contains(*id) && self.shape.index.slot(*id).is_some());
        // Each once, where it came first.
        let mut order: Vec<u32> = (0..u32::try_from(news.len()).unwrap_or(u32::MAX)).collect();
        let id_at = |at: u32| {
            usize::try_from(at)
                .ok()
                .and_then(|at| news.get(at).copied())
        };
        order.sort_by_key(|&at| id_at(at));
        order.dedup_by_key(|at| id_at(*at));
        order.sort_unstable();
        let events = u64::try_from(order.len()).unwrap_or(u64::MAX);
        let mut frames = Vec::new();
        if self.history.keeps(events) {
            for entry in order.into_iter().filter_map(|at| self.entry(id_at(at)?)) {
                frames.extend_from_slice(&Header::Watch.bytes());
                // What is in the catalog has a name that fits.
                let _ = entry::encode(&entry, &mut frames);
            }
        }
        (events, frames)
    }

    fn put_in(&mut self, new: &Entry<'_>) -> Result<(), CatalogError> {
        // The last chunk that begins at or before the new entry, or the first one. Often images come in order.
        let spine = &self.shape.spine;
        let place = match spine.last() {
            Some(last) if last.is_before(new.name, new.id) => spine.len() - 1,
            _ => spine
                .partition_point(|chunk| chunk.compare(0, new.name, new.id) != Ordering::Greater)
                .saturating_sub(1),
        };
        if spine.is_empty() {
            let slot = self.slot();
            self.shape.spine.push(Arc::new(Chunk::new(slot)));
            self.renumber(0);
        }
        let Some(chunk) = self.shape.spine.get_mut(place) else {
            return Ok(());
        };
        let chunk = Arc::make_mut(chunk);
        let is_last = chunk.insert(new).map_err(|_| CatalogError::NameTooLong)?;
        self.shape.index.set(new.id, chunk.slot);
        if chunk.is_full() {
            // Images that come in order leave full chunks behind them, not half empty ones.
            let in_order = is_last && place + 1 == self.shape.spine.len();
            self.split(place, in_order);
        }
        Ok(())
    }

    fn split(&mut self, place: usize, in_order: bool) {
        let slot = self.slot();
        let Some(chunk) = self.shape.spine.get_mut(place) else {
            return;
        };
        let index = if in_order {
            chunk.len() - 1
        } else {
            chunk.len() / 2
        };
        let later = Arc::make_mut(chunk).split(slot, index);
        for id in later.ids() {
            self.shape.index.set(id, slot);
        }
        self.shape.spine.insert(place + 1, Arc::new(later));
        self.renumber(place + 1);
    }

    fn take_out(&mut self, id: ImageId) {
        let Some((place, index)) = self.shape.find(id) else {
            return;
        };
        let Some(chunk) = self.shape.spine.get_mut(place) else {
            return;
        };
        let chunk = Arc::make_mut(chunk);
        chunk.remove(index);
        self.shape.index.remove(id);
        if chunk.len() == 0 {
            self.free.push(chunk.slot);
            self.shape.spine.remove(place);
            self.renumber(place);
        }
    }

    /// A slot for a new chunk.
    fn slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.shape.places.push(0);
            self.shape.places.len() - 1
        })
    }

    /// Notes the places of the chunks from `first` on.
    fn renumber(&mut self, first: usize) {
        for (place, chunk) in self.shape.spine.iter().enumerate().skip(first) {
            if let Some(known) = self.shape.places.get_mut(chunk.slot) {
                *known = place;
            }
        }
    }
}

impl Default for CatalogWriter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cursor;
    use super::*;
    use crate::image::FileType;
    use alloc::collections::{BTreeMap, BTreeSet};
    use alloc::format;
    use alloc::string::String;
    use alloc::string::ToString;
    use proptest::prelude::*;

    fn image(id: u64) -> Image {
        Image::new(ImageId(id), Flags::new(FileType::Png, false), 1)
    }

    fn names(catalog: &Catalog) -> Vec<String> {
        catalog
            .entries()
            .map(|entry| entry.name.to_string())
            .collect()
    }

    /// The names in the frames between two places of a history.
    fn events(from: &Cursor) -> Vec<String> {
        let mut names = Vec::new();
        let mut at = from.clone();
        while let Some(batch) = at.next() {
            let mut frames = batch.frames();
            while let Some(rest) = frames.strip_prefix(b"JTPW") {
                let Ok(crate::wire::Decoded::Complete { value, used }) = entry::decode(rest) else {
                    panic!("a broken frame");
                };
                names.push(value.name.to_string());
                frames = &rest[used..];
            }
            assert!(frames.is_empty());
            at = batch.end();
        }
        names
    }

    #[test]
    fn s5_entries_are_in_the_order_of_name_bytes_then_id() {
        let mut writer = CatalogWriter::new();
        for (name, id) in [("b", 1), ("a", 9), ("é", 4), ("a", 2), ("Z", 5)] {
            writer.insert(name, image(id)).unwrap();
        }
        let catalog = writer.publish();
        let order: Vec<_> = catalog.entries().map(|e| (e.name, e.id.0)).collect();
        assert_eq!(order, [("Z", 5), ("a", 2), ("a", 9), ("b", 1), ("é", 4)]);
    }

    #[test]
    fn w6_names_are_nfc_and_s14_long_ones_refused() {
        let mut writer = CatalogWriter::new();
        writer.insert("cafe\u{301}", image(1)).unwrap();
        assert_eq!(
            writer.insert(&"x".repeat(65_536), image(2)),
            Err(CatalogError::NameTooLong)
        );
        assert_eq!(names(&writer.publish()), ["café"]);
    }

    #[test]
    fn s3_a_snapshot_stays_as_it_was() {
        let mut writer = CatalogWriter::new();
        writer.insert("a", image(1)).unwrap();
        let first = writer.publish();
        writer.insert("b", image(2)).unwrap();
        writer.remove(ImageId(1));
        let second = writer.publish();
        assert_eq!(names(&first), ["a"]);
        assert_eq!(names(&second), ["b"]);
        assert_eq!((first.generation(), second.generation()), (1, 2));
        assert_eq!(
            writer.publish().generation(),
            2,
            "nothing changed, nothing new"
        );
    }

    #[test]
    fn n1_an_event_is_an_id_going_from_absent_to_present() {
        let mut writer = CatalogWriter::new();
        writer.insert("old", image(1)).unwrap();
        let first = writer.publish();
        writer.insert("renamed", image(1)).unwrap(); // A rename is not told,
        writer.insert("new", image(2)).unwrap();
        writer.insert("brief", image(3)).unwrap(); // nor what was never visible.
        writer.remove(ImageId(3));
        writer.publish();
        writer.remove(ImageId(2)); // One removed before it was told still is,
        writer.publish();
        writer.insert("again", image(2)).unwrap(); // and one added again is told again.
        let compressed = Image::new(ImageId(1), Flags::new(FileType::Bmp, true), 0);
        writer.insert("renamed", compressed).unwrap(); // S9: a change of form is not told.
        writer.publish();
        writer.remove(ImageId(1)); // Out and in between two snapshots: never absent.
        writer.insert("back", image(1)).unwrap();
        writer.publish();
        assert_eq!(events(first.latest()), ["new", "again"]);
        assert!(events(writer.snapshot().latest()).is_empty());
    }

    #[test]
    fn w5_reserved_types_and_flags_do_not_enter() {
        let mut writer = CatalogWriter::new();
        let strange = Image::new(ImageId(1), Flags::from_bits(0b1111_0101), 1);
        writer.insert("a", strange).unwrap();
        assert_eq!(writer.publish().get(ImageId(1)).unwrap().flags.bits(), 7);
    }

    #[test]
    fn many_images_are_found_by_id_and_listed_in_order() {
        let mut writer = CatalogWriter::new();
        let mut seed = 1u64;
        let count: usize = if cfg!(miri) { 200 } else { 5_000 };
        for n in 0..count as u64 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(n);
            writer
                .insert(&format!("{:016x}.png", seed.rotate_left(17)), image(seed))
                .unwrap();
        }
        let catalog = writer.publish();
        assert_eq!(catalog.len(), count);
        assert!(names(&catalog).is_sorted());
        let ordinals: BTreeSet<_> = catalog
            .entries()
            .map(|entry| catalog.ordinal(entry.id).unwrap())
            .collect();
        assert_eq!(ordinals.len(), count);
        assert_eq!(ordinals.last(), Some(&(count - 1)));
        let mut at = super::super::Place::default();
        for entry in catalog.entries() {
            assert_eq!(catalog.next_image(&mut at), Some(entry.image()));
            assert_eq!(catalog.entry(entry.id), Some(entry));
        }
        assert_eq!(catalog.next_image(&mut at), None);
    }

    #[test]
    fn retain_removes_from_many_chunks_and_leaves_the_others_shared() {
        let count: u64 = if cfg!(miri) { 1_500 } else { 5_000 };
        let mut writer = CatalogWriter::new();
        for n in 0..count {
            writer.insert(&format!("{n:06}"), image(n)).unwrap();
        }
        let all = writer.publish();
        writer.retain(|_| true);
        assert_eq!(writer.publish().generation(), 1, "nothing was removed");
        // Chunks that stay whole, chunks that become empty, and one between.
        writer.retain(|entry| entry.id.0 < 600);
        writer.insert("again", image(count)).unwrap();
        let kept = writer.publish();
        let ids: Vec<_> = kept.entries().map(|entry| entry.id.0).collect();
        assert!(ids.into_iter().eq((0..600).chain([count])));
        for id in 0..=count {
            let expected = id < 600 || id == count;
            assert_eq!(kept.get(ImageId(id)).is_some(), expected, "{id}");
        }
        let first = |catalog: &Catalog| catalog.shape.spine.first().map(Arc::as_ptr);
        assert_eq!(first(&all), first(&kept));
        writer.retain(|_| false);
        assert!(writer.is_empty() && writer.publish().entries().next().is_none());
    }

    proptest! {
        /// Against the plainest model there is: a map from ID to name.
        #[test]
        fn a_writer_does_what_a_map_does(
            steps in prop::collection::vec((0..60u64, 0..4u8, "[a-c]{0,3}"), 0..200)
        ) {
            let mut writer = CatalogWriter::new();
            let mut model = BTreeMap::new();
            let mut told = Vec::new();
            let start = writer.snapshot().latest().clone();
            let mut before: BTreeMap<u64, String> = BTreeMap::new();
            let mut fresh: Vec<u64> = Vec::new();
            for (id, step, name) in steps {
                // Spread the IDs over the shards.
                let id = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                match step {
                    0 => {
                        writer.insert(&name, image(id)).unwrap();
                        fresh.push(id);
                        model.insert(id, name);
                    }
                    1 => prop_assert_eq!(writer.remove(ImageId(id)), model.remove(&id).is_some()),
                    2 => {
                        writer.retain(|entry| entry.name >= name.as_str());
                        model.retain(|_, kept| *kept >= name);
                    }
                    _ => {
                        let unpublished: Vec<_> = writer.entries().map(|e| e.id).collect();
                        let catalog = writer.publish();
                        prop_assert!(catalog.entries().map(|e| e.id).eq(unpublished));
                        let mut seen = BTreeSet::new();
                        // In the order in which each ID last became absent-to-present.
                        for id in fresh.drain(..) {
                            if model.contains_key(&id) && !before.contains_key(&id) && seen.insert(id) {
                                told.push(id);
                            }
                        }
                        before.clone_from(&model);
                        let mut expected: Vec<_> =
                            model.iter().map(|(id, name)| (name.clone(), *id)).collect();
                        expected.sort();
                        let listed: Vec<_> =
                            catalog.entries().map(|e| (e.name.to_string(), e.id.0)).collect();
                        prop_assert_eq!(listed, expected);
                        let list: Vec<u8> = catalog.list().flatten().copied().collect();
                        prop_assert!(list.starts_with(b"JTPL"));
                    }
                }
            }
            prop_assert_eq!(start.behind(writer.snapshot().latest()), Some(told.len() as u64));
        }
    }
}
