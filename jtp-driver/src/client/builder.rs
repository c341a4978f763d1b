//! What a client is to do.

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

/// Collects what a [`Client`] is to do. Every default is the protocol's.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder<R: Runtime> {
    target: Target<R>,
    options: Options,
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
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

impl<R: Runtime> ClientBuilder<R> {
    pub(super) fn new(address: String) -> Self {
        ClientBuilder {
            target: Target {
                address,
                connect_timeout: Some(Duration::from_secs(10)),
                tcp_nodelay: true,
                #[cfg(feature = "tls")]
                tls: None,
                #[cfg(feature = "tls")]
                tls_timeout: Some(Duration::from_secs(10)),
                runtime: PhantomData,
            },
            options: Options::default(),
        }
    }

    /// The limits and clocks of each connection, and whether it pipelines. // R4 R7 T6
    pub fn config(mut self, config: ClientConfig) -> Self {
        self.options.config = config;
        self
    }

    /// Speaks TLS to a server that proves to be `name`. The configuration is taken as it is but for ALPN,
    /// which is set to `jtp/1`. // T1
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

    /// Whether one connection carries many requests; it does by default.
    pub fn keep_alive(mut self, keep_alive: bool) -> Self {
        self.options.keep_alive = keep_alive;
        self
    }

    /// How long each address is tried, and the TLS handshake after it; 10 s by default. // T6
    pub fn connect_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.target.connect_timeout = timeout;
        #[cfg(feature = "tls")]
        {
            self.target.tls_timeout = timeout;
        }
        self
    }

    /// How often a new connection is tried without progress; 3 by default. // R6
    pub fn retries(mut self, retries: u32) -> Self {
        self.options.retries = retries;
        self
    }

    /// Whether `TCP_NODELAY` is set; it is by default.
    pub fn tcp_nodelay(mut self, nodelay: bool) -> Self {
        self.target.tcp_nodelay = nodelay;
        self
    }

    /// The largest catalog that [`Client::list`] collects: 10,000,000 entries and 1 GiB by default. // R3
    pub fn catalog_limits(mut self, entries: usize, bytes: usize) -> Self {
        self.options.max_entries = entries;
        self.options.max_catalog_bytes = bytes;
        self
    }

    /// The client. It connects when it first has something to ask.
    #[must_use]
    pub fn build(self) -> R::Client {
        Client {
            target: Some(self.target),
            options: self.options,
            link: None,
            connected: false,
        }
        .into()
    }
}
