//! Images on disk for JTP: the folder that a server shows, and the folder that a client fills.
//!
//! - [`ImageStore`] is what a server asks of a collection of images: a [`LiveCatalog`] and bodies that are
//!   proved to be what the catalog says. [`DirStore`] is a folder, [`MemoryStore`] is memory.
//!   What a folder's store has found out and made is kept from one run to the next, if so wanted: an index of IDs, and
//!   a `FormCache` of compressed forms.
//! - [`OutputFolder`] is where a client puts images: whole and verified or not at all, and never outside,
//!   under names that [`NamePlan`] made harmless.
//!
//! No async runtime: what blocks says so. An async adapter calls [`load`] on a thread that may block.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod dir;
mod fingerprint;
#[cfg(feature = "zstd")]
mod forms;
mod hash;
mod known;
mod live;
mod load;
mod memory;
mod name;
mod output;
mod private;
mod store;

pub use dir::{DirStore, DirStoreBuilder, DirStoreError, Follow, Progress};
#[cfg(feature = "zstd")]
pub use forms::FormCache;
pub use live::{LiveCatalog, Watch};
pub use load::{LoadError, Loaded, load};
pub use memory::{InsertError, MemoryStore};
pub use name::{FileName, MAX_FILE_NAME_LEN, NamePlan};
pub use output::{OutputError, OutputFolder, PendingFile, Scan};
pub use store::{ImageBody, ImageStore, OpenError, ReadError};
