//! JTP, the Jason Transfer Protocol, on futures-io: server and client for async-std and smol, plain and TLS.
//!
//! A [`Server`] serves an [`ImageStore`](store::ImageStore). A [`Client`] requests its catalog and its images, each
//! verified, and watches for new ones. The protocol is in [`jtp_core`], and what drives it over any runtime in
//! `jtp-driver`, whose types these are; this crate adds the runtimes' sockets, timers and TLS. Types, methods and errors
//! are those of `jtp-tokio`.
//!
//! Tags such as S11 name rules of the protocol's specification,
//! [RFC.md](https://github.com/jtp-protocol/jtp/blob/main/RFC.md).
//!
//! The names at the root are for async-std, those in the module `smol` (feature `smol`) for smol. Both can be used in one
//! program.
//!
#![cfg_attr(
    all(feature = "async-std", feature = "client", feature = "server"),
    doc = "```"
)]
#![cfg_attr(
    not(all(feature = "async-std", feature = "client", feature = "server")),
    doc = "```ignore"
)]
//! use std::sync::Arc;
//!
//! use async_std::net::TcpListener;
//! use async_std::task;
//! use jtp_async_std::store::MemoryStore;
//! use jtp_async_std::{Client, Server};
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
//!         server.serve(listener, std::future::pending()).await
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
//! Its authors ended async-std in February 2025 and recommend smol instead ([RUSTSEC-2025-0052]). Faults in it, security
//! faults included, are no longer fixed, and `cargo audit` and `cargo deny` report every program that depends on it. So
//! this crate uses little of it: streams are those of futures-io, and TLS is futures-rustls; only sockets, tasks and
//! timers are async-std's, which are thin layers over maintained crates that smol uses as well.
//!
//! - A program on async-std uses this crate as it is, and accepts the advisory.
//! - A program on smol uses `default-features = false` with the features `smol`, `client`, `server`, `tls`, … Then
//!   async-std is not in its dependency tree.
//! - A new program without a reason for either uses `jtp-tokio`.
//!
//! [RUSTSEC-2025-0052]: https://rustsec.org/advisories/RUSTSEC-2025-0052.html
//!
//! # TLS
//!
//! [`ServerBuilder::tls`](jtp_driver::ServerBuilder::tls) and [`ClientBuilder::tls`](jtp_driver::ClientBuilder::tls) use
//! rustls configurations unchanged, except for ALPN; name the provider there
//! (`rustls::ServerConfig::builder_with_provider`). A server with TLS answers plain TCP on the same port as its
//! [policy](jtp_driver::server::PlainPolicy) allows (T2).
//!
//! Module [`tls`] has verifiers for both sides: a server that admits exactly the clients of a list, and clients that know
//! a server by its key or its certificate (T7).
//!
//! # Other streams
//!
//! [`Server::serve_stream`](jtp_driver::Server::serve_stream) and [`Client::from_stream`](jtp_driver::Client::from_stream)
//! take any stream of futures-io. Its `poll_close` must close the write side only, so that the peer sees the end (S11).
//! smol's `TcpStream` does; async-std's only flushes, and its peer sees the end once the connection is dropped.
//! [`Server::serve_tcp`](jtp_driver::Server::serve_tcp) serves a `TcpStream` of your own accept loop:
//!
#![cfg_attr(all(feature = "async-std", feature = "server"), doc = "```")]
#![cfg_attr(not(all(feature = "async-std", feature = "server")), doc = "```ignore")]
//! # use async_std::net::TcpListener;
//! # use jtp_async_std::Server;
//! async fn accept(server: Server, listener: TcpListener) -> std::io::Result<()> {
//!     loop {
//!         let (stream, address) = listener.accept().await?;
//!         let server = server.clone();
//!         // The result says how the connection ended; observers and logs have it too.
//!         async_std::task::spawn(async move { server.serve_tcp(stream, address).await });
//!     }
//! }
//! ```
//!
//! # Limits and clocks
//!
//! Every default is the protocol's and finite: see [`ServerConfig`](jtp_core::server::ServerConfig) and
//! [`ClientConfig`](jtp_core::client::ClientConfig). A connection that serves images from a local store holds at most
//! two chunks of the image under way and one of the next ones, of 256 KiB each while at most 64 connections are sent
//! images, of 32 KiB beyond that; an idle connection holds about 5 KiB in all.
//!
//! # Features
//!
//! | feature | default | what it does |
//! |---|---|---|
//! | `async-std` | yes | the names at the root |
//! | `smol` | no | the module `smol` |
//! | `client` | yes | the client |
//! | `server` | yes | the server and its stores |
//! | `tls` | yes | TLS through futures-rustls |
//! | `aws-lc-rs` | yes | rustls with that provider |
//! | `ring` | no | rustls with that provider |
//! | `zstd` | yes | compressed images |
//!
//! Features add up: none changes the meaning of a name. Connections are tasks of the runtime's global executor, which
//! for smol has one thread unless `SMOL_THREADS` says more, or of the executor in `smol::Smol`.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "async-std")]
mod async_std;
#[cfg(any(feature = "async-std", feature = "smol"))]
mod futures_io;
#[cfg(feature = "smol")]
pub mod smol;

/// The runtime async-std.
#[cfg(feature = "async-std")]
pub mod runtime {
    pub use crate::async_std::{AsyncStd, Io, Sleep, Tcp};
}

#[cfg(feature = "async-std")]
pub use runtime::AsyncStd;

#[cfg(feature = "async-std")]
jtp_driver::adapter!(crate::AsyncStd);

#[cfg(not(feature = "async-std"))]
jtp_driver::adapter_exports!();
