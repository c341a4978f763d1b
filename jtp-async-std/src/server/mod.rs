//! Serving a store.

mod bodies;
mod connection;
mod listen;

use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_io::{AsyncRead, AsyncWrite};
use jtp_core::RateLimiter;
use jtp_core::server::{CloseReason, PlainPolicy, ServerConfig, ServerConnection};
use jtp_core::wire::request::RequestHead;
use jtp_core::wire::response::ErrorCode;
use jtp_store::ImageStore;

use crate::clock::Clock;
use crate::runtime::TcpListener;
use crate::tasks::Signal;
use connection::Connection;

/// Who is at the other end of a connection.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Peer {
    /// Its address, where the transport has one.
    pub address: Option<SocketAddr>,
    /// What TLS knows of it; `None` on plain TCP.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsPeer>,
}

impl Peer {
    /// A peer of whom only the address is known.
    #[must_use]
    pub fn new(address: Option<SocketAddr>) -> Peer {
        Peer {
            address,
            ..Peer::default()
        }
    }

    fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("a peer without an address"),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({self})")
    }
}

/// What TLS knows of a peer.
#[cfg(feature = "tls")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsPeer {
    /// Its certificates, its own first; empty if it showed none.
    pub certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
}

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It is answered from the catalog as it is now. // S3
    Accept,
    /// It gets `JTPE` with this code and message, and the connection ends. // S11
    Refuse(ErrorCode, Cow<'static, str>),
}

type Hook = dyn Fn(&Peer, &RequestHead) -> Decision + Send + Sync;

/// Collects what a [`Server`] is to do. Every default is the protocol's.
#[must_use]
pub struct ServerBuilder<S: ?Sized> {
    store: Arc<S>,
    options: Options,
    hook: Option<Box<Hook>>,
    rate: Option<RateLimiter>,
    #[cfg(feature = "tls")]
    tls: Option<Arc<rustls::ServerConfig>>,
}

#[derive(Debug, Clone)]
struct Options {
    config: ServerConfig,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    plain: PlainPolicy,
    max_connections: Option<NonZeroUsize>,
    max_per_address: Option<NonZeroUsize>,
    tcp_nodelay: bool,
    drain: Option<Duration>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    handshake: Option<Duration>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    first_byte: Option<Duration>,
}

impl<S: ImageStore + ?Sized> ServerBuilder<S> {
    fn new(store: Arc<S>) -> ServerBuilder<S> {
        ServerBuilder {
            store,
            options: Options {
                config: ServerConfig::new(),
                plain: PlainPolicy::default(),
                max_connections: NonZeroUsize::new(4096),
                max_per_address: None,
                tcp_nodelay: true,
                drain: Some(Duration::from_secs(30)),
                handshake: Some(Duration::from_secs(10)),
                first_byte: Some(Duration::from_secs(60)),
            },
            hook: None,
            rate: None,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The limits and clocks of each connection.
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.options.config = config;
        self
    }

    /// Serves TLS; plain TCP then as [`plain`](Self::plain) says. The configuration is taken as it is but for
    /// ALPN, which is set to `jtp/1`. // T1
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: impl Into<Arc<rustls::ServerConfig>>) -> Self {
        let mut config = Arc::unwrap_or_clone(config.into());
        config.alpn_protocols = vec![crate::ALPN.to_vec()];
        self.tls = Some(Arc::new(config));
        self
    }

    /// Who may speak plain TCP to a server that has TLS: loopback by default. // T2
    #[cfg(feature = "tls")]
    pub fn plain(mut self, policy: PlainPolicy) -> Self {
        self.options.plain = policy;
        self
    }

    /// How long a TLS handshake may take from its first byte, and a connection to its first byte; 10 s and
    /// 60 s by default. On plain TCP the latter is [`ServerConfig`]'s. // T4
    #[cfg(feature = "tls")]
    pub fn handshake_timeouts(
        mut self,
        handshake: Option<Duration>,
        first_byte: Option<Duration>,
    ) -> Self {
        self.options.handshake = handshake;
        self.options.first_byte = first_byte;
        self
    }

