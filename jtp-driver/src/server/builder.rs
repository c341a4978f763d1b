//! The configuration of a server.

use std::fmt;
#[cfg(feature = "tls")]
use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jtp_core::server::ServerConfig;

use super::limits::{ConnectionLimiter, RateLimiter};
use super::observe::Observation;
use super::request::Handler;
use super::scheduler::FairScheduler;
use super::{Decision, Observer, PlainPolicy, Request, Server, Shared};
#[cfg(feature = "tls")]
use crate::TlsPeer;
use crate::clock::Clock;
use crate::runtime::Runtime;
#[cfg(feature = "tls")]
use crate::runtime::{BoxTransport, TlsRuntime};
use crate::store::{ImageStore, IntoStore};

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
    #[cfg(feature = "tls")]
    tls: Option<AcceptTls<R>>,
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
    max_connections_per_ip: Option<NonZeroUsize>,
    pub(super) tcp_nodelay: bool,
    pub(super) drain_timeout: Option<Duration>,
    pub(super) decision_timeout: Option<Duration>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(super) handshake_timeout: Option<Duration>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(super) first_byte_timeout: Option<Duration>,
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
                tcp_nodelay: true,
                drain_timeout: Some(Duration::from_secs(30)),
                decision_timeout: Some(Duration::from_secs(60)),
                handshake_timeout: Some(Duration::from_secs(10)),
                first_byte_timeout: Some(Duration::from_secs(60)),
            },
            handler: None,
            observer: None,
            rate: None,
            #[cfg(feature = "tls")]
            tls: None,
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
    pub fn rate_limit(mut self, requests: u32, window: Duration) -> Self {
        self.rate = RateLimiter::new(requests, window);
        self
    }

    /// Limits the open connections. Default: 4096; 0 for no limit. A connection over the limit is closed at accept.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.options.max_connections = NonZeroUsize::new(max);
        self
    }

    /// Limits the open connections from one address, or from one /64 of IPv6
    /// ([`client_network`](super::limits::client_network)). Default: 0, no limit.
    pub fn max_connections_per_ip(mut self, max: usize) -> Self {
        self.options.max_connections_per_ip = NonZeroUsize::new(max);
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
        let connections = ConnectionLimiter::new(
            self.options.max_connections,
            self.options.max_connections_per_ip,
        );
        let shared = Shared {
            clock: Clock::new(self.runtime.clone()),
            runtime: self.runtime,
            store: self.store,
            options: self.options,
            handler: self.handler,
            rate: self.rate.map(Mutex::new),
            connections: Arc::new(connections),
            drain: Mutex::default(),
            scheduler: Arc::new(FairScheduler::new()),
            memory: Arc::default(),
            observation: Observation::new(self.observer),
            unsent: Mutex::default(),
            #[cfg(feature = "tls")]
            tls: self.tls,
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
