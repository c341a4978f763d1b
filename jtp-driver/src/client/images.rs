//! Images as they come.

use std::time::Instant;

use jtp_core::client::{Misuse, Retry, Transfer};
use jtp_core::{Image, ImageId};

use super::link::{Link, Told};
use super::{Client, Error, ImageError};
use crate::runtime::Runtime;

/// The images of a request, one after another: over one connection or several, each verified before its end
/// is told.
///
/// An image that comes broken is asked for once more (R2); after a lost connection the rest is asked for on
/// a new one (R6). An image may so appear again, after an [`ImageError`] that said so.
#[derive(Debug)]
#[must_use]
pub struct Images<'c, R: Runtime> {
    client: &'c mut Client<R>,
    transfer: Transfer,
    retry: Retry,
    /// The image whose end has not been told.
    open: Option<Image>,
    /// Why the connection was lost inside an image.
    lost: Option<Error>,
    /// Until when the next try waits. // R6
    pause: Option<Instant>,
    /// Requests made on this connection whose responses are not complete.
    under_way: usize,
    promised: u64,
}

/// How many requests are made ahead of their turn where the client may pipeline. // R7
const PIPELINED: usize = 2;

impl<'c, R: Runtime> Images<'c, R> {
    pub(super) fn new(client: &'c mut Client<R>, transfer: Transfer) -> Self {
        let retry = client.retry();
        Images {
            client,
            transfer,
            retry,
            open: None,
            lost: None,
            pause: None,
            under_way: 0,
            promised: 0,
        }
    }

    /// The next image; `None` when all have come. What is left of an image that was not read to its end is
    /// thrown away, and it counts as fetched if it was good, or was left undecoded.
    ///
    /// Dropped before it is ready, it loses nothing but a connection that was being made.
    ///
    /// # Errors
    ///
    /// [`Error`], for good: what can be tried again has been.
    pub async fn next(&mut self) -> Result<Option<Incoming<'_, 'c, R>>, Error> {
        loop {
            if let Some(error) = self.lost.take() {
                self.pause = self.client.next_try(&mut self.retry, error)?;
            }
            if let Some(until) = self.pause {
                R::sleep_until(until).await;
                self.pause = None;
            }
            match self.step().await {
                Ok(Some(image)) => {
                    return Ok(Some(Incoming {
                        images: self,
                        image,
                        ended: false,
                    }));
                }
                Ok(None) => return Ok(None),
                Err(error) => self.lose(error),
            }
        }
    }

    /// The images asked for by ID that the server did not have. // S7
    #[must_use]
    pub fn absent(&self) -> &[ImageId] {
        self.transfer.absent()
    }

    /// How many images the server has promised so far.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.promised
    }

    /// Stops by CANCEL, and throws away what is still on its way. // C1 C7
    ///
    /// Where a CANCEL cannot be sent (without keep-alive), or the connection would not be used again after
    /// it (R7), the connection is closed instead.
    ///
    /// # Errors
    ///
    /// [`Error`], when the connection is lost before the server's answer.
    pub async fn cancel(self) -> Result<(), Error> {
        let Some(link) = &mut self.client.link else {
            return Ok(());
        };
        let pipelines = self.client.options.config.pipeline();
        if self.under_way == 0 && self.open.is_none() {
            return Ok(());
        }
        if !pipelines || link.cancel().is_err() {
            self.client.close().await;
            return Ok(());
        }
        loop {
            match link.next().await {
                Ok(Told::Cancelled) => break,
                Ok(Told::Closed) => {
                    self.client.link = None;
                    break;
                }
                Ok(_) => {}
                Err(error) => {
                    self.client.link = None;
                    return Err(error);
                }
            }
        }
        self.client.response_done().await;
        Ok(())
    }

    /// Makes requests as long as any can be made, then waits for an image to begin.
    async fn step(&mut self) -> Result<Option<Image>, Error> {
        loop {
            self.ask().await?;
            if self.under_way == 0 {
                return Ok(None);
            }
            match self.told().await? {
                Told::Begin { count } => self.promised += u64::from(count),
                Told::Image(image) => {
                    self.open = Some(image);
                    return Ok(Some(image));
                }
                Told::ImageEnd { image, verdict } => {
                    self.image_end(image, verdict.is_ok());
                }
                Told::PacketEnd { image } => {
                    self.image_end(image, true);
                }
                Told::End => {
                    self.under_way -= 1;
                    self.transfer.response_end();
                    self.retry.progress();
                    if self.under_way == 0 {
                        self.client.response_done().await;
                    }
                }
                _ => {}
            }
        }
    }

    async fn ask(&mut self) -> Result<(), Error> {
        let keep_alive = self.client.options.keep_alive;
        let pipelines = keep_alive && self.client.options.config.pipeline();
        let ahead = if pipelines { PIPELINED } else { 1 };
        while self.under_way < ahead {
            if self.under_way == 0 {
                if self.transfer.is_done() {
                    return Ok(());
                }
                self.client.link().await?;
            }
            let Some(request) = self.transfer.next_request()? else {
                return Ok(());
            };
            let Some(link) = &mut self.client.link else {
                return Ok(());
            };
            if let Err(misuse) = link.request(request, keep_alive) {
                self.transfer.connection_lost();
                return Err(misuse.into());
            }
            self.under_way += 1;
        }
        Ok(())
    }

    async fn told(&mut self) -> Result<Told, Error> {
        match &mut self.client.link {
            Some(link) => match link.next().await? {
                Told::Closed => Err(Error::Protocol(jtp_core::client::ClientError::EarlyEof)),
                told => Ok(told),
            },
            None => Err(Error::Misuse(Misuse::Closed)),
        }
    }

    /// Notes an image's end; whether that is final.
    fn image_end(&mut self, image: Image, good: bool) -> bool {
        self.open = None;
        if good {
            self.retry.progress();
        }
        self.transfer.image_end(image.id, good)
    }

    fn lose(&mut self, error: Error) {
        self.open = None;
        self.under_way = 0;
        self.transfer.connection_lost();
        self.lost = Some(error);
    }
}

