//! The images of a response.

use std::ops::Range;
use std::time::Instant;

use jtp_core::client::{ClientError, Event, Retry, Transfer};
use jtp_core::{Image, ImageFault, ImageId, Misuse, Verified};

use super::connection::Connection;
use super::{Client, Error, ImageError};
use crate::runtime::Runtime;

/// The images of a request, one after another, over one connection or several. Each is verified before its end is
/// reported.
///
/// A broken image is requested once more (R2). After a lost connection the rest is requested on a new one (R6). So an
/// image may appear again after an [`ImageError`].
#[derive(Debug)]
#[must_use]
pub struct Images<'c, R: Runtime> {
    client: &'c mut Client<R>,
    transfer: Transfer,
    retry: Retry,
    /// The image whose end was not reported yet.
    open: Option<Image>,
    state: State,
    /// Requests on this connection whose responses are not complete.
    outstanding: usize,
    announced: u64,
    /// The request was made with an earlier one, and its response has not begun: the server may close the connection
    /// before that. // R6
    ahead: bool,
}

#[derive(Debug)]
enum State {
    Active,
    /// The next try waits until then. // R6
    Paused(Instant),
    /// The error was reported inside an image.
    Failed,
}

/// Requests that are made ahead of their turn if the client may pipeline. // R7
const MAX_PIPELINED: usize = 2;

impl<'c, R: Runtime> Images<'c, R> {
    pub(super) fn new(client: &'c mut Client<R>, transfer: Transfer) -> Self {
        let retry = client.retry();
        Images {
            client,
            transfer,
            retry,
            open: None,
            state: State::Active,
            outstanding: 0,
            announced: 0,
            ahead: false,
        }
    }

    /// All images, which may be requested already.
    pub(super) fn all(client: &'c mut Client<R>) -> Self {
        let connection = client.connection.as_mut();
        let ahead = connection.is_some_and(|at| std::mem::take(&mut at.requested_all));
        let mut images = Images::new(client, Transfer::all());
        if ahead {
            images.transfer.next_request();
            images.outstanding = 1;
            images.ahead = true;
        }
        images
    }

    /// The next image; `None` when all have arrived. If the image before it was not read to its end, the rest is
    /// discarded, and the image counts as fetched if it was good, or was left undecoded.
    ///
    /// Cancel safe: a dropped future loses at most a connection that was being made.
    ///
    /// # Errors
    ///
    /// [`Error`], after everything that may be tried again was tried.
    pub async fn next(&mut self) -> Result<Option<Incoming<'_, 'c, R>>, Error> {
        loop {
            match self.state {
                State::Active => {}
                State::Paused(until) => {
                    self.client.runtime.sleep_until(until).await;
                    self.state = State::Active;
                }
                State::Failed => return Err(Error::Failed),
            }
            match self.step().await {
                Ok(Some(image)) => {
                    let begun = self.received();
                    return Ok(Some(Incoming {
                        images: self,
                        image,
                        begun,
                        verified: None,
                        failed: false,
                        ended: None,
                    }));
                }
                Ok(None) => return Ok(None),
                Err(error) => self.lose(error)?,
            }
        }
    }

    /// The images requested by ID that the server did not have. // S7
    #[must_use]
    pub fn absent(&self) -> &[ImageId] {
        self.transfer.absent()
    }

    /// The number of images that the server has announced so far.
    #[must_use]
    pub fn announced(&self) -> u64 {
        self.announced
    }

    /// Stops the response by CANCEL, and discards what is still on its way. // C1 C7
    ///
    /// If a CANCEL cannot be sent (without keep-alive), or the connection would not be used again after it (R7), the
    /// connection is closed instead.
    ///
    /// Not cancel safe: a dropped future leaves the rest of the response unread. The next request connects again; over a
    /// stream of the caller it discards that rest first, if the client may pipeline (R7).
    ///
    /// # Errors
    ///
    /// [`Error`] if the connection is lost before the server's answer.
    pub async fn cancel(self) -> Result<(), Error> {
        let Some(connection) = &mut self.client.connection else {
            return Ok(());
        };
        let pipelines = self.client.options.config.pipeline();
        if self.outstanding == 0 && self.open.is_none() {
            return Ok(());
        }
        if !pipelines || connection.cancel().is_err() {
            self.client.close().await;
            return Ok(());
        }
        loop {
            match connection.next().await {
                Ok(Some(Event::Cancelled { .. })) => break,
                Ok(None) => {
                    self.client.connection = None;
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    self.client.connection = None;
                    return Err(error);
                }
            }
        }
        self.client.response_done().await;
        Ok(())
    }

