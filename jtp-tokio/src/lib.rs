//! JTP, the Jason Transfer Protocol, on tokio.
//!
//! A [`Server`] shows an [`ImageStore`](jtp_store::ImageStore); a [`Client`] asks it for its catalog and its
//! images, each verified, and for news of new ones. The protocol itself is in [`jtp_core`], and what waits,
//! reads and writes for it on any runtime in [`jtp_driver`], whose types these are; here is what is tokio's.
//!
//! ```
//! use std::sync::Arc;
//!
//! use jtp_store::MemoryStore;
//! use jtp_tokio::{Client, Server};
//! use tokio::net::TcpListener;
//! use tokio::sync::oneshot;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(MemoryStore::new());
//! store.insert("a.png", b"pixels".as_slice())?;
//!
//! let server = Server::builder(store).build();
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?;
//! let (stop, stopped) = oneshot::channel::<()>();
//! let serving = tokio::spawn(async move {
//!     server.serve(listener, async { drop(stopped.await) }).await
//! });
//!
//! let mut client = Client::builder(address.to_string()).build();
//! for entry in client.list().await? {
//!     println!("{} {}", entry.id, entry.name);
//! }
//! let mut images = client.list_and_get();
//! while let Some(image) = images.next().await? {
//!     assert_eq!(image.bytes(1 << 30).await?, b"pixels");
//! }
//! client.close().await;
//!
//! let _ = stop.send(());
//! serving.await??;
//! # Ok(())
//! # }
//! ```
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
//! any stream of tokio's traits. Its `poll_shutdown` is to half-close it, so that the peer sees the end (S11).
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
//! | `tls` | yes | TLS through tokio-rustls |
//! | `aws-lc-rs` | yes | rustls with that provider |
//! | `ring` | no | rustls with that provider |
//! | `zstd` | yes | compressed images |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod client;
pub mod runtime;
pub mod server;

pub use jtp_driver::ALPN;

pub use client::{Client, ClientBuilder, Error, ImageError, Images, Incoming, Undecoded, Watch};
pub use runtime::Tokio;
pub use server::{Decision, Peer, Server, ServerBuilder};
