//! JTP, the Jason Transfer Protocol, on tokio.
//!
//! A [`Server`] serves an [`ImageStore`](store::ImageStore). A [`Client`] requests its catalog and its images, each
//! verified, and watches for new ones. The protocol is in [`jtp_core`], and what drives it over any runtime in
//! `jtp-driver`, whose types these are; this crate adds tokio's sockets, timers and TLS.
//!
//! Tags such as S11 name rules of the protocol's specification,
//! [RFC.md](https://github.com/jtp-protocol/jtp/blob/main/RFC.md).
//!
//! ```
//! use std::sync::Arc;
//!
//! use jtp_tokio::store::MemoryStore;
//! use jtp_tokio::{Client, Server};
//! use tokio::net::TcpListener;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(MemoryStore::new());
//! store.insert("a.png", b"pixels".as_slice())?;
//!
//! let server = Server::builder(store).build();
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?;
//! let serving = tokio::spawn({
//!     let server = server.clone();
//!     async move { server.serve(listener, std::future::pending()).await }
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
//! server.shutdown().await;
//! serving.await??;
//! # Ok(())
//! # }
//! ```
//!
//! A folder of images is a store too: `jtp_store::DirStore`. `jtp_sync::FolderSync` keeps a folder in step with a
//! server.
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
//! take any stream of tokio's traits. Its `poll_shutdown` must close the write side only, so that the peer sees the end
//! (S11). [`Server::serve_tcp`](jtp_driver::Server::serve_tcp) serves a `TcpStream` of your own accept loop:
//!
//! ```
//! # use jtp_tokio::Server;
//! # use tokio::net::TcpListener;
//! async fn accept(server: Server, listener: TcpListener) -> std::io::Result<()> {
//!     loop {
//!         let (stream, address) = listener.accept().await?;
//!         let server = server.clone();
//!         // The result says how the connection ended; observers and logs have it too.
//!         tokio::spawn(async move { server.serve_tcp(stream, address).await });
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
//! | `client` | yes | the client |
//! | `server` | yes | the server and its stores |
//! | `tls` | yes | TLS through tokio-rustls |
//! | `aws-lc-rs` | yes | rustls with that provider |
//! | `ring` | no | rustls with that provider |
//! | `zstd` | yes | compressed images |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod runtime;

pub use runtime::Tokio;

jtp_driver::adapter!(crate::Tokio);
