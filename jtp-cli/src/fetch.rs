//! Receives images from a connection and passes them to the writer.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jtp_core::{Image, ImageFault, ImageId};
use jtp_store::{FileName, NamePlan, OutputError, OutputFolder};
use jtp_tokio::ShutdownSignal;
use jtp_tokio::client::{Client, ImageError, Images, Incoming};

use crate::client_args::ClientArgs;
use crate::connect;
use crate::escape::{escaped, escaped_chain};
use crate::exit::{Exit, Failure, error_chain};
use crate::progress::{LOCAL_DISK, Progress};
use crate::queue::DownloadQueue;
use crate::writer::{ImageWriter, WriterFailed, worse_of};

/// Maximum number of broken images per job that are requested again. // R2 R3
const MAX_RETRIED: usize = 100_000;

/// Broken images. Each is requested once more. // R2
#[derive(Debug, Default)]
struct Retries {
    /// The images to request again.
    pending: Vec<ImageId>,
    /// All images that were ever in `pending`.
    seen: HashSet<ImageId>,
}

/// The state that all connections of a job share.
#[derive(Debug)]
pub struct FetchState {
    /// The command line.
    pub args: ClientArgs,
    /// The output folder.
    pub folder: OutputFolder,
    /// The file names of the images.
    pub names: RwLock<NamePlan>,
    /// The images that are not stored yet, with their sizes in the catalog.
    pub wanted: Mutex<HashMap<ImageId, u32>>,
    /// The images that were received and could not be stored.
    pub failed: Mutex<HashSet<ImageId>>,
    retries: Mutex<Retries>,
    /// The progress shown to the user.
    pub progress: Progress,
    /// The shutdown request of the user.
    pub shutdown: ShutdownSignal,
    /// Ends all connections of the job after a failure of one.
    abort: ShutdownSignal,
}

impl FetchState {
    /// Creates the state of a job, with no images to fetch.
    #[must_use]
    pub fn new(
        args: &ClientArgs,
        folder: OutputFolder,
        progress: Progress,
        shutdown: &ShutdownSignal,
    ) -> FetchState {
        FetchState {
            args: args.clone(),
            folder,
            names: RwLock::default(),
            wanted: Mutex::default(),
            failed: Mutex::default(),
            retries: Mutex::default(),
            progress,
            shutdown: shutdown.clone(),
            abort: ShutdownSignal::new(),
        }
    }

    /// Sets the images to fetch, with their sizes in the catalog. Resets the failures and retries of earlier images.
    pub fn set_wanted(&self, images: HashMap<ImageId, u32>) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = images;
        *self.retries.lock().unwrap_or_else(PoisonError::into_inner) = Retries::default();
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Fetches the images of the queue over one connection, until the queue is empty.
    ///
    /// # Errors
    ///
    /// The failure that ended this connection. Its unfinished images are put back into the queue for the other
    /// connections. If the failure would affect those too, all connections end.
    pub async fn fetch_queued(
        self: &Arc<Self>,
        client: &mut Client,
        queue: &DownloadQueue,
    ) -> Result<(), Failure> {
        let mut writer = ImageWriter::new(self, queue.connections());
        let mut taken = Vec::new();
        let received = loop {
            taken.extend(queue.take());
            if taken.is_empty() {
                taken = self.take_retries(&mut writer).await;
            }
            if taken.is_empty() {
                break Ok(());
            }
            let ids = taken.iter().copied();
            if let Err(error) = self.receive(client.get(ids), &mut writer).await {
                break error.into();
            }
            taken.clear();
        };
        let result = worse_of(received, writer.finish().await);
        if let Err(failure) = &result {
            queue.put_back(self.unfinished(&taken));
            self.abort_if_fatal_for_all(failure);
        }
        result
    }

