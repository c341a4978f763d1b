//! Serving a store.

mod builder;
mod coalescer;
mod connection;
mod drain;
mod identity;
pub mod limits;
mod listener;
mod observe;
mod peer;
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
mod plain;
mod prefetch;
mod proxied;
pub mod proxy;
mod request;
mod scheduler;
mod watcher;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jtp_core::server::{CloseReason, CompletedRequest};
use jtp_core::wire::request::RequestHead;

use crate::clock::Clock;
use crate::runtime::{Runtime, WrapStream};
use crate::store::{ImageStore, IntoStore};
use builder::Options;
pub use builder::ServerBuilder;
use connection::Scheduling;
use drain::Drain;
#[cfg(feature = "tls")]
use limits::HandshakeLimiter;
use limits::{ConnectionLimiter, LogThrottle, Permit, RateLimiter, WatcherLimiter, WatcherPermit};
pub use observe::{ConnectionEnd, Counters, Observer, RequestSummary};
use observe::{Observation, WatcherGuard};
pub use peer::Peer;
pub use plain::PlainPolicy;
use prefetch::MemoryBudget;
use proxy::ProxyProtocol;
use request::Handler;
pub use request::{Decision, Request};
use scheduler::FairScheduler;

/// What all connections of a server share.
struct Shared<R: Runtime> {
    runtime: R,
    store: Arc<dyn ImageStore>,
    options: Options,
    handler: Option<Box<Handler>>,
    rate: Option<Mutex<RateLimiter>>,
    connections: Arc<ConnectionLimiter>,
    watchers: Arc<WatcherLimiter>,
    #[cfg(feature = "tls")]
    handshake_rate: Option<Mutex<RateLimiter>>,
    #[cfg(feature = "tls")]
    handshakes: HandshakeLimiter,
    clock: Clock<R>,
    drain: Mutex<Arc<Drain>>,
    scheduler: Arc<FairScheduler>,
    memory: Arc<MemoryBudget>,
    observation: Observation,
    /// Images that could not be sent.
    unsent: Mutex<LogThrottle>,
    #[cfg(feature = "tls")]
    tls: Option<builder::AcceptTls<R>>,
    #[cfg(feature = "tls")]
    clients: Option<crate::tls::AuthorizedClients>,
    proxy: Option<ProxyProtocol>,
}

/// A connection that was admitted. It is counted as open until it is dropped.
struct Admitted<R: Runtime> {
    shared: Arc<Shared<R>>,
    peer: Peer,
    permit: Option<Arc<Permit>>,
    ended: bool,
}

impl<R: Runtime> Admitted<R> {
    fn new(shared: &Arc<Shared<R>>, peer: Peer, permit: Option<Arc<Permit>>) -> Admitted<R> {
        let admitted = Admitted {
            shared: Arc::clone(shared),
            peer,
            permit,
            ended: false,
        };
        // An observer that panics here drops it.
        shared.observation.opened(&admitted.peer);
        admitted
    }

    /// The future that serves its socket, for [`serve`](Self::serve).
    fn serve_tcp(
        &self,
        socket: R::Socket,
        drain: Arc<Drain>,
        scheduling: Scheduling,
    ) -> impl Future<Output = io::Result<Option<CloseReason>>> + Send + use<R> {
        let (shared, peer) = (Arc::clone(&self.shared), self.peer.clone());
        let permit = self.permit.clone();
        async move { listener::serve_tcp(&shared, socket, peer, permit, drain, scheduling).await }
    }

    /// Serves the connection, and reports how it ended.
    async fn serve(
        mut self,
        connection: impl Future<Output = io::Result<Option<CloseReason>>>,
    ) -> io::Result<Option<CloseReason>> {
        let served = connection.await;
        // Released before the end is reported: whoever reacts by connecting again is admitted.
        self.permit = None;
        self.ended = true;
        let end = listener::end_of(&served);
        self.shared.observation.closed(&self.peer, &end);
        match &served {
            Ok(Some(reason)) => tracing::debug!(peer = %self.peer, %reason, "closed"),
            Ok(None) => {}
            Err(error) => tracing::debug!(peer = %self.peer, %error, "connection lost"),
        }
        served
    }
}

impl<R: Runtime> Drop for Admitted<R> {
    fn drop(&mut self) {
        if !self.ended {
            let end = ConnectionEnd::Dropped;
            self.shared.observation.closed(&self.peer, &end);
        }
    }
}

