//! The difference between two snapshots.

use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;

use super::Catalog;
use super::chunk::Chunk;
use crate::image::{Image, ImageId};
use crate::wire::entry::Entry;

/// What differs between an earlier and a later snapshot, computed by [`Catalog::changes_since`].
///
/// Images are compared by ID: a file whose bytes changed is one image removed and another added. An image that
/// has another name and another variant is in both [`renamed`](Self::renamed) and
/// [`variant_changed`](Self::variant_changed).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct CatalogChanges<'a> {
    /// Entries whose ID only the later snapshot has, in its order.
    pub added: Vec<Entry<'a>>,
    /// Entries whose ID only the earlier snapshot has, in its order.
    pub removed: Vec<Entry<'a>>,
    /// Images with another name, in the order of the new names.
    pub renamed: Vec<Renamed<'a>>,
    /// Images with other flags or another length, in the order of the later snapshot. // S9
    pub variant_changed: Vec<VariantChanged>,
}

impl CatalogChanges<'_> {
    /// Whether both snapshots have the same entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// An image with different names in two snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Renamed<'a> {
    /// The image's ID.
    pub id: ImageId,
    /// The name in the earlier snapshot.
    pub from: &'a str,
    /// The name in the later snapshot.
    pub to: &'a str,
}

/// An image that two snapshots send differently, for instance compressed in the later one. // S9
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct VariantChanged {
    /// The image as the earlier snapshot sends it.
    pub from: Image,
    /// The image as the later snapshot sends it; the ID is the same.
    pub to: Image,
}

impl Catalog {
    /// What changed between `earlier` and this snapshot.
    ///
    /// The two may be any catalogs, also of different [`CatalogWriter`](super::CatalogWriter)s. Between snapshots
    /// of one writer it is cheap: chunks that both share are skipped, so the cost depends on the number of
    /// changes, plus one comparison for each chunk of some hundred entries.
    ///
    /// ```
    /// use jtp_core::{CatalogWriter, FileType, Flags, Image, ImageId};
    ///
    /// let image = |n| Image::new(ImageId(n), Flags::new(FileType::Png, false), 100);
    /// let mut writer = CatalogWriter::new();
    /// writer.insert("a.png", image(1))?;
    /// writer.insert("b.png", image(2))?;
    /// let earlier = writer.publish();
    ///
    /// writer.remove(ImageId(1));
    /// writer.insert("c.png", image(2))?; // Renames b.png.
    /// writer.insert("d.png", image(3))?;
    /// let later = writer.publish();
    ///
    /// let changes = later.changes_since(&earlier);
    /// assert_eq!(changes.added[0].name, "d.png");
    /// assert_eq!(changes.removed[0].name, "a.png");
    /// assert_eq!((changes.renamed[0].from, changes.renamed[0].to), ("b.png", "c.png"));
    /// assert!(changes.variant_changed.is_empty());
    /// # Ok::<(), jtp_core::CatalogError>(())
    /// ```
    #[must_use]
    pub fn changes_since<'a>(&'a self, earlier: &'a Catalog) -> CatalogChanges<'a> {
        // A catalog has each ID once, so an ID in an unshared chunk is in no shared one.
        let old = unshared_entries(earlier, self);
        let mut by_id: Vec<usize> = (0..old.len()).collect();
        by_id.sort_unstable_by_key(|&at| old.get(at).map(|entry| entry.id));
        let mut found = vec![false; old.len()];

        let mut changes = CatalogChanges::default();
        for new in unshared_entries(self, earlier) {
            let at = by_id
                .binary_search_by_key(&Some(new.id), |&at| old.get(at).map(|entry| entry.id))
                .ok()
                .and_then(|rank| by_id.get(rank).copied());
            let Some((old, found)) = at.and_then(|at| Some((old.get(at)?, found.get_mut(at)?)))
            else {
                changes.added.push(new);
                continue;
            };
            *found = true;
            if old.name != new.name {
                changes.renamed.push(Renamed {
                    id: new.id,
                    from: old.name,
                    to: new.name,
                });
            }
            if old.image() != new.image() {
                changes.variant_changed.push(VariantChanged {
                    from: old.image(),
                    to: new.image(),
                });
            }
        }
        let removed = old.into_iter().zip(found).filter(|(_, found)| !found);
        changes.removed = removed.map(|(entry, _)| entry).collect();
        changes
    }
}

