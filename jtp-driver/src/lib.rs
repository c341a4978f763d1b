//! What the adapters of JTP, the Jason Transfer Protocol, share: server and client, over any runtime.
//!
//! Who uses JTP wants an adapter: `jtp-tokio`, `jtp-async-std` (also for smol) or `jtp-blocking`. Their types are
//! those of this crate, with the runtime filled in. This page is for who writes an adapter for another runtime.
//!
//! ```text
//!   jtp-tokio     jtp-async-std     jtp-blocking     yours      what a runtime is: a Runtime
//!        └──────────────┴──────┬───────┴───────────────┘
//!                          jtp-driver                           when to read, write, load, wait; retries
//!                        ┌─────┴─────┐
//!                    jtp-core    jtp-store                      what the protocol says; images
//! ```
//!
//! The protocol's rules and clocks are in [`jtp_core`]'s machines, which touch nothing. This crate drives them: it
//! reads and writes, loads images from a [`jtp_store::ImageStore`] ahead of their turn, keeps the deadlines,
//! accepts and counts connections, ends them gracefully, connects, and tries again. What it does not do is
//! wait: for that it asks the [`Runtime`].
//!
//! # An adapter
//!
//! It makes a type of its own a [`Runtime`], [`Over`] the streams of its world, and a `TlsRuntime` (feature `tls`)
//! if it can; then it gives the names that users know to [`Client`], [`Server`] and the rest. This is one for
//! smol, but for TLS:
//!
//! ```
//! use std::fmt::Display;
//! use std::io::{self, IoSlice};
//! use std::net::{Shutdown, SocketAddr};
//! use std::pin::Pin;
//! use std::task::{Context, Poll};
//! use std::time::{Duration, Instant};
//!
//! use jtp_driver::{EventBell, Over, Runtime, Sleep, SockRef, Socket, Transport};
//! use smol::io::{AsyncRead, AsyncWrite};
//! use smol::net::{TcpListener, TcpStream};
//!
//! #[derive(Debug, Clone, Copy)]
//! struct Smol;
//!
//! impl Runtime for Smol {
//!     type Bell = EventBell;
//!     type Sleep = Timer;
//!     type Job<T: Send + 'static> = smol::Task<T>;
//!     type Socket = Io<TcpStream>;
//!     type Listener = TcpListener;
//!     type Server<S: ?Sized> = jtp_driver::Server<Smol, S>;
//!     type Client = jtp_driver::Client<Smol>;
//!
//!     fn sleep_until(at: Instant) -> Timer {
//!         Timer(smol::Timer::at(at))
//!     }
//!
//!     fn spawn(_: impl Display, task: impl Future<Output = ()> + Send + 'static) -> io::Result<()> {
//!         smol::spawn(task).detach();
//!         Ok(())
//!     }
//!
//!     fn spawn_blocking<T: Send + 'static>(
//!         work: impl FnOnce() -> T + Send + 'static,
//!     ) -> smol::Task<T> {
//!         smol::unblock(work)
//!     }
//!
//!     async fn accept(listener: &TcpListener) -> io::Result<(Io<TcpStream>, SocketAddr)> {
//!         let (stream, address) = listener.accept().await?;
//!         Ok((Io(stream), address))
//!     }
//!
//!     async fn resolve(address: &str) -> io::Result<Vec<SocketAddr>> {
//!         smol::net::resolve(address).await
//!     }
//!
//!     async fn connect(address: SocketAddr, _: Option<Duration>) -> io::Result<Io<TcpStream>> {
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
//!     fn reset(&mut self, at: Instant) {
//!         self.0.set_at(at);
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
//! impl<T: AsyncRead + AsyncWrite + Unpin> Over<T> for Smol {
//!     type Transport = Io<T>;
//!
//!     fn over(stream: T) -> Io<T> {
//!         Io(stream)
//!     }
//! }
//!
//! pub type Client = jtp_driver::Client<Smol>;
//! pub type Server<S> = jtp_driver::Server<Smol, S>;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # smol::block_on(async {
//! let store = std::sync::Arc::new(jtp_store::MemoryStore::new());
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
//! # What it counts on
//!
//! - **Wakers.** A [`Transport`], a [`Sleep`] or a [`Runtime::Job`] that was `Pending` has its task polled once that
//!   is worth it. A task polls all that it waits for each time, so a runtime may also wait by noting, while it
//!   polls, what to wait for: `jtp-blocking` does, with one poll(2) a thread.
//! - **Two signals come from other threads:** the server's shutdown, and news of the catalog. Each is a [`Bell`].
//!   [`EventBell`] is one for runtimes whose wakers wake from anywhere.
//! - **Tasks let others go on.** A connection gives way after some turns, also if its runtime would not make
//!   it; no buffer is larger than 256 KiB, and at most two such pieces of an image are in memory. A piece that is
//!   in the system's memory already is read by the task itself
//!   ([`ImageBody::try_read_at`](jtp_store::ImageBody::try_read_at)); what may wait for a disk is read by
//!   [`Runtime::spawn_blocking`].
//! - **Small packets go out together**, up to 32 KiB of them, and before the task waits for anything.
//! - **Nothing is lost by dropping.** Every future here can be dropped at any time; a request goes on where it
//!   was. Dropping [`Server::serve`]'s ends its connections.
//!
//! # Features
//!
//! `tls` (off by default): what concerns TLS, by the types of rustls. An adapter without it works on beside one
//! that has turned it on.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod bell;
pub mod client;
mod clock;
mod input;
mod keep_alive;
mod runtime;
pub mod server;
mod wait;
#[cfg(test)]
mod woken;

pub use bell::EventBell;
pub use client::{Client, ClientBuilder, Error, ImageError, Images, Incoming, Undecoded, Watch};
pub use runtime::{Bell, BoxTransport, Over, Runtime, Sleep, SockRef, Socket, Transport};
#[cfg(feature = "tls")]
pub use runtime::{PeerCertificates, TlsRuntime};
pub use server::{Decision, Peer, Server, ServerBuilder};
pub use wait::timeout;

/// The protocol's name in TLS ALPN. // T1
pub const ALPN: &[u8] = b"jtp/1";
