//! Bringing images from the store into memory, a piece at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use jtp_core::Image;
use jtp_core::server::ServerConnection;
use jtp_store::{ImageBody, ImageStore, LoadError, Loaded, load};

/// The bytes of one piece. While the socket's own buffer empties, the next one is read.
const PIECE: usize = 256 * 1024;

/// The most images that are opened ahead.
const MOST_IMAGES: usize = 128;

/// The images of a response on their way through memory.
pub(super) struct Bodies<S: ?Sized> {
    store: Arc<S>,
    /// Images that were read ahead.
    ahead: VecDeque<Result<Loaded, LoadError>>,
    /// The rest of the image that is being sent.
    open: Option<Box<dyn ImageBody>>,
    /// What is loaded of it; `sent` bytes are sent.
    piece: Vec<u8>,
    sent: usize,
}

impl<S: ImageStore + ?Sized> Bodies<S> {
    pub(super) fn new(store: Arc<S>) -> Bodies<S> {
        Bodies {
            store,
            ahead: VecDeque::new(),
            open: None,
            piece: Vec::new(),
            sent: 0,
        }
    }

    /// The next bytes of the body that are in memory.
    pub(super) fn piece(&self) -> &[u8] {
        self.piece.get(self.sent..).unwrap_or_default()
    }

    /// So many bytes of [`Bodies::piece`] were sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.sent += count;
    }

    /// Drops what was read ahead once no response wants it.
    pub(super) fn clear(&mut self) {
        self.ahead = VecDeque::new();
        self.open = None;
        self.piece = Vec::new();
        self.sent = 0;
    }

    /// The answer to a wanted body, once what is in memory is sent. Blocks as long as the disk does.
    pub(super) fn next(&mut self, connection: &ServerConnection) -> Option<Result<u32, LoadError>> {
        let wanted = connection.wants_body()?;
        if !self.piece().is_empty() {
            return None;
        }
        let loaded = if wanted.offset == 0 {
            self.begin(wanted.image, connection)
        } else {
            self.read(
                u64::from(wanted.offset),
                wanted.image.length - wanted.offset,
            )
        };
        Some(loaded.map(|()| u32::try_from(self.piece.len()).unwrap_or(u32::MAX)))
    }

    /// Opens an image, with those that follow it if they are small.
    fn begin(&mut self, image: Image, connection: &ServerConnection) -> Result<(), LoadError> {
        loop {
            match self.ahead.pop_front() {
                Some(Ok(loaded)) if loaded.image == image => {
                    self.open = loaded.body;
                    self.piece = loaded.first;
                    self.sent = 0;
                    return Ok(());
                }
                Some(Err(error)) => return Err(error),
                // Read ahead for another response: CANCEL came in between.
                Some(Ok(_)) => self.ahead.clear(),
                None => {
                    let images: Vec<Image> = connection.upcoming().take(MOST_IMAGES).collect();
                    self.ahead.extend(load(&*self.store, &images, PIECE));
                }
            }
        }
    }

    fn read(&mut self, offset: u64, left: u32) -> Result<(), LoadError> {
        self.piece.resize(
            usize::try_from(left).map_or(PIECE, |left| left.min(PIECE)),
            0,
        );
        self.sent = self.piece.len();
        if let Some(open) = &mut self.open {
            let count = open.read_at(offset, &mut self.piece)?;
            self.piece.truncate(count);
            self.sent = 0;
        }
        Ok(())
    }
}
