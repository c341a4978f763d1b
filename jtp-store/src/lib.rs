//! Images on disk for JTP: the folder that a server shows, and the folder that a client fills.
//!
//! - [`ImageStore`] is what a server asks of a collection of images: a [`LiveCatalog`] and bodies that are
//!   proved to be what the catalog says. [`DirStore`] is a folder, [`MemoryStore`] is memory.
//!   What a folder's store has found out and made is kept from one run to the next, if so wanted: an index of IDs, and
//!   a `VariantCache` of compressed images.
//! - [`OutputFolder`] is where a client puts images: whole and verified or not at all, and never outside,
//!   under names that [`NamePlan`] made harmless.
//!
//! No async runtime: what blocks says so. An async adapter calls [`load`] on a thread that may block.
//!
//! A folder as a server sees it, and another one as a client fills it, with nothing in between:
//!
//! ```
//! use std::fs;
//!
//! use jtp_store::{DirStore, ImageStore, NamePlan, OutputFolder, load};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temporary = tempfile::tempdir()?;
//! # let (input, output) = (temporary.path().join("images"), temporary.path().join("output"));
//! # fs::create_dir(&input)?;
//! fs::write(input.join("a.png"), b"pixels")?;
//! let store = DirStore::builder(&input).open()?; // Reads and hashes what is there.
//! let catalog = store.catalog().snapshot(); // Later ones show what has changed since.
//!
//! let mut names = NamePlan::new();
//! for entry in catalog.entries() {
//!     names.add(entry.id, entry.name, entry.flags.file_type());
//! }
//! let folder = OutputFolder::open(&output)?;
//! let images: Vec<_> = catalog.entries().map(|entry| entry.image()).collect();
//! for loaded in load(&store, &images, 1 << 20) {
//!     let loaded = loaded?;
//!     let image = loaded.image;
//!     let mut file = folder.begin(&image);
//!     file.append(&loaded.first)?; // All of it, as it is short.
//!     file.commit(&names.name(image.id, image.flags.file_type()), image.id)?; // Only now is it there.
//! }
//! assert_eq!(fs::read(output.join("a.png"))?, b"pixels");
//! # Ok(())
//! # }
//! ```
//!
//! Between the two a program puts `jtp-tokio`, `jtp-async-std` or `jtp-blocking`, whose server takes the store and
//! whose client gives the images; a client decompresses and verifies what it gives.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod dir;
mod fingerprint;
mod hash;
mod known;
mod live;
mod load;
mod memory;
mod name;
mod output;
mod private;
mod ready;
mod store;
#[cfg(feature = "zstd")]
mod variants;

pub use dir::{DirStore, DirStoreBuilder, DirStoreError, Follow, IndexProgress};
pub use live::{LiveCatalog, Watch};
pub use load::{LoadError, Loaded, load};
pub use memory::{InsertError, MemoryStore};
pub use name::{FileName, MAX_FILE_NAME_LEN, NamePlan};
pub use output::{OutputError, OutputFolder, PendingFile, Scan};
pub use store::{ImageBody, ImageStore, OpenError, ReadError};
#[cfg(feature = "zstd")]
pub use variants::VariantCache;
