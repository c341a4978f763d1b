//! The configuration of a server.

use std::fmt;
#[cfg(feature = "tls")]
use std::io;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;
use std::time::Duration;

use jtp_core::server::ServerConfig;

#[cfg(feature = "tls")]
use super::limits::HandshakeLimiter;
use super::limits::{ConnectionLimiter, RateLimiter, WatcherLimiter};
use super::observe::Observation;
use super::proxy::ProxyProtocol;
use super::request::Handler;
use super::scheduler::FairScheduler;
use super::{Decision, Observer, PlainPolicy, Request, Server, Shared};
use crate::clock::Clock;
use crate::runtime::Runtime;
#[cfg(feature = "tls")]
use crate::runtime::{BoxTransport, TlsRuntime};
use crate::store::{ImageStore, IntoStore};
#[cfg(feature = "tls")]
use crate::tls::{AuthorizedClients, TlsPeer};

/// Enough to keep the processors busy while tasks wait in a run queue, and few enough that a request waits for some
/// milliseconds at most.
const HANDSHAKES_PER_PROCESSOR: NonZeroUsize = NonZeroUsize::new(4).unwrap();

/// Configures a [`Server`]. Every default is the protocol's, and finite.
///
/// `B` is the type that [`build`](Self::build) returns: the server, or an adapter's wrapper of it.
#[must_use]
pub struct ServerBuilder<R: Runtime, B = Server<R>> {
    runtime: R,
    store: Arc<dyn ImageStore>,
    options: Options,
    handler: Option<Box<Handler>>,
    observer: Option<Arc<dyn Observer>>,
    rate: Option<RateLimiter>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    handshake_rate: Option<RateLimiter>,
    #[cfg(feature = "tls")]
    tls: Option<AcceptTls<R>>,
    #[cfg(feature = "tls")]
    clients: Option<AuthorizedClients>,
    proxy: Option<ProxyProtocol>,
    built: PhantomData<fn() -> B>,
}

/// Performs TLS handshakes, for runtimes that may have no TLS.
#[cfg(feature = "tls")]
pub(super) type AcceptTls<R> = Box<dyn Fn(&R, <R as Runtime>::Socket) -> Handshake + Send + Sync>;

#[cfg(feature = "tls")]
type Handshake = crate::BoxFuture<io::Result<(BoxTransport, TlsPeer)>>;

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) config: ServerConfig,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(super) plain: PlainPolicy,
    max_connections: Option<NonZeroUsize>,
    /// `None` for the default; zero for no limit.
    max_connections_per_ip: Option<usize>,
    /// `None` for the default; zero for no limit.
    max_watchers: Option<usize>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    max_handshakes: Option<NonZeroUsize>,
    pub(super) tcp_nodelay: bool,
    pub(super) drain_timeout: Option<Duration>,
    pub(super) decision_timeout: Option<Duration>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(super) handshake_timeout: Option<Duration>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(super) first_byte_timeout: Option<Duration>,
}

impl Options {
    fn max_per_client(&self) -> Option<NonZeroUsize> {
        match (self.max_connections_per_ip, self.max_connections) {
            (Some(max), _) => NonZeroUsize::new(max),
            (None, Some(max)) => NonZeroUsize::new(max.get().div_ceil(8)),
            (None, None) => None,
        }
    }

    fn max_watchers(&self) -> Option<NonZeroUsize> {
        match (self.max_watchers, self.max_connections) {
            (Some(max), _) => NonZeroUsize::new(max),
            (None, Some(max)) => NonZeroUsize::new(max.get().div_ceil(2)),
            (None, None) => None,
        }
    }
}

impl<R: Runtime, B> ServerBuilder<R, B> {
    /// A server of `store` on this runtime.
    pub fn new(runtime: R, store: impl IntoStore) -> Self {
        ServerBuilder {
            runtime,
            store: store.into_store(),
            options: Options {
                config: ServerConfig::new(),
                plain: PlainPolicy::default(),
                max_connections: NonZeroUsize::new(4096),
                max_connections_per_ip: None,
                max_watchers: None,
                max_handshakes: available_parallelism()
                    .ok()
                    .or(NonZeroUsize::new(1))
                    .and_then(|processors| processors.checked_mul(HANDSHAKES_PER_PROCESSOR)),
                tcp_nodelay: true,
                drain_timeout: Some(Duration::from_secs(30)),
                decision_timeout: Some(Duration::from_secs(60)),
                handshake_timeout: Some(Duration::from_secs(10)),
                first_byte_timeout: Some(Duration::from_secs(60)),
            },
            handler: None,
            observer: None,
            rate: None,
            handshake_rate: None,
            #[cfg(feature = "tls")]
            tls: None,
            #[cfg(feature = "tls")]
            clients: None,
            proxy: None,
            built: PhantomData,
        }
    }

