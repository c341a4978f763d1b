//! The disk's side of a transfer: files are made on a thread of their own while the next images come in.
//!
//! What has come goes to that thread in batches, so that many small images cost one trip: a batch is handed over
//! when the thread has room for one and nothing more is there to be read, or when it is full. Not more than three
//! are in memory: one that is filled, one that waits, one that is written.
//!
//! A large image that has only to be written (no TLS, no Zstd) is written where it comes in: making its file costs
//! little beside its bytes, and handing those over is a copy more, which costs a tenth of the time of a whole fetch
//! of photographs (see `examples/benchmark`).

use std::sync::Arc;

use jtp_core::Image;
use jtp_store::{FileName, PendingFile};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::task::JoinHandle;

use crate::exit::Failure;
use crate::fetch::{Fetch, Told};

/// A batch of so many bytes is full; so it is with [`FULL_STEPS`].
const FULL_BYTES: usize = 256 * 1024;

/// Beginning and end of a hundred images.
const FULL_STEPS: usize = 300;

/// What the disk's thread does next.
enum Step {
    /// An image begins; one that was begun and not ended is given up.
    Begin(Image),
    /// So many bytes of it.
    Bytes(usize),
    /// It is whole and verified.
    End(FileName, Told),
    /// It is not to be.
    GiveUp,
}

/// What is to be done, and the bytes that it is about.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    steps: Vec<Step>,
}

/// Where a connection leaves what has come.
pub(crate) struct Disk {
    fetch: Arc<Fetch>,
    /// The image in hand, where it is written here.
    here: Option<Writer>,
    batch: Batch,
    batches: Sender<Batch>,
    /// Batches that were written, for their memory.
    spare: Receiver<Batch>,
    thread: JoinHandle<Result<(), Failure>>,
}

/// The disk's thread has ended before its work: [`Disk::finish`] says why.
pub(crate) struct Gone;

impl Disk {
    /// Starts the thread.
    pub(crate) fn start(fetch: &Arc<Fetch>) -> Disk {
        let (batches, queue) = mpsc::channel(1);
        let (written, spare) = mpsc::channel(3);
        let its_fetch = Arc::clone(fetch);
        let thread = tokio::task::spawn_blocking(move || write(&its_fetch, queue, &written));
        Disk {
            fetch: Arc::clone(fetch),
            here: None,
            batch: Batch::default(),
            batches,
            spare,
            thread,
        }
    }

    /// An image begins.
    pub(crate) fn begin(&mut self, image: Image) {
        let costs_little_here =
            usize::try_from(image.length).is_ok_and(|length| length > FULL_BYTES);
        let is_all_there_is = !image.flags.is_compressed() && !self.fetch.args.tls;
        if costs_little_here && is_all_there_is {
            let mut writer = Writer::default();
            writer.begin(&self.fetch, image);
            self.here = Some(writer);
        } else {
            self.here = None;
            self.batch.steps.push(Step::Begin(image));
        }
    }

    /// The next bytes of the image.
    ///
    /// # Errors
    ///
    /// The folder takes nothing any more.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if let Some(writer) = &mut self.here {
            return writer.append(&self.fetch, bytes);
        }
        self.batch.bytes.extend_from_slice(bytes);
        match self.batch.steps.last_mut() {
            // Long writes are cheaper.
            Some(Step::Bytes(count)) => *count += bytes.len(),
            _ => self.batch.steps.push(Step::Bytes(bytes.len())),
        }
        Ok(())
    }

    /// The image is whole and verified, and gets this name.
    ///
    /// # Errors
    ///
    /// The folder takes nothing any more.
    pub(crate) fn end(&mut self, name: FileName, told: Told) -> Result<(), Failure> {
        match &mut self.here {
            Some(writer) => writer.end(&self.fetch, &name, told),
            None => {
                self.batch.steps.push(Step::End(name, told));
                Ok(())
            }
        }
    }

    /// The image is thrown away.
    pub(crate) fn give_up(&mut self) {
        match &mut self.here {
            Some(writer) => writer.give_up(),
            None => self.batch.steps.push(Step::GiveUp),
        }
    }

    /// Whether it has to be handed over before more is taken.
    pub(crate) fn is_full(&self) -> bool {
        self.batch.bytes.len() >= FULL_BYTES || self.batch.steps.len() >= FULL_STEPS
    }

    /// Hands over what there is as soon as there is room for it; with nothing to hand over it waits for the thread's
    /// early end. Dropped before it is ready, it loses nothing.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub(crate) async fn hand_over(&mut self) -> Result<(), Gone> {
        if self.batch.steps.is_empty() {
            self.batches.closed().await;
            return Err(Gone);
        }
        let room = self.batches.reserve().await.map_err(|_| Gone)?;
        let next = self.spare.try_recv().unwrap_or_default();
        room.send(std::mem::replace(&mut self.batch, next));
        Ok(())
    }

    /// Waits until all that came is in place, or has failed.
    ///
    /// # Errors
    ///
    /// What ended the thread.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        if !self.batch.steps.is_empty() {
            // Why the thread may be gone is told below.
            let _ = self.hand_over().await;
        }
        drop(self.batches);
        // What was not whole is not waited for.
        drop(self.here);
        self.thread
            .await
            .unwrap_or_else(|_| Err(Failure::other("the thread that writes files failed")))
    }
}

/// What the thread does, until nobody hands anything over any more, or the folder takes nothing.
fn write(
    fetch: &Fetch,
    mut queue: Receiver<Batch>,
    written: &Sender<Batch>,
) -> Result<(), Failure> {
    let mut writer = Writer::default();
    while let Some(mut batch) = queue.blocking_recv() {
        let mut rest = batch.bytes.as_slice();
        for step in batch.steps.drain(..) {
            match step {
                Step::Begin(image) => writer.begin(fetch, image),
                Step::Bytes(count) => {
                    let (bytes, after) = rest.split_at(count);
                    rest = after;
                    writer.append(fetch, bytes)?;
                }
                Step::End(name, told) => writer.end(fetch, &name, told)?,
                Step::GiveUp => writer.give_up(),
            }
        }
        batch.bytes.clear();
        // Nobody may want it any more.
        let _ = written.try_send(batch);
    }
    Ok(())
}

/// Makes files, one after another. All its errors are about the folder: an image that fails by itself is reported,
/// and what still comes of it is thrown away.
#[derive(Default)]
struct Writer {
    /// The image in hand, unless it has failed.
    file: Option<(Image, PendingFile)>,
}

impl Writer {
    fn begin(&mut self, fetch: &Fetch, image: Image) {
        self.file = Some((image, fetch.folder.begin(&image)));
    }

    fn append(&mut self, fetch: &Fetch, bytes: &[u8]) -> Result<(), Failure> {
        if let Some((image, file)) = &mut self.file {
            if let Err(error) = file.append(bytes) {
                let image = *image;
                self.file = None;
                fetch.failed_here(image, &error)?;
            }
        }
        Ok(())
    }

    fn end(&mut self, fetch: &Fetch, name: &FileName, told: Told) -> Result<(), Failure> {
        if let Some((image, file)) = self.file.take() {
            match file.commit(name, image.id) {
                Ok(name) => fetch.placed(image, &name, told),
                Err(error) => fetch.failed_here(image, &error)?,
            }
        }
        Ok(())
    }

    fn give_up(&mut self) {
        self.file = None;
    }
}