/// An image that is coming in.
#[derive(Debug)]
#[must_use]
pub struct Incoming<'a, 'c, R: Runtime> {
    images: &'a mut Images<'c, R>,
    image: Image,
    ended: bool,
}

impl<'a, 'c, R: Runtime> Incoming<'a, 'c, R> {
    /// What its packet's head says.
    #[must_use]
    pub fn image(&self) -> Image {
        self.image
    }

    /// Leaves it to the caller to decode and to verify, as on another thread: see [`Undecoded`].
    ///
    /// # Errors
    ///
    /// [`Misuse::NoImageBegun`] after the first [`chunk`](Incoming::chunk).
    pub fn undecoded(self) -> Result<Undecoded<'a, 'c, R>, Misuse> {
        let link = self.images.client.link.as_mut().ok_or(Misuse::Closed)?;
        link.leave_undecoded()?;
        Ok(Undecoded(self))
    }

    /// The next of its decoded bytes, up to 256 KiB; `None` once all have come and are verified to be the
    /// image's. Before that they are not to be relied on, nor shown to anyone. // R2
    ///
    /// Dropped before it is ready, it loses nothing.
    ///
    /// # Errors
    ///
    /// [`ImageError`]: throw away what came of it.
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, ImageError> {
        if self.ended {
            return Ok(None);
        }
        loop {
            match self.images.told().await {
                Ok(Told::Data) => break,
                Ok(Told::PacketEnd { image }) => {
                    self.ended = true;
                    self.images.image_end(image, true);
                    return Ok(None);
                }
                Ok(Told::ImageEnd { image, verdict }) => {
                    self.ended = true;
                    let last = self.images.image_end(image, verdict.is_ok());
                    return match verdict {
                        Ok(()) => Ok(None),
                        Err(fault) => Err(ImageError::Fault { fault, last }),
                    };
                }
                Ok(_) => {}
                Err(error) => {
                    self.ended = true;
                    // Whether it is the end of everything the next image's wait will tell.
                    self.images.lose(error);
                    return Err(ImageError::Interrupted);
                }
            }
        }
        Ok(self.images.client.link.as_ref().map(Link::data))
    }

    /// All of it, verified, in memory; at most `limit` bytes (R4), beyond which it counts as broken.
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
            let fault = jtp_core::ImageFault::TooLarge { limit };
            return Err(ImageError::Fault { fault, last: true });
        }
        Ok(bytes)
    }
}

/// An image that is coming in, as it travels: neither decoded nor verified.
///
/// For a program with processors to spare: the thread that reads the connection hands the packets over to others, which
/// decode them, hash them and write them. Nothing of it is to be shown to anyone before a
/// [`BodyReceiver`](jtp_core::BodyReceiver), begun with [`image`](Undecoded::image) and given all that came, has said
/// that it is the image; and a broken one is the caller's to ask for once more, by [`Client::get`]. // R2
#[derive(Debug)]
#[must_use]
pub struct Undecoded<'a, 'c, R: Runtime>(Incoming<'a, 'c, R>);

impl<R: Runtime> Undecoded<'_, '_, R> {
    /// What its packet's head says.
    #[must_use]
    pub fn image(&self) -> Image {
        self.0.image()
    }

    /// The next bytes of its packet, up to 256 KiB; `None` once all have come.
    ///
    /// Dropped before it is ready, it loses nothing.
    ///
    /// # Errors
    ///
    /// [`ImageError::Interrupted`]: throw away what came of it; it will come again. // R6
    pub async fn chunk(&mut self) -> Result<Option<&[u8]>, ImageError> {
        self.0.chunk().await
    }
}
