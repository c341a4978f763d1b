//! Stores: where a server takes its images from.
//!
//! [`ImageStore`] is asynchronous and object safe: a server holds an `Arc<dyn ImageStore>`, and can give each peer
//! another one. [`MemoryStore`] is a store in memory. A store whose calls block (a folder, a database driver) is a
//! [`BlockingStore`], which [`Blocking`] runs on a bounded pool of threads.
//!
//! # A store of your own
//!
//! ```
//! use std::sync::Arc;
//!
//! use bytes::Bytes;
//! use jtp_core::{FileType, Flags, Image, ImageId};
//! use jtp_driver::store::{BoxFuture, ImageStore, LiveCatalog, OpenImage, StoreError};
//!
//! /// One image that is made when it is requested.
//! struct Generated {
//!     catalog: LiveCatalog,
//! }
//!
//! impl ImageStore for Generated {
//!     fn catalog(&self) -> &LiveCatalog {
//!         &self.catalog
//!     }
//!
//!     fn open(
//!         self: Arc<Self>,
//!         image: Image,
//!         _max_first: usize,
//!     ) -> BoxFuture<Result<OpenImage, StoreError>> {
//!         // Any future: a query, a download, ...
//!         Box::pin(async move {
//!             let bytes = Bytes::from_static(b"GIF89a");
//!             if ImageId::of(&bytes) != image.id {
//!                 return Err(StoreError::Gone(image.id));
//!             }
//!             Ok(OpenImage::whole(image, bytes))
//!         })
//!     }
//! }
//!
//! let catalog = LiveCatalog::new();
//! let flags = Flags::new(FileType::Gif, false);
//! let image = Image::new(ImageId::of(b"GIF89a"), flags, 6);
//! catalog.edit(|writer| writer.insert("a.gif", image))?;
//! let store = Arc::new(Generated { catalog });
//! # let opened = smol::block_on(store.open(image, 1024))?;
//! # assert_eq!(opened.first(), &b"GIF89a"[..]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod blocking;
mod live;
mod memory;
mod pool;

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use jtp_core::{Image, ImageId};

pub use crate::BoxFuture;
pub use blocking::{Blocking, BlockingBody, BlockingStore};
pub use live::{LiveCatalog, Subscription};
pub use memory::{InsertError, MemoryStore};
pub use pool::{NoThread, PoolJob, ReadPool};

/// A collection of images that can be served.
///
/// Methods may be called from any thread and must not block: a store that blocks implements [`BlockingStore`].
/// Futures are dropped when their connection ends, so a store can abandon work that nobody waits for. A call or future that
/// panics ends the connection that waits for it, without `JTPE`. There is no time limit for a store: give calls that may
/// hang one of your own, and return [`StoreError::Unavailable`].
pub trait ImageStore: Send + Sync + 'static {
    /// The live catalog: its current snapshot, and notification of changes. // S3 N1
    fn catalog(&self) -> &LiveCatalog;

    /// Opens an image in the variant that a snapshot named: ID, compressed or not, length.
    ///
    /// Returns at most `max_first` of its first bytes with it, or all of it if it is no longer than that; a store that
    /// reads elsewhere saves a round trip for a small image. It may return fewer first bytes, or none.
    ///
    /// If the image exists in another variant only (it was compressed meanwhile), that one may be returned: the packet
    /// then names what it carries. (S6 is kept: a response with packets lists no entries.)
    ///
    /// # Errors
    ///
    /// [`StoreError`]. The server sends `JTPE` ServerError where the packet would begin. // S12
    fn open(
        self: Arc<Self>,
        image: Image,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>>;

    /// Opens several small images in one call, in order, each as a whole; an image that is longer than the snapshot said
    /// with some first bytes only. Returns a result for each image up to and including the first error.
    ///
    /// The default, `None`, says that the store has no such call: images are then opened one by one, several at a time
    /// as [`read_ahead`](Self::read_ahead) says.
    fn open_many(
        self: Arc<Self>,
        images: Vec<Image>,
    ) -> Option<BoxFuture<Vec<Result<OpenImage, StoreError>>>> {
        let _ = images;
        None
    }

    /// The raw image of this ID, whatever variant the catalog lists: for an HTTP page with its `Content-Length` and
    /// ranges, for example. The length of [`OpenImage::image`] is that of the raw image.
    ///
    /// The default opens the image if the catalog lists it raw.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::NoRawVariant`] if the store has only an encoded variant.
    fn open_raw(
        self: Arc<Self>,
        id: ImageId,
        max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        let listed = self.catalog().snapshot().get(id);
        match listed {
            Some(image) if !image.flags.is_compressed() => self.open(image, max_first),
            Some(_) => Box::pin(std::future::ready(Err(StoreError::NoRawVariant(id)))),
            None => Box::pin(std::future::ready(Err(StoreError::Gone(id)))),
        }
    }

    /// The bytes that this store gave for an image were not that image's: their hash or their number is another one. The
    /// server has not sent them as a whole. The store is expected to look at the image's source and to correct its
    /// catalog. Must not block. The default does nothing. // S13
    fn report_mismatch(&self, image: &Image) {
        let _ = image;
    }

    /// How far ahead of the peer the server asks this store for images. Default: [`ReadAhead::remote`].
    fn read_ahead(&self) -> ReadAhead {
        ReadAhead::remote()
    }
}

