//! Images on disk for JTP: the folder that a server serves, and the folder that a client fills.
//!
//! - [`DirStore`] is a folder as an [`ImageStore`](jtp_driver::store::ImageStore), followed as it changes. For later runs
//!   it can keep an index of IDs and a `VariantCache` of compressed images.
//! - [`OutputFolder`] is a folder to which a client writes images. An image appears there complete and verified or
//!   not at all, under a safe name of a [`NamePlan`]; nothing is written outside. The crate `jtp-sync` keeps such a folder
//!   in step with a server.
//!
//! A `DirStore` reads files on threads of its own, at most [`ReadPool::DEFAULT_THREADS`](jtp_driver::store::ReadPool), and
//! reads what is in the page cache in place. The calls of an `OutputFolder` block.
//!
//! Tags such as S11 name rules of the protocol's specification,
//! [RFC.md](https://github.com/jtp-protocol/jtp/blob/main/RFC.md).
//!
//! This example copies images from a served folder to an output folder, without a connection:
//!
//! ```
//! use std::fs;
//! use std::sync::Arc;
//!
//! use jtp_core::BodyReceiver;
//! use jtp_driver::store::ImageStore;
//! use jtp_store::{DirStore, NamePlan, OutputFolder};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # smol::block_on(async {
//! # let temporary = tempfile::tempdir()?;
//! # let (input, output) = (temporary.path().join("images"), temporary.path().join("output"));
//! # fs::create_dir(&input)?;
//! fs::write(input.join("a.png"), b"pixels")?;
//! let store = Arc::new(DirStore::builder(&input).open()?); // Reads and hashes all files.
//! let catalog = store.catalog().snapshot(); // Later snapshots show later changes.
//!
//! let mut names = NamePlan::new();
//! for entry in catalog.entries() {
//!     names.add(entry.id, entry.name, entry.flags.file_type());
//! }
//! let folder = OutputFolder::open(&output)?;
//! let mut receiver = BodyReceiver::new(1 << 30, 8 << 20);
//! for entry in catalog.entries() {
//!     let image = entry.image();
//!     let bytes = Arc::clone(&store).open(image, 1 << 20).await?.bytes(1 << 20).await?;
//!     let mut file = folder.begin(&image);
//!     receiver.begin(image);
//!     let mut rest = &bytes[..];
//!     while !rest.is_empty() {
//!         let piece = receiver.receive(rest);
//!         file.append(piece.data)?;
//!         rest = &rest[piece.used..];
//!     }
//!     let verified = receiver.verdict().expect("all bytes have come")?;
//!     file.commit(&names.name(image.id, image.flags.file_type()), verified)?; // Now it is visible.
//! }
//! assert_eq!(fs::read(output.join("a.png"))?, b"pixels");
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! A program connects both with `jtp-tokio`, `jtp-async-std` or `jtp-blocking`: the server takes the store, and the
//! client returns images that are decompressed and verified.
// Allowed in one function of `lease`.
#![deny(unsafe_code)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod below;
mod dir;
mod entries;
mod file_system;
mod fingerprint;
mod hash;
mod image_cache;
mod inside;
mod known;
mod lease;
mod lock;
mod name;
mod output;
mod path_parts;
mod patterns;
mod private;
mod ready;
mod secret_hash;
#[cfg(feature = "zstd")]
mod variants;
#[cfg(unix)]
mod walk;

pub use dir::{
    DirStore, DirStoreBuilder, DirStoreError, Follow, IndexProgress, LeftOut, LeftOutReason,
    StoreCounters,
};
pub use image_cache::{CachedImage, ImageCache, NewCachedImage};
pub use name::{
    FileName, MAX_FILE_NAME_LEN, MAX_PATH_LEN, NameArena, NamePlan, fold_case, has_image_extension,
    is_temporary_name,
};
pub use output::{
    FileContent, FileState, FolderLock, MoveError, OutputError, OutputFolder, PendingFile,
    ReadError, ScanMode, ScanSummary, ScannedFile, StagedFile,
};
pub use patterns::{PatternError, Patterns};
pub use private::create_private_folder;
#[cfg(feature = "zstd")]
pub use variants::VariantCache;
