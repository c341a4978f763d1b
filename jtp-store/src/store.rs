//! What the adapters ask of a store, and why a store may say no.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jtp_core::{Image, ImageId};

use crate::LiveCatalog;

/// A collection of images that can be served.
///
/// Both methods may be called from any thread. [`ImageStore::catalog`] never blocks for long;
/// [`ImageStore::open`] and the body it gives touch the disk, so an async adapter calls them on a thread
/// that may block (see [`load`](crate::load) for doing many at once).
pub trait ImageStore: Send + Sync + 'static {
    /// The live catalog: its snapshot now, and the news of changes. // S3 N1
    fn catalog(&self) -> &LiveCatalog;

    /// Opens an image in the form that a snapshot gave it: ID, compressed or not, length. Blocking.
    ///
    /// The body is proved to be that image's: its file is the one that was indexed. // S13
    ///
    /// # Errors
    ///
    /// [`OpenError`]: the image cannot be sent as that snapshot promised. Where a packet would begin the
    /// server then says `JTPE` ServerError (S12).
    fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError>;
}

/// An open image: the bytes that travel.
pub trait ImageBody: Send {
    /// Reads bytes from `offset` on into `buf` and returns how many: at least 1 unless `buf` is empty, and
    /// never beyond the image's length. Blocking.
    ///
    /// Bytes that include the image's last one are only given after a second look found the file as it was
    /// indexed, so a body that was read in order and whose last byte was given is that image's, all of it. Nothing is ever padded. // S13
    ///
    /// # Errors
    ///
    /// [`ReadError`]: the packet cannot be completed, and the connection has to close short. // S12 S13
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError>;

    /// The same of bytes that are in memory, so that nobody waits for a disk; `None` if there are none, or if it
    /// cannot be told. An async adapter then need not take the bytes to another thread and back, which costs
    /// more than to read them.
    ///
    /// By default it is always `None`.
    ///
    /// # Errors
    ///
    /// As [`ImageBody::read_at`].
    fn try_read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<Option<usize>, ReadError> {
        let _ = (offset, buf);
        Ok(None)
    }
}

impl<S: ImageStore + ?Sized> ImageStore for Arc<S> {
    fn catalog(&self) -> &LiveCatalog {
        (**self).catalog()
    }

    fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError> {
        (**self).open(image)
    }
}

impl<S: ImageStore + ?Sized> ImageStore for Box<S> {
    fn catalog(&self) -> &LiveCatalog {
        (**self).catalog()
    }

    fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError> {
        (**self).open(image)
    }
}

/// Why an image cannot be opened as a snapshot promised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The catalog has no such image any more.
    #[error("image {0} is gone")]
    Gone(ImageId),
    /// The file is not the indexed one any more, or the form is another. The catalog is being corrected. // S13
    #[error("image {0} is not what the catalog said any more")]
    Changed(ImageId),
    /// The file cannot be opened.
    #[error("cannot open image {id} at {}: {source}", path.display())]
    Io {
        /// The image.
        id: ImageId,
        /// Its file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why an open image cannot be read to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file changed while it was read. The catalog is being corrected. // S13
    #[error("image {0} changed while it was read")]
    Changed(ImageId),
    /// The caller asked for bytes behind the last one.
    #[error("image {id} has {length} bytes, and byte {offset} was asked for")]
    PastEnd {
        /// The image.
        id: ImageId,
        /// Where the caller wanted to read.
        offset: u64,
        /// The bytes that travel.
        length: u64,
    },
    /// The file cannot be read.
    #[error("cannot read image {id}: {source}")]
    Io {
        /// The image.
        id: ImageId,
        /// What the system said.
        source: io::Error,
    },
}

/// The part of `buf` that a read at `offset` of a body of `length` bytes may fill, and whether the last
/// byte is in it.
pub(crate) fn window(
    id: ImageId,
    length: u64,
    offset: u64,
    buf: &mut [u8],
) -> Result<(&mut [u8], bool), ReadError> {
    let left = length.saturating_sub(offset);
    if left == 0 && !buf.is_empty() {
        return Err(ReadError::PastEnd { id, offset, length });
    }
    let wanted = usize::try_from(left).map_or(buf.len(), |left| left.min(buf.len()));
    let buf = buf.get_mut(..wanted).unwrap_or_default();
    let last = u64::try_from(buf.len()).is_ok_and(|wanted| wanted == left);
    Ok((buf, last))
}
