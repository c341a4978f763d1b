//! Images on disk for JTP: the folder that a server serves, and the folder that a client fills.
//!
//! - [`ImageStore`] is the server's view of a collection of images: a [`LiveCatalog`], and bodies that are verified
//!   against it. [`DirStore`] is a store of a folder, [`MemoryStore`] a store in memory. For later runs a `DirStore`
//!   can keep an index of IDs and a `VariantCache` of compressed images.
//! - [`OutputFolder`] is a folder to which a client writes images. An image appears there complete and verified or
//!   not at all, under a safe name of a [`NamePlan`]; nothing is written outside.
//!
//! The crate has no async runtime. Calls that block say so. An async adapter calls [`load`] on a thread that may
//! block.
//!
//! This example copies images from a served folder to an output folder, without a connection:
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
//! let store = DirStore::builder(&input).open()?; // Reads and hashes all files.
//! let catalog = store.catalog().snapshot(); // Later snapshots show later changes.
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
//!     file.append(&loaded.first)?; // The whole image, since it is short.
//!     file.commit(&names.name(image.id, image.flags.file_type()), image.id)?; // Now it is visible.
//! }
//! assert_eq!(fs::read(output.join("a.png"))?, b"pixels");
//! # Ok(())
//! # }
//! ```
//!
//! A program connects both with `jtp-tokio`, `jtp-async-std` or `jtp-blocking`: the server takes the store, and the
//! client returns images that are decompressed and verified.
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod dir;
mod fingerprint;
mod hash;
mod known;
mod live;
#[expect(
    clippy::exhaustive_structs,
    reason = "`Loaded` is taken apart by the caller"
)]
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
