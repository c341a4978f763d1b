//! Asking a server for its catalog and its images: [`jtp_driver::client`] without `.await`.

use std::io::{self, Read, Write};
use std::time::Duration;

use jtp_core::client::{CatalogEntry, ClientConfig, HaveSet, Misuse};
use jtp_core::{Image, ImageId};
pub use jtp_driver::{Error, ImageError};

use crate::halves::{Close, Halves};
use crate::reactor::block_on;
use crate::runtime::Threads;

/// Collects what a [`Client`] is to do. See [`jtp_driver::ClientBuilder`].
pub type ClientBuilder = jtp_driver::ClientBuilder<Threads>;

/// Asks one server, one request after another, over one connection at a time.
///
/// A connection that the server closed between requests, or that was lost in the middle of one, is made
/// anew, with back-off (R6).
#[derive(Debug)]
pub struct Client(jtp_driver::Client<Threads>);

impl From<jtp_driver::Client<Threads>> for Client {
    fn from(client: jtp_driver::Client<Threads>) -> Self {
        Client(client)
    }
}

impl Client {
    /// A client of the server at `HOST:PORT`, to be configured. All addresses of a name are tried.
    pub fn builder(address: impl Into<String>) -> ClientBuilder {
        jtp_driver::Client::builder(address)
    }

    /// A client over any stream, as it is: whatever encrypts it has been set up before. Once it is lost no
    /// new one can be made, so nothing is tried again.
    ///
    /// A stream is given as two halves that can be used at once, and something that ends it: see [`Close`].
    /// Each half gets a thread, since it cannot be known when it can be read or written.
    ///
    /// # Errors
    ///
    /// The threads cannot be started.
    pub fn over(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        closer: impl Close + 'static,
        config: ClientConfig,
    ) -> io::Result<Client> {
        let stream = Halves::new(reader, writer, Box::new(closer))?;
        Ok(Client(jtp_driver::Client::over(stream, config)))
    }

    /// Connects, if there is no usable connection.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Tls`], [`Error::PlainServer`].
    pub fn connect(&mut self) -> Result<(), Error> {
        block_on(self.0.connect())
    }

