//! Requesting a server's catalog and images: [`jtp_driver::client`] without `.await`.

use std::io::{self, Read, Write};
use std::time::Duration;

use jtp_core::{Image, ImageId, Misuse};

use crate::cancel::CancelHandle;
use crate::halves::{Close, Halves};
use crate::reactor::block_on;
use crate::runtime::Threads;

jtp_driver::adapter_client_types!();

/// Configures a [`Client`]. See [`jtp_driver::ClientBuilder`].
pub type ClientBuilder = jtp_driver::ClientBuilder<Threads, Client>;

/// Requests the catalog and images of one server, one request after another, over one connection at a time.
///
/// If the server closed the connection between requests, or the connection was lost during one, the client connects
/// again, with increasing pauses (R6). Calls block; [`cancel_handle`](Client::cancel_handle) lets another thread end
/// them.
#[derive(Debug)]
pub struct Client {
    inner: jtp_driver::Client<Threads>,
    cancel: CancelHandle,
}

impl From<jtp_driver::Client<Threads>> for Client {
    fn from(inner: jtp_driver::Client<Threads>) -> Self {
        Client {
            inner,
            cancel: CancelHandle::default(),
        }
    }
}

impl Client {
    /// Configures a client of the server at `HOST:PORT`. All addresses of a name are tried.
    pub fn builder(address: impl Into<String>) -> ClientBuilder {
        Client::builder_on(Threads::default(), address)
    }

    /// Configures a client of the server at `HOST:PORT`, as the async crates do. A client has no threads that
    /// [`Threads`] would configure.
    pub fn builder_on(threads: Threads, address: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(threads, address)
    }

    /// A client over a stream that is connected, and encrypted if it has to be. It cannot connect again, so it does
    /// not retry.
    ///
    /// The stream is passed as two halves that can be used at the same time, and a [`Close`] that ends them. Each half
    /// has a thread of its own, since a blocking stream does not say when it can be read or written.
    ///
    /// # Errors
    ///
    /// The threads cannot be started.
    pub fn from_stream(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        closer: impl Close + 'static,
        config: ClientConfig,
    ) -> io::Result<Client> {
        let cancel = CancelHandle::default();
        let stream = Halves::new(reader, writer, closer)?;
        cancel.set_connection(stream.closer());
        let inner = jtp_driver::Client::from_stream(stream, config);
        Ok(Client { inner, cancel })
    }

    /// A handle that cancels this client from any thread, at any time.
    #[must_use]
    pub fn cancel_handle(&self) -> CancelHandle {
        self.cancel.clone()
    }

    /// Connects, if there is no usable connection.
    ///
    /// # Errors
    ///
    /// [`Error::Connect`], [`Error::Refused`], [`Error::Tls`], [`Error::PlainServer`], [`Error::NotAdmitted`],
    /// [`Error::Cancelled`].
    pub fn connect(&mut self) -> Result<(), Error> {
        self.cancel.run(self.inner.connect())
    }

    /// Goes on to the next of several servers after this error: see [`jtp_driver::Client::fail_over`].
    ///
    /// # Errors
    ///
    /// The error if there is no other server, or [`Error::Replicas`] if all have failed.
    pub fn fail_over(&mut self, error: Error) -> Result<ReplicaError, Error> {
        self.inner.fail_over(error)
    }

    /// The server that the next connection is made to, as the caller named it. `None` over a stream of the caller.
    #[must_use]
    pub fn address(&self) -> Option<&str> {
        self.inner.address()
    }

    /// What failed before this server was used, since the last image, one error for each server.
    #[must_use]
    pub fn replica_errors(&self) -> Vec<ReplicaError> {
        self.inner.replica_errors()
    }

