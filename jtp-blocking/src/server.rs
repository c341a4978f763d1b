//! Serving a store: [`jtp_driver::server`] without `.await`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;

use jtp_core::server::CloseReason;
#[cfg(feature = "tls")]
pub use jtp_driver::server::TlsPeer;
use jtp_driver::{Bell as _, EventBell as Bell};
pub use jtp_driver::{Decision, Peer};
use jtp_store::ImageStore;

use crate::halves::{Close, Halves};
use crate::reactor::block_on;
use crate::runtime::Threads;

/// Collects what a [`Server`] is to do. See [`jtp_driver::ServerBuilder`].
pub type ServerBuilder<S> = jtp_driver::ServerBuilder<Threads, S>;

/// Serves a store over TCP, TLS, or any stream. A handle: clones are the same server.
pub struct Server<S: ?Sized>(jtp_driver::Server<Threads, S>);

impl<S: ?Sized> From<jtp_driver::Server<Threads, S>> for Server<S> {
    fn from(server: jtp_driver::Server<Threads, S>) -> Self {
        Server(server)
    }
}

impl<S: ?Sized> Clone for Server<S> {
    fn clone(&self) -> Self {
        Server(self.0.clone())
    }
}

impl<S: ?Sized> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: ImageStore + ?Sized> Server<S> {
    /// A server of `store`, to be configured.
    pub fn builder(store: Arc<S>) -> ServerBuilder<S> {
        jtp_driver::Server::builder(store)
    }

    /// Accepts and serves connections until `shutdown` begins, each on a thread of its own; then gracefully
    /// ends: no new connections, idle ones close at once, what is under way is finished within the drain
    /// time. Blocks until then. The listener is put into non-blocking mode. // S16
    ///
    /// A thread that a store or a hook holds up beyond the drain time is left behind.
    ///
    /// # Errors
    ///
    /// There are no file descriptors to begin with. Otherwise accepting goes on after any error (each kind is
    /// logged now and then), since those of one connection, or a moment without file descriptors, are no
    /// reason to stop serving.
    pub fn serve(&self, listener: TcpListener, shutdown: &Shutdown) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let shutdown = Arc::clone(&shutdown.0).rung();
        block_on(self.0.serve(Arc::new(listener), shutdown))
    }

    /// Serves one connection over any stream, as it is: whatever encrypts it has been set up before. Blocks
    /// until it ends.
    ///
    /// A stream is given as two halves that can be used at once, and something that ends it: see [`Close`].
    /// Each half gets a thread, since it cannot be known when it can be read or written.
    ///
    /// The rate limit and the shutdown of [`serve`](Self::serve) apply, with its drain time; connection limits
    /// do not.
    ///
    /// # Errors
    ///
    /// Those of the stream, and of starting a thread. A peer that breaks the protocol or is too slow is no
    /// error: the reason is the result.
    pub fn serve_stream(
        &self,
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        closer: impl Close + 'static,
        peer: &Peer,
    ) -> io::Result<Option<CloseReason>> {
        let stream = Halves::new(reader, writer, closer)?;
        block_on(self.0.serve_stream(stream, peer))
    }
}

/// Ends a [`Server`] from another thread. A handle: clones are the same signal.
///
/// In the async crates any future does this.
#[derive(Debug, Clone)]
pub struct Shutdown(Arc<Bell>);

impl Shutdown {
    /// A signal that has not been given.
    ///
    /// # Errors
    ///
    /// The process has no file descriptors left.
    pub fn new() -> io::Result<Shutdown> {
        Ok(Shutdown(Arc::new(Bell::new()?)))
    }

    /// Gives the signal, for good.
    pub fn begin(&self) {
        self.0.ring();
    }

    /// Whether it was given.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.0.is_rung()
    }
}
