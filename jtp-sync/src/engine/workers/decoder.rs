//! What a worker thread does with a batch: decode, verify, write.

use jtp_core::{BodyReceiver, DEFAULT_MAX_WINDOW, Image};
use jtp_store::{OutputError, PendingFile};

use super::batch::{Batch, Step};
use crate::engine::error::Error;
use crate::engine::event::Cause;
use crate::engine::flight::Flight;
use crate::engine::moves::concerns_all;
use crate::engine::session::Session;

/// The most bytes that a thread decodes once the run is to end. Images that have arrived are kept; but some kilobytes
/// may expand to gigabytes, and a cancelled run ends soon.
const MAX_AT_END: usize = 32 << 20;

/// Decodes images one after another, verifies them and passes them to the session. // R2
///
/// It fails only if the whole folder cannot be written. If a single image fails, that is reported and the rest of its
/// bytes are ignored.
pub(super) struct Decoder<'a> {
    session: &'a Session,
    body: BodyReceiver,
    /// The current image, and its file, or why that cannot be written.
    image: Option<(Image, Result<PendingFile, OutputError>)>,
    /// The bytes that were decoded since the run is to end.
    at_end: usize,
}

impl Decoder<'_> {
    pub(super) fn new(session: &Session) -> Decoder<'_> {
        Decoder {
            session,
            body: BodyReceiver::new(session.limits.max_image_size, DEFAULT_MAX_WINDOW), // R4 W8
            image: None,
            at_end: 0,
        }
    }

    pub(super) fn process(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let (mut rest, steps) = batch.parts();
        for step in steps.drain(..) {
            match step {
                Step::Begin(image) => {
                    self.body.begin(image);
                    let file = self.session.folder()?.begin(&image);
                    self.image = Some((image, Ok(file)));
                }
                Step::Bytes(count) => {
                    let (bytes, after) = rest.split_at(count);
                    rest = after;
                    self.append(bytes)?;
                }
                Step::End(flight) => self.end(flight)?,
                Step::Discard => self.image = None,
            }
        }
        Ok(())
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), Error> {
        let Some((_, pending)) = &mut self.image else {
            return Ok(());
        };
        while let (false, Ok(file)) = (bytes.is_empty(), &mut *pending) {
            let piece = self.body.receive(bytes);
            bytes = &bytes[piece.used..];
            self.session.count_decoded(piece.data.len())?;
            if self.session.check().is_err() {
                self.at_end = self.at_end.saturating_add(piece.data.len());
                if self.at_end > MAX_AT_END {
                    self.image = None;
                    return Ok(());
                }
            }
            match file.append(piece.data) {
                Err(error) if concerns_all(&error) => return Err(error.into()),
                Err(error) => *pending = Err(error),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn end(&mut self, flight: Flight) -> Result<(), Error> {
        let Some((image, pending)) = self.image.take() else {
            return Ok(());
        };
        let cause = match (pending, self.body.verdict()) {
            (Err(error), _) => Cause::Folder(error),
            (Ok(file), Some(Ok(verified))) => match file.finish(verified) {
                Ok(staged) => return self.session.received(staged, flight),
                Err(error) if concerns_all(&error) => return Err(error.into()),
                Err(error) => Cause::Folder(error),
            },
            (Ok(_), Some(Err(fault))) => Cause::Fault(fault),
            (Ok(_), None) => return Ok(()),
        };
        self.session.broken(image.id, cause, flight);
        Ok(())
    }
}
