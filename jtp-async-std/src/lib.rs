//! JTP, the Jason Transfer Protocol, on futures-io: server and client for async-std and smol, plain and TLS.
//!
//! A [`Server`] shows an [`ImageStore`](jtp_store::ImageStore); a [`Client`] asks it for its catalog and its
//! images, each verified, and for news of new ones. The protocol itself is in [`jtp_core`], and what waits,
//! reads and writes for it on any runtime in [`jtp_driver`], whose types these are; here is what is the
//! runtime's. So types, methods and errors are those of `jtp-tokio` and, but for the `.await`s, of
//! `jtp-blocking`.
//!
//! ```
//! use std::sync::Arc;
//!
//! # #[cfg(not(feature = "async-std"))]
//! # mod async_std {
//! #     pub(crate) use smol::net;
//! #     pub(crate) mod task { pub(crate) use smol::{block_on, spawn}; }
//! # }
//! use async_std::net::TcpListener;
//! use async_std::task;
//! use jtp_async_std::{Client, Server};
//! use jtp_store::MemoryStore;
//!
//! # type Result = std::result::Result<(), Box<dyn std::error::Error>>;
//! # fn main() -> Result {
//! task::block_on(async {
//!     let store = Arc::new(MemoryStore::new());
//!     let id = store.insert("a.png", b"pixels".as_slice())?;
//!
//!     let listener = TcpListener::bind("127.0.0.1:0").await?;
//!     let address = listener.local_addr()?.to_string();
//!     let server = Server::builder(store).build();
//!     let serving = task::spawn(async move {
//!         let shutdown = std::future::pending(); // for ever
//!         server.serve(listener, shutdown).await
//!     });
//!
//!     let mut client = Client::builder(address).build();
//!     let mut images = client.list_and_get();
//!     while let Some(image) = images.next().await? {
//!         assert_eq!(image.image().id, id);
//!         assert_eq!(image.bytes(1024).await?, b"pixels");
//!     }
//! #   drop(serving);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! # async-std is discontinued
//!
//! Its authors ended async-std in February 2025, and tell programs and libraries to go to smol
//! ([RUSTSEC-2025-0052]). That means: nobody mends a fault that is found in it, a security fault included, and
//! `cargo audit` and `cargo deny` report every program that depends on it. So this crate asks little of it:
//! streams are those of futures-io, and TLS is futures-rustls; only sockets, tasks, timers and blocking
//! threads are async-std's, where it is a thin layer over crates that smol uses too and that are maintained.
//!
//! - A program on async-std uses this crate as it is, and knows the advisory.
//! - A program on smol, or a new one, takes `default-features = false` and the feature `smol`. Then async-std
//!   is not in the dependency tree, and nothing else changes.
//! - A new program without a reason for either takes `jtp-tokio`.
//!
//! [RUSTSEC-2025-0052]: https://rustsec.org/advisories/RUSTSEC-2025-0052.html
//!
//! # TLS
//!
//! [`ServerBuilder::tls`](server::ServerBuilder::tls) and [`ClientBuilder::tls`] take rustls configurations as they
//! are but for ALPN; name the provider there (`rustls::ServerConfig::builder_with_provider`). A server with TLS
//! answers plain TCP on the same port as its [policy](jtp_core::server::PlainPolicy) says (T2).
//!
//! # Streams of one's own
//!
//! [`Server::serve_stream`](jtp_driver::Server::serve_stream) and [`Client::over`](jtp_driver::Client::over) take
//! any stream of futures-io. Its `poll_close` is to half-close it, so that the peer sees the end (S11). smol's
//! `TcpStream` does; async-std's only flushes, and its peer sees the end once the connection is dropped.
//!
//! # Limits and clocks
//!
//! Every default is the protocol's and finite: see [`ServerConfig`](jtp_core::server::ServerConfig) and
//! [`ClientConfig`](jtp_core::client::ClientConfig). A connection that serves images holds at most two pieces of
//! the image under way and one of those that follow, of 256 KiB each while no more than 64 connections are sent
//! images, of 32 KiB beyond that; an idle one some 5 KiB in all.
//!
//! # Features
//!
//! | feature | default | what it does |
//! |---|---|---|
//! | `async-std` | yes | the runtime |
//! | `smol` | no | smol as the runtime |
//! | `tls` | yes | TLS through futures-rustls |
//! | `aws-lc-rs` | yes | rustls with that provider |
//! | `ring` | no | rustls with that provider |
//! | `zstd` | yes | compressed images |
//!
//! One runtime is needed; if both are on, it is async-std. Connections are spawned on its global executor, which
//! for smol has one thread unless `SMOL_THREADS` says more.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(not(any(feature = "async-std", feature = "smol")))]
compile_error!("jtp-async-std needs a runtime: turn on the feature `async-std` or `smol`");

pub mod client;
pub mod runtime;
pub mod server;

pub use jtp_driver::ALPN;

pub use client::{Client, ClientBuilder, Error, ImageError, Images, Incoming, Undecoded, Watch};
pub use runtime::Global;
pub use server::{Decision, Peer, Server, ServerBuilder};