    /// The entries of the catalog in the server's order, one at a time, in constant memory. Nothing is retried: see
    /// [`jtp_driver::Client::entries`]. // S5
    pub fn entries(&mut self) -> Entries<'_> {
        let inner = self.inner.entries();
        Entries {
            inner,
            cancel: &self.cancel,
        }
    }

    /// As [`entries`](Client::entries), with a WATCH in the same write: [`Entries::into_watch`] returns it after the
    /// last entry. // N5
    pub fn entries_and_watch(&mut self) -> Entries<'_> {
        let inner = self.inner.entries_and_watch();
        Entries {
            inner,
            cancel: &self.cancel,
        }
    }

    /// As [`entries`](Client::entries), with a LIST_AND_GET in the same write: [`list_and_get`](Client::list_and_get),
    /// called next, returns the images. See [`jtp_driver::Client::entries_and_images`].
    pub fn entries_and_images(&mut self) -> Entries<'_> {
        let inner = self.inner.entries_and_images();
        Entries {
            inner,
            cancel: &self.cancel,
        }
    }

    /// The whole catalog, in the server's order. // S5
    ///
    /// # Errors
    ///
    /// [`Error`]; [`Error::CatalogTooLarge`] beyond [`ClientBuilder::catalog_limits`].
    pub fn list(&mut self) -> Result<Vec<CatalogEntry<'static>>, Error> {
        self.cancel.run(self.inner.list())
    }

    /// The images with these IDs, each verified. Images that the server does not have are omitted (S7): see
    /// [`Images::absent`].
    pub fn get(&mut self, ids: impl IntoIterator<Item = ImageId>) -> Images<'_> {
        let inner = self.inner.get(ids);
        Images {
            inner,
            cancel: &self.cancel,
        }
    }

    /// All images except these, each verified. // S8
    pub fn batch(&mut self, have: HaveSet) -> Images<'_> {
        let inner = self.inner.batch(have);
        Images {
            inner,
            cancel: &self.cancel,
        }
    }

    /// All images, each verified.
    pub fn list_and_get(&mut self) -> Images<'_> {
        let inner = self.inner.list_and_get();
        Images {
            inner,
            cancel: &self.cancel,
        }
    }

    /// Watches for images that enter the catalog. The request is sent by the first [`Watch::next`], and the server does
    /// not acknowledge it: a client that must not miss an image uses [`list_and_watch`](Self::list_and_watch). // N1 N5
    ///
    /// # Errors
    ///
    /// [`Error`], if the request cannot be made.
    pub fn watch(&mut self) -> Result<Watch<'_>, Error> {
        let inner = self.cancel.run(self.inner.watch())?;
        Ok(Watch {
            inner,
            cancel: &self.cancel,
        })
    }

    /// The catalog, and a watch for each image that enters it after that: see
    /// [`jtp_driver::Client::list_and_watch`]. // N5
    ///
    /// # Errors
    ///
    /// As [`Client::list`] and [`Client::watch`].
    pub fn list_and_watch(&mut self) -> Result<(Vec<CatalogEntry<'static>>, Watch<'_>), Error> {
        let (entries, inner) = self.cancel.run(self.inner.list_and_watch())?;
        let watch = Watch {
            inner,
            cancel: &self.cancel,
        };
        Ok((entries, watch))
    }

    /// Closes the connection, if there is one. Dropping the client closes it too, but without TLS's close_notify.
    pub fn close(&mut self) {
        block_on(self.inner.close());
    }
}

/// The entries of a catalog, one at a time. See [`jtp_driver::Entries`].
#[derive(Debug)]
#[must_use]
pub struct Entries<'c> {
    inner: jtp_driver::Entries<'c, Threads>,
    cancel: &'c CancelHandle,
}