    /// Makes requests while any can be made, then waits for an image to begin.
    async fn step(&mut self) -> Result<Option<Image>, Error> {
        loop {
            self.make_requests().await?;
            if self.outstanding == 0 {
                return Ok(None);
            }
            match self.event().await? {
                Event::Begin { count, .. } => {
                    self.ahead = false;
                    self.announced += u64::from(count);
                }
                Event::Image(image) => {
                    self.open = Some(image);
                    return Ok(Some(image));
                }
                Event::ImageEnd { image, verdict } => {
                    self.image_end(image, verdict.is_ok());
                }
                Event::PacketEnd { image } => {
                    self.image_end(image, true);
                }
                Event::End { .. } => {
                    self.outstanding -= 1;
                    self.transfer.response_end();
                    self.progress();
                    if self.outstanding == 0 {
                        self.client.response_done().await;
                    }
                }
                _ => {}
            }
        }
    }

    async fn make_requests(&mut self) -> Result<(), Error> {
        let keep_alive = self.client.options.keep_alive;
        let pipelines = keep_alive && self.client.options.config.pipeline();
        let ahead = if pipelines { MAX_PIPELINED } else { 1 };
        while self.outstanding < ahead {
            if self.outstanding == 0 {
                if self.transfer.is_done() {
                    return Ok(());
                }
                self.client.connection().await?;
            }
            let Some(request) = self.transfer.next_request() else {
                return Ok(());
            };
            let Some(connection) = &mut self.client.connection else {
                return Ok(());
            };
            if let Err(misuse) = connection.request(request, keep_alive) {
                self.transfer.connection_lost();
                return Err(misuse.into());
            }
            self.outstanding += 1;
        }
        Ok(())
    }

    async fn event(&mut self) -> Result<Event<'static>, Error> {
        match &mut self.client.connection {
            Some(connection) => match connection.next().await? {
                Some(event) => Ok(event),
                None => Err(Error::Protocol(ClientError::EarlyEof)),
            },
            None => Err(Error::Misuse(Misuse::Closed)),
        }
    }

    fn received(&self) -> u64 {
        let connection = self.client.connection.as_ref();
        connection.map_or(0, Connection::received)
    }

    /// Records an image's end; whether that is final.
    fn image_end(&mut self, image: Image, good: bool) -> bool {
        self.open = None;
        if good {
            self.progress();
        }
        self.transfer.image_end(image.id, good)
    }

    fn progress(&mut self) {
        self.retry.progress();
        self.client.progress();
    }

    /// The connection was lost; the error if it is not tried again.
    fn lose(&mut self, error: Error) -> Result<(), Error> {
        self.open = None;
        self.outstanding = 0;
        self.transfer.connection_lost();
        if std::mem::take(&mut self.ahead) && error.is_end() {
            // Closed between responses: that is no failure. // R6
            self.client.lose_connection(&error);
            return Ok(());
        }
        match self.client.retry_at(&mut self.retry, error) {
            Ok((at, _)) => {
                self.state = State::Paused(at);
                Ok(())
            }
            Err(error) => {
                self.state = State::Failed;
                Err(error)
            }
        }
    }

    /// The connection was lost inside an image.
    fn interrupt(&mut self, error: Error) -> ImageError {
        self.open = None;
        self.outstanding = 0;
        self.transfer.connection_lost();
        match self.client.retry_at(&mut self.retry, error) {
            Ok((at, error)) => {
                self.state = State::Paused(at);
                ImageError::Interrupted(error)
            }
            Err(error) => {
                self.state = State::Failed;
                ImageError::Fatal(error)
            }
        }
    }
}

/// An image that is arriving.
#[derive(Debug)]
#[must_use]
pub struct Incoming<'a, 'c, R: Runtime> {
    images: &'a mut Images<'c, R>,
    image: Image,
    /// What the connection had received when the image began.
    begun: u64,
    verified: Option<Verified>,
    failed: bool,
    /// After the image's end: the bytes that had arrived of it.
    ended: Option<u64>,
}

impl<'a, 'c, R: Runtime> Incoming<'a, 'c, R> {
    /// The image, as its packet's head describes it.
    #[must_use]
    pub fn image(&self) -> Image {
        self.image
    }

