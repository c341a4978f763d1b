//! The server and client of JTP, the Jason Transfer Protocol, over any runtime: what its adapters share.
//!
//! Programs use an adapter: `jtp-tokio`, `jtp-async-std` (also for smol) or `jtp-blocking`. Their types are those of this
//! crate, for one runtime. This page is for authors of stores ([`store`]) and of adapters for other runtimes.
//!
//! ```text
//!   jtp-tokio     jtp-async-std     jtp-blocking     yours      a Runtime: sockets, timers, tasks, TLS
//!        └──────────────┴──────┬───────┴───────────────┘
//!                         jtp-driver  ◄── jtp-store             drives the machines; images from an ImageStore
//!                              │
//!                          jtp-core                             the protocol, without I/O
//! ```
//!
//! The protocol's rules and clocks are in the machines of [`jtp_core`]. This crate drives them: it reads and writes,
//! loads images from an [`ImageStore`](store::ImageStore) before they are due, keeps the deadlines, admits and counts
//! connections, shuts down gracefully, connects, and retries. Sockets, timers and tasks are the [`Runtime`]'s.
//!
//! Tags such as S11 name rules of the protocol's specification,
//! [RFC.md](https://github.com/jtp-protocol/jtp/blob/main/RFC.md).
//!
//! # An adapter
//!
//! An adapter implements [`Runtime`], [`WrapStream`] for streams of its traits, and `TlsRuntime` (feature `tls`) if it
//! can. It then names [`Client`], [`Server`] and the others for its runtime. This is one for smol, without TLS:
//!
//! ```
//! use std::fmt;
//! use std::io::{self, IoSlice};
//! use std::net::SocketAddr;
//! use std::pin::Pin;
//! use std::task::{Context, Poll};
//! use std::time::Instant;
//!
//! use jtp_driver::{BoxFuture, Runtime, Sleep, SockRef, Socket, Transport, WrapStream};
//! use smol::io::{AsyncRead, AsyncWrite};
//! use smol::net::{TcpListener, TcpStream};
//!
//! #[derive(Debug, Clone, Copy, Default)]
//! struct Smol;
//!
//! impl Runtime for Smol {
//!     type Sleep = Timer;
//!     type Socket = Io<TcpStream>;
//!     type Listener = TcpListener;
//!
//!     fn sleep_until(&self, deadline: Instant) -> Timer {
//!         Timer(smol::Timer::at(deadline))
//!     }
//!
//!     fn spawn(&self, _: fmt::Arguments<'_>, task: BoxFuture<()>) -> io::Result<()> {
//!         smol::spawn(task).detach();
//!         Ok(())
//!     }
//!
//!     async fn accept(&self, listener: &TcpListener) -> io::Result<(Io<TcpStream>, SocketAddr)> {
//!         let (stream, address) = listener.accept().await?;
//!         Ok((Io(stream), address))
//!     }
//!
//!     async fn resolve(&self, address: &str) -> io::Result<Vec<SocketAddr>> {
//!         smol::net::resolve(address).await
//!     }
//!
//!     async fn connect(&self, address: SocketAddr) -> io::Result<Io<TcpStream>> {
//!         TcpStream::connect(address).await.map(Io)
//!     }
//! }
//!
//! struct Timer(smol::Timer);
//!
//! impl Future for Timer {
//!     type Output = ();
//!
//!     fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
//!         Pin::new(&mut self.0).poll(cx).map(drop)
//!     }
//! }
//!
//! impl Sleep for Timer {
//!     fn reset(&mut self, deadline: Instant) {
//!         self.0.set_at(deadline);
//!     }
//! }
//!
//! struct Io<T>(T);
//!
//! impl<T: AsyncRead + AsyncWrite + Unpin> Transport for Io<T> {
//!     fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
//!         Pin::new(&mut self.0).poll_read(cx, buf)
//!     }
//!
//!     fn poll_write_vectored(
//!         &mut self,
//!         cx: &mut Context<'_>,
//!         bufs: &[IoSlice<'_>],
//!     ) -> Poll<io::Result<usize>> {
//!         Pin::new(&mut self.0).poll_write_vectored(cx, bufs)
//!     }
//!
//!     fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
//!         Pin::new(&mut self.0).poll_flush(cx)
//!     }
//!
//!     fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
//!         Pin::new(&mut self.0).poll_close(cx)
//!     }
//! }
//!
//! impl Socket for Io<TcpStream> {
//!     fn options(&self) -> SockRef<'_> {
//!         SockRef::from(&self.0)
//!     }
//!
//!     async fn peek(&self, buf: &mut [u8]) -> io::Result<usize> {
//!         self.0.peek(buf).await
//!     }
//! }
//!
//! impl<T: AsyncRead + AsyncWrite + Unpin> WrapStream<T> for Smol {
//!     type Transport = Io<T>;
//!
//!     fn wrap(stream: T) -> Io<T> {
//!         Io(stream)
//!     }
//! }
//!
//! pub type Client = jtp_driver::Client<Smol>;
//! pub type Server = jtp_driver::Server<Smol>;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # smol::block_on(async {
//! let store = jtp_driver::store::MemoryStore::new();
//! let id = store.insert("a.png", b"pixels".as_slice())?;
//! let listener = TcpListener::bind("127.0.0.1:0").await?;
//! let address = listener.local_addr()?.to_string();
//! let server = Server::builder(store).build();
//! let serving = smol::spawn(async move { server.serve(listener, std::future::pending()).await });
//!
//! let mut client = Client::builder(address).build();
//! assert_eq!(client.list().await?[0].id, id);
//! # drop(serving);
//! # Ok(())
//! # })
//! # }
//! ```
//!
//! # What the driver expects of a runtime
//!
//! - **Wakers work from any thread.** A [`Transport`] or a [`Sleep`] that returned `Pending` wakes its task when another
//!   poll is useful. Stores, catalogs and shutdown signals wake from threads of their own.
//! - **A spawned task is polled when it is woken.** Connections of [`Server::serve`] that use up a turn queue for the
//!   next one, so that an occasional request does not wait behind hundreds of busy connections. Connections that the
//!   caller drives ([`Server::serve_tcp`], [`Server::serve_stream`]) do not queue: one that is never polled delays no
//!   other.
//!
//! - **A transport gives access to its TCP socket** ([`Transport::socket`]), also below TLS. The server then resets a
//!   connection whose peer is too slow, which frees what the system buffers for it. Without it, the connection closes in
//!   order.
//!
//! # What a runtime can expect of the driver
//!
//! - **Bounded work.** A poll reads at most 16 KiB or writes some 256 KiB, then the task yields. No buffer is larger than
//!   256 KiB. From a local store at most two chunks of the image under way and one of the next are in memory; a chunk is
//!   256 KiB, or 32 KiB once 64 connections are sent images.
//! - **No blocking call.** Bytes that are in memory are read by the task itself
//!   ([`ImageBody::try_read`](store::ImageBody::try_read)); reads that may wait for a disk run on a
//!   [`ReadPool`](store::ReadPool).
//! - **Few system calls.** Small packets are joined, up to 32 KiB, and sent before the task waits.
//! - **Cancellation by dropping.** Every future can be dropped at any time; each says whether that loses anything.
//!   Dropping [`Server::serve`]'s ends its connections.
//!
//! # Logs
//!
//! Spans and events of the `tracing` crate have the targets `jtp_driver::server` and `jtp_driver::client` and their
//! modules: a span `connection` (peer) and in it a span `request` (kind, images, bytes, outcome) at debug level; warnings
//! for refused connections and evicted watchers, each throttled to one line in 10 s, and for images that cannot be
//! sent.
//!
//! # Features
//!
//! | feature | default | what it does |
//! |---|---|---|
//! | `client` | yes | [`client`] |
//! | `server` | yes | [`server`] and [`store`] |
//! | `tls` | no | what concerns TLS, by the types of rustls |
//! | `zstd` | no | compressed images |
#![forbid(unsafe_code)]
#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Without client and server there is only what an adapter implements.
#![cfg_attr(not(any(feature = "client", feature = "server")), allow(dead_code))]

