//! What a server is to do.

#[cfg(feature = "tls")]
use std::io;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
#[cfg(feature = "tls")]
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jtp_core::RateLimiter;
use jtp_core::server::{PlainPolicy, ServerConfig};
use jtp_core::wire::request::RequestHead;
use jtp_store::ImageStore;

use super::news::Newsroom;
use super::turns::Queue;
use super::{Decision, Hook, Peer, Server, Shared};
use crate::clock::Clock;
use crate::runtime::Runtime;
#[cfg(feature = "tls")]
use crate::runtime::{BoxTransport, PeerCertificates, TlsRuntime};

/// Collects what a [`Server`] is to do. Every default is the protocol's.
#[must_use]
pub struct ServerBuilder<R: Runtime, S: ?Sized> {
    store: Arc<S>,
    options: Options,
    hook: Option<Box<Hook>>,
    rate: Option<RateLimiter>,
    #[cfg(feature = "tls")]
    tls: Option<Accept<R>>,
    runtime: PhantomData<R>,
}

/// Makes TLS handshakes: what a runtime with TLS does, also for those that may have none.
#[cfg(feature = "tls")]
pub(super) type Accept<R> = Box<dyn Fn(<R as Runtime>::Socket) -> Accepting + Send + Sync>;

#[cfg(feature = "tls")]
type Accepting = Pin<Box<dyn Future<Output = io::Result<(BoxTransport, PeerCertificates)>> + Send>>;

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) config: ServerConfig,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(super) plain: PlainPolicy,
    pub(super) max_connections: Option<NonZeroUsize>,
    pub(super) max_per_client: Option<NonZeroUsize>,
    pub(super) tcp_nodelay: bool,
    pub(super) drain: Option<Duration>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(super) handshake: Option<Duration>,
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(super) first_byte: Option<Duration>,
}

impl<R: Runtime, S: ImageStore + ?Sized> ServerBuilder<R, S> {
    pub(super) fn new(store: Arc<S>) -> Self {
        ServerBuilder {
            store,
            options: Options {
                config: ServerConfig::new(),
                plain: PlainPolicy::default(),
                max_connections: NonZeroUsize::new(4096),
                max_per_client: None,
                tcp_nodelay: true,
                drain: Some(Duration::from_secs(30)),
                handshake: Some(Duration::from_secs(10)),
                first_byte: Some(Duration::from_secs(60)),
            },
            hook: None,
            rate: None,
            #[cfg(feature = "tls")]
            tls: None,
            runtime: PhantomData,
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
    pub fn tls(mut self, config: impl Into<Arc<rustls::ServerConfig>>) -> Self
    where
        R: TlsRuntime,
    {
        let mut config = Arc::unwrap_or_clone(config.into());
        config.alpn_protocols = vec![crate::ALPN.to_vec()];
        let config = Arc::new(config);
        let accept =
            move |socket| -> Accepting { Box::pin(R::accept_tls(Arc::clone(&config), socket)) };
        self.tls = Some(Box::new(accept));
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

    /// At most `requests` in each `window` from one address, or from one /64 of IPv6; no limit by default,
    /// and none if either is zero. // S15
    pub fn rate_limit(mut self, requests: u32, window: Duration) -> Self {
        self.rate = RateLimiter::new(requests, window);
        self
    }

    /// The most connections at once; 4096 by default, 0 for no limit. One over it is closed at accept.
    pub fn max_connections(mut self, max: usize) -> Self {
        self.options.max_connections = NonZeroUsize::new(max);
        self
    }

    /// The most connections at once from one address, or from one /64 of IPv6; no limit by default, nor
    /// with 0. Each [counts as](jtp_core::client_network) it does for the rate limit.
    pub fn max_connections_per_ip(mut self, max: usize) -> Self {
        self.options.max_per_client = NonZeroUsize::new(max);
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
    pub fn build(self) -> R::Server<S> {
        let shared = Shared {
            store: self.store,
            options: self.options,
            hook: self.hook,
            rate: self.rate.map(Mutex::new),
            clock: Clock::new(),
            drain: Mutex::new(None),
            newsroom: Newsroom::default(),
            queue: Arc::new(Queue::new()),
            memory: Arc::default(),
            #[cfg(feature = "tls")]
            tls: self.tls,
        };
        let shared = Arc::new(shared);
        Server { shared }.into()
    }
}