    /// The limits and clocks of each connection.
    pub fn config(mut self, config: ServerConfig) -> Self {
        self.options.config = config;
        self
    }

    /// Serves TLS; plain TCP then as [`plain`](Self::plain) allows. The configuration is used unchanged, except that
    /// ALPN is set to `jtp/1`. // T1
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: impl Into<Arc<rustls::ServerConfig>>) -> Self
    where
        R: TlsRuntime,
    {
        let mut config = Arc::unwrap_or_clone(config.into());
        config.alpn_protocols = vec![crate::ALPN.to_vec()];
        let config = Arc::new(config);
        let accept = move |runtime: &R, socket| -> Handshake {
            Box::pin(runtime.accept_tls(Arc::clone(&config), socket))
        };
        self.tls = Some(Box::new(accept));
        self
    }

    /// Which peers may use plain TCP on a server that has TLS. Default: those on loopback addresses. // T2
    #[cfg(feature = "tls")]
    pub fn plain(mut self, policy: PlainPolicy) -> Self {
        self.options.plain = policy;
        self
    }

    /// Admits exactly the clients of a list, by their keys. Plain TCP is refused to all, whatever
    /// [`plain`](Self::plain) says. Default: every client is admitted. // T7
    ///
    /// The handshake has to ask for the clients' certificates: give the configuration of [`tls`](Self::tls) the list's
    /// [`verifier`](AuthorizedClients::verifier). Without it no client has an identity, and none is admitted.
    ///
    /// Each connection is checked after its handshake, also one that resumes a session, and ends when its client is
    /// removed from the list. A stream of [`Server::serve_stream`] is checked by the certificates in its [`Peer`].
    ///
    /// [`Peer`]: super::Peer
    #[cfg(feature = "tls")]
    pub fn clients(mut self, clients: AuthorizedClients) -> Self {
        self.clients = Some(clients);
        self
    }

    /// The limit for a TLS handshake, from its first byte. Default: 10 s; `None` for no limit. // T4
    #[cfg(feature = "tls")]
    pub fn handshake_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.handshake_timeout = timeout;
        self
    }

    /// The limit for the first byte of a connection to a server that has TLS. Default: 60 s; `None` for no limit. On
    /// plain TCP the limit is that of [`ServerConfig`]. // T4
    #[cfg(feature = "tls")]
    pub fn first_byte_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.first_byte_timeout = timeout;
        self
    }

    /// Limits the requests in each `window` from one address, or from one /64 of IPv6. Default: no limit, as with zero
    /// for either. // S15
    ///
    /// TLS handshakes are limited likewise, in a count of their own: a connection over it is closed before its handshake
    /// costs anything. // T8
    pub fn rate_limit(mut self, requests: u32, window: Duration) -> Self {
        self.rate = RateLimiter::new(requests, window);
        self.handshake_rate = RateLimiter::new(requests, window);
        self
    }

    /// Limits the open connections. Default: 4096; 0 for no limit. A connection over the limit is closed at accept.
    /// // T8
    pub fn max_connections(mut self, max: usize) -> Self {
        self.options.max_connections = NonZeroUsize::new(max);
        self
    }

    /// Limits the open connections from one address, or from one /64 of IPv6
    /// ([`client_network`](super::limits::client_network)), so that one host cannot occupy all of them. Default: an
    /// eighth of [`max_connections`](Self::max_connections), at least 1; 0 for no limit. A connection over the limit is
    /// closed at accept. // T8
    ///
    /// Clients behind one address translator or one proxy share this limit, and so do all clients on loopback. A server
    /// whose clients are all there needs a higher limit, or none.
    pub fn max_connections_per_ip(mut self, max: usize) -> Self {
        self.options.max_connections_per_ip = Some(max);
        self
    }

    /// Requires connections from some addresses, those of proxies, to begin with a header of the
    /// [PROXY protocol](super::proxy), version 2. The address in it becomes that of the peer, for limits, logs and
    /// observers. `is_proxy` gets IPv4 addresses as such, also where the listener maps them into IPv6. Default: none.
    ///
    /// The header comes before TLS, within 10 s or the limit for the first byte, and has at most
    /// [`MAX_HEADER`](super::proxy::MAX_HEADER) bytes. Until then, a connection counts for the limit in total and not
    /// for that of an address. From other addresses a header is an invalid request. Whoever can connect from the
    /// address of a proxy can claim any address.
    ///
    /// [`PlainPolicy::Loopback`] does not admit a client behind a proxy. Use [`PlainPolicy::Allow`], or no TLS, for a
    /// proxy that terminates TLS, on an address that only the proxy can reach. // T2
    pub fn proxy_protocol(
        mut self,
        is_proxy: impl Fn(IpAddr) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.proxy = Some(ProxyProtocol::new(is_proxy));
        self
    }

    /// Limits the connections in WATCH; each of them counts as a connection as well. Default: half of
    /// [`max_connections`](Self::max_connections), at least 1; 0 for no limit. // T8
    ///
    /// A watcher over the limit is admitted. The oldest one without an unsent event is ended in its place: of the client
    /// that has the most watchers, by address as in [`max_connections_per_ip`](Self::max_connections_per_ip). Its
    /// connection closes at an event boundary, and it can connect again. Peers without an address are not counted.
    pub fn max_watchers(mut self, max: usize) -> Self {
        self.options.max_watchers = Some(max);
        self
    }

    /// Limits the TLS handshakes that [`Server::serve`] processes at a time. Default: 4 for each processor; 0 for no
    /// limit. // T8
    ///
    /// A handshake over the limit waits for its turn, at most as long as [`handshake_timeout`](Self::handshake_timeout).
    /// Client addresses take turns, so that many handshakes from one do not delay the first from another. A handshake
    /// that waits for its client does not count: a client that is slow to send delays nobody.
    #[cfg(feature = "tls")]
    pub fn max_handshakes(mut self, max: usize) -> Self {
        self.options.max_handshakes = NonZeroUsize::new(max);
        self
    }

    /// Whether to set `TCP_NODELAY`. Default: yes.
    pub fn tcp_nodelay(mut self, nodelay: bool) -> Self {
        self.options.tcp_nodelay = nodelay;
        self
    }

    /// How long a graceful shutdown waits for responses under way. Default: 30 s; `None` for no limit. // S16
    pub fn drain_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.drain_timeout = timeout;
        self
    }

    /// Decides about each request but CANCEL, after the rate limit. The handler is asynchronous: it may look something
    /// up before it answers, within [`decision_timeout`](Self::decision_timeout). Default: every request is accepted.
    ///
    /// ```
    /// # use jtp_core::wire::request::RequestKind;
    /// # use jtp_core::wire::response::ErrorCode;
    /// # use jtp_driver::{Runtime, ServerBuilder};
    /// # fn configure<R: Runtime>(builder: ServerBuilder<R>) -> ServerBuilder<R> {
    /// builder.on_request(|request| async move {
    ///     match request.kind() {
    ///         RequestKind::Watch => request.refuse(ErrorCode::UnsupportedFeature, "no WATCH here"),
    ///         _ => request.accept(),
    ///     }
    /// })
    /// # }
    /// ```
    pub fn on_request<F>(mut self, handler: impl Fn(Request) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Decision> + Send + 'static,
    {
        self.handler = Some(Box::new(move |request| Box::pin(handler(request))));
        self
    }

    /// How long the handler may hold a request. Default: 60 s; `None` for no limit. Beyond it the peer gets
    /// ServerError.
    pub fn decision_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.options.decision_timeout = timeout;
        self
    }

    /// Notifies `observer` of connections and requests.
    pub fn observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.observer = Some(observer);
        self
    }

    /// Builds the server. It serves nothing until it is asked to.
    #[must_use]
    pub fn build(self) -> B
    where
        B: From<Server<R>>,
    {
        let connections =
            ConnectionLimiter::new(self.options.max_connections, self.options.max_per_client());
        let watchers = WatcherLimiter::new(self.options.max_watchers());
        #[cfg(feature = "tls")]
        let handshakes = HandshakeLimiter::new(self.options.max_handshakes);
        let shared = Shared {
            clock: Clock::new(self.runtime.clone()),
            runtime: self.runtime,
            store: self.store,
            options: self.options,
            handler: self.handler,
            rate: self.rate.map(Mutex::new),
            #[cfg(feature = "tls")]
            handshake_rate: self.handshake_rate.map(Mutex::new),
            watchers: Arc::new(watchers),
            #[cfg(feature = "tls")]
            handshakes,
            connections: Arc::new(connections),
            drain: Mutex::default(),
            scheduler: Arc::new(FairScheduler::new()),
            memory: Arc::default(),
            observation: Observation::new(self.observer),
            unsent: Mutex::default(),
            #[cfg(feature = "tls")]
            tls: self.tls,
            #[cfg(feature = "tls")]
            clients: self.clients,
            proxy: self.proxy,
        };
        Server {
            shared: Arc::new(shared),
        }
        .into()
    }
}

impl<R: Runtime, B> fmt::Debug for ServerBuilder<R, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerBuilder")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
