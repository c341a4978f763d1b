//! The catalog: which images there are. [`Catalog`] is one snapshot, [`CatalogWriter`] makes the next.
//!
//! A snapshot never changes, so each response is computed from one state of the catalog (S3), and it is
//! cheap to share and cheap to make: entries live in chunks of some hundred neighbours, encoded as they stand
//! in a LIST, and a change copies the chunks and index shards that it touches. Publishing one image into
//! a million copies two lists of pointers, a chunk and a shard; LIST is never encoded again.
//!
//! ```text
//! Catalog ── spine ──► Chunk (names a…c) ─ encoded entries, in catalog order
//!    │           └───► Chunk (names d…f) ─ …            shared with other snapshots
//!    ├── index ──► Shard (IDs 0…) ─ sorted (ID, chunk)
//!    └── latest ─► place in the history: what WATCH tells from here on
//! ```

#![cfg_attr(not(feature = "std"), allow(clippy::arc_with_non_send_sync))]

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

/// One state of the catalog, in the order of NFC name bytes, then ID. // S3 S5
///
/// It holds each ID once (S4). Without the feature `std` a catalog cannot be shared between threads.
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
    shape: Shape,
    /// How many IDs stand before each shard of the index.
    starts: Vec<usize>,
    /// `JTPL` and the count.
    list_head: Vec<u8>,
    generation: u64,
    latest: Cursor,
}

/// The part of a catalog that its writer works on.
#[derive(Debug, Clone)]
struct Shape {
    /// The chunks in catalog order; none is empty.
    spine: Vec<Arc<Chunk>>,
    /// Where in the spine the chunk of a slot stands.
    places: Vec<usize>,
    index: Index,
}

impl Shape {
    fn new() -> Shape {
        Shape {
            spine: Vec::new(),
            places: Vec::new(),
            index: Index::new(),
        }
    }

    /// Where an image is: the chunk's place in the spine, and its place in the chunk.
    fn find(&self, id: ImageId) -> Option<(usize, usize)> {
        let place = *self.places.get(self.index.slot(id)?)?;
        Some((place, self.spine.get(place)?.index_of(id)?))
    }
}

/// A place in catalog order, for going through the images one by one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Place {
    chunk: usize,
    index: usize,
}

impl Catalog {
    fn new(shape: Shape, generation: u64, latest: Cursor) -> Catalog {
        let mut list_head = Vec::with_capacity(response::MAX_HEAD_LEN);
        // The writer refuses an image beyond what a u32 counts.
        let count = u32::try_from(shape.index.len()).unwrap_or(u32::MAX);
        response::encode_head(Header::List, count, &mut list_head);
        Catalog {
            starts: shape.index.starts(),
            shape,
            list_head,
            generation,
            latest,
        }
    }

    /// A catalog without images, at the start of a history that nobody writes.
    #[must_use]
    pub fn empty() -> Catalog {
        Catalog::new(Shape::new(), 0, Cursor::start())
    }

    /// How many images there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.index.len()
    }

    /// Whether there is no image.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Which snapshot of its writer this is: 0 is the empty one, each publishing adds 1.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The place in the history up to which all new images are in this snapshot. // N1 N5
    #[must_use]
    pub fn latest(&self) -> &Cursor {
        &self.latest
    }

    /// The image of that ID, as this snapshot sends it.
    #[must_use]
    pub fn get(&self, id: ImageId) -> Option<Image> {
        let (place, index) = self.shape.find(id)?;
        self.shape.spine.get(place)?.image(index)
    }

    /// The entry of that ID.
    #[must_use]
    pub fn entry(&self, id: ImageId) -> Option<Entry<'_>> {
        let (place, index) = self.shape.find(id)?;
        self.shape.spine.get(place)?.entry(index)
    }

    /// Whether there is an image of that ID.
    #[must_use]
    pub fn contains(&self, id: ImageId) -> bool {
        self.shape.index.slot(id).is_some()
    }

    /// All entries in catalog order. // S5
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        let chunks = self.shape.spine.iter();
        chunks.flat_map(|chunk| chunk.entries())
    }

    /// The whole response to LIST in pieces: the header with the count, then each chunk's entries.
    ///
    /// Nothing is encoded or copied for it.
    pub fn list(&self) -> impl Iterator<Item = &[u8]> {
        (0..).map_while(|index| self.list_piece(index))
    }

    pub(crate) fn list_piece(&self, index: usize) -> Option<&[u8]> {
        match index.checked_sub(1) {
            None => Some(&self.list_head),
            Some(chunk) => self.shape.spine.get(chunk).map(|chunk| chunk.bytes()),
        }
    }

    /// Where the image stands in the order of IDs: below [`Catalog::len`], each once.
    pub(crate) fn ordinal(&self, id: ImageId) -> Option<usize> {
        self.shape.index.ordinal(id, &self.starts)
    }

    /// The image at a place, and the place moved on.
    pub(crate) fn next_image(&self, at: &mut Place) -> Option<Image> {
        loop {
            let chunk = self.shape.spine.get(at.chunk)?;
            if at.index < chunk.len() {
                at.index += 1;
                return chunk.image(at.index - 1);
            }
            *at = Place {
                chunk: at.chunk + 1,
                index: 0,
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
