//! Asking a server for its catalog and its images.

mod connect;
mod error;
mod images;
mod link;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use jtp_core::ImageId;
use jtp_core::client::{
    CatalogEntry, ClientConfig, DEFAULT_RETRIES, HaveSet, Request, Retry, Transfer,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use connect::Target;
pub use error::{Error, ImageError};
pub use images::{Images, Incoming};
use link::{Link, Told};

/// Collects what a [`Client`] is to do. Every default is the protocol's.
#[derive(Debug, Clone)]
#[must_use]
pub struct ClientBuilder {
    target: Target,
    options: Options,
}

#[derive(Debug, Clone)]
pub(crate) struct Options {
    config: ClientConfig,
    keep_alive: bool,
    retries: u32,
    max_entries: usize,
    max_catalog_bytes: usize,
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

impl ClientBuilder {
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
    ) -> Self {
        let mut config = Arc::unwrap_or_clone(config.into());
        config.alpn_protocols = vec![crate::ALPN.to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        self.target.tls = Some(connect::Tls { connector, name });
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
    pub fn build(self) -> Client {
        Client {
            target: Some(self.target),
            options: self.options,
            link: None,
            connected: false,
        }
    }
}

/// Asks one server, one request after another, over one connection at a time.
///
/// A connection that the server closed between requests, or that was lost in the middle of one, is made
/// anew, with back-off (R6).
pub struct Client {
    /// `None` for a stream that the caller brought.
    target: Option<Target>,
    options: Options,
    link: Option<Link>,
    /// Whether there ever was a connection.
    connected: bool,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("target", &self.target)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// A client of the server at `HOST:PORT`, to be configured. All addresses of a name are tried.
    pub fn builder(address: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            target: Target {
                address: address.into(),
                connect_timeout: Some(Duration::from_secs(10)),
                tcp_nodelay: true,
                #[cfg(feature = "tls")]
                tls: None,
                #[cfg(feature = "tls")]
                tls_timeout: Some(Duration::from_secs(10)),
            },
            options: Options::default(),
        }
    }

    /// A client over any stream, as it is: whatever encrypts it has been set up before. Once it is lost no
    /// new one can be made, so nothing is tried again.
    pub fn over<T>(stream: T, config: ClientConfig) -> Client
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let options = Options {
            config,
            ..Options::default()
        };
        let link = Link::new(Box::new(stream), config, "the server".to_owned(), true);
        Client {
            target: None,
            options,
            link: Some(link),
            connected: true,
        }
    }

    /// Connects, if there is no usable connection.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Tls`], [`Error::PlainServer`].
    pub async fn connect(&mut self) -> Result<(), Error> {
        self.link().await.map(|_| ())
    }

    /// The whole catalog, in the server's order. // S5
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::CatalogTooLarge`] beyond [`ClientBuilder::catalog_limits`].
    pub async fn list(&mut self) -> Result<Vec<CatalogEntry<'static>>, Error> {
        let mut retry = self.retry();
        loop {
            match self.try_list(false).await {
                Ok(entries) => {
                    self.response_done().await;
                    return Ok(entries);
                }
                Err(error) => self.recover(&mut retry, error).await?,
            }
        }
    }

    /// These images, each verified. What the server does not have is left out (S7): see
    /// [`Images::absent`].
    pub fn get(&mut self, ids: impl IntoIterator<Item = ImageId>) -> Images<'_> {
        Images::new(self, Transfer::of(ids))
    }

    /// All images but those, each verified. // S8
    pub fn batch(&mut self, have: HaveSet) -> Images<'_> {
        Images::new(self, Transfer::missing(have))
    }

    /// All images, each verified.
    pub fn list_and_get(&mut self) -> Images<'_> {
        Images::new(self, Transfer::all())
    }

    /// News of each image that enters the catalog. The request goes out with the first wait for news, and the
    /// server does not acknowledge it: who must miss nothing uses [`list_and_watch`](Self::list_and_watch). // N1 N5
    ///
    /// # Errors
    ///
    /// [`Error`], if the request cannot be made.
    pub async fn watch(&mut self) -> Result<Watch<'_>, Error> {
        let link = self.link().await?;
        link.request(Request::Watch, true)?;
        Ok(Watch { client: self })
    }

    /// The catalog, and news of each image that enters it after that: the two are asked for in one write, so
    /// that nothing falls between them where the server keeps N5. (Deployed servers may leave a gap: a
    /// client that wants everything asks for the catalog again every few minutes.)
    ///
    /// # Errors
    ///
    /// As [`Client::list`] and [`Client::watch`].
    pub async fn list_and_watch(
        &mut self,
    ) -> Result<(Vec<CatalogEntry<'static>>, Watch<'_>), Error> {
        let mut retry = self.retry();
        loop {
            match self.try_list(true).await {
                Ok(entries) => return Ok((entries, Watch { client: self })),
                Err(error) => self.recover(&mut retry, error).await?,
            }
        }
    }

    /// Closes the connection, if there is one. Dropping the client does as much, without TLS's good-bye.
    pub async fn close(&mut self) {
        if let Some(link) = self.link.take() {
            link.close().await;
        }
    }

    async fn try_list(&mut self, watch: bool) -> Result<Vec<CatalogEntry<'static>>, Error> {
        let (max_entries, max_bytes) = (self.options.max_entries, self.options.max_catalog_bytes);
        let keep_alive = self.options.keep_alive || watch;
        let link = self.link().await?;
        link.request(Request::List, keep_alive)?;
        if watch {
            link.request(Request::Watch, true)?;
        }
        let mut entries = Vec::new();
        let mut bytes = 0;
        loop {
            match link.next().await? {
                Told::Entry(entry) => {
                    bytes += entry.name.len() + size_of::<CatalogEntry<'static>>();
                    if entries.len() >= max_entries || bytes > max_bytes {
                        self.link = None;
                        return Err(Error::CatalogTooLarge {
                            entries: max_entries,
                            bytes: max_bytes,
                        });
                    }
                    entries.push(entry);
                }
                Told::End => return Ok(entries),
                _ => {}
            }
        }
    }

    fn retry(&self) -> Retry {
        Retry::new(if self.target.is_some() {
            self.options.retries
        } else {
            0
        })
    }

    /// Waits for the next try, if there is to be one. // R6
    async fn recover(&mut self, retry: &mut Retry, error: Error) -> Result<(), Error> {
        self.link = None;
        if !error.is_transient() || !self.connected {
            return Err(error);
        }
        let Some(pause) = retry.pause(error.is_rate_limited()) else {
            return Err(error);
        };
        tracing::debug!(%error, ?pause, "trying again");
        sleep(pause).await;
        Ok(())
    }

    /// A connection on which a request can be made.
    async fn link(&mut self) -> Result<&mut Link, Error> {
        if let Some(link) = &mut self.link {
            if !link.is_fresh().await {
                // A stream that the caller brought is all there is: let the request say why.
                if self.target.is_some() {
                    self.link = None;
                }
            }
        }
        if self.link.is_none() {
            let Some(target) = &self.target else {
                return Err(Error::Misuse(jtp_core::client::Misuse::Closed));
            };
            let stream = target.connect().await?;
            let (address, tls) = (target.address.clone(), target.is_tls());
            self.link = Some(Link::new(stream, self.options.config, address, tls));
            self.connected = true;
        }
        match &mut self.link {
            Some(link) => Ok(link),
            None => Err(Error::Misuse(jtp_core::client::Misuse::Closed)),
        }
    }

    /// After a response: without keep-alive the connection has served. // S2
    async fn response_done(&mut self) {
        let reusable = self
            .link
            .as_ref()
            .is_some_and(|link| link.machine.is_reusable());
        if !reusable && self.target.is_some() {
            self.close().await;
        }
    }
}

/// News of new images. // N1
#[derive(Debug)]
#[must_use]
pub struct Watch<'c> {
    client: &'c mut Client,
}

impl Watch<'_> {
    /// The next new image. Waits for as long as it takes; dropped before it is ready, it loses nothing.
    ///
    /// # Errors
    ///
    /// [`Error`], when the connection is lost or refused. What came in between is then in the next LIST. // N5
    pub async fn next(&mut self) -> Result<CatalogEntry<'static>, Error> {
        let Some(link) = &mut self.client.link else {
            return Err(Error::Misuse(jtp_core::client::Misuse::Closed));
        };
        loop {
            match link.next().await {
                Ok(Told::NewImage(entry)) => return Ok(entry),
                Ok(Told::Closed) => {
                    self.client.link = None;
                    return Err(Error::Protocol(jtp_core::client::ClientError::EarlyEof));
                }
                Ok(_) => {}
                Err(error) => {
                    self.client.link = None;
                    return Err(error);
                }
            }
        }
    }

    /// Ends the watch by CANCEL; the news that was still on its way. // N3 C7
    ///
    /// # Errors
    ///
    /// [`Error`], when the connection is lost.
    pub async fn cancel(self) -> Result<Vec<CatalogEntry<'static>>, Error> {
        let mut last = Vec::new();
        if let Some(link) = &mut self.client.link {
            link.cancel()?;
            loop {
                match link.next().await {
                    Ok(Told::NewImage(entry)) => last.push(entry),
                    Ok(Told::Cancelled | Told::Closed) => break,
                    Ok(_) => {}
                    Err(error) => {
                        self.client.link = None;
                        return Err(error);
                    }
                }
            }
        }
        self.client.response_done().await;
        Ok(last)
    }
}
