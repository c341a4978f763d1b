//! The configuration of a client.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use jtp_core::client::{ClientConfig, DEFAULT_RETRIES};

#[cfg(feature = "tls")]
use super::connect;
use super::connect::Target;
use super::rate::RateLimit;
use super::replicas::{Replicas, Shared};
use super::{Client, Error};
use crate::runtime::Runtime;
#[cfg(feature = "tls")]
use crate::runtime::TlsRuntime;

/// Configures a [`Client`]. Every default is the protocol's, and finite.
///
/// `B` is the type that [`build`](Self::build) returns: the client, or an adapter's wrapper of it.
#[must_use]
pub struct ClientBuilder<R: Runtime, B = Client<R>> {
    runtime: R,
    target: Target<R>,
    replicas: Vec<Target<R>>,
    shared: Arc<Shared>,
    options: Options,
    built: PhantomData<fn() -> B>,
}

impl<R: Runtime, B> Clone for ClientBuilder<R, B> {
    fn clone(&self) -> Self {
        ClientBuilder {
            runtime: self.runtime.clone(),
            target: self.target.clone(),
            replicas: self.replicas.clone(),
            shared: Arc::clone(&self.shared),
            options: self.options.clone(),
            built: PhantomData,
        }
    }
}

impl<R: Runtime, B> fmt::Debug for ClientBuilder<R, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("target", &self.target)
            .field("replicas", &self.replicas)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) config: ClientConfig,
    pub(super) keep_alive: bool,
    pub(super) retries: u32,
    /// Whether the client goes on to another server without being called for it.
    pub(super) fails_over: bool,
    pub(super) max_entries: usize,
    pub(super) max_catalog_bytes: usize,
    pub(super) on_retry: Option<OnRetry>,
    pub(super) rate: Option<Arc<RateLimit>>,
}

type Report = dyn Fn(&Error, Duration) + Send + Sync;

/// Is called before a pause.
#[derive(Clone)]
pub(super) struct OnRetry(pub(super) Arc<Report>);

impl fmt::Debug for OnRetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OnRetry").finish_non_exhaustive()
    }
}

impl Default for Options {
    fn default() -> Self {
        Options {
            config: ClientConfig::new(),
            keep_alive: true,
            retries: DEFAULT_RETRIES,
            fails_over: true,
            max_entries: 10_000_000,
            max_catalog_bytes: 1024 * 1024 * 1024,
            on_retry: None,
            rate: None,
        }
    }
}

impl<R: Runtime, B> ClientBuilder<R, B> {
    /// A client of the server at `HOST:PORT`, on this runtime.
    pub fn new(runtime: R, address: impl Into<String>) -> Self {
        ClientBuilder {
            runtime,
            target: Target {
                address: address.into(),
                connect_timeout: Some(Duration::from_secs(10)),
                tcp_nodelay: true,
                #[cfg(feature = "tls")]
                tls: None,
                #[cfg(feature = "tls")]
                tls_timeout: Some(Duration::from_secs(10)),
                runtime: PhantomData,
            },
            replicas: Vec::new(),
            shared: Arc::default(),
            options: Options::default(),
            built: PhantomData,
        }
    }

    /// Adds the server of `other`, and those added to that one: replicas, which have the same catalog. How to connect to
    /// it is that of `other`: TLS, the timeout for connecting, `TCP_NODELAY`. All else is that of this builder.
    ///
    /// The client uses the first server. When that fails, in whatever way, it goes on with the next one at once, and stays
    /// there; after the last comes the first. A lost connection, a rejected certificate, a violation of the protocol and
    /// `RateLimited` all count. Only what every server has failed at since the last image counts as an attempt of
    /// [`retries`](Self::retries), and is an error: [`Error::Replicas`](super::Error::Replicas). // R6
    ///
    /// An image that arrives broken is requested once more from the same server (R2).
    ///
    /// The clones of this builder, and all clients built from them, use the same server: the one that one of them has
    /// gone on to last. The others follow with their next requests.
    ///
    /// An attacker who can block the servers with TLS can make the client use one without TLS that is added here.
    ///
    /// ```no_run
    /// use jtp_driver::client::{Client, ClientBuilder};
    /// # use jtp_driver::Runtime;
    /// # fn client<R: Runtime + Default>() -> Client<R> {
    /// let other: ClientBuilder<R> = Client::builder("b.pictures.example:8443");
    /// Client::builder("a.pictures.example:8443").replica(other).build()
    /// # }
    /// ```
    pub fn replica<C>(mut self, other: ClientBuilder<R, C>) -> Self {
        self.replicas.push(other.target);
        self.replicas.extend(other.replicas);
        // Clones of it have other servers.
        self.shared = Arc::default();
        self
    }