impl<'c> Entries<'c> {
    /// The next entry; `None` after the last one. The first call makes the request, and connects if there is no usable
    /// connection.
    ///
    /// # Errors
    ///
    /// [`Error`]; it is final, and later calls return [`Error::Failed`].
    #[expect(
        clippy::should_implement_trait,
        reason = "the async crates' name, and the same result as theirs"
    )]
    pub fn next(&mut self) -> Result<Option<CatalogEntry<'static>>, Error> {
        self.cancel.run(self.inner.next())
    }

    /// The number of entries that the server announced before the first one; `None` until it has.
    #[must_use]
    pub fn announced(&self) -> Option<u64> {
        self.inner.announced()
    }

    /// The number of entries received so far.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.inner.received()
    }

    /// The watch that [`Client::entries_and_watch`] requested, after the last entry. // N5
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`]: see [`jtp_driver::Entries::into_watch`].
    pub fn into_watch(self) -> Result<Watch<'c>, Error> {
        Ok(Watch {
            inner: self.inner.into_watch()?,
            cancel: self.cancel,
        })
    }
}

/// The images of a response, one after another, each verified before its end is reported. See [`jtp_driver::Images`].
#[derive(Debug)]
#[must_use]
pub struct Images<'c> {
    inner: jtp_driver::Images<'c, Threads>,
    cancel: &'c CancelHandle,
}

impl<'c> Images<'c> {
    /// The next image; `None` after the last one. If the image before was not read to its end, the rest of it is
    /// discarded; it counts as fetched if it is valid or was left undecoded.
    ///
    /// # Errors
    ///
    /// [`Error`], which is final: transient errors were retried.
    #[expect(
        clippy::should_implement_trait,
        reason = "the async crates' name; and each image borrows this, which an iterator's item cannot"
    )]
    pub fn next(&mut self) -> Result<Option<Incoming<'_, 'c>>, Error> {
        let cancel = self.cancel;
        let next = cancel.run(self.inner.next())?;
        Ok(next.map(|inner| Incoming { inner, cancel }))
    }

    /// The images requested by ID that the server does not have. // S7
    #[must_use]
    pub fn absent(&self) -> &[ImageId] {
        self.inner.absent()
    }

    /// The number of images that the server has announced so far.
    #[must_use]
    pub fn announced(&self) -> u64 {
        self.inner.announced()
    }

    /// Cancels the request by CANCEL, and discards the images that still arrive; see
    /// [`jtp_driver::Images::cancel`]. // C1 C7
    ///
    /// # Errors
    ///
    /// [`Error`], if the connection is lost before the server's response.
    pub fn cancel(self) -> Result<(), Error> {
        self.cancel.run(self.inner.cancel())
    }
}

/// An image that is being received.
#[derive(Debug)]
#[must_use]
pub struct Incoming<'a, 'c> {
    inner: jtp_driver::Incoming<'a, 'c, Threads>,
    cancel: &'c CancelHandle,
}

impl<'a, 'c> Incoming<'a, 'c> {
    /// The image as its packet's head describes it.
    #[must_use]
    pub fn image(&self) -> Image {
        self.inner.image()
    }

    /// The bytes of its packet's data that have arrived so far: see [`jtp_driver::Incoming::received`].
    #[must_use]
    pub fn received(&self) -> u64 {
        self.inner.received()
    }

    /// The proof that all bytes have arrived and are the image, once [`chunk`](Self::chunk) has returned `None`.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        self.inner.verified()
    }

    /// Leaves decoding and verification to the caller, for example on another thread: see [`jtp_driver::Undecoded`].
    ///
    /// # Errors
    ///
    /// [`Misuse::NoImageBegun`] after the first [`chunk`](Incoming::chunk).
    pub fn undecoded(self) -> Result<Undecoded<'a, 'c>, Misuse> {
        let cancel = self.cancel;
        let inner = self.inner.undecoded()?;
        Ok(Undecoded { inner, cancel })
    }

    /// The next decoded bytes, at most 256 KiB; `None` once the whole image was received and verified. Do not use or
    /// show the bytes before that. // R2
    ///
    /// # Errors
    ///
    /// [`ImageError`]: discard the bytes received of this image.
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, ImageError> {
        self.cancel.run(self.inner.chunk())
    }

    /// The whole image, verified, in memory. An image of more than `limit` bytes is treated as broken. // R4
    ///
    /// # Errors
    ///
    /// [`ImageError`].
    pub fn bytes(self, limit: usize) -> Result<Vec<u8>, ImageError> {
        self.cancel.run(self.inner.bytes(limit))
    }
}

/// An image that is being received in its encoded form, neither decoded nor verified. See [`jtp_driver::Undecoded`].
#[derive(Debug)]
#[must_use]
pub struct Undecoded<'a, 'c> {
    inner: jtp_driver::Undecoded<'a, 'c, Threads>,
    cancel: &'c CancelHandle,
}

impl Undecoded<'_, '_> {
    /// The image as its packet's head describes it.
    #[must_use]
    pub fn image(&self) -> Image {
        self.inner.image()
    }

    /// The next bytes of its packet, at most 256 KiB; `None` after the last ones.
    ///
    /// # Errors
    ///
    /// [`ImageError::Interrupted`]: discard the bytes received of this image; it arrives again. [`ImageError::Fatal`]:
    /// the request failed. // R6
    pub fn chunk(&mut self) -> Result<Option<&[u8]>, ImageError> {
        self.cancel.run(self.inner.chunk())
    }

    /// Moves the bytes that [`chunk`](Self::chunk) has just returned to `memory`. See
    /// [`jtp_driver::Undecoded::move_chunk`].
    pub fn move_chunk(&mut self, memory: &mut Vec<u8>) -> std::ops::Range<usize> {
        self.inner.move_chunk(memory)
    }
}

/// A watch for new images. // N1
#[derive(Debug)]
#[must_use]
pub struct Watch<'c> {
    inner: jtp_driver::Watch<'c, Threads>,
    cancel: &'c CancelHandle,
}

impl Watch<'_> {
    /// Waits for the next new image, without a time limit.
    ///
    /// # Errors
    ///
    /// [`Error`], if the connection is lost or the request refused. Images that were added meanwhile are in the next
    /// LIST. It is final, and later calls return [`Error::Failed`]. // N5
    #[expect(
        clippy::should_implement_trait,
        reason = "the async crates' name; and a watch ends only by an error"
    )]
    pub fn next(&mut self) -> Result<CatalogEntry<'static>, Error> {
        self.cancel.run(self.inner.next())
    }

    /// Waits for the next new image for at most `timeout`; `None` after that, and no image is lost.
    ///
    /// The async crates have no such method: there a future can be dropped.
    ///
    /// # Errors
    ///
    /// As [`Watch::next`].
    pub fn next_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<Option<CatalogEntry<'static>>, Error> {
        let threads = Threads::default();
        let next = jtp_driver::timeout(&threads, Some(timeout), self.inner.next());
        self.cancel.run(async { next.await.transpose() })
    }

    /// Ends the watch by CANCEL. Returns the new images that were still on their way. // N3 C7
    ///
    /// # Errors
    ///
    /// [`Error`], if the connection is lost.
    pub fn cancel(self) -> Result<Vec<CatalogEntry<'static>>, Error> {
        self.cancel.run(self.inner.cancel())
    }
}
