//! Images on their way from a connection to the output folder.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use jtp_core::{Image, ImageFault, ImageId};
use jtp_store::{FileName, NamePlan, OutputError, OutputFolder};
use jtp_tokio::client::{Client, ImageError, Images, Incoming};
use tokio::sync::watch;

use crate::client_args::ClientArgs;
use crate::connect;
use crate::disk::{Disk, Gone, both};
use crate::escape::escaped;
use crate::exit::{Exit, Failure};
use crate::progress::{LOCAL_DISK, Progress};
use crate::queue::Queue;
use crate::signals::Stop;

/// The most broken images of a job that are asked for once more. // R2 R3
const MOST_BROKEN: usize = 100_000;

/// Images that came broken. // R2
#[derive(Debug, Default)]
struct Broken {
    /// What is to be asked for once more.
    again: Vec<ImageId>,
    /// What was, or is to be.
    asked: HashSet<ImageId>,
}

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
    /// What came broken.
    broken: Mutex<Broken>,
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
            broken: Mutex::default(),
            progress,
            stop: stop.clone(),
            abort: Stop::by_hand(),
        }
    }

    /// From now on these images are wanted, with the sizes that the catalog told; what became of others is forgotten.
    pub fn want(&self, images: HashMap<ImageId, u32>) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = images;
        *self.broken.lock().unwrap_or_else(PoisonError::into_inner) = Broken::default();
        self.failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Fetches what is in the queue over one connection at a time.
    ///
    /// # Errors
    ///
    /// The failure that ends the work of this connection. What it had taken is put back into the queue, for
    /// the others; if they cannot go on either, they are told.
    pub async fn work(self: &Arc<Self>, client: &mut Client, queue: &Queue) -> Result<(), Failure> {
        let mut disk = Disk::new(self, queue.connections());
        let mut taken = Vec::new();
        let came = loop {
            taken.extend(queue.take());
            if taken.is_empty() {
                taken = self.again(&mut disk).await;
            }
            if taken.is_empty() {
                break Ok(());
            }
            let ids = taken.iter().copied();
            if let Err(end) = self.drive(client.get(ids), &mut disk).await {
                break end.into();
            }
            taken.clear();
        };
        let result = both(came, disk.finish().await);
        if let Err(failure) = &result {
            queue.give_back(self.not_settled(&taken));
            self.abort_unless_others_can_help(failure);
        }
        result
    }

    /// Puts the images of one request into the folder.
    ///
    /// # Errors
    ///
    /// The failure that ends it. Images that were complete by then are in place.
    pub async fn all(
        self: &Arc<Self>,
        client: &mut Client,
        request: impl for<'c> FnOnce(&'c mut Client) -> Images<'c>,
    ) -> Result<(), Failure> {
        let mut disk = Disk::new(self, 1);
        let mut came = self.drive(request(client), &mut disk).await;
        while came.is_ok() {
            let again = self.again(&mut disk).await;
            if again.is_empty() {
                break;
            }
            came = self.drive(client.get(again), &mut disk).await;
        }
        both(came.or_else(End::into), disk.finish().await)
    }

    /// Those that are still to come and that nobody else will ask for.
    fn not_settled(&self, ids: &[ImageId]) -> Vec<ImageId> {
        let wanted = self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        let again: HashSet<&ImageId> = broken.again.iter().collect();
        let is_left = |id: &&ImageId| wanted.contains_key(*id) && !again.contains(id);
        ids.iter().filter(is_left).copied().collect()
    }

    /// What came broken so far and is to be asked for once more, when all that came has been looked at; nothing if
    /// the disk takes no more. // R2
    pub(crate) async fn again(&self, disk: &mut Disk) -> Vec<ImageId> {
        match disk.settle().await {
            Ok(()) => {
                let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut broken.again)
            }
            Err(Gone) => Vec::new(),
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

    /// Gives the images that come to the disk, until all have come.
    async fn drive(self: &Arc<Self>, mut images: Images<'_>, disk: &mut Disk) -> Result<(), End> {
        let (mut stop, mut abort) = (self.stop.clone(), self.abort.1.clone());
        tokio::select! {
            biased;
            () = stop.requested() => Err(Failure::interrupted().into()),
            () = abort.requested() => Err(Failure::new(Exit::Success, "").into()),
            done = self.take_all(&mut images, disk) => done,
        }
    }

    async fn take_all(
        self: &Arc<Self>,
        images: &mut Images<'_>,
        disk: &mut Disk,
    ) -> Result<(), End> {
        loop {
            let next = beside(images.next(), disk).await?;
            match next.map_err(|error| connect::failure(&error, &self.args))? {
                Some(incoming) => self.take(incoming, disk).await?,
                None => return Ok(()),
            }
        }
    }

    async fn take(
        self: &Arc<Self>,
        incoming: Incoming<'_, '_>,
        disk: &mut Disk,
    ) -> Result<(), End> {
        let image = incoming.image();
        let mut incoming = incoming
            .undecoded()
            .map_err(|misuse| Failure::other(misuse.to_string()))?;
        let mut told = Told::new(self, image.id);
        disk.begin(image).await?;
        loop {
            // What came before may be whole, and the rest of this may take long.
            match beside(incoming.chunk(), disk).await? {
                Ok(Some(chunk)) => {
                    disk.append(chunk);
                    told.add(u64::try_from(chunk.len()).unwrap_or(0));
                    disk.make_room().await?;
                }
                Ok(None) => {
                    disk.end(told);
                    return Ok(disk.make_room().await?);
                }
                Err(error) => {
                    disk.give_up();
                    self.did_not_come(image, error)?;
                    return Ok(disk.make_room().await?);
                }
            }
        }
    }

    fn did_not_come(&self, image: Image, error: ImageError) -> Result<(), Failure> {
        match error {
            ImageError::Interrupted => {
                tracing::debug!(id = %image.id, "the connection was lost; it will come again");
                Ok(())
            }
            ImageError::Fatal(error) => Err(connect::failure(&error, &self.args)),
            error => Err(Failure::other(error.to_string())),
        }
    }

    /// An image came broken: it is asked for once more, or has failed. // R2
    pub(crate) fn broken(&self, image: Image, fault: &ImageFault, mut told: Told) {
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        // A server that sends nothing else must not fill the memory with their IDs. // R3
        if broken.asked.len() < MOST_BROKEN && broken.asked.insert(image.id) {
            broken.again.push(image.id);
            tracing::debug!(id = %image.id, %fault, "asking once more");
            return;
        }
        drop(broken);
        told.complete();
        self.failed(image, kind(fault), fault);
    }

    /// An image is in place.
    pub(crate) fn placed(&self, image: Image, name: &FileName, bytes: u64, mut told: Told) {
        told.complete();
        self.settle(image.id);
        tracing::debug!(id = %image.id, name = %escaped(name.as_str()), bytes, "in place");
        self.progress.placed(name, bytes);
    }

    /// The file name of an image. // R5
    pub(crate) fn name(&self, image: Image) -> FileName {
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

/// Why no more is taken from a connection.
#[derive(Debug)]
enum End {
    Failed(Failure),
    /// The disk takes no more, and says why at its end.
    Gone,
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failed(failure)
    }
}

impl From<Gone> for End {
    fn from(Gone: Gone) -> End {
        End::Gone
    }
}

impl From<End> for Result<(), Failure> {
    fn from(end: End) -> Result<(), Failure> {
        match end {
            End::Failed(failure) => Err(failure),
            End::Gone => Ok(()),
        }
    }
}

/// Waits for what comes, and meanwhile hands over what has come. The wait goes on where it was: it may be for a new
/// connection, or for the time to try one. // R6
async fn beside<T>(coming: impl Future<Output = T>, disk: &mut Disk) -> Result<T, Gone> {
    let mut coming = pin!(coming);
    loop {
        tokio::select! {
            biased;
            came = &mut coming => return Ok(came),
            // Nothing is there to be read.
            handed = disk.hand_over() => handed?,
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

/// What of an image's bytes has been told to the bar: never more than the catalog said, so that the sum is right
/// also where that is the size of what travels no longer. // S6
pub(crate) struct Told {
    fetch: Arc<Fetch>,
    listed: u64,
    moved: u64,
}

impl Told {
    pub(crate) fn new(fetch: &Arc<Fetch>, id: ImageId) -> Told {
        let wanted = fetch.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let listed = wanted.get(&id).copied().map_or(0, u64::from);
        drop(wanted);
        Told {
            fetch: Arc::clone(fetch),
            listed,
            moved: 0,
        }
    }

    fn add(&mut self, bytes: u64) {
        let bytes = bytes.min(self.listed - self.moved);
        self.moved += bytes;
        self.fetch.progress.moved(bytes);
    }

    fn complete(&mut self) {
        self.add(u64::MAX);
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