/// An open image whose remaining bytes are read in ranges.
pub trait ImageBody: Send + Sync {
    /// Reads exactly the `length` bytes from `offset` on. The range is within the image. Another number of bytes counts as
    /// [`StoreError::Changed`].
    ///
    /// Nothing is ever padded. Bytes that include the image's last one are returned only after the source was found to
    /// be the indexed one still. // S13
    ///
    /// # Errors
    ///
    /// [`StoreError`]: the packet cannot be completed, and the connection closes short. // S12 S13
    fn read(self: Arc<Self>, offset: u64, length: usize) -> BoxFuture<Result<Bytes, StoreError>>;

    /// Reads bytes that are in memory, without waiting for anything; `None` if there are none, or if that is not known.
    /// Returns at least one byte. It saves a copy to another thread and back, which costs more than reading.
    ///
    /// # Errors
    ///
    /// As for [`read`](Self::read).
    fn try_read(&self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, StoreError> {
        let _ = (offset, buf);
        Ok(None)
    }
}

/// An image that was opened: its first bytes, and where the others come from.
#[must_use]
pub struct OpenImage {
    image: Image,
    first: Bytes,
    body: Option<Arc<dyn ImageBody>>,
}

impl OpenImage {
    /// An image with all of its bytes. If their number is not the length of `image`, the server sends none of them, as
    /// for [`StoreError::Changed`].
    pub fn whole(image: Image, bytes: impl Into<Bytes>) -> OpenImage {
        OpenImage {
            image,
            first: bytes.into(),
            body: None,
        }
    }

    /// An image whose bytes after the `first` ones are read from `body`.
    pub fn streamed(image: Image, first: impl Into<Bytes>, body: Arc<dyn ImageBody>) -> OpenImage {
        OpenImage {
            image,
            first: first.into(),
            body: Some(body),
        }
    }

    /// The variant that was opened.
    #[must_use]
    pub fn image(&self) -> Image {
        self.image
    }

    /// The first bytes.
    #[must_use]
    pub fn first(&self) -> &Bytes {
        &self.first
    }

    /// Where the bytes after [`first`](Self::first) are read; `None` if there are none.
    #[must_use]
    pub fn body(&self) -> Option<&Arc<dyn ImageBody>> {
        self.body.as_ref()
    }

    /// Reads bytes from `offset` on: at least one and at most `max`, within the image. Bytes that came with the image are
    /// returned without a copy. Dropping the future abandons the read.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::OutOfRange`] if `offset` is not in the image.
    pub async fn read(&self, offset: u64, max: usize) -> Result<Bytes, StoreError> {
        let (id, length) = (self.image.id, u64::from(self.image.length));
        if offset >= length {
            return Err(StoreError::OutOfRange { id, offset, length });
        }
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        if begin < self.first.len() {
            let end = self.first.len().min(begin.saturating_add(max));
            return Ok(self.first.slice(begin..end));
        }
        let body = self.body.as_ref().ok_or(StoreError::Changed(id))?;
        let left = usize::try_from(length - offset).unwrap_or(usize::MAX);
        Arc::clone(body).read(offset, left.min(max)).await
    }

    /// Reads the whole image into memory, at most `limit` bytes. Dropping the future abandons the read.
    ///
    /// # Errors
    ///
    /// [`StoreError`]; [`StoreError::TooLarge`] over the limit.
    pub async fn bytes(self, limit: usize) -> Result<Bytes, StoreError> {
        let id = self.image.id;
        let length = usize::try_from(self.image.length).unwrap_or(usize::MAX);
        if length > limit {
            return Err(StoreError::TooLarge { id, limit });
        }
        let Some(body) = self.body.filter(|_| self.first.len() < length) else {
            return Ok(self.first);
        };
        let at = self.first.len();
        let rest = body.read(u64::try_from(at).unwrap_or(u64::MAX), length - at);
        let rest = rest.await?;
        Ok([self.first, rest].concat().into())
    }

    #[cfg(feature = "server")]
    pub(crate) fn into_parts(self) -> (Image, Bytes, Option<Arc<dyn ImageBody>>) {
        (self.image, self.first, self.body)
    }
}

impl fmt::Debug for OpenImage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenImage")
            .field("image", &self.image)
            .field("first", &self.first.len())
            .field("whole", &self.body.is_none())
            .finish()
    }
}

