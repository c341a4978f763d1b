//! What a program can see of its server: counters and an observer. Spans are made in `connection.rs`.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jtp_core::server::{CloseReason, CompletedRequest};
use jtp_core::wire::request::RequestHead;

use super::Peer;
use super::limits::ConnectionLimit;

/// Is notified of what happens on a server. Methods run on the connection's task and must not block. One that panics ends
/// its connection.
pub trait Observer: Send + Sync + 'static {
    /// A connection was admitted. On a TCP server this is before the TLS handshake.
    fn connection_opened(&self, peer: &Peer) {
        let _ = peer;
    }

    /// A connection was closed at accept, because a connection limit was reached. This runs on the task that accepts: a
    /// panic ends [`Server::serve`](super::Server::serve).
    fn connection_refused(&self, address: SocketAddr) {
        let _ = address;
    }

    /// A connection has ended. Each connection that was opened is closed once, after its last request.
    fn connection_closed(&self, peer: &Peer, end: &ConnectionEnd<'_>) {
        let _ = (peer, end);
    }

    /// A request has ended: answered, cancelled, refused, or aborted with its connection.
    fn request_completed(&self, peer: &Peer, request: &RequestSummary<'_>) {
        let _ = (peer, request);
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ConnectionEnd<'a> {
    /// By the protocol's rules, for this reason.
    Closed(CloseReason),
    /// The transport failed, or the TLS handshake.
    Failed(&'a io::Error),
    /// Its future was dropped: that of [`Server::serve`](super::Server::serve) or of the one call that served it.
    Dropped,
}

impl ConnectionEnd<'_> {
    /// A fixed name, as a label of a counter.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            ConnectionEnd::Closed(reason) => reason.as_str(),
            ConnectionEnd::Failed(_) => "transport_error",
            ConnectionEnd::Dropped => "dropped",
        }
    }
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct RequestSummary<'a> {
    /// The request.
    pub head: &'a RequestHead,
    /// Its images, bytes, and outcome.
    pub completed: &'a CompletedRequest,
    /// The time from its head to its end.
    pub elapsed: Duration,
}

/// A server's counters at one moment: see [`Server::counters`](super::Server::counters). Numbers are since the server
/// was built.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections that are open.
    pub connections_open: u64,
    /// Connections that were admitted.
    pub connections_accepted: u64,
    /// Connections that were closed at accept, because a limit was reached.
    pub connections_refused: u64,
    /// Those of `connections_refused` that were over the limit of their address.
    pub connections_refused_per_client: u64,
    /// Connections that have ended, by [`ConnectionEnd::as_str`].
    pub connections_closed: BTreeMap<&'static str, u64>,
    /// Requests that have ended, by the name of their kind and of their outcome.
    pub requests: BTreeMap<(&'static str, &'static str), u64>,
    /// Images whose packets were sent completely.
    pub images_sent: u64,
    /// Bytes of images that were sent, as they travel.
    pub body_bytes_sent: u64,
    /// Connections that watch.
    pub watchers: u64,
    /// Watchers that were ended, because there were too many.
    pub watchers_evicted: u64,
    /// Clients that were refused because their key is not in the list of
    /// [`ServerBuilder::clients`](super::ServerBuilder::clients). // T7
    pub clients_refused: u64,
    /// TLS handshakes that have begun and not ended, including those that wait for their client.
    pub handshakes: u64,
    /// Those of `handshakes` that wait for their turn, because too many have something to do.
    pub handshakes_waiting: u64,
    /// Connections that were closed before their TLS handshake, because of the rate limit.
    pub handshakes_refused: u64,
}

/// The counters, while they count.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    open: AtomicU64,
    accepted: AtomicU64,
    refused: AtomicU64,
    refused_per_client: AtomicU64,
    images: AtomicU64,
    bytes: AtomicU64,
    watchers: AtomicU64,
    handshakes: AtomicU64,
    handshakes_refused: AtomicU64,
    /// Touched once a request or connection, not once a packet.
    labelled: Mutex<Labelled>,
}

#[derive(Debug, Default)]
struct Labelled {
    closed: BTreeMap<&'static str, u64>,
    requests: BTreeMap<(&'static str, &'static str), u64>,
}

