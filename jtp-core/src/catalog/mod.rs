//! The catalog of a server's images. A [`Catalog`] is one snapshot; a [`CatalogWriter`] makes the next one.
//!
//! A snapshot never changes, so each response is computed from one state of the catalog (S3). Snapshots are
//! cheap to share and to make: entries are stored in chunks of some hundred, encoded as in a LIST response, and a
//! change copies only the chunks and index shards that it touches. Adding one image to a million copies two lists
//! of pointers, a chunk and a shard. LIST responses are not encoded again.
//!
//! ```text
//! Catalog ── spine ──► Chunk (names a…c) ─ encoded entries, in catalog order
//!    │           └───► Chunk (names d…f) ─ …            shared with other snapshots
//!    ├── index ──► Shard (IDs 0…) ─ sorted (ID, chunk), 8 bytes each
//!    └── latest ─► position in the history: WATCH sends the events after it
//! ```

#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(not(feature = "std"), allow(clippy::arc_with_non_send_sync))]

mod bulk;
mod changes;
mod chunk;
mod history;
mod index;
mod writer;

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use crate::image::{Image, ImageId};
use crate::wire::entry::Entry;
use crate::wire::response::{self, Header};

pub use changes::{CatalogChanges, Renamed, VariantChanged};
use chunk::Chunk;
pub(crate) use history::Batch;
pub use history::Cursor;
use index::Index;
pub use writer::{CatalogError, CatalogWriter};

/// A snapshot of the catalog, sorted by the bytes of the NFC name, then by ID. // S3 S5
///
/// Each ID is in it once (S4). Without the feature `std` a catalog cannot be shared between threads.
///
/// ```
/// use jtp_core::{CatalogWriter, FileType, Flags, Image, ImageId};
///
/// let mut writer = CatalogWriter::new();
/// let image = Image::new(ImageId::of(b"pixels"), Flags::new(FileType::Png, false), 6);
/// writer.insert("a.png", image)?;
/// let catalog = writer.publish();
/// assert_eq!(catalog.get(image.id), Some(image));
/// assert_eq!(catalog.entries().next().unwrap().name, "a.png");
/// # Ok::<(), jtp_core::CatalogError>(())
/// ```
#[derive(Clone)]
pub struct Catalog {
    contents: Contents,
    /// The number of IDs before each shard of the index.
    starts: Vec<usize>,
    /// `JTPL` and the count.
    list_head: Vec<u8>,
    generation: u64,
    latest: Cursor,
}

/// The part of a catalog that its writer changes.
#[derive(Debug, Clone)]
struct Contents {
    /// The chunks in catalog order; none is empty.
    spine: Vec<Arc<Chunk>>,
    /// For each slot, the index of its chunk in the spine.
    slots: Vec<usize>,
    index: Index,
}

impl Contents {
    fn new() -> Contents {
        Contents {
            spine: Vec::new(),
            slots: Vec::new(),
            index: Index::new(),
        }
    }

    /// The index of the image's chunk in the spine, and the offset of its entry in the chunk.
    fn find(&self, id: ImageId) -> Option<(usize, usize)> {
        let position = *self.slots.get(self.index.slot(id)?)?;
        Some((position, self.spine.get(position)?.offset_of(id)?))
    }
}

/// A position in catalog order, for [`Catalog::next_image`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    chunk: usize,
    /// Of an entry in the chunk, or the chunk's end.
    offset: usize,
}

impl Catalog {
    fn new(contents: Contents, generation: u64, latest: Cursor) -> Catalog {
        let mut list_head = Vec::with_capacity(response::MAX_HEAD_LEN);
        // The writer refuses more images than a u32 can count.
        let count = u32::try_from(contents.index.len()).unwrap_or(u32::MAX);
        response::encode_head(Header::List, count, &mut list_head);
        Catalog {
            starts: contents.index.starts(),
            contents,
            list_head,
            generation,
            latest,
        }
    }

