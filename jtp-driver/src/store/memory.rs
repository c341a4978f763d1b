//! Images in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use jtp_core::compress::Threshold;
use jtp_core::{CatalogError, FileType, Flags, Image, ImageId};

use super::{ImageStore, LiveCatalog, OpenImage, ReadAhead, StoreError};
use crate::BoxFuture;

/// A store of images in memory that changes at run time: for programs that make their images, and for tests.
///
/// ```
/// use std::sync::Arc;
///
/// use jtp_driver::store::{ImageStore, MemoryStore};
///
/// # smol::block_on(async {
/// let store = Arc::new(MemoryStore::new());
/// let id = store.insert("a.png", b"pixels".as_slice())?;
/// let image = store.catalog().snapshot().get(id).unwrap();
/// let opened = Arc::clone(&store).open(image, 1024).await?;
/// assert_eq!(opened.bytes(1024).await?, b"pixels"[..]);
/// assert!(store.remove(id));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # }).unwrap();
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    live: LiveCatalog,
    images: RwLock<HashMap<ImageId, Stored>>,
    threshold: Option<Threshold>,
}

#[derive(Debug)]
struct Stored {
    /// The listed variant.
    image: Image,
    bytes: Bytes,
    raw: Bytes,
}

/// Why an image cannot be inserted into a [`MemoryStore`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InsertError {
    /// The catalog refuses it.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// It is over 4,294,967,295 bytes, which no packet can carry. // S14
    #[error("the image is over 4,294,967,295 bytes")]
    TooLarge,
    /// Another image, with other bytes, has its ID. // S4
    #[error("another image has the ID {0}")]
    Collision(ImageId),
}

impl MemoryStore {
    /// An empty store whose images travel raw.
    #[must_use]
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// An empty store that compresses images when they are inserted, as far as S9 allows. It keeps both variants.
    #[must_use]
    #[cfg(feature = "zstd")]
    pub fn compressing(threshold: Threshold) -> MemoryStore {
        MemoryStore {
            threshold: Some(threshold),
            ..MemoryStore::default()
        }
    }

    /// Inserts an image and publishes it. Its type is that of its first bytes, else of the name's extension. Inserting
    /// the same bytes again changes the name, and is no event for watchers. // S4 N1
    ///
    /// # Errors
    ///
    /// [`InsertError`]; the store is unchanged.
    pub fn insert(&self, name: &str, bytes: impl Into<Bytes>) -> Result<ImageId, InsertError> {
        let raw = bytes.into();
        let file_type = FileType::sniff(&raw).unwrap_or_else(|| {
            FileType::from_extension(name.rsplit_once('.').map_or("", |(_, extension)| extension))
        });
        let id = ImageId::of(&raw);
        let length = u32::try_from(raw.len()).map_err(|_| InsertError::TooLarge)?;
        let image = Image::new(id, Flags::new(file_type, false), length);
        let (image, bytes) = self
            .compressed(image, &raw)
            .unwrap_or_else(|| (image, raw.clone()));
        let new = Stored { image, bytes, raw };
        // Inside the edit, so that two inserts of one ID run one after another.
        self.live.edit(|writer| {
            let mut images = self.images.write().unwrap_or_else(PoisonError::into_inner);
            if images.get(&id).is_some_and(|old| old.raw != new.raw) {
                return Err(InsertError::Collision(id)); // S4
            }
            writer.insert(name, new.image)?;
            images.insert(id, new);
            Ok(id)
        })
    }

    /// Removes an image; whether it was there. Images that are open stay readable.
    pub fn remove(&self, id: ImageId) -> bool {
        self.live.edit(|writer| {
            let mut images = self.images.write().unwrap_or_else(PoisonError::into_inner);
            images.remove(&id);
            writer.remove(id)
        })
    }

    #[cfg(feature = "zstd")]
    fn compressed(&self, raw: Image, bytes: &[u8]) -> Option<(Image, Bytes)> {
        use jtp_core::compress;

        let (file_type, length) = (raw.flags.file_type(), u64::from(raw.length));
        let threshold = self
            .threshold
            .filter(|_| compress::is_eligible(file_type, length))?;
        let variant = zstd::bulk::compress(bytes, compress::level(length)).ok()?;
        let variant_length = u32::try_from(variant.len()).ok()?;
        threshold
            .accepts(length, u64::from(variant_length))
            .then(|| {
                let flags = Flags::new(file_type, true);
                (Image::new(raw.id, flags, variant_length), variant.into())
            })
    }

    #[cfg(not(feature = "zstd"))]
    fn compressed(&self, _: Image, _: &[u8]) -> Option<(Image, Bytes)> {
        let _ = self.threshold;
        None
    }

    /// The requested variant; the listed one if there is no such variant.
    fn opened(&self, image: &Image) -> Result<OpenImage, StoreError> {
        let images = self.images.read().unwrap_or_else(PoisonError::into_inner);
        let stored = images.get(&image.id).ok_or(StoreError::Gone(image.id))?;
        Ok(if image.flags.is_compressed() {
            OpenImage::whole(stored.image, stored.bytes.clone())
        } else {
            stored.open_raw()
        })
    }
}

impl Stored {
    fn open_raw(&self) -> OpenImage {
        let length = u32::try_from(self.raw.len()).unwrap_or(u32::MAX);
        let flags = Flags::new(self.image.flags.file_type(), false);
        let image = Image::new(self.image.id, flags, length);
        OpenImage::whole(image, self.raw.clone())
    }
}

impl ImageStore for MemoryStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.live
    }

    fn open(
        self: Arc<Self>,
        image: Image,
        _max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        Box::pin(std::future::ready(self.opened(&image)))
    }

    fn open_many(
        self: Arc<Self>,
        images: Vec<Image>,
    ) -> Option<BoxFuture<Vec<Result<OpenImage, StoreError>>>> {
        let mut results = Vec::with_capacity(images.len());
        for image in &images {
            let result = self.opened(image);
            let failed = result.is_err();
            results.push(result);
            if failed {
                break;
            }
        }
        Some(Box::pin(std::future::ready(results)))
    }

    fn open_raw(
        self: Arc<Self>,
        id: ImageId,
        _max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        let images = self.images.read().unwrap_or_else(PoisonError::into_inner);
        let opened = images.get(&id).map(Stored::open_raw);
        drop(images);
        Box::pin(std::future::ready(opened.ok_or(StoreError::Gone(id))))
    }

    fn read_ahead(&self) -> ReadAhead {
        ReadAhead::local()
    }
}
