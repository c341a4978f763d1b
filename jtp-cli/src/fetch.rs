//! Images on their way from a connection into the output folder.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError, RwLock};

use jtp_core::{Image, ImageFault, ImageId};
use jtp_store::{FileName, NamePlan, OutputError, OutputFolder};
use jtp_tokio::client::{Client, ImageError, Images, Incoming};
use tokio::sync::watch;

use crate::client_args::ClientArgs;
use crate::connect;
use crate::escape::escaped;
use crate::exit::{Exit, Failure};
use crate::progress::{LOCAL_DISK, Progress};
use crate::queue::Queue;
use crate::signals::Stop;

/// What the connections of a job share.
#[derive(Debug)]
pub struct Fetch {
    /// The command line.
    pub args: ClientArgs,
    /// Where images go.
    pub folder: OutputFolder,
    /// Under which names.
    pub names: RwLock<NamePlan>,
    /// What is still to come, with the sizes that the catalog told.
    pub wanted: Mutex<HashMap<ImageId, u32>>,
    /// What came and could not be put in place.
    pub failed: Mutex<HashSet<ImageId>>,
    /// What is told to the user.
    pub progress: Progress,
    /// Whether the user wants to stop.
    pub stop: Stop,
    /// Whether a failure of one connection has ended the job for all.
    abort: (watch::Sender<bool>, Stop),
}

impl Fetch {
    /// A job that wants nothing yet.
    #[must_use]
    pub fn new(args: &ClientArgs, folder: OutputFolder, progress: Progress, stop: &Stop) -> Fetch {
        Fetch {
            args: args.clone(),
            folder,
            names: RwLock::default(),
            wanted: Mutex::default(),
            failed: Mutex::default(),
            progress,
            stop: stop.clone(),
            abort: Stop::by_hand(),
        }
    }

    /// Fetches what is in the queue over one connection at a time.
    ///
    /// # Errors
    ///
    /// The failure that ends the work of this connection. What it had taken is put back into the queue, for
    /// the others; if they cannot go on either, they are told.
    pub async fn work(&self, client: &mut Client, queue: &Queue) -> Result<(), Failure> {
        loop {
            let ids = queue.take();
            if ids.is_empty() {
                return Ok(());
            }
            if let Err(failure) = self.drive(client.get(ids.iter().copied())).await {
                let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
                queue.give_back(ids.into_iter().filter(|id| wanted.contains_key(id)));
                drop(wanted);
                self.abort_unless_others_can_help(&failure);
                return Err(failure);
            }
        }
    }

    fn abort_unless_others_can_help(&self, failure: &Failure) {
        if !matches!(
            failure.exit,
            Exit::Connect | Exit::RateLimited | Exit::Other
        ) {
            self.abort.0.send_replace(true);
        }
    }

    /// Puts the images that come into the folder, until all have come.
    ///
    /// # Errors
    ///
    /// The failure that ends it. Images that were complete by then are in place.
    pub async fn drive(&self, mut images: Images<'_>) -> Result<(), Failure> {
        let (mut stop, mut abort) = (self.stop.clone(), self.abort.1.clone());
        tokio::select! {
            biased;
            () = stop.requested() => Err(Failure::interrupted()),
            () = abort.requested() => Err(Failure::new(Exit::Success, "")),
            done = self.take_all(&mut images) => done,
        }
    }

    async fn take_all(&self, images: &mut Images<'_>) -> Result<(), Failure> {
        while let Some(incoming) = images
            .next()
            .await
            .map_err(|error| connect::failure(&error, &self.args))?
        {
            self.take(incoming).await?;
        }
        Ok(())
    }

