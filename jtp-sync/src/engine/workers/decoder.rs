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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jtp_core::{Flags, ImageId};
    use jtp_store::OutputFolder;
    use tempfile::TempDir;

    use super::*;
    use crate::{Options, Planner, SyncEvent};

    /// A session with a folder, in which no image is planned.
    fn session(max_unlisted_bytes: u64) -> (TempDir, Arc<Session>) {
        let place = tempfile::tempdir().unwrap();
        let mut session = Session::of_test(Planner::new(Options::new()), |_: &SyncEvent<'_>| {});
        session.limits.max_image_size = 1 << 30;
        session.limits.max_unlisted_bytes = max_unlisted_bytes;
        session.set_folder(OutputFolder::open(place.path()).unwrap());
        (place, Arc::new(session))
    }

    /// Passes a whole image to a decoder.
    fn decode(session: &Arc<Session>, bytes: &[u8]) -> Result<(), Error> {
        let (id, length) = (ImageId::of(bytes), u32::try_from(bytes.len()).unwrap());
        let image = Image::new(id, Flags::from_bits(0), length);
        let mut batch = Batch::default();
        batch.steps.push(Step::Begin(image));
        batch.append(bytes);
        let (flight, _) = Flight::begin(session, id, None);
        batch.steps.push(Step::End(flight));
        Decoder::new(session).process(&mut batch)
    }

    #[test]
    fn r3_r8_images_that_no_list_names_are_kept_up_to_a_number_of_bytes() {
        let (_place, session) = session(100);
        for image in [&[1; 60][..], &[2; 40]] {
            decode(&session, image).unwrap();
        }
        assert!(!session.state().relist);
        assert_eq!(session.state().staged.len(), 2);
        decode(&session, &[3]).unwrap();
        let state = session.state();
        assert!(state.relist, "a LIST is to decide about them");
        assert_eq!(state.staged.len(), 2);
    }

    #[test]
    fn at_the_end_of_a_run_what_has_arrived_is_decoded_up_to_32_mib() {
        let (_place, session) = session(u64::MAX);
        session.end();
        decode(&session, &vec![1; MAX_AT_END]).unwrap();
        assert_eq!(session.state().staged.len(), 1);
        decode(&session, &vec![2; MAX_AT_END + 1]).unwrap();
        assert_eq!(session.state().staged.len(), 1);
    }
}