    /// The bytes of its packet's data that have arrived so far, as they travel: at most
    /// [`Image::length`](jtp_core::Image). A measure of progress that is exact for compressed images too.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.ended.unwrap_or_else(|| {
            let received = self.images.received().saturating_sub(self.begun);
            received.min(u64::from(self.image.length))
        })
    }

    /// Leaves the image to the caller to decode and to verify, on another thread for example: see [`Undecoded`].
    ///
    /// # Errors
    ///
    /// [`Misuse::NoImageBegun`] after the first [`chunk`](Incoming::chunk).
    pub fn undecoded(self) -> Result<Undecoded<'a, 'c, R>, Misuse> {
        let connection = self.images.client.connection.as_mut();
        connection.ok_or(Misuse::Closed)?.leave_undecoded()?;
        Ok(Undecoded(self))
    }

    /// The next decoded bytes, up to 256 KiB; `None` once all have arrived and are verified to be the image. Before that
    /// they are not to be relied on, nor shown to anyone. // R2
    ///
    /// Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ImageError`]: discard what has arrived of it. It is final, and later calls return [`ImageError::Failed`].
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, ImageError> {
        if self.failed {
            return Err(ImageError::Failed);
        }
        if self.ended.is_some() {
            return Ok(None);
        }
        loop {
            match self.images.event().await {
                Ok(Event::Data(_)) => break,
                Ok(Event::PacketEnd { image }) => {
                    self.ended = Some(u64::from(image.length));
                    self.images.image_end(image, true);
                    return Ok(None);
                }
                Ok(Event::ImageEnd { image, verdict }) => {
                    self.ended = Some(u64::from(image.length));
                    let last = self.images.image_end(image, verdict.is_ok());
                    return match verdict {
                        Ok(verified) => {
                            self.verified = Some(verified);
                            Ok(None)
                        }
                        Err(fault) => {
                            self.failed = true;
                            Err(ImageError::Fault { fault, last })
                        }
                    };
                }
                Ok(_) => {}
                Err(error) => {
                    self.ended = Some(self.received());
                    self.failed = true;
                    return Err(self.images.interrupt(error));
                }
            }
        }
        let connection = self.images.client.connection.as_ref();
        Ok(connection.map(Connection::data))
    }

    /// The proof that all bytes have arrived and are the image, once [`chunk`](Self::chunk) has returned `None`.
    /// jtp-store's `PendingFile::commit` demands it.
    #[must_use]
    pub fn verified(&self) -> Option<Verified> {
        self.verified
    }

    /// The whole image, verified, in memory. An image of more than `limit` bytes is broken (R4).
    ///
    /// Not cancel safe: a dropped future discards the image.
    ///
    /// # Errors
    ///
    /// [`ImageError`].
    pub async fn bytes(mut self, limit: usize) -> Result<Vec<u8>, ImageError> {
        let mut bytes = Vec::new();
        let mut over = false;
        while let Some(chunk) = self.chunk().await? {
            over |= chunk.len() > limit - bytes.len().min(limit);
            if over {
                bytes = Vec::new();
            } else {
                bytes.extend_from_slice(chunk);
            }
        }
        if over {
            let limit = u64::try_from(limit).unwrap_or(u64::MAX);
            let fault = ImageFault::TooLarge { limit };
            return Err(ImageError::Fault { fault, last: true });
        }
        Ok(bytes)
    }
}

/// An image that is arriving, as it travels: neither decoded nor verified.
///
/// For a program that decodes on several threads: the task that reads the connection passes the packets on, and others
/// decode, hash and write them. Nothing of the image is to be shown to anyone before a
/// [`BodyReceiver`](jtp_core::BodyReceiver), begun with [`image`](Undecoded::image) and given all bytes, has returned
/// its verdict. The caller requests a broken one once more, by [`Client::get`]. // R2
#[derive(Debug)]
#[must_use]
pub struct Undecoded<'a, 'c, R: Runtime>(Incoming<'a, 'c, R>);

impl<R: Runtime> Undecoded<'_, '_, R> {
    /// The image, as its packet's head describes it.
    #[must_use]
    pub fn image(&self) -> Image {
        self.0.image()
    }

    /// The next bytes of its packet, up to 256 KiB; `None` once all have arrived. Cancel safe.
    ///
    /// # Errors
    ///
    /// [`ImageError::Interrupted`]: discard what has arrived; the image arrives again. [`ImageError::Fatal`]: the
    /// request failed. // R6
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, ImageError> {
        self.0.chunk().await
    }

    /// Moves the bytes that [`chunk`](Self::chunk) has just returned to `memory`, whose contents are lost, and returns
    /// where they are. Of long chunks nothing is copied: the connection then goes on in the memory that it was given,
    /// which is best that of an earlier chunk, with the length that it had.
    pub fn move_chunk(&mut self, memory: &mut Vec<u8>) -> Range<usize> {
        let connection = self.0.images.client.connection.as_mut();
        connection.map_or(0..0, |connection| connection.move_data(memory))
    }
}
