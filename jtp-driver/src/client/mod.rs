//! Requesting a server's catalog and images.

mod builder;
mod catalog;
mod connect;
mod connection;
mod entries;
mod error;
mod images;
mod rate;
mod replicas;
mod watch;

use std::fmt;
use std::time::Instant;

use jtp_core::client::{CatalogEntry, ClientConfig, HaveSet, Request, Retry, Transfer};
use jtp_core::{ImageId, Misuse};

use crate::clock::after;
use crate::runtime::{Runtime, WrapStream};
pub use builder::ClientBuilder;
use builder::{OnRetry, Options};
use connection::Connection;
pub use entries::Entries;
use entries::Next;
pub use error::{Error, ImageError};
pub use images::{Images, Incoming, Undecoded};
use rate::Limited;
pub use rate::MIN_RATE;
pub use replicas::ReplicaError;
use replicas::Replicas;
pub use watch::Watch;

/// Makes requests to one server, one after another, over one connection at a time.
///
/// A connection that the server closed between requests, or that was lost during one, is replaced by a new one, with
/// back-off (R6).
pub struct Client<R: Runtime> {
    runtime: R,
    /// `None` for a stream that the caller brought.
    replicas: Option<Replicas<R>>,
    options: Options,
    connection: Option<Connection<R>>,
    /// Whether there ever was a connection.
    connected: bool,
}

impl<R: Runtime> fmt::Debug for Client<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("replicas", &self.replicas)
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

impl<R: Runtime> Client<R> {
    /// Configures a client of the server at `HOST:PORT`, on the default of its runtime. All addresses of a name are
    /// tried.
    pub fn builder(address: impl Into<String>) -> ClientBuilder<R>
    where
        R: Default,
    {
        ClientBuilder::new(R::default(), address)
    }

    /// Configures a client of the server at `HOST:PORT`, on this runtime.
    pub fn builder_on(runtime: R, address: impl Into<String>) -> ClientBuilder<R> {
        ClientBuilder::new(runtime, address)
    }

    /// A client over any stream. What encrypts it was set up before. A lost stream cannot be replaced, so nothing is
    /// tried again, and requests after its end return [`Misuse::Closed`].
    pub fn from_stream<T>(stream: T, config: ClientConfig) -> Client<R>
    where
        R: WrapStream<T, Transport: Send + 'static> + Default,
    {
        Client::from_stream_on(R::default(), stream, config)
    }

    /// As [`from_stream`](Client::from_stream), on this runtime.
    pub fn from_stream_on<T>(runtime: R, stream: T, config: ClientConfig) -> Client<R>
    where
        R: WrapStream<T, Transport: Send + 'static>,
    {
        let options = Options {
            config,
            ..Options::default()
        };
        let stream = Box::new(R::wrap(stream));
        let address = "the server".to_owned();
        let connection = Connection::new(runtime.clone(), stream, config, address, true);
        Client {
            runtime,
            replicas: None,
            options,
            connection: Some(connection),
            connected: true,
        }
    }

    /// Connects, if there is no usable connection. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Refused`], [`Error::Tls`], [`Error::PlainServer`], [`Error::NotAdmitted`].
    pub async fn connect(&mut self) -> Result<(), Error> {
        self.connection().await.map(|_| ())
    }