/// How far ahead of the peer a server asks a store for images: it bounds the requests that are under way at once for one
/// connection, and the memory for their answers.
///
/// For all connections of a server the images that are opened ahead have 64 MiB. One connection holds at most half of
/// them, and never more than it leaves free, so peers that do not read leave others a part. Without a part a connection
/// opens one image ahead, with 256 KiB. Those 256 KiB, and ranges, are 32 KiB while more than 64 connections of the server
/// are sent images, and then one range is read at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ReadAhead {
    /// Images that are opened at once, ahead of the one that is being sent.
    pub opens: usize,
    /// The most bytes of the images that are opened ahead, counting at most [`first`](Self::first) of each.
    pub bytes: usize,
    /// The most bytes of an image that are loaded when it is opened ahead, as `max_first` of
    /// [`ImageStore::open`]: a shorter image is loaded in one call. At least 256 KiB.
    pub first: usize,
    /// Ranges of one image that are read at once, each of 256 KiB.
    pub reads: usize,
}

impl ReadAhead {
    /// For a store on this machine: one request at a time, of up to 256 KiB, while the bytes before it are being sent.
    #[must_use]
    pub const fn local() -> ReadAhead {
        ReadAhead {
            opens: 1,
            bytes: 256 * 1024,
            first: 256 * 1024,
            reads: 1,
        }
    }

    /// For a store behind a network: 128 images of 16 MiB in all, images up to 4 MiB in one call, 4 ranges.
    #[must_use]
    pub const fn remote() -> ReadAhead {
        ReadAhead {
            opens: 128,
            bytes: 16 << 20,
            first: 4 << 20,
            reads: 4,
        }
    }

    /// Another number of images that are opened at once; at least 1.
    #[must_use]
    pub const fn with_opens(mut self, opens: usize) -> ReadAhead {
        self.opens = if opens == 0 { 1 } else { opens };
        self
    }

    /// Another limit for the bytes of images that are opened ahead. The next image is opened whatever its length.
    #[must_use]
    pub const fn with_bytes(mut self, bytes: usize) -> ReadAhead {
        self.bytes = bytes;
        self
    }

    /// Another limit for the bytes of an image that are loaded when it is opened ahead.
    #[must_use]
    pub const fn with_first(mut self, first: usize) -> ReadAhead {
        self.first = first;
        self
    }

    /// Another number of ranges that are read at once; at least 1.
    #[must_use]
    pub const fn with_reads(mut self, reads: usize) -> ReadAhead {
        self.reads = if reads == 0 { 1 } else { reads };
        self
    }
}

/// Why a store cannot deliver an image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The store no longer has the image.
    #[error("image {0} is no longer in the store")]
    Gone(ImageId),
    /// The image's source is not the one that was indexed. The store corrects its catalog. // S13
    #[error("image {0} is no longer what the catalog listed")]
    Changed(ImageId),
    /// The backend cannot be reached, or cannot read the image. Another try may succeed.
    #[error("cannot read image {id}")]
    Unavailable {
        /// The image.
        id: ImageId,
        /// The backend's error.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The image is over a limit of the caller.
    #[error("image {id} is over the limit of {limit} bytes")]
    TooLarge {
        /// The image.
        id: ImageId,
        /// The limit in bytes.
        limit: usize,
    },
    /// The store has only an encoded variant of the image.
    #[error("image {0} is stored in an encoded variant only")]
    NoRawVariant(ImageId),
    /// The caller requested bytes beyond the image's last one.
    #[error("byte {offset} of image {id} does not exist: it has {length} bytes")]
    OutOfRange {
        /// The image.
        id: ImageId,
        /// The first byte that was requested.
        offset: u64,
        /// The image's length in bytes.
        length: u64,
    },
}

impl StoreError {
    /// [`StoreError::Unavailable`] for any error of a backend.
    pub fn unavailable(id: ImageId, source: impl Into<Box<dyn Error + Send + Sync>>) -> StoreError {
        StoreError::Unavailable {
            id,
            source: source.into(),
        }
    }

    /// The image that the error is about.
    #[must_use]
    pub fn image(&self) -> ImageId {
        match self {
            StoreError::Gone(id)
            | StoreError::Changed(id)
            | StoreError::NoRawVariant(id)
            | StoreError::Unavailable { id, .. }
            | StoreError::TooLarge { id, .. }
            | StoreError::OutOfRange { id, .. } => *id,
        }
    }

    /// Whether another try may succeed without a change of the catalog.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. })
    }
}

/// A store, given to a server as `Arc<S>`, `Arc<dyn ImageStore>` or as the store itself.
pub trait IntoStore {
    /// The store as the server holds it.
    fn into_store(self) -> Arc<dyn ImageStore>;
}

impl<S: ImageStore> IntoStore for S {
    fn into_store(self) -> Arc<dyn ImageStore> {
        Arc::new(self)
    }
}

impl<S: ImageStore> IntoStore for Arc<S> {
    fn into_store(self) -> Arc<dyn ImageStore> {
        self
    }
}

impl IntoStore for Arc<dyn ImageStore> {
    fn into_store(self) -> Arc<dyn ImageStore> {
        self
    }
}
