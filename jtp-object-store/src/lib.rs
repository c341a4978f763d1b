//! Images in an object store for JTP: a store for any number of servers.
//!
//! The images are the objects below a prefix of a bucket, as other tools put them there. A catalog is kept beside them,
//! below `.jtp/`: snapshots, and a log of changes. [`ObjectImages`] loads it without listing the bucket, follows the log,
//! and reads images in ranges. An [`Indexer`] lists the bucket, reads and hashes what is new, and appends to the log. Each
//! server may have one; a lease decides which of them works.
//!
//! The backend is any [`ObjectStore`](object_store::ObjectStore). The caller spawns two futures,
//! [`ObjectImages::follow`] and [`Indexer::run`], on its runtime, whose timers a [`Clock`] provides. The format of the
//! catalog, failure cases, cost and limits are in
//! [docs/object-store.md](https://github.com/jtp-protocol/jtp/blob/main/docs/object-store.md). Tags such as S13 name rules
//! of the protocol's specification, [RFC.md](https://github.com/jtp-protocol/jtp/blob/main/RFC.md).
//!
//! ```
//! use std::sync::Arc;
//! use std::time::{Duration, Instant};
//!
//! use jtp_driver::store::{BoxFuture, ImageStore};
//! use jtp_object_store::object_store::memory::InMemory;
//! use jtp_object_store::object_store::{ObjectStoreExt, path::Path};
//! use jtp_object_store::{Bucket, Clock, IndexerConfig, ObjectImages, StoreConfig};
//!
//! /// `RuntimeClock` does the same for the runtimes of JTP.
//! #[derive(Debug)]
//! struct SmolClock;
//!
//! impl Clock for SmolClock {
//!     fn now(&self) -> Instant {
//!         Instant::now()
//!     }
//!
//!     fn sleep(&self, duration: Duration) -> BoxFuture<()> {
//!         Box::pin(async move { _ = smol::Timer::after(duration).await })
//!     }
//! }
//!
//! # smol::block_on(async {
//! let backend = Arc::new(InMemory::new());
//! backend.put(&Path::from("photos/a.gif"), "GIF89a".into()).await?;
//!
//! let bucket = Bucket::new(backend, Path::from("photos"), Arc::new(SmolClock));
//! let images = ObjectImages::open(bucket, StoreConfig::default()).await?;
//! let report = images.indexer(IndexerConfig::default()).run_once().await?;
//! assert_eq!(report.read, 1);
//! assert_eq!(images.catalog().snapshot().len(), 1);
//! // In a server: spawn `images.clone().follow()` and `images.indexer(…).run()`, and serve `images`.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

mod bucket;
mod cache;
mod catalog;
mod clock;
mod error;
mod follower;
mod format;
mod health;
mod indexer;
mod lease;
mod located;
mod location;
mod names;
mod orphans;
mod pass;
mod permits;
#[cfg(any(test, feature = "aws"))]
mod profile;
mod read_object;
mod spawner;
mod state;
mod store;
#[cfg_attr(not(feature = "zstd"), path = "no_variants.rs")]
mod variants;
mod verified;

pub use bucket::Bucket;
pub use clock::{Clock, RuntimeClock};
pub use error::{Error, ErrorKind};
pub use format::{Contents, ETag, FormatError, Identity, Object, Variant};
#[doc(hidden)]
pub use format::{check_decoding, framed};
pub use indexer::{IndexReport, Indexer, IndexerConfig};
pub use jtp_core::compress::Threshold;
pub use jtp_store::ImageCache;
pub use location::{Location, LocationError, Scheme};
pub use object_store;
pub use store::{ObjectImages, StoreConfig};

#[cfg(test)]
mod tests;
