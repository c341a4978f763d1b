//! Making the next snapshot of a catalog.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cmp::Ordering;

use super::bulk::Bulk;
use super::chunk::Chunk;
use super::history::History;
use super::{Catalog, Contents};
use crate::image::{Flags, Image, ImageId};
use crate::name::nfc;
use crate::wire::entry::{self, Entry};
use crate::wire::response::Header;

/// Why an image cannot be added to a catalog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// The NFC name is longer than 65,535 bytes. // S14
    #[error("the file name is longer than 65,535 bytes")]
    NameTooLong,
    /// The catalog has 4,294,967,295 images, as many as a response can count.
    #[error("the catalog is full: it has 4,294,967,295 images")]
    Full,
}

/// Collects changes to a catalog and publishes them as its next snapshot.
///
/// Each published ID that the snapshot before did not have is an event of the history, which WATCH sends. A new
/// name or another encoded variant of an image is no event. // N1 S9
#[derive(Debug)]
pub struct CatalogWriter {
    contents: Contents,
    /// Slots that no chunk uses.
    free: Vec<usize>,
    published: Arc<Catalog>,
    history: History,
    /// IDs inserted since the last publication, in order, also those that the published catalog has.
    inserted: Vec<ImageId>,
    changed: bool,
}

impl CatalogWriter {
    /// The number of events that the history keeps by default. // N2
    pub const HISTORY: u64 = 1_000_000;

    /// A writer whose published catalog is empty.
    #[must_use]
    pub fn new() -> CatalogWriter {
        let history = History::new();
        let published = Arc::new(Catalog::new(Contents::new(), 0, history.last().clone()));
        CatalogWriter {
            contents: published.contents.clone(),
            free: Vec::new(),
            published,
            history,
            inserted: Vec::new(),
            changed: false,
        }
    }

    /// Sets the number of events that the history keeps, 1,000,000 by default, whatever old snapshots and slow
    /// watchers refer to. A watcher that is further behind is disconnected. // N2
    ///
    /// With 0, no events are kept: use it while the first snapshot is built, before anyone watches.
    pub fn set_history(&mut self, events: u64) {
        self.history.set_limit(events);
    }

    /// The last published snapshot.
    #[must_use]
    pub fn snapshot(&self) -> &Arc<Catalog> {
        &self.published
    }

