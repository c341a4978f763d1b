//! What a thread does with a batch: decode, verify, write.

use jtp_core::{BodyReceiver, DEFAULT_MAX_WINDOW, Image};
use jtp_store::PendingFile;

use crate::exit::Failure;
use crate::fetch::{Fetch, Told};

/// A batch of so many bytes is full; so it is with [`FULL_STEPS`].
const FULL_BYTES: usize = 256 * 1024;

/// Beginning, bytes and end of a hundred images.
const FULL_STEPS: usize = 300;

/// What a thread does next.
pub(super) enum Step {
    /// An image begins; one that was begun and not ended is given up.
    Begin(Image),
    /// So many bytes of its packet.
    Bytes(usize),
    /// All of it has come.
    End(Told),
    /// It is not to be.
    GiveUp,
}

/// What is to be done, and the bytes that it is about.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) steps: Vec<Step>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether it has no room for so many bytes more.
    pub(super) fn is_full(&self, more: u32) -> bool {
        let more = usize::try_from(more).unwrap_or(usize::MAX);
        self.bytes.len().saturating_add(more) > FULL_BYTES || self.steps.len() >= FULL_STEPS
    }
}

/// Decodes images, one after another, verifies them, and makes them files. All its errors are about the folder: an
/// image that fails by itself is reported, and what still comes of it is thrown away.
pub(super) struct Work<'a> {
    fetch: &'a Fetch,
    body: BodyReceiver,
    /// The image in hand, how many bytes it has, and the file, unless that has failed.
    image: Option<(Image, u64, Option<PendingFile>)>,
}

impl Work<'_> {
    pub(super) fn new(fetch: &Fetch) -> Work<'_> {
        Work {
            fetch,
            body: BodyReceiver::new(fetch.args.max_image_size, DEFAULT_MAX_WINDOW), // R4 W8
            image: None,
        }
    }

    pub(super) fn off(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        let mut rest = batch.bytes.as_slice();
        for step in batch.steps.drain(..) {
            match step {
                Step::Begin(image) => {
                    self.body.begin(image);
                    self.image = Some((image, 0, Some(self.fetch.folder.begin(&image))));
                }
                Step::Bytes(count) => {
                    let (bytes, after) = rest.split_at(count);
                    rest = after;
                    self.append(bytes)?;
                }
                Step::End(told) => self.end(told)?,
                Step::GiveUp => self.image = None,
            }
        }
        batch.bytes.clear();
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), Failure> {
        let Some((image, length, file)) = &mut self.image else {
            return Ok(());
        };
        while let Some(open) = file.as_mut().filter(|_| !bytes.is_empty()) {
            let piece = self.body.receive(bytes);
            bytes = &bytes[piece.used..];
            *length += u64::try_from(piece.data.len()).unwrap_or(0);
            if let Err(error) = open.append(piece.data) {
                *file = None;
                self.fetch.failed_here(*image, &error)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, told: Told) -> Result<(), Failure> {
        let Some((image, length, Some(file))) = self.image.take() else {
            return Ok(());
        };
        match self.body.verdict() {
            Some(Ok(verified)) => match file.commit(&self.fetch.name(image), verified.id()) {
                Ok(name) => self.fetch.placed(image, &name, length, told),
                Err(error) => self.fetch.failed_here(image, &error)?,
            },
            Some(Err(fault)) => self.fetch.broken(image, &fault, told),
            None => {}
        }
        Ok(())
    }
}
