//! JTP, the Jason Transfer Protocol, on futures-io.
#![forbid(unsafe_code)]

pub mod client;
mod clock;
mod input;
mod runtime;
pub mod server;
mod tasks;

pub use client::{Client, ClientBuilder, Error, ImageError, Images, Incoming, Watch};
pub use server::{Decision, Peer, Server, ServerBuilder};

/// The protocol's name in TLS ALPN. // T1
pub const ALPN: &[u8] = b"jtp/1";
