//! Images on their way from a connection to the output folder.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jtp_core::{Image, ImageFault, ImageId};
use jtp_store::{FileName, NamePlan, OutputError, OutputFolder};
use jtp_tokio::client::{Client, ImageError, Images, Incoming};
use tokio::sync::watch;

use crate::client_args::ClientArgs;
use crate::connect;
use crate::disk::{Disk, Gone};
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
    pub async fn work(self: &Arc<Self>, client: &mut Client, queue: &Queue) -> Result<(), Failure> {
        let mut disk = Disk::start(self);
        let mut taken = Vec::new();
        let came = loop {
            taken.extend(queue.take());
            if taken.is_empty() {
                break Ok(());
            }
            let ids = taken.iter().copied();
            if let Err(failure) = self.drive(client.get(ids), &mut disk).await {
                break Err(failure);
            }
            taken.clear();
        };
        let result = both(came, disk.finish().await);
        if let Err(failure) = &result {
            let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            queue.give_back(taken.into_iter().filter(|id| wanted.contains_key(id)));
            drop(wanted);
            self.abort_unless_others_can_help(failure);
        }
        result
    }

    /// Puts the images of one request into the folder.
    ///
    /// # Errors
    ///
    /// The failure that ends it. Images that were complete by then are in place.
    pub async fn all(self: &Arc<Self>, images: Images<'_>) -> Result<(), Failure> {
        let mut disk = Disk::start(self);
        let came = self.drive(images, &mut disk).await;
        both(came, disk.finish().await)
    }

    fn abort_unless_others_can_help(&self, failure: &Failure) {
        if !matches!(
            failure.exit,
            Exit::Connect | Exit::RateLimited | Exit::Other
        ) {
            self.abort.0.send_replace(true);
        }
    }

    /// Gives the images that come to the disk, until all have come or the disk takes no more.
    async fn drive(
        self: &Arc<Self>,
        mut images: Images<'_>,
        disk: &mut Disk,
    ) -> Result<(), Failure> {
        let (mut stop, mut abort) = (self.stop.clone(), self.abort.1.clone());
        tokio::select! {
            biased;
            () = stop.requested() => Err(Failure::interrupted()),
            () = abort.requested() => Err(Failure::new(Exit::Success, "")),
            done = self.take_all(&mut images, disk) => done,
        }
    }

    async fn take_all(
        self: &Arc<Self>,
        images: &mut Images<'_>,
        disk: &mut Disk,
    ) -> Result<(), Failure> {
        loop {
            let incoming = tokio::select! {
                biased;
                next = images.next() => next,
                // Nothing is there to be read.
                handed = disk.hand_over() => match handed {
                    Ok(()) => continue,
                    Err(Gone) => return Ok(()),
                },
            };
            let Some(incoming) = incoming.map_err(|error| connect::failure(&error, &self.args))?
            else {
                return Ok(());
            };
            if let Err(Gone) = self.take(incoming, disk).await? {
                return Ok(());
            }
        }
    }

    async fn take(
        self: &Arc<Self>,
        mut incoming: Incoming<'_, '_>,
        disk: &mut Disk,
    ) -> Result<Result<(), Gone>, Failure> {
        let image = incoming.image();
        let mut told = Told::new(self, image.id);
        disk.begin(image);
        loop {
            let chunk = tokio::select! {
                biased;
                chunk = incoming.chunk() => chunk,
                // What came before may be whole, and the rest of this may take long.
                handed = disk.hand_over() => match handed {
                    Ok(()) => continue,
                    Err(Gone) => return Ok(Err(Gone)),
                },
            };
            match chunk {
                Ok(Some(chunk)) => {
                    disk.append(chunk)?;
                    told.add(u64::try_from(chunk.len()).unwrap_or(0));
                }
                Ok(None) => {
                    disk.end(self.name(image), told)?;
                    break;
                }
                Err(error) => {
                    disk.give_up();
                    self.did_not_come(image, error, told)?;
                    break;
                }
            }
            if disk.is_full() {
                if let Err(Gone) = disk.hand_over().await {
                    return Ok(Err(Gone));
                }
            }
        }
        if disk.is_full() {
            return Ok(disk.hand_over().await);
        }
        Ok(Ok(()))
    }

    fn did_not_come(&self, image: Image, error: ImageError, mut told: Told) -> Result<(), Failure> {
        match error {
            ImageError::Fault { fault, last: true } => {
                told.complete();
                self.failed(image, kind(&fault), &fault);
            }
            ImageError::Fault { fault, last: false } => {
                tracing::debug!(id = %image.id, %fault, "asking once more");
            }
            ImageError::Interrupted => {
                tracing::debug!(id = %image.id, "the connection was lost; it will come again");
            }
            ImageError::Fatal(error) => return Err(connect::failure(&error, &self.args)),
            error => return Err(Failure::other(error.to_string())),
        }
        Ok(())
    }

    /// An image is in place.
    pub(crate) fn placed(&self, image: Image, name: &FileName, mut told: Told) {
        let bytes = told.bytes;
        told.complete();
        self.settle(image.id);
        tracing::debug!(id = %image.id, name = %escaped(name.as_str()), bytes, "in place");
        self.progress.placed(name, bytes);
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
    ///
    /// # Errors
    ///
    /// That it is about the folder.
    pub(crate) fn failed_here(&self, image: Image, error: &OutputError) -> Result<(), Failure> {
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

/// The failure that two sides of the work have led to.
fn both(one: Result<(), Failure>, other: Result<(), Failure>) -> Result<(), Failure> {
    match (one, other) {
        (Err(one), Err(other)) => Err(one.or_worse(other)),
        (one, other) => one.and(other),
    }
}

/// What came of an image, and what of that has been told to the bar: never more than the catalog said, so that the
/// sum is right also where images travel compressed.
pub(crate) struct Told {
    fetch: Arc<Fetch>,
    /// The bytes that came.
    bytes: u64,
    listed: u64,
    moved: u64,
}

impl Told {
    fn new(fetch: &Arc<Fetch>, id: ImageId) -> Told {
        let wanted = fetch.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = wanted.get(&id).copied().map_or(0, u64::from);
        drop(wanted);
        Told {
            fetch: Arc::clone(fetch),
            bytes: 0,
            listed,
            moved: 0,
        }
    }

    fn add(&mut self, bytes: u64) {
        self.bytes += bytes;
        self.show(bytes);
    }

    fn show(&mut self, bytes: u64) {
        let bytes = bytes.min(self.listed - self.moved);
        self.moved += bytes;
        self.fetch.progress.moved(bytes);
    }

    fn complete(&mut self) {
        self.show(u64::MAX);
        self.listed = 0;
        self.moved = 0;
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        if self.moved > 0 {
            self.fetch.progress.moved_back(self.moved);
        }
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
