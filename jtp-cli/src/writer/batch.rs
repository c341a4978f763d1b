//! What a writer thread does with a batch: decode, verify, write.

use jtp_core::{BodyReceiver, DEFAULT_MAX_WINDOW, Image};
use jtp_store::PendingFile;

use crate::exit::Failure;
use crate::fetch::{FetchState, ImageProgress};

/// A batch with this many bytes is full.
const MAX_BYTES: usize = 256 * 1024;

/// A batch with this many steps is full: begin, bytes and end of 100 images.
const MAX_STEPS: usize = 300;

pub(super) enum Step {
    /// An image begins. An image that has begun and not ended is discarded.
    Begin(Image),
    /// This number of bytes of its packet.
    Bytes(usize),
    /// The packet is complete.
    End(ImageProgress),
    /// The image is discarded.
    Discard,
}

/// Steps, and the bytes that they refer to.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    pub(super) steps: Vec<Step>,
}

impl Batch {
    pub(super) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether the batch has no room for `more` additional bytes.
    pub(super) fn is_full(&self, more: u32) -> bool {
        let more = usize::try_from(more).unwrap_or(usize::MAX);
        self.bytes.len().saturating_add(more) > MAX_BYTES || self.steps.len() >= MAX_STEPS
    }
}

/// Decodes images one after another, verifies them and writes their files.
///
/// It fails only if the output folder cannot be written. If a single image fails, that is reported and the rest of its
/// bytes are ignored.
pub(super) struct BatchProcessor<'a> {
    fetch: &'a FetchState,
    body: BodyReceiver,
    /// The current image, its decoded length so far, and its file unless writing it has failed.
    image: Option<(Image, u64, Option<PendingFile>)>,
}

impl BatchProcessor<'_> {
    pub(super) fn new(fetch: &FetchState) -> BatchProcessor<'_> {
        BatchProcessor {
            fetch,
            body: BodyReceiver::new(fetch.args.max_image_size, DEFAULT_MAX_WINDOW), // R4 W8
            image: None,
        }
    }

    pub(super) fn process(&mut self, batch: &mut Batch) -> Result<(), Failure> {
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
                Step::End(progress) => self.end(progress)?,
                Step::Discard => self.image = None,
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
                self.fetch.write_failed(*image, &error)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, progress: ImageProgress) -> Result<(), Failure> {
        let Some((image, length, Some(file))) = self.image.take() else {
            return Ok(());
        };
        match self.body.verdict() {
            Some(Ok(verified)) => match file.commit(&self.fetch.name(image), verified) {
                Ok(name) => self.fetch.image_stored(image, &name, length, progress),
                Err(error) => self.fetch.write_failed(image, &error)?,
            },
            Some(Err(fault)) => self.fetch.image_broken(image, &fault, progress),
            None => {}
        }
        Ok(())
    }
}
