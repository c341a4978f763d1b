//! Reads an object to find out what it is.

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};
use jtp_core::ImageHasher;
use object_store::path::Path;

use crate::bucket::Bucket;
use crate::error::Error;
use crate::format::{Contents, Identity};
use crate::names::{START_LEN, file_type, has_certain_extension, is_image_start};

/// Bytes of one request: clients of the backends end a request that takes over 30 s.
const RANGE: u64 = 8 << 20;

/// What the object with this key and identity contains. It is read once, in pieces. `None` if it was replaced meanwhile.
pub(crate) async fn read_object(
    bucket: &Bucket,
    key: &str,
    path: &Path,
    identity: &Identity,
) -> Result<Option<Contents>, Error> {
    match read(bucket, key, path, identity).await {
        Err(error) if error.is_other_object() => Ok(None),
        result => result,
    }
}

async fn read(
    bucket: &Bucket,
    key: &str,
    path: &Path,
    identity: &Identity,
) -> Result<Option<Contents>, Error> {
    let size = identity.size;
    if size == 0 || u32::try_from(size).is_err() {
        return Ok(Some(Contents::NotImage)); // S14
    }
    if !has_certain_extension(key) {
        let end = size.min(u64::try_from(START_LEN).unwrap_or(0));
        let start = bucket.read_range(path, identity, 0..end).await?;
        if !is_image_start(&start) {
            return Ok(Some(Contents::NotImage));
        }
    }
    let mut hasher = ImageHasher::new();
    let mut start = Vec::with_capacity(START_LEN);
    let mut length = 0;
    let mut pieces = read_whole(bucket, path, identity);
    while let Some(piece) = pieces.try_next().await? {
        start.extend(piece.iter().take(START_LEN - start.len()));
        hasher.update(&piece);
        length += u64::try_from(piece.len()).unwrap_or(0);
    }
    if length != size {
        return Ok(None);
    }
    Ok(Some(Contents::Image {
        id: hasher.id(),
        file_type: file_type(&start, key),
    }))
}

/// All bytes of an object in pieces, by several requests if it is long.
pub(crate) fn read_whole(
    bucket: &Bucket,
    path: &Path,
    identity: &Identity,
) -> BoxStream<'static, Result<Bytes, Error>> {
    let (bucket, path, identity) = (bucket.clone(), path.clone(), identity.clone());
    let starts = stream::iter((0..identity.size.div_ceil(RANGE)).map(|n| n * RANGE));
    starts
        .then(move |start| {
            let (bucket, path, identity) = (bucket.clone(), path.clone(), identity.clone());
            async move {
                let end = identity.size.min(start.saturating_add(RANGE));
                bucket.read_pieces(&path, &identity, start..end).await
            }
        })
        .try_flatten()
        .boxed()
}