    /// Fetches the images of one request, and broken ones once more.
    ///
    /// # Errors
    ///
    /// The failure that ended the request. Images that were complete by then are stored.
    pub async fn fetch_request(
        self: &Arc<Self>,
        client: &mut Client,
        request: impl for<'c> FnOnce(&'c mut Client) -> Images<'c>,
    ) -> Result<(), Failure> {
        let mut writer = ImageWriter::new(self, 1);
        let mut received = self.receive(request(client), &mut writer).await;
        while received.is_ok() {
            let retries = self.take_retries(&mut writer).await;
            if retries.is_empty() {
                break;
            }
            received = self.receive(client.get(retries), &mut writer).await;
        }
        worse_of(received.or_else(ReceiveError::into), writer.finish().await)
    }

    /// Returns those of `ids` that are neither stored nor waiting for a retry.
    fn unfinished(&self, ids: &[ImageId]) -> Vec<ImageId> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        let pending: HashSet<&ImageId> = retries.pending.iter().collect();
        let is_unfinished = |id: &&ImageId| wanted.contains_key(*id) && !pending.contains(id);
        ids.iter().filter(is_unfinished).copied().collect()
    }

    /// Waits until all received images are processed, then takes the broken ones that are to be requested again.
    /// Returns none if the writer has failed. // R2
    pub(crate) async fn take_retries(&self, writer: &mut ImageWriter) -> Vec<ImageId> {
        match writer.drain().await {
            Ok(()) => {
                let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut retries.pending)
            }
            Err(WriterFailed) => Vec::new(),
        }
    }

    /// Ends all connections, unless other connections may still succeed.
    fn abort_if_fatal_for_all(&self, failure: &Failure) {
        if !matches!(
            failure.exit,
            Exit::Connect | Exit::RateLimited | Exit::Other
        ) {
            self.abort.begin();
        }
    }

    /// Receives all images of a response, until a shutdown is requested or another connection fails.
    async fn receive(
        self: &Arc<Self>,
        mut images: Images<'_>,
        writer: &mut ImageWriter,
    ) -> Result<(), ReceiveError> {
        tokio::select! {
            biased;
            () = self.shutdown.wait() => Err(Failure::interrupted().into()),
            () = self.abort.wait() => Err(Failure::new(Exit::Success, "").into()),
            done = self.receive_all(&mut images, writer) => done,
        }
    }

    async fn receive_all(
        self: &Arc<Self>,
        images: &mut Images<'_>,
        writer: &mut ImageWriter,
    ) -> Result<(), ReceiveError> {
        loop {
            let next = while_writing(images.next(), writer).await?;
            match next.map_err(|error| connect::failure(&error, &self.args))? {
                Some(incoming) => self.receive_image(incoming, writer).await?,
                None => return Ok(()),
            }
        }
    }

    async fn receive_image(
        self: &Arc<Self>,
        incoming: Incoming<'_, '_>,
        writer: &mut ImageWriter,
    ) -> Result<(), ReceiveError> {
        let image = incoming.image();
        let mut incoming = incoming
            .undecoded()
            .map_err(|misuse| Failure::other(misuse.to_string()))?;
        let mut progress = ImageProgress::new(self, image.id);
        writer.begin(image).await?;
        loop {
            // Sends earlier data to the writer threads while this image is being received.
            match while_writing(incoming.chunk(), writer).await? {
                Ok(Some(chunk)) => {
                    writer.append(chunk);
                    progress.add(u64::try_from(chunk.len()).unwrap_or(0));
                    writer.flush_if_full().await?;
                }
                Ok(None) => {
                    writer.end(progress);
                    return Ok(writer.flush_if_full().await?);
                }
                Err(error) => {
                    writer.discard();
                    self.receive_failed(image, error)?;
                    return Ok(writer.flush_if_full().await?);
                }
            }
        }
    }

    fn receive_failed(&self, image: Image, error: ImageError) -> Result<(), Failure> {
        match error {
            ImageError::Interrupted(_) => {
                tracing::debug!(id = %image.id, "connection lost; requesting the image again");
                Ok(())
            }
            ImageError::Fatal(error) => Err(connect::failure(&error, &self.args)),
            error => Err(Failure::other(escaped_chain(&error))),
        }
    }

    /// Handles a broken image: it is requested again, or has failed. // R2
    pub(crate) fn image_broken(
        &self,
        image: Image,
        fault: &ImageFault,
        mut progress: ImageProgress,
    ) {
        let mut retries = self.retries.lock().unwrap_or_else(PoisonError::into_inner);
        // The limit bounds the memory if a server sends only broken images. // R3
        if retries.seen.len() < MAX_RETRIED && retries.seen.insert(image.id) {
            retries.pending.push(image.id);
            tracing::debug!(id = %image.id, %fault, "image is broken; requesting it again");
            return;
        }
        drop(retries);
        progress.complete();
        self.image_failed(image, failure_kind(fault), fault);
    }

    /// Records that an image was stored.
    pub(crate) fn image_stored(
        &self,
        image: Image,
        name: &FileName,
        bytes: u64,
        mut progress: ImageProgress,
    ) {
        progress.complete();
        self.remove_wanted(image.id);
        tracing::debug!(id = %image.id, name = %escaped(name.as_str()), bytes, "stored");
        self.progress.image_stored(name, bytes);
    }

    /// The file name of an image. // R5
    pub(crate) fn name(&self, image: Image) -> FileName {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.name(image.id, image.flags.file_type())
    }

    /// Removes an image from the wanted ones. Returns whether it was one.
    fn remove_wanted(&self, id: ImageId) -> bool {
        self.wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id)
            .is_some()
    }

    fn image_failed(&self, image: Image, kind: &'static str, cause: &dyn std::fmt::Display) {
        // Images that were not listed are counted and not remembered: a server may send any number of them. // R3
        if self.remove_wanted(image.id) {
            self.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(image.id);
        }
        self.progress
            .image_failed(image.id, &self.name(image), kind, cause);
    }

    /// Handles an image that could not be written.
    ///
    /// # Errors
    ///
    /// The folder as a whole cannot be written, so that further images would fail too.
    pub(crate) fn write_failed(&self, image: Image, error: &OutputError) -> Result<(), Failure> {
        match error {
            OutputError::DiskFull { .. }
            | OutputError::ReadOnly { .. }
            | OutputError::Permission { .. }
            | OutputError::Vanished { .. } => Err(output_failure(error)),
            error => {
                self.image_failed(image, LOCAL_DISK, &error_chain(error));
                Ok(())
            }
        }
    }
}

