//! Images in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use jtp_core::compress::Threshold;
use jtp_core::{CatalogError, FileType, Flags, Image, ImageId};

use crate::store::window;
use crate::{ImageBody, ImageStore, LiveCatalog, OpenError, ReadError};

/// A store of images in memory, changed at run time: for programs that make their images, and for tests.
///
/// ```
/// use jtp_store::{ImageStore, MemoryStore, load};
///
/// let store = MemoryStore::new();
/// let id = store.insert("a.png", b"pixels".as_slice())?;
/// let image = store.catalog().snapshot().get(id).unwrap();
/// let loaded = load(&store, &[image], 1024).remove(0)?;
/// assert_eq!(loaded.first, b"pixels");
/// assert!(store.remove(id));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    live: LiveCatalog,
    images: RwLock<HashMap<ImageId, Stored>>,
    threshold: Option<Threshold>,
}

#[derive(Debug, Clone)]
struct Stored {
    image: Image,
    raw_length: u32,
    /// The bytes that travel.
    bytes: Arc<[u8]>,
}

impl Stored {
    /// Whether the two are of one ID and of different bytes, as far as their forms tell: one store makes one
    /// form of the same bytes, and the length of the raw image is known for both. // S4
    fn collides_with(&self, other: &Stored) -> bool {
        let same_form = self.image.flags.is_compressed() == other.image.flags.is_compressed();
        self.raw_length != other.raw_length || (same_form && self.bytes != other.bytes)
    }
}

/// Why an image cannot be put into a [`MemoryStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// The catalog refuses it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It is over 4,294,967,295 bytes, which no packet can carry. // S14
    #[error("the image is over 4,294,967,295 bytes")]
    TooLarge,
    /// Another image, of other bytes, has its ID. // S4
    #[error("another image has the ID {0}")]
    Collision(ImageId),
}

impl MemoryStore {
    /// An empty store whose images travel raw.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// An empty store that compresses, when they are inserted, the images that S9 names.
    #[must_use]
    #[cfg(feature = "zstd")]
    pub fn compressing(threshold: Threshold) -> MemoryStore {
        MemoryStore {
            threshold: Some(threshold),
            ..MemoryStore::default()
        }
    }

    /// Puts an image in and publishes it. Its type comes from its first bytes, else from the name's
    /// extension. The same bytes once more get the new name, and are no news to watchers. // S4 N1
    ///
    /// # Errors
    ///
    /// [`InsertError`]; the store stays as it was.
    pub fn insert(&self, name: &str, bytes: impl Into<Arc<[u8]>>) -> Result<ImageId, InsertError> {
        let bytes = bytes.into();
        let file_type = FileType::sniff(&bytes).unwrap_or_else(|| {
            FileType::from_extension(name.rsplit_once('.').map_or("", |(_, extension)| extension))
        });
        let id = ImageId::of(&bytes);
        let raw_length = u32::try_from(bytes.len()).map_err(|_| InsertError::TooLarge)?;
        let raw = Stored {
            image: Image::new(id, Flags::new(file_type, false), raw_length),
            raw_length,
            bytes,
        };
        let new = self.compressed(file_type, &raw).unwrap_or(raw);
        // Inside the edit, so that two inserts of one ID cannot pass each other.
        self.live.edit(|writer| {
            let mut images = self.images.write().unwrap_or_else(PoisonError::into_inner);
            if images.get(&id).is_some_and(|old| old.collides_with(&new)) {
                return Err(InsertError::Collision(id));
            }
            writer.insert(name, new.image)?;
            images.insert(id, new);
            Ok(id)
        })
    }

    /// Takes an image out; whether it was there. Bodies that are open stay whole.
    pub fn remove(&self, id: ImageId) -> bool {
        self.live.edit(|writer| {
            let mut images = self.images.write().unwrap_or_else(PoisonError::into_inner);
            images.remove(&id);
            writer.remove(id)
        })
    }

    #[cfg(feature = "zstd")]
    fn compressed(&self, file_type: FileType, raw: &Stored) -> Option<Stored> {
        use jtp_core::compress;

        let length = u64::from(raw.image.length);
        let threshold = self
            .threshold
            .filter(|_| compress::is_eligible(file_type, length))?;
        let form = zstd::bulk::compress(&raw.bytes, compress::level(length)).ok()?;
        let form_length = u32::try_from(form.len()).ok()?;
        threshold
            .accepts(length, u64::from(form_length))
            .then(|| Stored {
                image: Image::new(raw.image.id, Flags::new(file_type, true), form_length),
                raw_length: raw.raw_length,
                bytes: form.into(),
            })
    }

    #[cfg(not(feature = "zstd"))]
    fn compressed(&self, _: FileType, _: &Stored) -> Option<Stored> {
        let _ = self.threshold;
        None
    }
}

impl ImageStore for MemoryStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.live
    }

    fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError> {
        let images = self.images.read().unwrap_or_else(PoisonError::into_inner);
        let stored = images.get(&image.id).ok_or(OpenError::Gone(image.id))?;
        let same_form = stored.image.length == image.length
            && stored.image.flags.is_compressed() == image.flags.is_compressed();
        if !same_form {
            return Err(OpenError::Changed(image.id));
        }
        Ok(Box::new(MemoryBody {
            id: image.id,
            bytes: Arc::clone(&stored.bytes),
        }))
    }
}

/// A body in memory, shared with whoever else has it open.
pub(crate) struct MemoryBody {
    pub(crate) id: ImageId,
    pub(crate) bytes: Arc<[u8]>,
}

impl ImageBody for MemoryBody {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let length = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        let (buf, _) = window(self.id, length, offset, buf)?;
        let from = usize::try_from(offset)
            .ok()
            .and_then(|at| self.bytes.get(at..));
        let part = from
            .and_then(|from| from.get(..buf.len()))
            .unwrap_or_default();
        if let Some(buf) = buf.get_mut(..part.len()) {
            buf.copy_from_slice(part);
        }
        Ok(part.len())
    }

    fn try_read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        self.read_at(offset, buf).map(Some)
    }
}