impl<R: Runtime> Shared<R> {
    /// Logs that an image cannot be sent, which a client can cause as often as it likes.
    fn log_unsent(&self, peer: &Peer, error: &(dyn std::error::Error + 'static)) {
        let now = self.runtime.now();
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = unsent.record(now) {
            tracing::warn!(%peer, count, error, "an image cannot be sent");
        }
    }

    /// S15
    fn allows_request(&self, peer: &Peer) -> bool {
        self.allows(self.rate.as_ref(), peer)
    }

    /// T8
    #[cfg(feature = "tls")]
    fn allows_handshake(&self, peer: &Peer) -> bool {
        let allowed = self.allows(self.handshake_rate.as_ref(), peer);
        if !allowed {
            self.observation.handshake_refused();
        }
        allowed
    }

    fn allows(&self, rate: Option<&Mutex<RateLimiter>>, peer: &Peer) -> bool {
        let (Some(rate), Some(client)) = (rate, peer.client_id()) else {
            return true;
        };
        let mut rate = rate.lock().unwrap_or_else(PoisonError::into_inner);
        rate.allow_client(client, self.clock.now())
    }

    /// Counts a new watcher, which may have to end another one. // T8
    fn watcher(&self, peer: &Peer) -> (WatcherGuard, Option<WatcherPermit>) {
        let client = peer.client_id();
        let permit = client.and_then(|client| self.watchers.admit(client, self.runtime.now()));
        (self.observation.watcher(), permit)
    }

    fn request_completed(
        &self,
        peer: &Peer,
        head: &RequestHead,
        completed: &CompletedRequest,
        elapsed: Duration,
    ) {
        let summary = RequestSummary {
            head,
            completed,
            elapsed,
        };
        self.observation.request_completed(peer, &summary);
    }

    /// The shutdown of connections that begin now.
    fn drain(&self) -> Arc<Drain> {
        Arc::clone(&self.drain.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives connections that begin now another shutdown than `drain`.
    fn replace_drain(&self, drain: &Arc<Drain>) {
        let mut current = self.drain.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&current, drain) {
            *current = Arc::default();
        }
    }
}

/// Serves a store over TCP, TLS, or any stream. A handle: clones are the same server.
pub struct Server<R: Runtime> {
    shared: Arc<Shared<R>>,
}

impl<R: Runtime> Clone for Server<R> {
    fn clone(&self) -> Self {
        Server {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<R: Runtime> fmt::Debug for Server<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> Server<R> {
    /// Configures a server of `store` on the default of its runtime.
    pub fn builder(store: impl IntoStore) -> ServerBuilder<R>
    where
        R: Default,
    {
        ServerBuilder::new(R::default(), store)
    }

    /// Configures a server of `store` on this runtime.
    pub fn builder_on(runtime: R, store: impl IntoStore) -> ServerBuilder<R> {
        ServerBuilder::new(runtime, store)
    }

    /// Accepts and serves connections until `shutdown` is ready or [`shutdown`](Self::shutdown) is called, then ends
    /// gracefully: no new connections, idle ones close at once, responses under way are finished within the drain
    /// time. // S16
    ///
    /// Each connection is a task of the runtime. Dropping this future ends them at once.
    ///
    /// # Errors
    ///
    /// None at present. Errors of accept are logged (each kind at most every 10 s) and accepting continues, since those
    /// of one connection, or a moment without file descriptors, are no reason to stop serving.
    pub async fn serve(
        &self,
        listener: R::Listener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        listener::serve(&self.shared, listener, shutdown).await
    }

    /// Serves one TCP connection that the caller accepted, with everything that [`serve`](Self::serve) does for its own:
    /// connection limits, TLS with its clocks, the policy for plain TCP, socket options. `socket` is the runtime's
    /// `TcpStream`. The limit of TLS handshakes does not apply, since a future that is not polled must delay no other.
    ///
    /// Returns [`CloseReason::Refused`] if a connection limit is reached. Dropping the future ends the connection.
    ///
    /// # Errors
    ///
    /// Errors of the socket and of the TLS handshake. A peer that breaks the protocol or is too slow is no error: the
    /// reason is the result.
    pub async fn serve_tcp(
        &self,
        socket: impl Into<R::Socket>,
        address: SocketAddr,
    ) -> io::Result<Option<CloseReason>> {
        let Some(arrival) = self.shared.admit(address) else {
            let code = jtp_core::wire::response::ErrorCode::RateLimited;
            return Ok(Some(CloseReason::Refused(code)));
        };
        let drain = self.shared.drain();
        let _open = drain.connection();
        arrival
            .serve(socket.into(), drain, Scheduling::Independent)
            .await
    }

    /// Serves one connection over any stream. What encrypts it was set up before.
    ///
    /// The rate limit, the limit of watchers and the server's shutdown apply, with its drain time; connection limits do
    /// not, and what the system buffers for the stream is up to the caller. Closing the
    /// stream must close its write side only, so that the peer sees the end (S11). Dropping the future ends the
    /// connection; a future that is not polled delays no other connection.
    ///
    /// # Errors
    ///
    /// Errors of the stream. A peer that breaks the protocol or is too slow is no error: the reason is the result.
    pub async fn serve_stream<T>(&self, stream: T, peer: Peer) -> io::Result<Option<CloseReason>>
    where
        R: WrapStream<T>,
    {
        let drain = self.shared.drain();
        let _open = drain.connection();
        let admitted = Admitted::new(&self.shared, peer.clone(), None);
        // Moved into the future: dropped with it, the connection reports its request before its own end.
        let served = identity::serve(
            Arc::clone(&self.shared),
            self.shared.identify(peer, None),
            R::wrap(stream),
            drain,
            Scheduling::Independent,
        );
        admitted.serve(served).await
    }

    /// Ends everything that the server serves now, gracefully (S16), and waits for it: every `serve`, `serve_tcp` and
    /// `serve_stream`. What begins after this call is served.
    ///
    /// Cancel safe: a future that is dropped after its first poll ends the wait, and the shutdown goes on.
    pub async fn shutdown(&self) {
        listener::finish(&self.shared, self.shared.drain()).await;
    }

    /// The server's counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let shared = &self.shared;
        let mut counters = shared.observation.counters();
        counters.watchers_evicted = shared.watchers.evicted();
        #[cfg(feature = "tls")]
        {
            let clients = shared.clients.as_ref();
            counters.clients_refused = clients.map_or(0, crate::tls::AuthorizedClients::refused);
            counters.handshakes_waiting =
                u64::try_from(shared.handshakes.waiting()).unwrap_or(u64::MAX);
        }
        counters
    }
}