/// The entries of `catalog`, in order, that are in chunks which `other` does not share.
fn unshared_entries<'a>(catalog: &'a Catalog, other: &Catalog) -> Vec<Entry<'a>> {
    let mut shared: Vec<*const Chunk> = other.contents.spine.iter().map(Arc::as_ptr).collect();
    shared.sort_unstable();
    let chunks = catalog.contents.spine.iter();
    chunks
        .filter(|chunk| shared.binary_search(&Arc::as_ptr(chunk)).is_err())
        .flat_map(|chunk| chunk.entries())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::CatalogWriter;
    use crate::image::{FileType, Flags};
    use alloc::collections::BTreeMap;
    use alloc::format;
    use alloc::string::String;
    use proptest::prelude::*;

    fn image(id: u64, length: u32) -> Image {
        Image::new(ImageId(id), Flags::new(FileType::Bmp, false), length)
    }

    /// The same by comparing all entries.
    fn naive<'a>(later: &'a Catalog, earlier: &'a Catalog) -> CatalogChanges<'a> {
        let mut changes = CatalogChanges::default();
        let old: BTreeMap<_, _> = earlier.entries().map(|entry| (entry.id, entry)).collect();
        for new in later.entries() {
            let Some(old) = old.get(&new.id) else {
                changes.added.push(new);
                continue;
            };
            let (id, from, to) = (new.id, old.name, new.name);
            if from != to {
                changes.renamed.push(Renamed { id, from, to });
            }
            let (from, to) = (old.image(), new.image());
            if from != to {
                changes.variant_changed.push(VariantChanged { from, to });
            }
        }
        let gone = |entry: &Entry<'_>| !later.contains(entry.id);
        changes.removed = earlier.entries().filter(gone).collect();
        changes
    }

    #[test]
    fn unchanged_and_empty_catalogs_have_no_changes() {
        let mut writer = CatalogWriter::new();
        writer.insert("a", image(1, 1)).unwrap();
        let catalog = writer.publish();
        assert!(catalog.changes_since(&catalog).is_empty());
        let empty = Catalog::empty();
        assert!(empty.changes_since(&Catalog::empty()).is_empty());
        let all = catalog.changes_since(&empty);
        assert!(!all.is_empty());
        assert_eq!(all.added, catalog.entries().collect::<Vec<_>>());
        // Equal entries of another writer.
        let mut writer = CatalogWriter::new();
        writer.insert("a", image(1, 1)).unwrap();
        assert!(writer.publish().changes_since(&catalog).is_empty());
    }

    #[test]
    fn only_chunks_that_differ_are_compared() {
        let count = if cfg!(miri) { 2_000 } else { 20_000 };
        let mut writer = CatalogWriter::new();
        for n in 0..count {
            writer.insert(&format!("{n:06}"), image(n, 1)).unwrap();
        }
        let earlier = writer.publish();
        writer.insert("000700x", image(count, 1)).unwrap();
        let later = writer.publish();
        assert_eq!(later.changes_since(&earlier), naive(&later, &earlier));
        let compared = unshared_entries(&later, &earlier).len();
        assert!(compared <= 1_024, "{compared} entries compared");
    }

    proptest! {
        #[test]
        fn changes_equal_those_of_a_comparison_of_all_entries(
            steps in prop::collection::vec((0..40u64, 0..5u8, "[a-d]{0,2}", 0..3u32), 0..120),
        ) {
            let mut writers = [CatalogWriter::new(), CatalogWriter::new()];
            let mut snapshots = Vec::new();
            for (id, step, name, length) in steps {
                let writer = &mut writers[usize::from(length == 2)];
                match step {
                    0..3 => writer.insert(&name, image(id, length)).unwrap(),
                    3 => drop(writer.remove(ImageId(id))),
                    _ => snapshots.push(writer.publish()),
                }
            }
            snapshots.extend(writers.iter_mut().map(CatalogWriter::publish));
            for earlier in &snapshots {
                for later in &snapshots {
                    prop_assert_eq!(later.changes_since(earlier), naive(later, earlier));
                }
            }
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn changes_are_complete_where_chunks_split_and_vanish(
            edits in prop::collection::vec((0..2_000u64, any::<bool>(), "[0-9]{4}"), 0..60),
            cleared in 0..2_000u64,
        ) {
            let mut writer = CatalogWriter::new();
            for n in 0..1_500 {
                writer.insert(&format!("{n:04}"), image(n, 1)).unwrap();
            }
            let earlier = writer.publish();
            for (id, insert, name) in edits {
                let name: String = name;
                if insert {
                    writer.insert(&name, image(id, 1)).unwrap();
                } else {
                    writer.remove(ImageId(id));
                }
            }
            for id in cleared..cleared + 700 {
                writer.remove(ImageId(id));
            }
            let later = writer.publish();
            prop_assert_eq!(later.changes_since(&earlier), naive(&later, &earlier));
            prop_assert_eq!(earlier.changes_since(&later), naive(&earlier, &later));
        }
    }
}
