//! A build without Zstd makes no variants. It sends those that others have made.

use std::collections::HashSet;
use std::future::pending;
use std::sync::{Arc, Mutex, PoisonError};

use jtp_core::ImageId;
use jtp_core::compress::Threshold;

use crate::catalog::SharedCatalog;

/// The most images of which it is remembered that their variant is lost.
const MAX_LOST: usize = 4096;

/// Variants that cannot be made.
pub(crate) struct Variants(Mutex<HashSet<ImageId>>);

impl Variants {
    pub(crate) fn new(_: Arc<SharedCatalog>, _: Threshold) -> Variants {
        Variants(Mutex::default())
    }

    pub(crate) fn request(&self, _: ImageId) {}

    pub(crate) fn report_lost(&self, id: ImageId) {
        let mut lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.len() < MAX_LOST {
            lost.insert(id);
        }
    }

    pub(crate) fn is_lost(&self, id: ImageId) -> bool {
        let lost = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        lost.contains(&id)
    }

    pub(crate) async fn run(&self) {
        pending().await
    }
}
