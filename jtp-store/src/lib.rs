//! Images on disk for JTP: the folder that a server shows, and the folder that a client fills.
//!
//! - [`ImageStore`] is what a server asks of a collection of images: a [`LiveCatalog`] and bodies that are
//!   proved to be what the catalog says. [`DirStore`] is a folder, [`MemoryStore`] is memory.
//!   What a folder's store has found out and made is kept from one run to the next, if so wanted: an index of IDs, and
//!   a [`FormCache`] of compressed forms.
//! - [`OutputFolder`] is where a client puts images: whole and verified or not at all, and never outside,
//!   under names that [`NamePlan`] made harmless.
//!
//! ```text
//!   a folder ─► DirStore ─┐                                 ┌─► OutputFolder ─► a folder
//!                         ├─► LiveCatalog   (an adapter,    │     begin, append, commit
//!   memory ► MemoryStore ─┘   load          the core) ──────┘   under a name of NamePlan
//! ```
//!
//! No async runtime: what blocks says so. An async adapter calls [`load`] on a thread that may block.
//!
//! From one folder into another, with nothing between:
//!
//! ```
//! use jtp_core::ImageId;
//! use jtp_store::{DirStore, ImageStore, NamePlan, OutputFolder, load};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let place = tempfile::tempdir()?;
//! # let (shared, fetched) = (place.path().join("shared"), place.path().join("fetched"));
//! # std::fs::create_dir(&shared)?;
//! std::fs::write(shared.join("a.png"), b"pixels")?;
//! let store = DirStore::open_folder(&shared)?;
//! let output = OutputFolder::open(&fetched)?;
//!
//! let snapshot = store.catalog().snapshot();
//! let there = output.scan()?;
//! let mut names = NamePlan::new();
//! for entry in snapshot.entries() {
//!     let image = entry.image();
//!     names.add(image.id, entry.name, image.flags.file_type());
//!     if there.contains(image.id) {
//!         continue;
//!     }
//!     for loaded in load(&store, &[image], 1 << 20) {
//!         let loaded = loaded?; // Small enough to come whole.
//!         let mut file = output.begin(&image);
//!         file.append(&loaded.first)?;
//!         let name = names.name(image.id, image.flags.file_type());
//!         file.commit(&name, ImageId::of(&loaded.first))?; // Now, and not before, it is there.
//!     }
//! }
//! assert_eq!(std::fs::read(fetched.join("a.png"))?, b"pixels");
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! `zstd` (on by default): images that are worth it travel compressed (S9), and a `FormCache` keeps the
//! compressed forms on disk.
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