/// A connection that watches; counted until it is dropped.
#[derive(Debug)]
pub(super) struct WatcherGuard(Arc<Metrics>);

impl Drop for WatcherGuard {
    fn drop(&mut self) {
        self.0.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A TLS handshake; counted until it is dropped.
#[cfg(feature = "tls")]
pub(super) struct HandshakeGuard<'a>(&'a Metrics);

#[cfg(feature = "tls")]
impl Drop for HandshakeGuard<'_> {
    fn drop(&mut self) {
        self.0.handshakes.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts the server's events, and passes them on to its observer.
pub(super) struct Observation {
    metrics: Arc<Metrics>,
    observer: Option<Arc<dyn Observer>>,
}

impl Observation {
    pub(super) fn new(observer: Option<Arc<dyn Observer>>) -> Observation {
        Observation {
            metrics: Arc::default(),
            observer,
        }
    }

    pub(super) fn opened(&self, peer: &Peer) {
        self.metrics.accepted.fetch_add(1, Ordering::Relaxed);
        self.metrics.open.fetch_add(1, Ordering::Relaxed);
        if let Some(observer) = &self.observer {
            observer.connection_opened(peer);
        }
    }

    pub(super) fn refused(&self, address: SocketAddr, limit: ConnectionLimit) {
        self.metrics.refused.fetch_add(1, Ordering::Relaxed);
        if limit == ConnectionLimit::Client {
            let refused = &self.metrics.refused_per_client;
            refused.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(observer) = &self.observer {
            observer.connection_refused(address);
        }
    }

    pub(super) fn closed(&self, peer: &Peer, end: &ConnectionEnd<'_>) {
        self.metrics.open.fetch_sub(1, Ordering::Relaxed);
        let mut labelled = self.metrics.lock();
        *labelled.closed.entry(end.as_str()).or_default() += 1;
        drop(labelled);
        if let Some(observer) = &self.observer {
            observer.connection_closed(peer, end);
        }
    }

    pub(super) fn request_completed(&self, peer: &Peer, request: &RequestSummary<'_>) {
        let completed = request.completed;
        self.metrics
            .images
            .fetch_add(completed.images, Ordering::Relaxed);
        self.metrics
            .bytes
            .fetch_add(completed.body_bytes, Ordering::Relaxed);
        let labels = (request.head.kind.name(), completed.outcome.as_str());
        let mut labelled = self.metrics.lock();
        *labelled.requests.entry(labels).or_default() += 1;
        drop(labelled);
        if let Some(observer) = &self.observer {
            observer.request_completed(peer, request);
        }
    }

    pub(super) fn watcher(&self) -> WatcherGuard {
        self.metrics.watchers.fetch_add(1, Ordering::Relaxed);
        WatcherGuard(Arc::clone(&self.metrics))
    }

    #[cfg(feature = "tls")]
    pub(super) fn handshake(&self) -> HandshakeGuard<'_> {
        self.metrics.handshakes.fetch_add(1, Ordering::Relaxed);
        HandshakeGuard(&self.metrics)
    }

    #[cfg(feature = "tls")]
    pub(super) fn handshake_refused(&self) {
        let refused = &self.metrics.handshakes_refused;
        refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The counters, without those of the limiters.
    pub(super) fn counters(&self) -> Counters {
        let metrics = &self.metrics;
        let labelled = metrics.lock();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            connections_open: count(&metrics.open),
            connections_accepted: count(&metrics.accepted),
            connections_refused: count(&metrics.refused),
            connections_refused_per_client: count(&metrics.refused_per_client),
            connections_closed: labelled.closed.clone(),
            requests: labelled.requests.clone(),
            images_sent: count(&metrics.images),
            body_bytes_sent: count(&metrics.bytes),
            watchers: count(&metrics.watchers),
            handshakes: count(&metrics.handshakes),
            handshakes_refused: count(&metrics.handshakes_refused),
            ..Counters::default()
        }
    }
}

impl Metrics {
    fn lock(&self) -> std::sync::MutexGuard<'_, Labelled> {
        self.labelled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
