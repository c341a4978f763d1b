//! JTP, the Jason Transfer Protocol, as pure state machines: bytes in, bytes out.
//!
//! This crate knows the protocol and nothing else. It opens no socket, reads no clock, starts no thread and
//! never sees a file: whoever has a transport drives it, and gets the same behaviour on every runtime.
//!
//! ```text
//!             input: &[u8] ──► receive ──► how much was used, and one event
//!   your I/O                   ┌──────────────────────┐
//!             transmit ◄────── │  ServerConnection or │ ◄── what the application wants
//!             transmitted ───► │  ClientConnection    │
//!   your clock deadline ◄───── └──────────────────────┘
//!             handle_timeout
//! ```
//!
//! * **The caller owns the input.** A machine looks at a slice, says how much it used, and tells one event, which
//!   borrows from that slice: the bytes of an image are never copied.
//! * **Output is looked at, then acknowledged.** What was shown once is only ever added to, so a write that was
//!   dropped half-way loses nothing. A server's bodies are counted, never touched: read them into memory, or let
//!   the system send them.
//! * **Any order of calls is valid.** What does not fit answers `Misuse` and changes nothing.
//! * **Every limit is finite**, and checked before anything is allocated.
//!
//! Most programs use an adapter instead: `jtp-tokio`, `jtp-async-std` or `jtp-blocking`. The rules that code and
//! tests quote by their tags (`// S11`) are those of RFC.md.
//!
//! # The loop
//!
//! A client and a server in memory. Over a socket each side does the same with its own half.
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
//! let now = Time::ZERO; // Your clock's; none of the two reads one.
//! let mut client = ClientConnection::new(ClientConfig::new(), now);
//! let mut server = ServerConnection::new(ServerConfig::new(), now);
//! client.request(Request::ListAndGet, true, now)?;
//!
//! let (mut to_server, mut to_client, mut got) = (Vec::new(), Vec::new(), Vec::new());
//! while !client.is_idle() {
//!     // The client's output is the server's input, which stays with us until it is used.
//!     to_server.extend_from_slice(client.transmit());
//!     client.transmitted(client.transmit().len(), now)?;
//!     let received = server.receive(&to_server, now);
//!     to_server.drain(..received.used);
//!     if received.request.is_some() {
//!         server.accept(&catalog, now)?; // Or refuse it, or let it wait.
//!     }
//!     if let Some(wanted) = server.wants_body() {
//!         server.body_loaded(wanted.image.length - wanted.offset, now)?;
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
//!             Some(Event::ImageEnd { verdict, .. }) => verdict?, // Now, and not before, it is the image.
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
//! | `std` | yes | catalogs that threads can share; without it the crate is `no_std` + alloc |
//! | `zstd` | yes | receives compressed images (W8); without it they count as broken |
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
pub use rate::{RateLimiter, client_network};
pub use time::Time;
