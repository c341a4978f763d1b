//! The check of a variant on its way out: its last byte is released only if its checksum is that of the record. // S13

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jtp_core::{Image, ImageHasher};
use jtp_driver::store::{BoxFuture, ImageBody, OpenImage, StoreError};

use crate::variants::Variants;

/// Bytes that are read at once to hash what a reader has skipped.
const SKIPPED: usize = 256 * 1024;

/// The variant that was opened, checked as far as it is read.
///
/// # Errors
///
/// [`StoreError::Changed`] if all of it is there and its checksum is another one.
pub(crate) fn verified(
    opened: OpenImage,
    checksum: u64,
    variants: &Arc<Variants>,
) -> Result<OpenImage, StoreError> {
    let (image, first) = (opened.image(), opened.first().clone());
    let mut hashed = Hashed::default();
    hashed.update(&first);
    match opened.body() {
        None if hashed.hasher.id().0 == checksum => Ok(opened),
        None => Err(StoreError::Changed(image.id)),
        Some(body) => {
            let body = VerifiedBody {
                image,
                checksum,
                body: Arc::clone(body),
                hashed: Mutex::new(hashed),
                variants: Arc::clone(variants),
            };
            Ok(OpenImage::streamed(image, first, Arc::new(body)))
        }
    }
}

/// A variant that is longer than its first bytes.
struct VerifiedBody {
    image: Image,
    checksum: u64,
    body: Arc<dyn ImageBody>,
    hashed: Mutex<Hashed>,
    variants: Arc<Variants>,
}

/// The hash of the bytes up to some length.
#[derive(Default)]
struct Hashed {
    hasher: ImageHasher,
    length: u64,
}

impl Hashed {
    fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
        self.length += u64::try_from(bytes.len()).unwrap_or(0);
    }
}

impl VerifiedBody {
    /// Hashes bytes if they follow those that were hashed. Returns how many were.
    fn hash(&self, offset: u64, bytes: &[u8]) -> u64 {
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if hashed.length == offset {
            hashed.update(bytes);
        }
        hashed.length
    }

    fn has_checksum(&self) -> bool {
        let hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        hashed.hasher.id().0 == self.checksum
    }

    async fn read_checked(&self, offset: u64, length: usize) -> Result<Bytes, StoreError> {
        let bytes = Arc::clone(&self.body).read(offset, length).await?;
        let mut hashed = self.hash(offset, &bytes);
        let (end, all) = (
            offset.saturating_add(len64(length)),
            self.image.length.into(),
        );
        if end < all {
            return Ok(bytes);
        }
        // The last byte is among them. Another reader may be hashing, too.
        while hashed < all {
            let length = usize::try_from(all - hashed).unwrap_or(SKIPPED);
            let skipped = Arc::clone(&self.body).read(hashed, length.min(SKIPPED));
            hashed = self.hash(hashed, &skipped.await?);
        }
        match self.has_checksum() {
            true => Ok(bytes),
            false => Err(StoreError::Changed(self.image.id)),
        }
    }
}

impl ImageBody for VerifiedBody {
    fn read(self: Arc<Self>, offset: u64, length: usize) -> BoxFuture<Result<Bytes, StoreError>> {
        Box::pin(async move {
            let result = self.read_checked(offset, length).await;
            if matches!(result, Err(StoreError::Changed(_))) {
                self.variants.report_lost(self.image.id);
            }
            result
        })
    }
}

fn len64(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
