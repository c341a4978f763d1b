//! An image in the bucket, and its bytes.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jtp_core::{Image, ImageId};
use jtp_driver::store::{BoxFuture, ImageBody, StoreError};
use object_store::path::Path;

use crate::bucket::OpenRange;
use crate::cache::Fill;
use crate::catalog::SharedCatalog;
use crate::error::Error;
use crate::follower::Corrections;
use crate::format::Identity;
use crate::permits::Permits;

/// An image in the bucket, or its encoded variant.
///
/// Reads that follow one another share one request for the whole object: its bytes come as they are read, and those that
/// are not stay with the backend. If that request breaks, or takes longer than the backend's client permits, the next read
/// makes another one for the rest.
pub(crate) struct Located {
    pub(crate) image: Image,
    /// The hash of its bytes: the ID, if it is raw.
    pub(crate) content: ImageId,
    /// The key of the image; `None` for a variant, which has no record of its own.
    pub(crate) key: Option<Box<str>>,
    pub(crate) path: Path,
    pub(crate) identity: Identity,
    pub(crate) catalog: Arc<SharedCatalog>,
    pub(crate) corrections: Arc<Corrections>,
    pub(crate) reads: Arc<Permits>,
    pub(crate) fill: Option<Fill>,
    pub(crate) sequence: Mutex<Sequence>,
}

/// Where reads that follow one another are.
#[derive(Default)]
pub(crate) struct Sequence {
    next: u64,
    /// The request, unless a read is using it.
    request: Option<OpenRange>,
}

impl Located {
    pub(crate) async fn read_range(&self, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        if length == 0 {
            return Ok(Bytes::new());
        }
        let id = self.image.id;
        let bucket = self.catalog.bucket();
        let read = self.read(offset, length);
        // Also the wait for a permit has an end: with the store down, no request would ever return its own.
        match bucket.watched("read", self.path.as_ref(), read).await {
            Ok(bytes) => {
                if let Some(fill) = &self.fill {
                    fill.add(offset, bytes.clone());
                }
                Ok(bytes)
            }
            Err(error) if error.is_other_object() => {
                if let Some(key) = &self.key {
                    self.corrections.add(key, false);
                }
                Err(StoreError::Changed(id)) // S13
            }
            Err(error) => Err(StoreError::unavailable(id, error)),
        }
    }

    async fn read(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        let after = offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        let bucket = self.catalog.bucket();
        let (follows, request) = self.continued(offset);
        let attempt = request.is_none().then(|| bucket.attempt(&self.path));
        let _attempt = attempt.transpose()?;
        let _permit = self.reads.acquire().await;
        if let Some(mut request) = request {
            match request.next(length).await {
                Ok(bytes) => {
                    self.continue_at(after, request);
                    return Ok(bytes);
                }
                Err(error) if error.is_other_object() => return Err(error),
                Err(error) => tracing::debug!(%error, "the rest of an image is requested again"),
            }
        }
        let end = if follows { self.identity.size } else { after };
        let request = bucket.open_range(&self.path, &self.identity, offset..end);
        let mut request = request.await?;
        let bytes = request.next(length).await?;
        if follows {
            self.continue_at(after, request);
        }
        Ok(bytes)
    }

    /// Whether a read follows the one before, and the request that it continues. Without it, for example because a read was
    /// abandoned, it makes another one.
    fn continued(&self, offset: u64) -> (bool, Option<OpenRange>) {
        let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        let follows = sequence.next == offset;
        let request = sequence.request.take_if(|_| follows);
        (follows, request)
    }

    fn continue_at(&self, next: u64, request: OpenRange) {
        let request = Some(request).filter(|request| !request.is_at_end());
        let mut sequence = self.sequence.lock().unwrap_or_else(PoisonError::into_inner);
        *sequence = Sequence { next, request };
    }
}

impl ImageBody for Located {
    fn read(self: Arc<Self>, offset: u64, length: usize) -> BoxFuture<Result<Bytes, StoreError>> {
        Box::pin(async move { self.read_range(offset, length).await })
    }
}
