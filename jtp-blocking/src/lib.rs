//! JTP, the Jason Transfer Protocol, on plain threads: no async runtime.
#![forbid(unsafe_code)]

pub mod client;
mod clock;
mod input;
pub mod server;
mod stream;

pub use client::{Client, ClientBuilder, Error, ImageError, Images, Incoming, Watch};
pub use server::{Decision, Peer, Server, ServerBuilder, Shutdown};
pub use stream::Close;

/// The protocol's name in TLS ALPN. // T1
pub const ALPN: &[u8] = b"jtp/1";

/// The stack of each thread that is started here.
const STACK: usize = 256 * 1024;
