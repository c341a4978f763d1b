//! JTP, the Jason Transfer Protocol, as state machines without I/O: bytes in, bytes out.
//!
//! This crate implements the protocol and nothing else. It opens no socket, reads no clock, starts no thread and
//! accesses no file. A driver that owns a transport calls it, and behaves the same on every runtime.
//!
//! ```text
//!             input: &[u8] ──► receive ──► number of bytes used, and one event
//!   your I/O                   ┌──────────────────────┐
//!             transmit ◄────── │  ServerConnection or │ ◄── the application's calls
//!             transmitted ───► │  ClientConnection    │
//!   your clock deadline ◄───── └──────────────────────┘
//!             handle_timeout
//! ```
//!
//! * **The caller owns the input.** A connection looks at a slice, and returns how many bytes it used and one event,
//!   which borrows from that slice: the bytes of an image are never copied.
//! * **Output is shown, then acknowledged.** Bytes that were shown stay the next to send until they are acknowledged,
//!   so an interrupted write loses nothing. A server's connection counts the bytes of bodies and never touches them:
//!   a driver may read them into memory, or let the system send them.
//! * **Any order of calls is valid.** A call that does not fit the state returns [`Misuse`] and changes nothing.
//! * **Every limit is finite**, and is checked before memory is allocated.
//!
//! Most programs use an adapter instead: `jtp-tokio`, `jtp-async-std` or `jtp-blocking`.
//!
//! Tags such as S11 in the documentation, code and tests are the rules of [RFC.md], which describes the protocol.
//!
//! [RFC.md]: https://github.com/jtp-protocol/jtp/blob/main/RFC.md
//!
//! # Example
//!
//! A client and a server in memory. Over a socket, each side runs its own half of this loop.
//!
//! ```
//! use jtp_core::client::{ClientConfig, ClientConnection, Event, Request};
//! use jtp_core::server::{ServerConfig, ServerConnection};
//! use jtp_core::{CatalogWriter, FileType, Flags, Image, ImageId, Time};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let picture = b"the bytes of a picture";
//! let image = Image::new(ImageId::of(picture), Flags::new(FileType::Png, false), 22);
//! let mut writer = CatalogWriter::new();
//! writer.insert("a.png", image)?;
//! let catalog = writer.publish();
//!
//! let now = Time::ZERO; // The time of your clock.
//! let mut client = ClientConnection::new(ClientConfig::new(), now);
//! let mut server = ServerConnection::new(ServerConfig::new(), now);
//! client.request(Request::ListAndGet, true, now)?;
//!
//! let (mut to_server, mut to_client, mut got) = (Vec::new(), Vec::new(), Vec::new());
//! while !client.is_idle() {
//!     // The client's output is the server's input, which we keep until it is used.
//!     to_server.extend_from_slice(client.transmit());
//!     client.transmitted(client.transmit().len(), now)?;
//!     let received = server.receive(&to_server, now);
//!     to_server.drain(..received.used);
//!     if received.event.is_some() {
//!         server.accept(&catalog, now)?; // Or refuse it, or decide later.
//!     }
//!     if let Some(wanted) = server.wants_body() {
//!         server.body_loaded(wanted.remaining(), now)?;
//!     }
//!     let output = server.transmit();
//!     to_client.extend_from_slice(output.bytes);
//!     to_client.extend(output.body.iter().flat_map(|span| &picture[span.range()]));
//!     server.transmitted(output.len(), now)?;
//!
//!     loop {
//!         let received = client.receive(&to_client, now)?;
//!         match received.event {
//!             Some(Event::Data(bytes)) => got.extend_from_slice(bytes),
//!             // The bytes are the image only if the verdict says so.
//!             Some(Event::ImageEnd { verdict, .. }) => {
//!                 verdict?;
//!             }
//!             Some(_) => {}
//!             None => break to_client.clear(),
//!         }
//!         to_client.drain(..received.used);
//!     }
//! }
//! assert_eq!(got, picture);
//! # Ok(())
//! # }
//! ```
//!
//! # Features
//!
//! | feature | default | what it does |
//! |---|---|---|
//! | `std` | yes | catalogs can be shared between threads; without it the crate is `no_std` + alloc |
//! | `zstd` | yes | decodes compressed images (W8); without it they are reported as faults |
#![no_std]
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(docsrs, feature(doc_cfg))]

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod body;
pub mod catalog;
pub mod client;
pub mod compress;
mod connection;
mod fault;
mod folders;
mod image;
mod name;
pub mod server;
mod time;
pub mod wire;
#[cfg(feature = "zstd")]
mod zstd_frame;
#[cfg(feature = "zstd")]
mod zstd_stream;

pub use body::{BodyReceiver, DEFAULT_MAX_IMAGE_SIZE, DEFAULT_MAX_WINDOW, Piece, Verified};
pub use catalog::{Catalog, CatalogError, CatalogWriter};
pub use connection::{Misuse, Received};
pub use fault::ImageFault;
pub use folders::{FOLDER_SEPARATOR, MAX_PATH_COMPONENTS, join_folders, split_folders};
pub use image::{FileType, Flags, Image, ImageHasher, ImageId, ParseImageIdError};
pub use name::nfc;
pub use time::Time;
