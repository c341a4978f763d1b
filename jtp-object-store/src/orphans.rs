//! Variants whose images are gone, and when they are deleted.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::stream::{self, StreamExt, TryStreamExt};
use jtp_core::ImageId;

use crate::catalog::SharedCatalog;
use crate::error::Error;

/// How long a variant is kept without its image, by the clock of the process that indexes: a tool may put the image back,
/// and servers may be sending it. They read the image itself if the variant has gone.
const GRACE: Duration = Duration::from_secs(60 * 60);
/// The most variants that are remembered; others wait for a later pass.
const MAX: usize = 65_536;
/// Requests at once.
const AT_ONCE: usize = 8;

/// The variants that were listed without an image in the catalog, and since when.
#[derive(Debug, Default)]
pub(crate) struct Orphans(Mutex<HashMap<ImageId, Instant>>);

impl Orphans {
    /// Adds a variant that was listed to those of this pass, if its image is not in the catalog.
    pub(crate) fn note(catalog: &SharedCatalog, id: ImageId, listed: &mut Vec<ImageId>) {
        if listed.len() < MAX && !catalog.state().has_image(id) {
            listed.push(id);
        }
    }

    /// Deletes the variants that have had no image for long. The pass is complete: the catalog has all images.
    pub(crate) async fn delete_old(
        &self,
        catalog: &SharedCatalog,
        listed: Vec<ImageId>,
    ) -> Result<(), Error> {
        let bucket = catalog.bucket();
        let old = self.old(catalog, listed, bucket.clock().now());
        stream::iter(old)
            .map(|id| async move { bucket.delete(&bucket.variant_path(id)).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    fn old(&self, catalog: &SharedCatalog, listed: Vec<ImageId>, now: Instant) -> Vec<ImageId> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = catalog.state();
        let listed = listed.into_iter().filter(|id| !state.has_image(*id));
        *known = listed
            .map(|id| (id, known.get(&id).copied().unwrap_or(now)))
            .collect();
        let is_old = |since: Instant| now.saturating_duration_since(since) >= GRACE;
        let old = known.iter().filter(|(_, since)| is_old(**since));
        old.map(|(id, _)| *id).collect()
    }
}
