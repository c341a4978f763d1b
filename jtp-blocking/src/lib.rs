//! JTP, the Jason Transfer Protocol, on plain threads: no async runtime.
//!
//! A [`Server`] serves an [`ImageStore`](store::ImageStore). A [`Client`] requests its catalog and its images, each
//! verified, and notifications of new ones. The types and methods are those of [`jtp_driver`], without `.await`. The
//! protocol itself is in [`jtp_core`].
//!
//! Tags such as S11 name rules of the protocol's specification,
//! [RFC.md](https://github.com/jtp-protocol/jtp/blob/main/RFC.md).
//!
#![cfg_attr(all(feature = "client", feature = "server"), doc = "```")]
#![cfg_attr(not(all(feature = "client", feature = "server")), doc = "```ignore")]
//! use std::net::TcpListener;
//! use std::sync::Arc;
//! use std::thread;
//!
//! use jtp_blocking::store::MemoryStore;
//! use jtp_blocking::{Client, Server, ShutdownSignal};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(MemoryStore::new());
//! store.insert("a.png", b"pixels".as_slice())?;
//!
//! let server = Server::builder(store).build();
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let shutdown = ShutdownSignal::new();
//! let serving = thread::spawn({
//!     let shutdown = shutdown.clone();
//!     move || server.serve(listener, &shutdown)
//! });
//!
//! let mut client = Client::builder(address.to_string()).build();
//! for entry in client.list()? {
//!     println!("{} {}", entry.id, entry.name);
//! }
//! let mut images = client.list_and_get();
//! while let Some(image) = images.next()? {
//!     assert_eq!(image.bytes(1 << 30)?, b"pixels");
//! }
//! client.close();
//!
//! shutdown.begin();
//! serving.join().expect("the server does not panic")?;
//! # Ok(())
//! # }
//! ```
//!
//! # Threads
//!
//! - [`Server::serve`] blocks its caller's thread, which accepts. Each connection has a thread of its own from accept to
//!   close, with a stack of 512 KiB ([`Threads::with_stack_size`]). Request handlers run on it.
//! - Sockets are in non-blocking mode. A thread that has nothing to do waits in one poll(2) for everything at once: the
//!   socket, the next deadline, and its waker, which other threads use for shutdown, changes of the catalog, and images
//!   that were read. So a connection reacts to CANCEL while it sends, and an idle one uses no CPU.
//! - Stores that block are read by a bounded pool of threads in [`jtp_driver`]
//!   ([`ReadPool`](store::ReadPool)), not by the connection's thread.
//! - A [`Client`] has no thread. Its calls block the caller. A name is resolved on a thread of its own, since the system
//!   offers only a blocking call for that.
//! - [`block_on`](runtime::block_on) runs any future on such a thread, not only those of this crate.
//! - The number of connections is limited by the system's number of threads;
//!   [`ServerBuilder::max_connections`](server::ServerBuilder::max_connections) (default: 4096) keeps below it. For tens
//!   of thousands of connections use an async crate.
//!
//! # Descriptors and memory
//!
//! A connection has two file descriptors, its socket and the waker of its thread (an eventfd; on Unix systems without
//! eventfd a socket pair, which makes three; on Windows a UDP socket). The thread in `serve` has the listener and a
//! waker. A thread that calls a [`Client`] opens a waker when it first waits, and keeps it until it ends.
//!
//! If a waker cannot be opened, because the process has no descriptors left, its thread polls every 20 ms.
//!
//! An idle connection on plain TCP uses about 9 KiB of heap and the part of its stack that was touched: about 50 KiB in an
//! unoptimized build, less in an optimized one. TLS has its own state in addition.
//!
//! # Cancellation
//!
//! [`Client::cancel_handle`] returns a [`CancelHandle`]. Any thread can use it to cancel the client: the connection is
//! closed, and the call that the client is blocked in returns [`Error::Cancelled`] at once, as do all later calls. For
//! time limits use [`ClientBuilder::connect_timeout`](client::ClientBuilder::connect_timeout),
//! [`ClientConfig`](jtp_core::client::ClientConfig)'s response timeout, and [`Watch::next_timeout`].
//!
//! A server ends by a [`ShutdownSignal`], or by [`Server::shutdown`].
//!
//! # TLS
//!
//! [`ServerBuilder::tls`](server::ServerBuilder::tls) and [`ClientBuilder::tls`](client::ClientBuilder::tls) take rustls
//! configurations and change nothing but ALPN. Name the provider there
//! (`rustls::ServerConfig::builder_with_provider`). A server with TLS answers plain TCP on the same port as its
//! [policy](server::PlainPolicy) says (T2).
//!
//! Module [`tls`] has verifiers for both sides: a server that admits exactly the clients of a list, and clients that know
//! a server by its key or its certificate (T7).
//!
//! # Other streams
//!
//! [`Server::serve_stream`] and [`Client::from_stream`] take any stream whose two halves can be used at the same time,
//! and a [`Close`], whose `finish` closes the write side only, so that the peer sees the end (S11). Blocking halves
//! cannot be polled, so each has a thread, and the connection's thread waits for those two. A half reads at most 16 KiB
//! ahead, in addition to the 64 KiB of S1. Bytes count as sent when the half has written them.
//!
//! # Limits and clocks
//!
//! Every default is the protocol's and finite: see [`ServerConfig`](jtp_core::server::ServerConfig) and
//! [`ClientConfig`](jtp_core::client::ClientConfig).
//!
//! # Features
//!
//! | feature | default | contents |
//! |---|---|---|
//! | `client` | yes | [`Client`] |
//! | `server` | yes | [`Server`] and [`store`] |
//! | `tls` | yes | TLS by rustls |
//! | `aws-lc-rs` | yes | rustls with that provider |
//! | `ring` | no | rustls with that provider |
//! | `zstd` | yes | compressed images |
//!
//! # Differences to the async crates
//!
//! The names are those of `jtp-tokio`, without `.await`. These differ:
//!
//! | here | there | reason |
//! |---|---|---|
//! | `serve(listener, &`[`ShutdownSignal`]`)` | `serve(listener, future)` | a program without a runtime has no futures |
//! | `serve_stream(reader, writer, closer, peer)` | `serve_stream(stream, peer)` | a blocking stream cannot be read and written at the same time, nor interrupted: see [`Close`] |
//! | `Client::from_stream(reader, writer, closer, config)?` | `Client::from_stream(stream, config)` | the same; and threads may fail to start |
//! | [`Client::cancel_handle`] | dropping a future | a blocked call cannot be dropped |
//! | [`Watch::next_timeout`] | a timeout of the runtime | the same |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
mod cancel;
#[cfg(feature = "client")]
pub mod client;
mod connect;
#[cfg(any(feature = "client", feature = "server"))]
mod halves;
mod parker;
mod reactor;
mod resolve;
pub mod runtime;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "tls")]
mod tls_stream;
mod wake_fd;

#[cfg(feature = "client")]
pub use cancel::CancelHandle;
#[cfg(feature = "client")]
pub use client::{
    Client, ClientBuilder, Entries, Error, ImageError, Images, Incoming, Undecoded, Watch,
};
#[cfg(any(feature = "client", feature = "server"))]
pub use halves::Close;
pub use runtime::Threads;
#[cfg(feature = "server")]
pub use server::{Decision, Peer, Request, Server, ServerBuilder};

jtp_driver::adapter_exports!();

/// The default stack size of each thread that a task runs on.
const STACK_SIZE: usize = 512 * 1024;
