//! Asking a server for its catalog and its images.

mod builder;
mod connect;
mod error;
mod images;
mod link;
mod watch;

use std::fmt;
use std::time::Instant;

use jtp_core::ImageId;
use jtp_core::client::{CatalogEntry, ClientConfig, HaveSet, Misuse, Request, Retry, Transfer};

use crate::clock::after;
use crate::runtime::{Over, Runtime};
pub use builder::ClientBuilder;
use builder::Options;
use connect::Target;
pub use error::{Error, ImageError};
pub use images::{Images, Incoming, Undecoded};
use link::{Link, Told};
pub use watch::Watch;

/// Asks one server, one request after another, over one connection at a time.
///
/// A connection that the server closed between requests, or that was lost in the middle of one, is made
/// anew, with back-off (R6).
pub struct Client<R: Runtime> {
    /// `None` for a stream that the caller brought.
    target: Option<Target<R>>,
    options: Options,
    link: Option<Link<R>>,
    /// Whether there ever was a connection.
    connected: bool,
}

impl<R: Runtime> fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("target", &self.target)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> Client<R> {
    /// A client of the server at `HOST:PORT`, to be configured. All addresses of a name are tried.
    pub fn builder(address: impl Into<String>) -> ClientBuilder<R> {
        ClientBuilder::new(address.into())
    }

    /// A client over any stream, as it is: whatever encrypts it has been set up before. Once it is lost no
    /// new one can be made, so nothing is tried again.
    pub fn over<T>(stream: T, config: ClientConfig) -> Client<R>
    where
        R: Over<T, Transport: Send + 'static>,
    {
        let options = Options {
            config,
            ..Options::default()
        };
        let stream = Box::new(R::over(stream));
        let link = Link::new(stream, config, "the server".to_owned(), true);
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
    pub fn get(&mut self, ids: impl IntoIterator<Item = ImageId>) -> Images<'_, R> {
        Images::new(self, Transfer::of(ids))
    }

    /// All images but those, each verified. // S8
    pub fn batch(&mut self, have: HaveSet) -> Images<'_, R> {
        Images::new(self, Transfer::missing(have))
    }

    /// All images, each verified.
    pub fn list_and_get(&mut self) -> Images<'_, R> {
        Images::new(self, Transfer::all())
    }

    /// News of each image that enters the catalog. The request goes out with the first wait for news, and the
    /// server does not acknowledge it: who must miss nothing uses [`list_and_watch`](Self::list_and_watch). // N1 N5
    ///
    /// # Errors
    ///
    /// [`Error`], if the request cannot be made.
    pub async fn watch(&mut self) -> Result<Watch<'_, R>, Error> {
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
    ) -> Result<(Vec<CatalogEntry<'static>>, Watch<'_, R>), Error> {
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
        if let Some(until) = self.next_try(retry, error)? {
            R::sleep_until(until).await;
        }
        Ok(())
    }

    /// When the next try is to be made, if there is to be one. // R6
    fn next_try(&mut self, retry: &mut Retry, error: Error) -> Result<Option<Instant>, Error> {
        self.link = None;
        if !error.is_transient() || !self.connected {
            return Err(error);
        }
        let Some(pause) = retry.pause(error.is_rate_limited()) else {
            return Err(error);
        };
        tracing::debug!(%error, ?pause, "trying again");
        Ok(after::<R>(Some(pause)))
    }

    /// A connection on which a request can be made.
    async fn link(&mut self) -> Result<&mut Link<R>, Error> {
        if let Some(link) = &mut self.link {
            if !link.is_fresh().await {
                // What is left of a response that was given up is no answer to another request. A stream that
                // the caller brought is all there is, otherwise: let the request say why.
                if self.target.is_some() || link.machine.outstanding() > 0 {
                    self.link = None;
                }
            }
        }
        if self.link.is_none() {
            let Some(target) = &self.target else {
                return Err(Error::Misuse(Misuse::Closed));
            };
            let stream = target.connect().await?;
            let (address, tls) = (target.address.clone(), target.is_tls());
            self.link = Some(Link::new(stream, self.options.config, address, tls));
            self.connected = true;
        }
        match &mut self.link {
            Some(link) => Ok(link),
            None => Err(Error::Misuse(Misuse::Closed)),
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