    /// The whole catalog, in the server's order. // S5
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::CatalogTooLarge`] beyond [`ClientBuilder::catalog_limits`].
    pub fn list(&mut self) -> Result<Vec<CatalogEntry<'static>>, Error> {
        block_on(self.0.list())
    }

    /// These images, each verified. What the server does not have is left out (S7): see
    /// [`Images::absent`].
    pub fn get(&mut self, ids: impl IntoIterator<Item = ImageId>) -> Images<'_> {
        Images(self.0.get(ids))
    }

    /// All images but those, each verified. // S8
    pub fn batch(&mut self, have: HaveSet) -> Images<'_> {
        Images(self.0.batch(have))
    }

    /// All images, each verified.
    pub fn list_and_get(&mut self) -> Images<'_> {
        Images(self.0.list_and_get())
    }

    /// News of each image that enters the catalog. The request goes out with the first wait for news, and the
    /// server does not acknowledge it: who must miss nothing uses [`list_and_watch`](Self::list_and_watch). // N1 N5
    ///
    /// # Errors
    ///
    /// [`Error`], if the request cannot be made.
    pub fn watch(&mut self) -> Result<Watch<'_>, Error> {
        block_on(self.0.watch()).map(Watch)
    }

    /// The catalog, and news of each image that enters it after that: see
    /// [`jtp_driver::Client::list_and_watch`]. // N5
    ///
    /// # Errors
    ///
    /// As [`Client::list`] and [`Client::watch`].
    pub fn list_and_watch(&mut self) -> Result<(Vec<CatalogEntry<'static>>, Watch<'_>), Error> {
        let (entries, watch) = block_on(self.0.list_and_watch())?;
        Ok((entries, Watch(watch)))
    }

    /// Closes the connection, if there is one. Dropping the client does as much, without TLS's good-bye.
    pub fn close(&mut self) {
        block_on(self.0.close());
    }
}

/// The images of a request, one after another: over one connection or several, each verified before its end
/// is told. See [`jtp_driver::Images`].
#[derive(Debug)]
#[must_use]
pub struct Images<'c>(jtp_driver::Images<'c, Threads>);

impl<'c> Images<'c> {
    /// The next image; `None` when all have come. What is left of an image that was not read to its end is
    /// thrown away, and it counts as fetched if it was good, or was left undecoded.
    ///
    /// # Errors
    ///
    /// [`Error`], for good: what can be tried again has been.
    #[expect(
        clippy::should_implement_trait,
        reason = "the async crates' name; and each image borrows this, which an iterator's item cannot"
    )]
    pub fn next(&mut self) -> Result<Option<Incoming<'_, 'c>>, Error> {
        Ok(block_on(self.0.next())?.map(Incoming))
    }

    /// The images asked for by ID that the server did not have. // S7
    #[must_use]
    pub fn absent(&self) -> &[ImageId] {
        self.0.absent()
    }

    /// How many images the server has promised so far.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.0.promised()
    }

    /// Stops by CANCEL, and throws away what is still on its way; see [`jtp_driver::Images::cancel`]. // C1 C7
    ///
    /// # Errors
    ///
    /// [`Error`], when the connection is lost before the server's answer.
    pub fn cancel(self) -> Result<(), Error> {
        block_on(self.0.cancel())
    }
}

/// An image that is coming in.
#[derive(Debug)]
#[must_use]
pub struct Incoming<'a, 'c>(jtp_driver::Incoming<'a, 'c, Threads>);

impl<'a, 'c> Incoming<'a, 'c> {
    /// What its packet's head says.
    #[must_use]
    pub fn image(&self) -> Image {
        self.0.image()
    }

    /// Leaves it to the caller to decode and to verify, as on another thread: see [`jtp_driver::Undecoded`].
    ///
    /// # Errors
    ///
    /// [`Misuse::NoImageBegun`] after the first [`chunk`](Incoming::chunk).
    pub fn undecoded(self) -> Result<Undecoded<'a, 'c>, Misuse> {
        self.0.undecoded().map(Undecoded)
    }

    /// The next of its decoded bytes, up to 256 KiB; `None` once all have come and are verified to be the
    /// image's. Before that they are not to be relied on, nor shown to anyone. // R2
    ///
    /// # Errors
    ///
    /// [`ImageError`]: throw away what came of it.
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, ImageError> {
        block_on(self.0.chunk())
    }

    /// All of it, verified, in memory; at most `limit` bytes (R4), beyond which it counts as broken.
    ///
    /// # Errors
    ///
    /// [`ImageError`].
    pub fn bytes(self, limit: usize) -> Result<Vec<u8>, ImageError> {
        block_on(self.0.bytes(limit))
    }
}

/// An image that is coming in, as it travels: neither decoded nor verified. See [`jtp_driver::Undecoded`].
#[derive(Debug)]
#[must_use]
pub struct Undecoded<'a, 'c>(jtp_driver::Undecoded<'a, 'c, Threads>);

impl Undecoded<'_, '_> {
    /// What its packet's head says.
    #[must_use]
    pub fn image(&self) -> Image {
        self.0.image()
    }

    /// The next bytes of its packet, up to 256 KiB; `None` once all have come.
    ///
    /// # Errors
    ///
    /// [`ImageError::Interrupted`]: throw away what came of it; it will come again. // R6
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, ImageError> {
        block_on(self.0.chunk())
    }
}

/// News of new images. // N1
#[derive(Debug)]
#[must_use]
pub struct Watch<'c>(jtp_driver::Watch<'c, Threads>);

impl Watch<'_> {
    /// The next new image. Waits for as long as it takes.
    ///
    /// # Errors
    ///
    /// [`Error`], when the connection is lost or refused. What came in between is then in the next LIST. // N5
    #[expect(
        clippy::should_implement_trait,
        reason = "the async crates' name; and news has no end but an error"
    )]
    pub fn next(&mut self) -> Result<CatalogEntry<'static>, Error> {
        block_on(self.0.next())
    }

    /// The next new image, if one comes within that time: for a thread that has to look at something else
    /// now and then. Waiting in vain loses nothing.
    ///
    /// The async crates do without this: there a future can be dropped.
    ///
    /// # Errors
    ///
    /// As [`Watch::next`].
    pub fn next_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<CatalogEntry<'static>>, Error> {
        block_on(jtp_driver::timeout::<Threads, _>(
            Some(timeout),
            self.0.next(),
        ))
        .transpose()
    }

    /// Ends the watch by CANCEL; the news that was still on its way. // N3 C7
    ///
    /// # Errors
    ///
    /// [`Error`], when the connection is lost.
    pub fn cancel(self) -> Result<Vec<CatalogEntry<'static>>, Error> {
        block_on(self.0.cancel())
    }
}