mod buffer;
#[cfg(feature = "client")]
pub mod client;
mod clock;
#[cfg(test)]
mod counting_waker;
mod face;
mod runtime;
#[cfg(feature = "server")]
pub mod server;
mod signal;
mod socket;
#[cfg(feature = "server")]
pub mod store;
mod throttle;
#[cfg(feature = "tls")]
pub mod tls;
mod wait;

#[cfg(feature = "client")]
pub use client::{
    Client, ClientBuilder, Entries, Error, ImageError, Images, Incoming, ReplicaError, Undecoded,
    Watch,
};
#[cfg(feature = "tls")]
pub use runtime::TlsRuntime;
pub use runtime::{BoxTransport, Runtime, Sleep, SockRef, Socket, Transport, WrapStream};
#[cfg(feature = "server")]
pub use server::{Decision, Peer, Request, Server, ServerBuilder};
pub use signal::ShutdownSignal;
pub use throttle::LogThrottle;
#[cfg(feature = "tls")]
pub use tls::TlsPeer;
pub use wait::timeout;

// What a program needs beside this crate, so that it depends on one crate.
pub use bytes;
pub use jtp_core;
#[cfg(feature = "tls")]
pub use rustls;

/// A future of any type that can move between threads.
pub type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send>>;

/// The protocol's name in TLS ALPN. // T1
pub const ALPN: &[u8] = b"jtp/1";

/// The message of `UnsupportedFeature` for plain TCP where the server requires TLS. // T2
pub const TLS_REQUIRED: &str = "plain TCP is not served here: use TLS";

/// The message of `InvalidRequest` for a client whose key the server does not admit, where the TLS handshake did not end
/// the connection: the client resumed a session after its key was removed from the list. // T7
pub const NOT_ADMITTED: &str = "this server does not admit the key of the client's certificate";
