//! The configuration of a client.

use std::fmt;
use std::marker::PhantomData;
#[cfg(feature = "tls")]
use std::sync::Arc;
use std::time::Duration;

use jtp_core::client::{ClientConfig, DEFAULT_RETRIES};

use super::Client;
#[cfg(feature = "tls")]
use super::connect;
use super::connect::Target;
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
    options: Options,
    built: PhantomData<fn() -> B>,
}

impl<R: Runtime, B> Clone for ClientBuilder<R, B> {
    fn clone(&self) -> Self {
        ClientBuilder {
            runtime: self.runtime.clone(),
            target: self.target.clone(),
            options: self.options.clone(),
            built: PhantomData,
        }
    }
}

impl<R: Runtime, B> fmt::Debug for ClientBuilder<R, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientBuilder")
            .field("target", &self.target)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Options {
    pub(super) config: ClientConfig,
    pub(super) keep_alive: bool,
    pub(super) retries: u32,
    pub(super) max_entries: usize,
    pub(super) max_catalog_bytes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            config: ClientConfig::new(),
            keep_alive: true,
            retries: DEFAULT_RETRIES,
            max_entries: 10_000_000,
            max_catalog_bytes: 1024 * 1024 * 1024,
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
            options: Options::default(),
            built: PhantomData,
        }
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

    /// Whether to set `TCP_NODELAY`. Default: yes.
    pub fn tcp_nodelay(mut self, nodelay: bool) -> Self {
        self.target.tcp_nodelay = nodelay;
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
        Client {
            runtime: self.runtime,
            target: Some(self.target),
            options: self.options,
            connection: None,
            connected: false,
        }
    }
}