/// Why receiving from a connection ended early.
#[derive(Debug)]
enum ReceiveError {
    Failed(Failure),
    /// The writer has failed. [`ImageWriter::finish`] returns the cause.
    Writer,
}

impl From<Failure> for ReceiveError {
    fn from(failure: Failure) -> ReceiveError {
        ReceiveError::Failed(failure)
    }
}

impl From<WriterFailed> for ReceiveError {
    fn from(WriterFailed: WriterFailed) -> ReceiveError {
        ReceiveError::Writer
    }
}

impl From<ReceiveError> for Result<(), Failure> {
    fn from(error: ReceiveError) -> Result<(), Failure> {
        match error {
            ReceiveError::Failed(failure) => Err(failure),
            ReceiveError::Writer => Ok(()),
        }
    }
}

/// Awaits `receiving`, and meanwhile sends received data to the writer threads. `receiving` is never restarted, because
/// it may be waiting for a new connection or for a retry delay. // R6
async fn while_writing<T>(
    receiving: impl Future<Output = T>,
    writer: &mut ImageWriter,
) -> Result<T, WriterFailed> {
    let mut receiving = pin!(receiving);
    loop {
        tokio::select! {
            biased;
            received = &mut receiving => return Ok(received),
            // Nothing can be read now.
            sent = writer.send_when_idle() => sent?,
        }
    }
}

/// Converts an error of the output folder into a message for the user and an exit code.
#[must_use]
pub fn output_failure(error: &OutputError) -> Failure {
    let hint = match error {
        OutputError::DiskFull { .. } => "; free some space, or choose another folder with --out",
        _ => "; choose another folder with --out",
    };
    Failure::new(Exit::Disk, format!("{}{hint}", error_chain(error)))
}

/// One image's contribution to the progress bar. It never exceeds the size in the catalog, so that the total stays
/// correct even if the image's encoded size has changed. Dropped before completion, it is subtracted again. // S6
pub(crate) struct ImageProgress {
    fetch: Arc<FetchState>,
    listed: u64,
    reported: u64,
}

impl ImageProgress {
    pub(crate) fn new(fetch: &Arc<FetchState>, id: ImageId) -> ImageProgress {
        let wanted = fetch.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = wanted.get(&id).copied().map_or(0, u64::from);
        drop(wanted);
        ImageProgress {
            fetch: Arc::clone(fetch),
            listed,
            reported: 0,
        }
    }

    fn add(&mut self, bytes: u64) {
        let bytes = bytes.min(self.listed - self.reported);
        self.reported += bytes;
        self.fetch.progress.add_bytes(bytes);
    }

    fn complete(&mut self) {
        self.add(u64::MAX);
        self.listed = 0;
        self.reported = 0;
    }
}

impl Drop for ImageProgress {
    fn drop(&mut self) {
        if self.reported > 0 {
            self.fetch.progress.subtract_bytes(self.reported);
        }
    }
}

/// The kind of failure, as counted in the last line.
fn failure_kind(fault: &ImageFault) -> &'static str {
    match fault {
        ImageFault::WrongId { .. } => "with wrong content",
        ImageFault::Broken(_) => "damaged",
        ImageFault::TooLarge { .. } => "too large",
        ImageFault::Encrypted => "encrypted",
        _ => "of an unsupported kind",
    }
}