    async fn take(&self, mut incoming: Incoming<'_, '_>) -> Result<(), Failure> {
        let image = incoming.image();
        let wanted = self
            .wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&image.id)
            .copied();
        let mut told = Told {
            progress: &self.progress,
            listed: wanted.map_or(0, u64::from),
            moved: 0,
        };
        let mut file = self.folder.begin(&image);
        let mut bytes: u64 = 0;
        loop {
            match incoming.chunk().await {
                Ok(Some(chunk)) => {
                    if let Err(error) = file.append(chunk) {
                        return self.failed_here(image, &error);
                    }
                    let length = u64::try_from(chunk.len()).unwrap_or(0);
                    bytes += length;
                    told.add(length);
                }
                Ok(None) => break,
                Err(ImageError::Fault { fault, last }) => {
                    if last {
                        told.complete();
                        self.failed(image, kind(&fault), &fault);
                    } else {
                        tracing::debug!(id = %image.id, %fault, "asking once more");
                    }
                    return Ok(());
                }
                Err(ImageError::Interrupted) => {
                    tracing::debug!(id = %image.id, "the connection was lost; it will come again");
                    return Ok(());
                }
                Err(ImageError::Fatal(error)) => return Err(connect::failure(&error, &self.args)),
                Err(error) => return Err(Failure::other(error.to_string())),
            }
        }
        match file.commit(&self.name(image), image.id) {
            Ok(name) => {
                told.complete();
                self.settle(image.id);
                tracing::debug!(id = %image.id, name = %escaped(name.as_str()), bytes, "in place");
                self.progress.placed(&name, bytes);
                Ok(())
            }
            Err(error) => self.failed_here(image, &error),
        }
    }

    /// The file name of an image. // R5
    fn name(&self, image: Image) -> FileName {
        let names = self.names.read().unwrap_or_else(PoisonError::into_inner);
        names.name(image.id, image.flags.file_type())
    }

    /// Whether the image was wanted; it is not any more.
    fn settle(&self, id: ImageId) -> bool {
        self.wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&id)
            .is_some()
    }

    fn failed(&self, image: Image, kind: &'static str, why: &dyn std::fmt::Display) {
        // A server may send what it did not list, without end: that is counted, and not kept. // R3
        if self.settle(image.id) {
            self.failed
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(image.id);
        }
        self.progress.failed(image.id, &self.name(image), kind, why);
    }

    /// The disk did not take an image: if that is about the folder, the next would fare no better.
    fn failed_here(&self, image: Image, error: &OutputError) -> Result<(), Failure> {
        match error {
            OutputError::DiskFull { .. }
            | OutputError::ReadOnly { .. }
            | OutputError::Permission { .. }
            | OutputError::Vanished { .. } => Err(disk_failure(error)),
            error => {
                self.failed(image, LOCAL_DISK, error);
                Ok(())
            }
        }
    }
}

/// What a folder's error means to the user.
#[must_use]
pub fn disk_failure(error: &OutputError) -> Failure {
    let hint = match error {
        OutputError::DiskFull { .. } => "; free some, or choose another folder with --out",
        _ => "; choose another folder with --out",
    };
    Failure::new(Exit::Disk, format!("{error}{hint}"))
}

/// What of an image has been told to the bar: never more than the catalog said, so that the sum is right also
/// where images travel compressed.
struct Told<'a> {
    progress: &'a Progress,
    listed: u64,
    moved: u64,
}

impl Told<'_> {
    fn add(&mut self, bytes: u64) {
        let bytes = bytes.min(self.listed - self.moved);
        self.moved += bytes;
        self.progress.moved(bytes);
    }

    fn complete(&mut self) {
        self.add(u64::MAX);
        self.listed = 0;
        self.moved = 0;
    }
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.progress.moved_back(self.moved);
    }
}

fn kind(fault: &ImageFault) -> &'static str {
    match fault {
        ImageFault::WrongId { .. } => "with wrong content",
        ImageFault::Broken(_) => "damaged",
        ImageFault::TooLarge { .. } => "too large",
        ImageFault::Encrypted => "encrypted",
        _ => "of an unsupported kind",
    }
}