    /// The limits and clocks of each connection, and whether it pipelines. // R4 R7 T6
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.options.config = config;
        self
    }

    /// Uses TLS, with a server that proves to be `name`. The configuration is used unchanged, except that ALPN is set to
    /// `jtp/1`. // T1
    #[cfg(feature = "tls")]
    pub fn tls(
        mut self,
        config: impl Into<Arc<rustls::ClientConfig>>,
        name: rustls::pki_types::ServerName<'static>,
    ) -> Self
    where
        R: TlsRuntime,
    {
        let config = Arc::unwrap_or_clone(config.into());
        self.target.tls = Some(connect::Tls::new(config, name));
        self
    }

    /// Whether one connection carries many requests. Default: yes.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.options.keep_alive = keep_alive;
        self
    }

    /// The limit for connecting to each address, and for the TLS handshake after it. Default: 10 s; `None` for no
    /// limit. // T6
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.target.connect_timeout = timeout;
        #[cfg(feature = "tls")]
        {
            self.target.tls_timeout = timeout;
        }
        self
    }

    /// The number of new connections that are tried without progress. Default: 3. // R6
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// Calls `report` with the error and the length of the pause before a request is tried again. Default: only the log says
    /// so, at level debug. // R6
    pub fn on_retry(mut self, report: impl Fn(&Error, Duration) + Send + Sync + 'static) -> Self {
        self.options.on_retry = Some(OnRetry(Arc::new(report)));
        self
    }

    /// Nothing is tried again, and another server ([`replica`](Self::replica)) is used only after
    /// [`Client::fail_over`]: for a caller that decides on both.
    pub fn without_retries(mut self) -> Self {
        self.options.retries = 0;
        self.options.fails_over = false;
        self
    }

    /// Whether to set `TCP_NODELAY`. Default: yes.
    pub fn tcp_nodelay(mut self, nodelay: bool) -> Self {
        self.target.tcp_nodelay = nodelay;
        self
    }

    /// Limits what is received to `bytes` per second, on average, as transferred and without TLS's own bytes: images may be
    /// compressed. All connections of all clients that are built from this builder and its clones share it. At least
    /// [`MIN_RATE`](super::MIN_RATE), since a server or client could take less for a failure (T4, T6). Default: no limit.
    ///
    /// Below 512 KiB per second, the receive buffer of each connection is limited to 256 KiB. At first the system receives as
    /// much as its buffer holds.
    pub fn max_rate(mut self, bytes: u64) -> Self {
        self.options.rate = Some(Arc::new(RateLimit::new(bytes)));
        self
    }

    /// Limits the catalog that [`Client::list`] and [`Client::list_and_watch`] collect, in entries and in bytes of
    /// memory. The bytes include the overhead of the allocator for each name, and both copies of the list while it
    /// grows; an entry with a short name takes 72 bytes. [`Client::entries`] collects nothing and has no limit. Default:
    /// 10,000,000 entries and 1 GiB, which is enough for ten million entries with names of up to 24 bytes. // R3
    pub fn catalog_limits(mut self, entries: usize, bytes: usize) -> Self {
        self.options.max_entries = entries;
        self.options.max_catalog_bytes = bytes;
        self
    }

    /// The runtime of the client.
    pub fn runtime(&self) -> &R {
        &self.runtime
    }

    /// The same configuration for the client of this crate, whatever `B` is: for code that is generic over the runtime.
    pub fn for_async(self) -> ClientBuilder<R> {
        ClientBuilder {
            runtime: self.runtime,
            target: self.target,
            replicas: self.replicas,
            shared: self.shared,
            options: self.options,
            built: PhantomData,
        }
    }

    /// Builds the client. It connects for its first request.
    #[must_use]
    pub fn build(self) -> B
    where
        B: From<Client<R>>,
    {
        self.build_async().into()
    }

    /// Builds the client of this crate, whatever `B` is: for code that is generic over the runtime.
    #[must_use]
    pub fn build_async(self) -> Client<R> {
        let targets = std::iter::once(self.target).chain(self.replicas).collect();
        Client {
            runtime: self.runtime,
            replicas: Some(Replicas::new(targets, self.shared)),
            options: self.options,
            connection: None,
            connected: false,
        }
    }
}
