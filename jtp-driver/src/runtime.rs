//! What an adapter provides: sockets, timers, tasks, and TLS if it can.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

pub use socket2::SockRef;

use crate::BoxFuture;

/// A byte stream. A method that returns `Pending` has registered the waker of `cx`.
pub trait Transport {
    /// Reads available bytes into `buf`. `Ready(Ok(0))` is the end of the stream.
    ///
    /// # Errors
    ///
    /// Errors of the stream. A TLS stream that ends without close_notify returns
    /// [`io::ErrorKind::UnexpectedEof`]. // T1
    fn poll_read(&mut self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes a prefix of `bufs` and returns the number of bytes taken. After `Pending` the caller offers the same
    /// bytes, or those and more, until they are taken.
    ///
    /// # Errors
    ///
    /// Errors of the stream.
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// Sends everything that earlier writes buffered.
    ///
    /// # Errors
    ///
    /// Errors of the stream.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Closes the write side, so that the peer sees the end of the stream; reading continues. TLS sends close_notify
    /// first. // S11
    ///
    /// # Errors
    ///
    /// Errors of the stream.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// The TCP socket below the stream, if there is one: the driver sets its options. Default: `None`. // T8
    fn socket(&self) -> Option<SockRef<'_>> {
        None
    }
}

/// A transport of any type.
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

    fn socket(&self) -> Option<SockRef<'_>> {
        (**self).socket()
    }
}

/// A TCP connection.
pub trait Socket: Transport + Send + Sync + 'static {
    /// The socket, to set its options: the driver sets the same ones on every runtime.
    fn options(&self) -> SockRef<'_>;

    /// Reads bytes without consuming them. Returns 0 at the end of the stream. // T2
    fn peek(&self, buf: &mut [u8]) -> impl Future<Output = io::Result<usize>> + Send;
}

/// A timer: completes at its deadline or soon after.
pub trait Sleep: Future<Output = ()> + Send + Unpin {
    /// Moves the deadline, whether or not the timer has completed.
    fn reset(&mut self, deadline: Instant);
}

/// An asynchronous runtime, as far as JTP needs one.
///
/// It is a value, cheap to clone, so that it can carry an executor or a handle. Wakers may be called from any thread.
pub trait Runtime: Clone + fmt::Debug + Send + Sync + 'static {
    /// See [`Sleep`].
    type Sleep: Sleep;
    /// See [`Socket`].
    type Socket: Socket;
    /// A listening socket.
    type Listener: Send + Sync;

    /// The current time. A runtime that can simulate time returns its own.
    #[must_use]
    fn now(&self) -> Instant {
        Instant::now()
    }

    /// A timer that completes at `deadline`.
    fn sleep_until(&self, deadline: Instant) -> Self::Sleep;

    /// Starts a detached task. `name` describes it, for runtimes that name threads.
    ///
    /// # Errors
    ///
    /// The task cannot be started; it is dropped.
    fn spawn(&self, name: fmt::Arguments<'_>, task: BoxFuture<()>) -> io::Result<()>;

    /// Accepts the next connection. Cancel safe: a dropped future loses no connection.
    fn accept(
        &self,
        listener: &Self::Listener,
    ) -> impl Future<Output = io::Result<(Self::Socket, SocketAddr)>> + Send;

    /// Resolves `HOST:PORT`.
    fn resolve(&self, address: &str) -> impl Future<Output = io::Result<Vec<SocketAddr>>> + Send;

    /// Connects to an address. The driver drops the future when its time is over.
    fn connect(&self, address: SocketAddr)
    -> impl Future<Output = io::Result<Self::Socket>> + Send;
}

/// A runtime with TLS. The driver completes the configurations and drops the futures when their time is over.
#[cfg(feature = "tls")]
pub trait TlsRuntime: Runtime {
    /// Performs the server's handshake. Returns the stream, and what TLS knows about the client.
    fn accept_tls(
        &self,
        config: Arc<rustls::ServerConfig>,
        socket: Self::Socket,
    ) -> impl Future<Output = io::Result<(BoxTransport, crate::TlsPeer)>> + Send + 'static;

    /// Performs the client's handshake.
    fn connect_tls(
        &self,
        config: Arc<rustls::ClientConfig>,
        name: rustls::pki_types::ServerName<'static>,
        socket: Self::Socket,
    ) -> impl Future<Output = io::Result<BoxTransport>> + Send + 'static;
}

/// A runtime that can use streams of type `T` as transports.
pub trait WrapStream<T>: Runtime {
    /// The wrapped stream.
    type Transport: Transport;

    /// Wraps a stream.
    fn wrap(stream: T) -> Self::Transport;
}