    /// A catalog without images. Its history is its own and stays empty.
    #[must_use]
    pub fn empty() -> Catalog {
        Catalog::new(Contents::new(), 0, Cursor::start())
    }

    /// The number of images.
    #[must_use]
    pub fn len(&self) -> usize {
        self.contents.index.len()
    }

    /// Whether the catalog has no images.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of this snapshot among those of its writer: the empty first one is 0, and each publication with
    /// changes adds 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The position in the history that corresponds to this snapshot: a WATCH that starts here reports every image
    /// that is added later. // N1 N5
    #[must_use]
    pub fn latest(&self) -> &Cursor {
        &self.latest
    }

    /// The image with this ID, as this snapshot sends it.
    #[must_use]
    pub fn get(&self, id: ImageId) -> Option<Image> {
        let (position, offset) = self.contents.find(id)?;
        let image = self.contents.spine.get(position)?.image(offset);
        image.map(|(image, _)| image)
    }

    /// The entry with this ID.
    #[must_use]
    pub fn entry(&self, id: ImageId) -> Option<Entry<'_>> {
        let (position, offset) = self.contents.find(id)?;
        self.contents.spine.get(position)?.entry(offset)
    }

    /// Whether the catalog has an image with this ID.
    #[must_use]
    pub fn contains(&self, id: ImageId) -> bool {
        self.contents.index.slot(id).is_some()
    }

    /// All entries in catalog order. // S5
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let chunks = self.contents.spine.iter();
        chunks.flat_map(|chunk| chunk.entries())
    }

    /// The whole response to LIST in pieces: the header with the count, then the entries of each chunk.
    ///
    /// Borrows encoded bytes; nothing is encoded or copied.
    pub fn list(&self) -> impl Iterator<Item = &[u8]> {
        (0..).map_while(|index| self.list_piece(index))
    }

    pub(crate) fn list_piece(&self, index: usize) -> Option<&[u8]> {
        match index.checked_sub(1) {
            None => Some(&self.list_head),
            Some(chunk) => self.contents.spine.get(chunk).map(|chunk| chunk.bytes()),
        }
    }

    /// The image's position in the order of IDs, below [`Catalog::len`].
    pub(crate) fn ordinal(&self, id: ImageId) -> Option<usize> {
        self.contents.index.ordinal(id, &self.starts)
    }

    /// The image at a position, which moves on by one.
    pub(crate) fn next_image(&self, at: &mut Place) -> Option<Image> {
        loop {
            let chunk = self.contents.spine.get(at.chunk)?;
            if let Some((image, next)) = chunk.image(at.offset) {
                at.offset = next;
                return Some(image);
            }
            *at = Place {
                chunk: at.chunk + 1,
                offset: 0,
            };
        }
    }

    /// The image's [ordinal](Self::ordinal), and the index of its chunk.
    pub(crate) fn locate(&self, id: ImageId) -> Option<(usize, usize)> {
        let (ordinal, slot) = self.contents.index.locate(id, &self.starts)?;
        Some((ordinal, *self.contents.slots.get(slot)?))
    }

    /// Number of chunks.
    pub(crate) fn chunks(&self) -> usize {
        self.contents.spine.len()
    }

    /// Skips whole chunks from a position at the start of one, while `skips` is true of the chunk's index and number
    /// of images.
    pub(crate) fn skip_chunks(&self, at: &mut Place, skips: impl Fn(usize, usize) -> bool) {
        while let Some(chunk) = self.contents.spine.get(at.chunk) {
            let is_at_end = at.offset >= chunk.bytes().len();
            if !is_at_end && (at.offset > 0 || !skips(at.chunk, chunk.len())) {
                return;
            }
            *at = Place {
                chunk: at.chunk + 1,
                offset: 0,
            };
        }
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog")
            .field("len", &self.len())
            .field("generation", &self.generation)
            .field("events", &self.latest.events())
            .finish_non_exhaustive()
    }
}
