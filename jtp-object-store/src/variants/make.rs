//! Finds the variant of one image, or makes it. // S9

use bytes::{Bytes, BytesMut};
use futures_util::TryStreamExt;
use jtp_core::compress::SAMPLE_LEN;
use jtp_core::{Image, ImageId};

use super::Variants;
use super::encode::{Encoded, Encoding, decodes_to, is_compressible};
use crate::bucket::Put;
use crate::catalog::Proposal;
use crate::error::Error;
use crate::format::{Object, Variant};
use crate::read_object::read_whole;

/// The longest variant that is made: it is in memory until it is written.
pub(super) const MAX_LEN: u64 = 64 << 20;
/// Bytes of an image that are compressed in one step.
const STEP: usize = 256 * 1024;
/// An image of at most this length is compressed where it is read: on another thread it would take longer.
const MAX_INLINE: u32 = 32 * 1024;

impl Variants {
    /// The change of the record of an image whose variant is missing. `None` if it is not missing any more, or cannot be
    /// made now.
    pub(super) async fn make(&self, id: ImageId) -> Result<Option<Proposal>, Error> {
        let source = self.catalog.state().source(id);
        let Some((key, before)) = source else {
            return Ok(None);
        };
        let is_lost = self.queue().known.get(&id).copied().unwrap_or(false);
        let Some(raw) = before.image() else {
            return Ok(None);
        };
        if !is_lost && !before.lacks_variant(self.threshold) {
            return Ok(None);
        }
        let found = match self.find(raw).await? {
            Some(found) => Some(found),
            None => self.encode_and_store(&key, &before, raw).await?,
        };
        let Some(variant) = found else {
            return Ok(None);
        };
        let mut after = before.clone();
        after.variant = Some(variant);
        Ok(Some(Proposal {
            key: key.into(),
            before: Some(before),
            after: Some(after),
        }))
    }

    /// The variant that another process has made. A damaged one is deleted.
    async fn find(&self, raw: Image) -> Result<Option<Variant>, Error> {
        let bucket = self.catalog.bucket();
        let path = bucket.variant_path(raw.id);
        match bucket.get(&path, MAX_LEN).await {
            Ok(None) => return Ok(None),
            Ok(Some(stored)) => {
                let bytes = stored.bytes.clone();
                if let Some(true) = self.compute(raw, move || decodes_to(&bytes, raw)).await {
                    return Ok(Some(variant_of(&stored.bytes)));
                }
            }
            Err(Error::TooLarge { .. }) => {}
            Err(error) => return Err(error),
        }
        tracing::warn!(%path, "a compressed variant is damaged; it is made again");
        bucket.delete(&path).await?;
        Ok(None)
    }

    async fn encode_and_store(
        &self,
        key: &str,
        record: &Object,
        raw: Image,
    ) -> Result<Option<Variant>, Error> {
        let bytes = match self.encode(key, record, raw).await {
            Ok(Some(Encoded::Bytes(bytes))) => Bytes::from(bytes),
            Ok(Some(Encoded::TooLong(variant))) => return Ok(Some(variant)),
            Ok(None) => return Ok(None),
            // The image was replaced: the indexer finds the other one.
            Err(error) if error.is_other_object() => return Ok(None),
            Err(error) => return Err(error),
        };
        let bucket = self.catalog.bucket();
        let path = bucket.variant_path(raw.id);
        match bucket.create(&path, MAX_LEN, bytes.clone()).await? {
            Put::Made(_) => Ok(Some(variant_of(&bytes))),
            Put::Refused => self.find(raw).await,
        }
    }

    async fn encode(
        &self,
        key: &str,
        record: &Object,
        raw: Image,
    ) -> Result<Option<Encoded>, Error> {
        let (bucket, threshold) = (self.catalog.bucket(), self.threshold);
        let (Some(path), identity) = (bucket.path(key), &record.identity) else {
            return Ok(None);
        };
        let length = u64::from(raw.length);
        if length > SAMPLE_LEN {
            // From the middle: the beginning is often unlike the rest.
            let start = (length - SAMPLE_LEN) / 2;
            let range = start..start + SAMPLE_LEN;
            let sample = bucket.read_range(&path, identity, range).await?;
            let is_compressible = move || is_compressible(&sample, raw, threshold);
            match self.compute(raw, is_compressible).await {
                Some(true) => {}
                Some(false) => {
                    let threshold = threshold.ten_thousandths();
                    return Ok(Some(Encoded::TooLong(Variant::TooLong { threshold })));
                }
                None => return Ok(None),
            }
        }
        let Ok(mut encoding) = Encoding::new(raw, threshold) else {
            return Ok(None);
        };
        let mut pieces = read_whole(bucket, &path, identity);
        let mut waiting = BytesMut::new();
        let mut is_at_end = false;
        while !is_at_end {
            match pieces.try_next().await? {
                Some(piece) => waiting.extend_from_slice(&piece),
                None => is_at_end = true,
            }
            if waiting.len() < STEP && !is_at_end {
                continue;
            }
            let bytes = waiting.split();
            let step = move || {
                let written = encoding.write(&bytes);
                (encoding, written)
            };
            let Some((returned, written)) = self.compute(raw, step).await else {
                return Ok(None);
            };
            encoding = returned;
            if written.is_err() {
                return Ok(encoding.rejected().map(Encoded::TooLong));
            }
        }
        let finish = move || encoding.finish();
        match self.compute(raw, finish).await {
            Some(Ok(encoded)) => Ok(Some(encoded)),
            Some(Err(error)) => {
                tracing::debug!(key, %error, "an image cannot be compressed");
                Ok(None)
            }
            None => Ok(None),
        }
    }

    /// The result of work that takes long for a long image. `None` if there is no thread for it.
    async fn compute<T: Send + 'static>(
        &self,
        raw: Image,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        match raw.length {
            0..=MAX_INLINE => Some(work()),
            _ => self.pool.run(work).await.ok(),
        }
    }
}

fn variant_of(bytes: &[u8]) -> Variant {
    Variant::Encoded {
        length: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        checksum: ImageId::of(bytes).0,
    }
}
