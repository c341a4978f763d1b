//! JTP, the Jason Transfer Protocol, as pure state machines: bytes in, bytes out.
#![no_std]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod body;
pub mod catalog;
pub mod client;
pub mod compress;
mod image;
mod input;
mod name;
mod rate;
pub mod server;
mod time;
pub mod wire;
#[cfg(feature = "zstd")]
mod zstd_frame;
#[cfg(feature = "zstd")]
mod zstd_stream;

pub use body::{BodyReceiver, DEFAULT_MAX_IMAGE_SIZE, DEFAULT_MAX_WINDOW, ImageFault, Piece};
pub use catalog::{Catalog, CatalogError, CatalogWriter};
pub use image::{FileType, Flags, Image, ImageHasher, ImageId, ParseImageIdError};
pub use input::InputBuffer;
pub use name::nfc;
pub use rate::RateLimiter;
pub use time::Time;