    /// The entries of the catalog in the server's order, one at a time, in constant memory: for a catalog that is not
    /// collected, or a server whose incomplete catalog is of use. Nothing is retried. // S5
    pub fn entries(&mut self) -> Entries<'_, R> {
        Entries::new(self, Next::Nothing)
    }

    /// As [`entries`](Self::entries), with a WATCH in the same write: [`Entries::into_watch`] returns it after the last
    /// entry. Nothing is missed between them if the server keeps N5.
    pub fn entries_and_watch(&mut self) -> Entries<'_, R> {
        Entries::new(self, Next::Watch)
    }

    /// As [`entries`](Self::entries), with a LIST_AND_GET in the same write, which saves a round trip and, without
    /// [keep-alive](ClientBuilder::keep_alive), a connection: [`list_and_get`](Self::list_and_get), called next, returns
    /// the images. Any other request abandons them, and connects again.
    ///
    /// The response to LIST_AND_GET has a snapshot of its own: images may have come or gone since the LIST. // S3
    pub fn entries_and_images(&mut self) -> Entries<'_, R> {
        Entries::new(self, Next::AllImages)
    }

    /// The whole catalog, in the server's order. // S5
    ///
    /// Not cancel safe: a dropped future abandons the request. The next request connects again; over a stream of the
    /// caller it discards the rest of the response first.
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::CatalogTooLarge`] beyond [`ClientBuilder::catalog_limits`].
    pub async fn list(&mut self) -> Result<Vec<CatalogEntry<'static>>, Error> {
        self.collect_entries(Next::Nothing).await
    }

    /// These images, each verified. The server leaves out those that it does not have (S7): see [`Images::absent`].
    pub fn get(&mut self, ids: impl IntoIterator<Item = ImageId>) -> Images<'_, R> {
        Images::new(self, Transfer::of(ids))
    }

    /// All images but those in `have`, each verified. // S8
    pub fn batch(&mut self, have: HaveSet) -> Images<'_, R> {
        Images::new(self, Transfer::missing(have))
    }

    /// All images, each verified. After [`entries_and_images`](Self::entries_and_images) they are requested already.
    pub fn list_and_get(&mut self) -> Images<'_, R> {
        Images::all(self)
    }

    /// Each image that enters the catalog from now on. The request is sent with the first wait for an event, and the
    /// server does not acknowledge it: a client that must not miss events uses
    /// [`list_and_watch`](Self::list_and_watch). // N1 N5
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// [`Error`] if the request cannot be made.
    pub async fn watch(&mut self) -> Result<Watch<'_, R>, Error> {
        let connection = self.connection().await?;
        connection.request(Request::Watch, true)?;
        Ok(Watch { client: self })
    }

    /// The catalog, and each image that enters it after that. Both requests are made in one write, so that nothing is
    /// missed between them if the server keeps N5. (Deployed servers may miss images: a client that needs all of them
    /// lists the catalog again every few minutes.)
    ///
    /// Not cancel safe: a dropped future abandons the requests. The next request connects again; a stream of the caller
    /// cannot be used any more, since it is in WATCH.
    ///
    /// # Errors
    ///
    /// As for [`Client::list`] and [`Client::watch`].
    pub async fn list_and_watch(
        &mut self,
    ) -> Result<(Vec<CatalogEntry<'static>>, Watch<'_, R>), Error> {
        let entries = self.collect_entries(Next::Watch).await?;
        Ok((entries, Watch { client: self }))
    }

    /// Goes on to the next of several servers ([`ClientBuilder::replica`]) after this error of the current one, for a
    /// caller that retries on its own: after [`entries`](Self::entries) and [`Watch::next`], and with
    /// [`ClientBuilder::without_retries`]. Other requests do so within their retries.
    ///
    /// Returns the error with the address of the server that is left.
    ///
    /// # Errors
    ///
    /// The error if there is no other server or another one would not help; [`Error::Replicas`] if each server has failed
    /// since the last image. In that case the next attempt begins with the next server too, after a pause.
    pub fn fail_over(&mut self, error: Error) -> Result<ReplicaError, Error> {
        self.lose_connection(&error);
        match &self.replicas {
            Some(replicas) => replicas.fail_over(error),
            None => Err(error),
        }
    }

    /// The number of servers: 1, and each [`ClientBuilder::replica`].
    #[must_use]
    pub fn servers(&self) -> usize {
        self.replicas.as_ref().map_or(1, Replicas::len)
    }

    /// The server that the next connection is made to, as the caller named it. `None` over a stream of the caller.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.replicas.as_ref()?.address()
    }

    /// Whether this client last used another server than that of [`address`](Self::address), because another client of the
    /// same builder has gone on. Its next request goes to the new one.
    #[must_use]
    pub fn is_left_behind(&self) -> bool {
        self.replicas.as_ref().is_some_and(Replicas::is_left)
    }

    /// Goes on to the server of [`address`](Self::address), as the next request does.
    pub fn follow(&mut self) {
        if self.is_left_behind() {
            self.connection = None;
            if let Some(replicas) = &mut self.replicas {
                replicas.next();
            }
        }
    }

    /// What failed before this server was used, since the last image, one error for each server.
    #[must_use]
    pub fn replica_errors(&self) -> Vec<ReplicaError> {
        self.replicas
            .as_ref()
            .map_or_else(Vec::new, Replicas::errors)
    }

    /// Closes the connection, if there is one. Dropping the client does the same without TLS's close_notify. Does not
    /// wait: the future is ready when it is first polled.
    pub async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
    }

    /// The whole catalog, after retries.
    async fn collect_entries(&mut self, next: Next) -> Result<Vec<CatalogEntry<'static>>, Error> {
        let mut retry = self.retry();
        loop {
            match Entries::new(self, next).collect().await {
                Ok(entries) => return Ok(entries),
                Err(error) => self.recover(&mut retry, error).await?,
            }
        }
    }

    fn retry(&self) -> Retry {
        Retry::new(if self.replicas.is_some() {
            self.options.retries
        } else {
            0
        })
    }

    /// Waits for the next try; the error if there is none. // R6
    async fn recover(&mut self, retry: &mut Retry, error: Error) -> Result<(), Error> {
        let (at, _) = self.retry_at(retry, error)?;
        self.runtime.sleep_until(at).await;
        Ok(())
    }

    /// The time of the next try, and the error before it; only the error if there is none. // R6
    fn retry_at(&mut self, retry: &mut Retry, error: Error) -> Result<(Instant, Error), Error> {
        self.lose_connection(&error);
        let next = match self.options.fails_over {
            true => self.fail_over(error),
            false => Err(error),
        };
        let error = match next {
            Ok(error) => {
                tracing::debug!(%error, "going on with the next server");
                return Ok((self.runtime.now(), Error::Replicas(vec![error])));
            }
            Err(error) => error,
        };
        if !error.is_transient() || !self.connected {
            return Err(error);
        }
        let Some(pause) = retry.pause(error.is_rate_limited()) else {
            return Err(error);
        };
        let cause = &error as &dyn std::error::Error; // With its sources.
        tracing::debug!(error = cause, ?pause, "trying again");
        if let Some(OnRetry(report)) = &self.options.on_retry {
            report(&error, pause);
        }
        match after(&self.runtime, Some(pause)) {
            Some(at) => Ok((at, error)),
            None => Err(error),
        }
    }

    /// Notes that a server does what it is asked for.
    fn progress(&self) {
        if let Some(replicas) = &self.replicas {
            replicas.progress();
        }
    }

    /// Drops the connection after an error.
    fn lose_connection(&mut self, error: &Error) {
        // A call that does not fit has changed nothing.
        if !matches!(error, Error::Misuse(_)) {
            self.connection = None;
        }
    }

    /// A connection that can carry a request.
    async fn connection(&mut self) -> Result<&mut Connection<R>, Error> {
        if self.replicas.is_none() {
            self.discard_responses().await?;
        }
        // All clients use the same server.
        if self.is_left_behind() {
            self.close().await;
            self.follow();
        }
        if let Some(connection) = &mut self.connection {
            // A caller's stream is all there is: the request then reports why it cannot be used.
            if !connection.is_fresh().await && self.replicas.is_some() {
                self.connection = None;
            }
        }
        if self.connection.is_none() {
            let Some(target) = self.replicas.as_mut().and_then(Replicas::next) else {
                return Err(Error::Misuse(Misuse::Closed));
            };
            let mut stream = target.connect(&self.runtime).await?;
            if let Some(rate) = self.options.rate.clone() {
                stream = Box::new(Limited::new(stream, self.runtime.clone(), rate));
            }
            let (address, tls) = (target.address.clone(), target.is_tls());
            let (runtime, config) = (self.runtime.clone(), self.options.config);
            self.connection = Some(Connection::new(runtime, stream, config, address, tls));
            self.connected = true;
        }
        match &mut self.connection {
            Some(connection) => Ok(connection),
            None => Err(Error::Misuse(Misuse::Closed)),
        }
    }

    /// Reads the rest of responses that were abandoned: they answer no other request.
    async fn discard_responses(&mut self) -> Result<(), Error> {
        while let Some(connection) = &mut self.connection {
            // The events of a WATCH have no end, and no request can follow it. // N3
            if connection.outstanding() == 0 || !connection.is_reusable() {
                return Ok(());
            }
            match connection.next().await {
                Ok(Some(_)) => {}
                Ok(None) => self.connection = None,
                Err(error) => {
                    self.connection = None;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// After a response. A connection without keep-alive is done. // S2
    async fn response_done(&mut self) {
        let reusable = self
            .connection
            .as_ref()
            .is_some_and(Connection::is_reusable);
        if !reusable && self.replicas.is_some() {
            self.close().await;
        }
    }
}
