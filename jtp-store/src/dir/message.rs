//! Messages to the indexer thread.

#[cfg(feature = "zstd")]
use jtp_core::ImageId;

#[cfg(feature = "zstd")]
use super::encode::Encoded;
use super::pool::Outcome;
use super::record::Name;
use super::watcher::WatchEvent;

#[derive(Debug)]
pub(super) enum Message {
    /// From the folder's watcher.
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    Watch(WatchEvent),
    /// An open body found that a file is not the indexed one any more. // S13
    Suspect(Name),
    /// The pool has finished a job. Also whether the file can change under another name.
    Examined(Name, Outcome, bool),
    /// An encoding thread has finished a job.
    #[cfg(feature = "zstd")]
    Encoded(Name, ImageId, Encoded),
    /// An encoded variant is missing from the cache; others may be missing too.
    #[cfg(feature = "zstd")]
    VariantMissing(ImageId),
    /// An encoded variant in the cache is not as it was made. // S13
    #[cfg(feature = "zstd")]
    VariantDamaged(ImageId),
    /// The store is being dropped.
    Stop,
}
