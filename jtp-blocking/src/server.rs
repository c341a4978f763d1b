//! Serving a store: [`jtp_driver::server`] without `.await`.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use jtp_driver::ShutdownSignal;
use jtp_driver::store::IntoStore;

use crate::halves::{Close, Halves};
use crate::reactor::block_on;
use crate::runtime::{Tcp, Threads};

jtp_driver::adapter_server_types!();

/// Configures a [`Server`]. See [`jtp_driver::ServerBuilder`].
pub type ServerBuilder = jtp_driver::ServerBuilder<Threads, Server>;

/// Serves a store over TCP, TLS, or any stream. A handle: clones are the same server.
#[derive(Debug, Clone)]
pub struct Server(jtp_driver::Server<Threads>);

impl From<jtp_driver::Server<Threads>> for Server {
    fn from(server: jtp_driver::Server<Threads>) -> Self {
        Server(server)
    }
}

impl Server {
    /// Configures a server of `store`.
    pub fn builder(store: impl IntoStore) -> ServerBuilder {
        Server::builder_on(Threads::default(), store)
    }

    /// Configures a server of `store` whose threads have another stack size: see [`Threads::with_stack_size`].
    pub fn builder_on(threads: Threads, store: impl IntoStore) -> ServerBuilder {
        ServerBuilder::new(threads, store)
    }

    /// Accepts and serves connections until `shutdown` begins or [`shutdown`](Self::shutdown) is called, each on a
    /// thread of its own. Then ends gracefully: no new connections, idle ones close at once, responses under way are
    /// finished within the drain time. Blocks until then. Puts the listener into non-blocking mode. // S16
    ///
    /// A thread that a request handler blocks beyond the drain time is left running.
    ///
    /// # Errors
    ///
    /// The listener cannot be put into non-blocking mode. Errors of accept are logged (each kind at most every 10 s) and
    /// accepting continues, since those of one connection, or a moment without file descriptors, are no reason to stop
    /// serving.
    pub fn serve(&self, listener: TcpListener, shutdown: &ShutdownSignal) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        block_on(self.0.serve(Arc::new(listener), shutdown.wait()))
    }

    /// Serves one TCP connection that the caller accepted, with everything that [`serve`](Self::serve) does for its own:
    /// connection limits, TLS with its clocks, the policy for plain TCP, socket options. Blocks until it ends. Puts the
    /// stream into non-blocking mode.
    ///
    /// Returns [`CloseReason::Refused`] if a connection limit is reached.
    ///
    /// # Errors
    ///
    /// Errors of the socket and of the TLS handshake. A peer that breaks the protocol or is too slow is no error: the
    /// reason is the result.
    pub fn serve_tcp(
        &self,
        stream: TcpStream,
        address: SocketAddr,
    ) -> io::Result<Option<CloseReason>> {
        block_on(self.0.serve_tcp(Tcp::new(stream)?, address))
    }

    /// Serves one connection over any stream. What encrypts it was set up before. Blocks until it ends.
    ///
    /// The stream is passed as two halves that can be used at the same time, and a [`Close`] that ends them. Each half
    /// has a thread of its own, since a blocking stream does not say when it can be read or written.
    ///
    /// The rate limit and the server's shutdown apply, with its drain time; connection limits do not.
    ///
    /// # Errors
    ///
    /// Errors of the stream, or the threads cannot be started. A peer that breaks the protocol or is too slow is no
    /// error: the reason is the result.
    pub fn serve_stream(
        &self,
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        closer: impl Close + 'static,
        peer: Peer,
    ) -> io::Result<Option<CloseReason>> {
        let stream = Halves::new(reader, writer, closer)?;
        block_on(self.0.serve_stream(stream, peer))
    }

    /// Ends everything that the server serves now, gracefully, and blocks until it has ended: every
    /// [`serve`](Self::serve), [`serve_tcp`](Self::serve_tcp) and [`serve_stream`](Self::serve_stream). What begins after
    /// this call is served. // S16
    pub fn shutdown(&self) {
        block_on(self.0.shutdown());
    }

    /// The server's counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.0.counters()
    }
}