    /// The number of images, unpublished changes included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents.index.len()
    }

    /// Whether there are no images, unpublished changes included.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry with this ID, unpublished changes included.
    #[must_use]
    pub fn entry(&self, id: ImageId) -> Option<Entry<'_>> {
        let (position, offset) = self.contents.find(id)?;
        self.contents.spine.get(position)?.entry(offset)
    }

    /// All entries in catalog order, unpublished changes included. // S5
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.contents.spine.iter().flat_map(|chunk| chunk.entries())
    }

    /// Adds an image under a name, or replaces the entry with the same ID. // S4
    ///
    /// The name is normalized to NFC. Reserved flags are cleared, and a reserved file type becomes
    /// [`FileType::Other`](crate::FileType::Other). // W4 W5 W6
    ///
    /// # Errors
    ///
    /// [`CatalogError`]; then nothing is changed.
    pub fn insert(&mut self, name: &str, image: Image) -> Result<(), CatalogError> {
        let name = nfc(name);
        let new = valid_entry(&name, image)?;
        match self.entry(image.id) {
            Some(old) if old == new => return Ok(()),
            Some(_) => self.detach(image.id),
            None if u32::try_from(self.len()).is_ok_and(|len| len < u32::MAX) => {
                self.inserted.push(image.id);
            }
            None => return Err(CatalogError::Full),
        }
        self.changed = true;
        self.add(&new)
    }

    /// Adds images as [`insert`](CatalogWriter::insert) does one after the other. If the catalog is empty and the images
    /// are in catalog order, each with its own ID, that takes less time. `refused` gets those that cannot be
    /// added.
    ///
    /// ```
    /// use jtp_core::{CatalogWriter, FileType, Flags, Image, ImageId};
    ///
    /// let mut writer = CatalogWriter::new();
    /// let image = |id| Image::new(ImageId(id), Flags::new(FileType::Png, false), 100);
    /// writer.fill([("a.png", image(7)), ("b.png", image(2))], |name, error| eprintln!("{name}: {error}"));
    /// assert_eq!(writer.publish().len(), 2);
    /// ```
    pub fn fill<N: AsRef<str>>(
        &mut self,
        images: impl IntoIterator<Item = (N, Image)>,
        mut refused: impl FnMut(&str, CatalogError),
    ) {
        let mut bulk = self.is_empty().then(Bulk::default);
        for (name, image) in images {
            let name = name.as_ref();
            if let Some(begun) = &mut bulk {
                let normal = nfc(name);
                match valid_entry(&normal, image) {
                    Ok(new) if begun.push(&new) => continue,
                    Ok(_) => {}
                    Err(error) => {
                        refused(name, error);
                        continue;
                    }
                }
            }
            if let Some(begun) = bulk.take() {
                self.take_bulk(begun);
            }
            if let Err(error) = self.insert(name, image) {
                refused(name, error);
            }
        }
        if let Some(bulk) = bulk {
            self.take_bulk(bulk);
        }
    }

    fn take_bulk(&mut self, bulk: Bulk) {
        if bulk.len() == 0 {
            return;
        }
        match bulk.finish() {
            Ok(contents) => {
                self.contents = contents;
                self.free = Vec::new();
                self.changed = true;
                let all = u64::try_from(self.len()).unwrap_or(u64::MAX);
                if !self.published.is_empty() || self.history.keeps(all) {
                    let ids = self.contents.spine.iter().flat_map(|chunk| chunk.ids());
                    self.inserted.extend(ids);
                }
            }
            Err(chunks) => {
                for entry in chunks.iter().flat_map(Chunk::entries) {
                    // Each was a valid entry already.
                    let _ = self.insert(entry.name, entry.image());
                }
            }
        }
    }

    /// Removes the entry with this ID. Returns whether there was one.
    pub fn remove(&mut self, id: ImageId) -> bool {
        let there = self.contents.index.slot(id).is_some();
        if there {
            self.detach(id);
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
        let chunks = self.contents.spine.iter().enumerate();
        let changed: Vec<_> = chunks
            .filter_map(|(position, chunk)| Some((position, chunk.retained(&mut keep)?)))
            .collect();
        if changed.is_empty() {
            return;
        }
        self.changed = true;
        for (position, (chunk, removed)) in changed {
            for id in removed {
                self.contents.index.remove(id);
            }
            if chunk.len() == 0 {
                self.free.push(chunk.slot);
            }
            if let Some(old) = self.contents.spine.get_mut(position) {
                *old = Arc::new(chunk);
            }
        }
        self.contents.spine.retain(|chunk| chunk.len() > 0);
        self.renumber(0);
    }

    /// Publishes all changes since the last publication as one snapshot. Without changes it returns the last one.
    pub fn publish(&mut self) -> Arc<Catalog> {
        if core::mem::take(&mut self.changed) {
            let (events, frames) = self.take_events();
            let generation = self.published.generation + 1;
            if events > 0 {
                self.history.append(events, frames);
            }
            let latest = self.history.last().clone();
            self.published = Arc::new(Catalog::new(self.contents.clone(), generation, latest));
        }
        Arc::clone(&self.published)
    }

    /// The number of events of this publication, and their frames. // N1
    fn take_events(&mut self) -> (u64, Vec<u8>) {
        let mut added = core::mem::take(&mut self.inserted);
        let all = u64::try_from(self.len()).unwrap_or(u64::MAX);
        if self.published.is_empty() {
            if !self.history.keeps(all) {
                // All images are new, and nobody asks in which order they were added.
                return (all, Vec::new());
            }
            if added.len() < self.len() {
                // The history became longer since the catalog was filled.
                added = self.entries().map(|entry| entry.id).collect();
            }
        }
        added.retain(|id| !self.published.contains(*id) && self.contents.index.slot(*id).is_some());
        // Each ID once, in the order of first insertion.
        let mut order: Vec<u32> = (0..u32::try_from(added.len()).unwrap_or(u32::MAX)).collect();
        let id_at = |at: u32| {
            usize::try_from(at)
                .ok()
                .and_then(|at| added.get(at).copied())
        };
        order.sort_by_key(|&at| id_at(at));
        order.dedup_by_key(|at| id_at(*at));
        order.sort_unstable();
        let events = u64::try_from(order.len()).unwrap_or(u64::MAX);
        let mut frames = Vec::new();
        if self.history.keeps(events) {
            for entry in order.into_iter().filter_map(|at| self.entry(id_at(at)?)) {
                frames.extend_from_slice(&Header::Watch.bytes());
                // `insert` refused names that are too long.
                let _ = entry::encode(&entry, &mut frames);
            }
        }
        (events, frames)
    }

    fn add(&mut self, new: &Entry<'_>) -> Result<(), CatalogError> {
        // The last chunk that begins at or before the new entry, or the first one. Entries are often added in order,
        // so the last chunk is checked first.
        let spine = &self.contents.spine;
        let position = match spine.last() {
            Some(last) if last.is_before(new.name, new.id) => spine.len() - 1,
            _ => spine
                .partition_point(|chunk| chunk.compare(0, new.name, new.id) != Ordering::Greater)
                .saturating_sub(1),
        };
        if spine.is_empty() {
            let slot = self.slot();
            self.contents.spine.push(Arc::new(Chunk::new(slot)));
            self.renumber(0);
        }
        let Some(chunk) = self.contents.spine.get_mut(position) else {
            return Ok(());
        };
        let chunk = Arc::make_mut(chunk);
        let is_last = chunk.insert(new).map_err(|_| CatalogError::NameTooLong)?;
        self.contents.index.set(new.id, chunk.slot);
        if chunk.is_full() {
            // Entries that are added in order leave full chunks behind, not half-empty ones.
            let in_order = is_last && position + 1 == self.contents.spine.len();
            self.split(position, in_order);
        }
        Ok(())
    }

    fn split(&mut self, position: usize, in_order: bool) {
        let slot = self.slot();
        let Some(chunk) = self.contents.spine.get_mut(position) else {
            return;
        };
        let later = Arc::make_mut(chunk).split(slot, in_order);
        for id in later.ids() {
            self.contents.index.set(id, slot);
        }
        self.contents.spine.insert(position + 1, Arc::new(later));
        self.renumber(position + 1);
    }

    fn detach(&mut self, id: ImageId) {
        let Some((position, offset)) = self.contents.find(id) else {
            return;
        };
        let Some(chunk) = self.contents.spine.get_mut(position) else {
            return;
        };
        let chunk = Arc::make_mut(chunk);
        chunk.remove(offset);
        self.contents.index.remove(id);
        if chunk.len() == 0 {
            self.free.push(chunk.slot);
            self.contents.spine.remove(position);
            self.renumber(position);
        }
    }

    /// An unused slot.
    fn slot(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.contents.slots.push(0);
            self.contents.slots.len() - 1
        })
    }

    /// Updates the slots of the chunks from position `first` on.
    fn renumber(&mut self, first: usize) {
        for (position, chunk) in self.contents.spine.iter().enumerate().skip(first) {
            if let Some(known) = self.contents.slots.get_mut(chunk.slot) {
                *known = position;
            }
        }
    }
}

/// The entry of a normalized name. Reserved flags are cleared.
fn valid_entry(name: &str, image: Image) -> Result<Entry<'_>, CatalogError> {
    if name.len() > entry::MAX_NAME_LEN {
        return Err(CatalogError::NameTooLong);
    }
    let flags = Flags::new(image.flags.file_type(), image.flags.is_compressed());
    Ok(Entry::new(name, Image::new(image.id, flags, image.length)))
}

impl Default for CatalogWriter {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
#[path = "writer_tests.rs"]
mod tests;
