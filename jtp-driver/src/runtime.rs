//! What an adapter provides.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

pub use socket2::SockRef;

use crate::client::Client;
use crate::server::Server;

/// What bytes go over. `Pending` means that the task of `cx` is woken once it is worth another call.
pub trait Transport {
    /// Reads what is there. `Ready(Ok(0))` is the end of the stream.
    ///
    /// # Errors
    ///
    /// Those of the stream. A TLS stream that ends without a good-bye gives [`io::ErrorKind::UnexpectedEof`]. // T1
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes from the beginning of `bufs`, as much as goes; how many bytes. After `Pending` the same bytes, or
    /// more, are offered until they are taken.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Sends what writing may have held back.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Half-closes: nothing more is written, and the peer is to see the end; reading goes on. TLS says good-bye
    /// before. // S11
    ///
    /// # Errors
    ///
    /// Those of the stream.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A transport whose type does not matter.
pub type BoxTransport = Box<dyn Transport + Send>;

impl<T: Transport + ?Sized> Transport for Box<T> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        (**self).poll_read(cx, buf)
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        (**self).poll_write_vectored(cx, bufs)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_flush(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        (**self).poll_close(cx)
    }
}

/// A TCP connection.
pub trait Socket: Transport + Send + Sync + 'static {
    /// The socket, for its options: what is set is the same over every runtime.
    fn options(&self) -> SockRef<'_>;

    /// Looks at bytes without taking them; 0 is the end of the stream. // T2
    fn peek(&self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

/// Rings once, for good, and any number of tasks wait for it.
///
/// [`EventBell`](crate::EventBell) is one for runtimes whose wakers wake from any thread.
pub trait Bell: Sized + Send + Sync + 'static {
    /// A bell that has not rung.
    ///
    /// # Errors
    ///
    /// What it needs of the system is not to be had.
    fn new() -> io::Result<Self>;

    /// Rings, from any thread.
    fn ring(&self);

    /// Whether it has rung.
    fn is_rung(&self) -> bool;

    /// Ready once it has rung, also when that was before.
    fn rung(self: Arc<Self>) -> impl Future<Output = ()> + Send + 'static;
}

/// A timer: ready at its time, or soon after.
pub trait Sleep: Future<Output = ()> + Send + Unpin {
    /// Sets it anew, whether it was ready or not.
    fn reset(&mut self, at: Instant);
}

/// What JTP needs of a runtime.
///
/// Functions that return futures may expect to be called, and polled, where the runtime is at hand.
pub trait Runtime: Copy + fmt::Debug + Send + Sync + 'static {
    /// See [`Bell`].
    type Bell: Bell;
    /// See [`Sleep`].
    type Sleep: Sleep;
    /// Blocking work under way. Dropped, it need not be stopped; a panic in it goes on where it is polled.
    type Job<T: Send + 'static>: Future<Output = T> + Send + Unpin;
    /// See [`Socket`].
    type Socket: Socket;
    /// A socket that listens.
    type Listener: Send + Sync;
    /// What [`ServerBuilder::build`](crate::ServerBuilder::build) gives: [`Server`] itself, but for adapters
    /// that show it in another way.
    type Server<S: ?Sized>: From<Server<Self, S>>;
    /// What [`ClientBuilder::build`](crate::ClientBuilder::build) gives: [`Client`] itself, but for adapters
    /// that show it in another way.
    type Client: From<Client<Self>>;

    /// Whether [`spawn_blocking`](Runtime::spawn_blocking) returns before the work is done. Otherwise nothing is
    /// loaded while there is something to send.
    const LOADS_ASIDE: bool = true;

    /// Whether tasks take turns on the threads that there are. Otherwise each has its own, and the system sees
    /// to it that all get on.
    const SHARES_THREADS: bool = true;

    /// The time. Runtimes that can simulate it have their own.
    #[must_use]
    fn now() -> Instant {
        Instant::now()
    }

    /// A timer for that time.
    fn sleep_until(at: Instant) -> Self::Sleep;

    /// Starts a task and lets it run. The name is for those who look at threads.
    ///
    /// # Errors
    ///
    /// It cannot be started; it is dropped.
    fn spawn(
        name: impl fmt::Display,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()>;

    /// Does work that blocks where it is no harm.
    fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static)
    -> Self::Job<T>;

    /// The next connection. Dropped before it is ready, it loses none.
    fn accept(
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;

    /// The addresses of `HOST:PORT`.
    fn resolve(address: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Connects. After `limit` the future is dropped: only who cannot be stopped so has to look at it.
    fn connect(
        address: SocketAddr,
        limit: Option<Duration>,
    ) -> impl Future<Output = io::Result<Self::Socket>> + Send;
}

/// A runtime with TLS. The configurations are complete; the futures are dropped when their time is over.
#[cfg(feature = "tls")]
pub trait TlsRuntime: Runtime {
    /// Makes the handshake of a server; the stream, and the certificates that the peer showed.
    fn accept_tls(
        config: Arc<rustls::ServerConfig>,
        socket: Self::Socket,
    ) -> impl Future<Output = io::Result<(BoxTransport, PeerCertificates)>> + Send + 'static;

    /// Makes the handshake of a client.
    fn connect_tls(
        config: Arc<rustls::ClientConfig>,
        name: rustls::pki_types::ServerName<'static>,
        socket: Self::Socket,
    ) -> impl Future<Output = io::Result<BoxTransport>> + Send + 'static;
}

/// The certificates that a peer showed, its own first.
#[cfg(feature = "tls")]
pub type PeerCertificates = Vec<rustls::pki_types::CertificateDer<'static>>;

/// A runtime that takes streams of type `T` from others.
pub trait Over<T>: Runtime {
    /// The stream as a transport.
    type Transport: Transport;

    /// Makes it one.
    fn over(stream: T) -> Self::Transport;
}