    /// At most `requests` in each `window` from one address; no limit by default, and none if either is
    /// zero. // S15
    pub fn rate_limit(mut self, requests: u32, window: Duration) -> Self {
        self.rate = RateLimiter::new(requests, window);
        self
    }

    /// The most connections at once; 4096 by default, 0 for no limit. One over it is closed at accept.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.options.max_connections = NonZeroUsize::new(max);
        self
    }

    /// The most connections at once from one address; no limit by default, nor with 0.
    pub fn max_connections_per_ip(mut self, max: usize) -> Self {
        self.options.max_per_address = NonZeroUsize::new(max);
        self
    }

    /// Whether `TCP_NODELAY` is set; it is by default.
    pub fn tcp_nodelay(mut self, nodelay: bool) -> Self {
        self.options.tcp_nodelay = nodelay;
        self
    }

    /// How long a graceful shutdown waits for responses under way; 30 s by default, `None` for ever. // S16
    pub fn drain_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.drain = timeout;
        self
    }

    /// Asks for each request but CANCEL whether it is answered, after the rate limit.
    pub fn on_request(
        mut self,
        hook: impl Fn(&Peer, &RequestHead) -> Decision + Send + Sync + 'static,
    ) -> Self {
        self.hook = Some(Box::new(hook));
        self
    }

    /// The server.
    #[must_use]
    pub fn build(self) -> Server<S> {
        Server {
            shared: Arc::new(Shared {
                store: self.store,
                options: self.options,
                hook: self.hook,
                rate: self.rate.map(Mutex::new),
                clock: Clock::new(),
                shutdown: Signal::default(),
                #[cfg(feature = "tls")]
                tls: self.tls.map(futures_rustls::TlsAcceptor::from),
            }),
        }
    }
}

/// What all connections of a server share.
struct Shared<S: ?Sized> {
    options: Options,
    hook: Option<Box<Hook>>,
    rate: Option<Mutex<RateLimiter>>,
    clock: Clock,
    shutdown: Signal,
    #[cfg(feature = "tls")]
    tls: Option<futures_rustls::TlsAcceptor>,
    store: Arc<S>,
}

impl<S: ?Sized> Shared<S> {
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
pub struct Server<S: ?Sized> {
    shared: Arc<Shared<S>>,
}

impl<S: ?Sized> Clone for Server<S> {
    fn clone(&self) -> Self {
        Server {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<S: ?Sized> fmt::Debug for Server<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.shared.options)
            .finish_non_exhaustive()
    }
}

impl<S: ImageStore + ?Sized> Server<S> {
    /// A server of `store`, to be configured.
    pub fn builder(store: Arc<S>) -> ServerBuilder<S> {
        ServerBuilder::new(store)
    }

    /// Accepts and serves connections until `shutdown` is ready; then gracefully ends: no new connections,
    /// idle ones close at once, what is under way is finished within the drain time. // S16
    ///
    /// Each connection is a task of the runtime. They end when this future is dropped.
    ///
    /// # Errors
    ///
    /// None at present: accepting goes on after any error (each is logged), since those of one connection,
    /// or a moment without file descriptors, are no reason to stop serving.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> io::Result<()> {
        listen::serve(&self.shared, listener, shutdown).await
    }

    /// Serves one connection over any stream, as it is: whatever encrypts it has been set up before.
    ///
    /// The rate limit and the shutdown of [`serve`](Self::serve) apply; connection limits do not.
    ///
    /// The stream's `poll_close` is to half-close it, so that the peer sees the end (S11). smol's `TcpStream`
    /// does; async-std's only flushes, and its peer sees the end once the connection is dropped.
    ///
    /// # Errors
    ///
    /// Those of the stream. A peer that breaks the protocol or is too slow is no error: the reason is the
    /// result.
    pub async fn serve_stream<T>(&self, stream: T, peer: &Peer) -> io::Result<Option<CloseReason>>
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        let clock = Clock::new();
        let machine = ServerConnection::new(self.shared.options.config, clock.now());
        let begun = self.shared.shutdown.count();
        Connection::new(&self.shared, peer, stream, machine, clock, begun)
            .run()
            .await
    }
}
