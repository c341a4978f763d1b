//! Serving a store.

mod bodies;
mod builder;
mod connection;
mod door;
mod drain;
mod listen;
mod news;
mod peer;
mod staged;
mod tasks;
mod turns;

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use jtp_core::RateLimiter;
use jtp_core::server::{CloseReason, ServerConnection};
use jtp_core::wire::request::RequestHead;
use jtp_core::wire::response::ErrorCode;
use jtp_store::ImageStore;

use crate::clock::Clock;
use crate::runtime::{Over, Runtime};
use bodies::Memory;
use builder::Options;
pub use builder::ServerBuilder;
use connection::Connection;
use drain::Drain;
use news::Newsroom;
pub use peer::Peer;
#[cfg(feature = "tls")]
pub use peer::TlsPeer;
use turns::Queue;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is answered from the catalog as it is now. // S3
    Accept,
    /// It gets `JTPE` with this code and message, and the connection ends. // S11
    Refuse(ErrorCode, Cow<'static, str>),
}

type Hook = dyn Fn(&Peer, &RequestHead) -> Decision + Send + Sync;

/// A bell, waited for.
type Rung = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What all connections of a server share.
struct Shared<R: Runtime, S: ?Sized> {
    options: Options,
    hook: Option<Box<Hook>>,
    rate: Option<Mutex<RateLimiter>>,
    clock: Clock<R>,
    drain: Mutex<Option<Arc<Drain<R::Bell>>>>,
    newsroom: Newsroom<R::Bell>,
    queue: Arc<Queue>,
    memory: Arc<Memory>,
    #[cfg(feature = "tls")]
    tls: Option<builder::Accept<R>>,
    store: Arc<S>,
}

impl<R: Runtime, S: ?Sized> Shared<R, S> {
    fn decide(&self, peer: &Peer, request: &RequestHead) -> Decision {
        if let (Some(rate), Some(ip)) = (&self.rate, peer.ip()) {
            let mut rate = rate.lock().unwrap_or_else(PoisonError::into_inner);
            if !rate.allow(ip, self.clock.now()) {
                return Decision::Refuse(
                    ErrorCode::RateLimited,
                    "too many requests from this address: try again later".into(),
                );
            }
        }
        self.hook
            .as_ref()
            .map_or(Decision::Accept, |hook| hook(peer, request))
    }
}

/// Serves a store over TCP, TLS, or any stream. A handle: clones are the same server.
pub struct Server<R: Runtime, S: ?Sized> {
    shared: Arc<Shared<R, S>>,
}

impl<R: Runtime, S: ?Sized> Clone for Server<R, S> {
    fn clone(&self) -> Self {
        Server {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<R: Runtime, S: ?Sized> fmt::Debug for Server<R, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime, S: ImageStore + ?Sized> Server<R, S> {
    /// A server of `store`, to be configured.
    pub fn builder(store: Arc<S>) -> ServerBuilder<R, S> {
        ServerBuilder::new(store)
    }

    /// Accepts and serves connections until `shutdown` is ready; then gracefully ends: no new connections,
    /// idle ones close at once, what is under way is finished within the drain time. // S16
    ///
    /// Each connection is a task of the runtime. They end when this future is dropped.
    ///
    /// # Errors
    ///
    /// The runtime lacks what it needs to begin. Otherwise accepting goes on after any error (each kind is
    /// logged now and then), since those of one connection, or a moment without file descriptors, are no
    /// reason to stop serving.
    pub async fn serve(
        &self,
        listener: R::Listener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        listen::serve(&self.shared, listener, shutdown).await
    }

    /// Serves one connection over any stream, as it is: whatever encrypts it has been set up before.
    ///
    /// The rate limit and the shutdown of [`serve`](Self::serve) apply, with its drain time; connection limits
    /// do not. To close the stream is to half-close it, so that the peer sees the end (S11).
    ///
    /// Connections that always have more to do take turns: a future that is called for its turn and not polled (a
    /// spawned task always is) holds others up, until their deadlines.
    ///
    /// # Errors
    ///
    /// Those of the stream. A peer that breaks the protocol or is too slow is no error: the reason is the
    /// result.
    pub async fn serve_stream<T>(&self, stream: T, peer: &Peer) -> io::Result<Option<CloseReason>>
    where
        R: Over<T>,
    {
        let stream = R::over(stream);
        let drain = self.shared.drain()?;
        let clock = Clock::new();
        let machine = ServerConnection::new(self.shared.options.config, clock.now());
        Connection::new(&self.shared, peer, stream, machine, clock, drain)
            .run()
            .await
    }
}
