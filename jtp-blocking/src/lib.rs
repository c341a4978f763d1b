//! JTP, the Jason Transfer Protocol, on plain threads: no async runtime.
//!
//! A [`Server`] shows an [`ImageStore`](jtp_store::ImageStore); a [`Client`] asks it for its catalog and its
//! images, each verified, and for news of new ones. The protocol itself is in [`jtp_core`], and what waits,
//! reads and writes for it on any runtime in [`jtp_driver`]; here is how a thread does that, and the same types
//! and methods without `.await`.
//!
//! ```
//! use std::net::TcpListener;
//! use std::sync::Arc;
//! use std::thread;
//!
//! use jtp_blocking::{Client, Server, Shutdown};
//! use jtp_store::MemoryStore;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let store = Arc::new(MemoryStore::new());
//! store.insert("a.png", b"pixels".as_slice())?;
//!
//! let server = Server::builder(store).build();
//! let listener = TcpListener::bind("127.0.0.1:0")?;
//! let address = listener.local_addr()?;
//! let shutdown = Shutdown::new()?;
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
//! - [`Server::serve`] blocks its caller's thread, which accepts. Each connection has one thread of its own,
//!   with a stack of 256 KiB (the store and the [hook](ServerBuilder::on_request) run on it), from accept to
//!   close. Sockets are in non-blocking mode; a thread with nothing to do polls, in one system call, for what
//!   the protocol lets it read, for room to write, for the server's shutdown, for news of the catalog while
//!   it watches, and for the next deadline. So it sees CANCEL while it sends, tells news at once, and
//!   a connection at rest uses no CPU at all: nothing ticks.
//! - A connection costs one file descriptor, watching or not; the shutdown, the end and the news are a few more
//!   pairs for the whole server. At rest on plain TCP it costs a thread and some 22 KiB of memory that is really
//!   used (most of it stack; 512 bytes are a buffer), besides what the system keeps; TLS has its own state in
//!   addition.
//! - Images are read on the connection's thread, 256 KiB at a time: a slow disk delays the connection that
//!   waits for it and no other. While it blocks, that connection sees neither CANCEL nor shutdown.
//! - The limit is the system's number of threads; [`ServerBuilder::max_connections`] (4096 by default) keeps
//!   below it. For tens of thousands of connections take an async crate.
//! - A [`Client`] has no thread; its calls do all that is due, and block while they wait. What they wait for
//!   can be bounded: by [`ClientConfig`](jtp_core::client::ClientConfig)'s response timeout, and by
//!   [`Watch::next_timeout`].
//!
//! # TLS
//!
//! [`ServerBuilder::tls`](server::ServerBuilder::tls) and [`ClientBuilder::tls`] take rustls configurations as they
//! are but for ALPN; name the provider there (`rustls::ServerConfig::builder_with_provider`). A server with TLS
//! answers plain TCP on the same port as its [policy](jtp_core::server::PlainPolicy) says (T2).
//!
//! # Streams of one's own
//!
//! [`Server::serve_stream`] and [`Client::over`] take any stream whose halves can be used at once, and a
//! [`Close`], whose `finish` is to half-close it, so that the peer sees the end (S11). Halves can only block, so
//! each has a thread, and the connection's own thread waits for those two. A half is asked to read at most 16 KiB
//! ahead of the 64 KiB of S1, and bytes count as sent when the half has taken them.
//!
//! # Limits and clocks
//!
//! Every default is the protocol's and finite: see [`ServerConfig`](jtp_core::server::ServerConfig) and
//! [`ClientConfig`](jtp_core::client::ClientConfig). What a connection costs is said [above](#threads).
//!
//! # Features
//!
//! | feature | default | what it does |
//! |---|---|---|
//! | `tls` | yes | TLS through rustls |
//! | `aws-lc-rs` | yes | rustls with that provider |
//! | `ring` | no | rustls with that provider |
//! | `zstd` | yes | compressed images |
//!
//! # Where it differs from the async crates
//!
//! The names are those of `jtp-tokio`, without `.await`. Only what a thread cannot do is different:
//!
//! | here | there | because |
//! |---|---|---|
//! | `serve(listener, &`[`Shutdown`]`)` | `serve(listener, future)` | a thread cannot wait for any future |
//! | `serve_stream(reader, writer, closer, peer)` | `serve_stream(stream, peer)` | a blocking stream cannot be read and written at once, nor given up: see [`Close`] |
//! | `Client::over(reader, writer, closer, config)?` | `Client::over(stream, config)` | the same; and threads may fail to start |
//! | [`Watch::next_timeout`] | dropping the future of `Watch::next` | a blocked call cannot be dropped |
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod cancel;
pub mod client;
mod connect;
mod halves;
mod parker;
mod reactor;
mod resolve;
pub mod runtime;
pub mod server;
#[cfg(feature = "tls")]
mod tls;
mod wake_fd;

pub use jtp_driver::ALPN;

pub use cancel::CancelHandle;
pub use client::{Client, ClientBuilder, Error, ImageError, Images, Incoming, Undecoded, Watch};
pub use halves::Close;
pub use runtime::Threads;
pub use server::{Decision, Peer, Server, ServerBuilder, Shutdown};

/// The stack of each thread that is started here.
const STACK_SIZE: usize = 256 * 1024;
