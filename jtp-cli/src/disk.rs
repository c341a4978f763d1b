//! The disk's side of a transfer: images are decoded, verified and made into files on threads of their own while the
//! next ones come in.
//!
//! What comes is handed to those threads in batches, an image to one of them from its beginning to its end: many small
//! images are a batch, a large one is several. A batch goes when it is full, or as soon as somebody has nothing else to
//! do and nothing more is there to be read. There are so many batches and no more, which bounds the memory: whoever
//! fills them waits until one has been worked off.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jtp_core::{BodyReceiver, DEFAULT_MAX_WINDOW, Image};
use jtp_store::PendingFile;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::exit::Failure;
use crate::fetch::{Fetch, Told};

/// A batch of so many bytes is full; so it is with [`FULL_STEPS`].
const FULL_BYTES: usize = 256 * 1024;

/// Beginning, bytes and end of a hundred images.
const FULL_STEPS: usize = 300;

/// So many batches for one connection, or several together: enough that a compressed image of some megabytes does not
/// keep the next one from another thread.
const BATCHES: usize = 16;

/// So many for each of many connections: one that is filled, two that wait, one that is worked off.
const LEAST_BATCHES: usize = 4;

/// The most threads: beyond these the connection, or the disk, is what takes time.
const MOST_THREADS: usize = 4;

/// What a thread does next.
enum Step {
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
struct Batch {
    bytes: Vec<u8>,
    steps: Vec<Step>,
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Whether it has no room for so many bytes more.
    fn is_full(&self, more: u32) -> bool {
        let more = usize::try_from(more).unwrap_or(usize::MAX);
        self.bytes.len().saturating_add(more) > FULL_BYTES || self.steps.len() >= FULL_STEPS
    }
}

/// One thread.
struct Maker {
    batches: mpsc::UnboundedSender<Batch>,
    /// How many batches it has not worked off.
    waiting: Arc<AtomicUsize>,
    /// How it ended; nothing, if it panicked.
    ended: oneshot::Receiver<Result<(), Failure>>,
}

/// What one thread is to work off. Its end is told however the thread ends: somebody may wait for it.
struct Queue {
    batches: mpsc::UnboundedReceiver<Batch>,
    moved: Arc<Notify>,
}

impl Drop for Queue {
    fn drop(&mut self) {
        self.batches.close();
        self.moved.notify_one();
    }
}

/// Where a connection leaves what has come.
pub(crate) struct Disk {
    fetch: Arc<Fetch>,
    makers: Vec<Maker>,
    most_makers: usize,
    /// Why there is not even one of them.
    no_thread: Option<io::Error>,
    /// What is being filled, and for whom: `None` until it is handed over for the first time.
    batch: Batch,
    maker: Option<usize>,
    /// Whether an image is begun that has not ended.
    open: bool,
    /// Batches that were worked off, for their memory.
    spare: mpsc::UnboundedReceiver<Batch>,
    back: Back,
}

/// The way back from the threads.
#[derive(Clone)]
struct Back {
    spare: mpsc::UnboundedSender<Batch>,
    /// A batch was worked off, or a thread has ended.
    moved: Arc<Notify>,
}

/// A thread has ended before its work, or none could be started: [`Disk::finish`] says why.
#[derive(Debug)]
pub(crate) struct Gone;

impl Disk {
    /// A disk for one of so many connections. Threads are started as they are needed.
    pub(crate) fn new(fetch: &Arc<Fetch>, connections: usize) -> Disk {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        let connections = connections.max(1);
        let threads = (processors / connections).clamp(1, MOST_THREADS);
        Disk::with(fetch, threads, (BATCHES / connections).max(LEAST_BATCHES))
    }

    /// A disk of at most so many threads, and of so many batches.
    fn with(fetch: &Arc<Fetch>, most_makers: usize, batches: usize) -> Disk {
        let (to_spare, spare) = mpsc::unbounded_channel();
        for _ in 1..batches {
            let _ = to_spare.send(Batch::default());
        }
        Disk {
            fetch: Arc::clone(fetch),
            makers: Vec::new(),
            most_makers,
            no_thread: None,
            batch: Batch::default(),
            maker: None,
            open: false,
            spare,
            back: Back {
                spare: to_spare,
                moved: Arc::default(),
            },
        }
    }

    /// An image begins.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub(crate) async fn begin(&mut self, image: Image) -> Result<(), Gone> {
        // No image that is not small shares a batch with another, or one thread would get them all.
        if self.maker.is_some() || self.batch.is_full(image.length) {
            self.flush().await?;
        }
        self.batch.steps.push(Step::Begin(image));
        self.open = true;
        Ok(())
    }

    /// The next bytes of its packet.
    pub(crate) fn append(&mut self, bytes: &[u8]) {
        self.batch.bytes.extend_from_slice(bytes);
        match self.batch.steps.last_mut() {
            // Long writes are cheaper.
            Some(Step::Bytes(count)) => *count += bytes.len(),
            _ => self.batch.steps.push(Step::Bytes(bytes.len())),
        }
    }

    /// The packet is at its end.
    pub(crate) fn end(&mut self, told: Told) {
        self.batch.steps.push(Step::End(told));
        self.open = false;
    }

    /// The image is thrown away.
    pub(crate) fn give_up(&mut self) {
        self.batch.steps.push(Step::GiveUp);
        self.open = false;
    }

    /// Hands over what there is as soon as somebody has nothing to do but that; with nothing to hand over it waits
    /// for a thread's early end. Dropped before it is ready, it loses nothing.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub(crate) async fn hand_over(&mut self) -> Result<(), Gone> {
        loop {
            self.check()?;
            if !self.batch.is_empty() {
                let maker = self.choose()?;
                if self.makers[maker].is_idle() && self.send(maker) {
                    return Ok(());
                }
            }
            self.back.moved.notified().await;
        }
    }

    /// Hands over a full batch.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub(crate) async fn make_room(&mut self) -> Result<(), Gone> {
        match self.batch.is_full(0) {
            true => self.flush().await,
            false => Ok(()),
        }
    }

    /// Hands over what there is, to whoever has the least to do.
    async fn flush(&mut self) -> Result<(), Gone> {
        loop {
            self.check()?;
            if self.batch.is_empty() {
                return Ok(());
            }
            let maker = self.choose()?;
            if !self.send(maker) {
                self.back.moved.notified().await;
            }
        }
    }

    /// Waits until all that came is in place, or has failed.
    ///
    /// # Errors
    ///
    /// [`Gone`].
    pub(crate) async fn settle(&mut self) -> Result<(), Gone> {
        self.flush().await?;
        loop {
            self.check()?;
            if self.makers.iter().all(Maker::is_idle) {
                return Ok(());
            }
            self.back.moved.notified().await;
        }
    }

    /// The same, and ends the threads.
    ///
    /// # Errors
    ///
    /// What ended one of them before its time.
    pub(crate) async fn finish(mut self) -> Result<(), Failure> {
        // Why a thread may be gone is told below.
        let _ = self.settle().await;
        let mut result = match self.no_thread {
            Some(error) => Err(Failure::other(format!("cannot start a thread: {error}"))),
            None => Ok(()),
        };
        for maker in self.makers {
            drop(maker.batches);
            let ended = maker
                .ended
                .await
                .unwrap_or_else(|_| Err(Failure::other("a thread that makes files failed")));
            result = both(result, ended);
        }
        result
    }

    fn check(&self) -> Result<(), Gone> {
        match self.makers.iter().any(|maker| maker.batches.is_closed()) {
            true => Err(Gone),
            false => Ok(()),
        }
    }

    /// Who gets the batch: whoever has the rest of its first image, or the least to do.
    ///
    /// # Errors
    ///
    /// [`Gone`]: there is nobody, and no thread to be had.
    fn choose(&mut self) -> Result<usize, Gone> {
        if let Some(maker) = self.maker {
            return Ok(maker);
        }
        let waiting = |maker: &usize| self.makers[*maker].waiting.load(Ordering::Acquire);
        let least = (0..self.makers.len()).min_by_key(waiting);
        let full = self.makers.len() >= self.most_makers;
        if let Some(maker) = least.filter(|maker| full || self.makers[*maker].is_idle()) {
            return Ok(maker);
        }
        match (Maker::start(&self.fetch, &self.back), least) {
            (Ok(maker), _) => {
                self.makers.push(maker);
                Ok(self.makers.len() - 1)
            }
            // Those that are there have to do.
            (Err(_), Some(maker)) => {
                self.most_makers = self.makers.len();
                Ok(maker)
            }
            (Err(error), None) => {
                self.no_thread = Some(error);
                Err(Gone)
            }
        }
    }

    /// Whether there was another batch to go on with.
    fn send(&mut self, maker: usize) -> bool {
        let Ok(next) = self.spare.try_recv() else {
            return false;
        };
        let batch = std::mem::replace(&mut self.batch, next);
        let Maker {
            batches, waiting, ..
        } = &self.makers[maker];
        waiting.fetch_add(1, Ordering::AcqRel);
        // It may have ended just now, which the next look tells.
        let _ = batches.send(batch);
        self.maker = self.open.then_some(maker);
        true
    }
}

impl Maker {
    fn is_idle(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
    }

    fn start(fetch: &Arc<Fetch>, back: &Back) -> io::Result<Maker> {
        let (batches, queue) = mpsc::unbounded_channel();
        let (end, ended) = oneshot::channel();
        let waiting = Arc::new(AtomicUsize::new(0));
        let (fetch, back, worked_off) = (Arc::clone(fetch), back.clone(), Arc::clone(&waiting));
        let queue = Queue {
            batches: queue,
            moved: Arc::clone(&back.moved),
        };
        // Not one of the runtime's threads: where the system gives it no more, it would let this work wait for ever.
        thread::Builder::new()
            .name("files".to_owned())
            .spawn(move || {
                let result = work(&fetch, queue, &back, &worked_off);
                // Who does not wait for the end needs to know nothing.
                let _ = end.send(result);
            })?;
        Ok(Maker {
            batches,
            waiting,
            ended,
        })
    }
}

/// What a thread does, until nobody hands anything over any more, or the folder takes nothing.
fn work(
    fetch: &Fetch,
    mut queue: Queue,
    back: &Back,
    waiting: &AtomicUsize,
) -> Result<(), Failure> {
    let mut work = Work::new(fetch);
    while let Some(mut batch) = queue.batches.blocking_recv() {
        work.off(&mut batch)?;
        waiting.fetch_sub(1, Ordering::AcqRel);
        let _ = back.spare.send(batch);
        back.moved.notify_one();
    }
    Ok(())
}

/// Decodes images, one after another, verifies them, and makes them files. All its errors are about the folder: an
/// image that fails by itself is reported, and what still comes of it is thrown away.
struct Work<'a> {
    fetch: &'a Fetch,
    body: BodyReceiver,
    /// The image in hand, how many bytes it has, and the file, unless that has failed.
    image: Option<(Image, u64, Option<PendingFile>)>,
}

impl Work<'_> {
    fn new(fetch: &Fetch) -> Work<'_> {
        Work {
            fetch,
            body: BodyReceiver::new(fetch.args.max_image_size, DEFAULT_MAX_WINDOW), // R4 W8
            image: None,
        }
    }

    fn off(&mut self, batch: &mut Batch) -> Result<(), Failure> {
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
            Some(Ok(id)) => match file.commit(&self.fetch.name(image), id) {
                Ok(name) => self.fetch.placed(image, &name, length, told),
                Err(error) => self.fetch.failed_here(image, &error)?,
            },
            Some(Err(fault)) => self.fetch.broken(image, &fault, told),
            None => {}
        }
        Ok(())
    }
}

/// The failure that two sides of the work have led to.
pub(crate) fn both(one: Result<(), Failure>, other: Result<(), Failure>) -> Result<(), Failure> {
    match (one, other) {
        (Err(one), Err(other)) => Err(one.or_worse(other)),
        (one, other) => one.and(other),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clap::Parser;
    use jtp_core::{FileType, Flags, ImageId};
    use jtp_store::OutputFolder;

    use super::*;
    use crate::client_args::ClientArgs;
    use crate::exit::Exit;
    use crate::progress::{Progress, Style};
    use crate::signals::Stop;

    fn fetch() -> (tempfile::TempDir, Arc<Fetch>) {
        let place = tempfile::tempdir().unwrap();
        let folder = OutputFolder::open(place.path().join("out")).unwrap();
        let args = ClientArgs::parse_from(["client"]);
        let progress = Progress::new(Style::Quiet);
        let fetch = Fetch::new(&args, folder, progress, &Stop::by_hand().1);
        (place, Arc::new(fetch))
    }

    fn image(id: ImageId, length: usize) -> Image {
        let flags = Flags::new(FileType::Png, false);
        let length = length.try_into().unwrap();
        Image { id, flags, length }
    }

    fn names(fetch: &Fetch) -> Vec<String> {
        let entries = std::fs::read_dir(fetch.folder.path()).unwrap();
        let name = |entry: io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries
            .map(|entry| name(entry).into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn name(id: ImageId) -> String {
        format!("{id}.png")
    }

    async fn put(
        disk: &mut Disk,
        fetch: &Arc<Fetch>,
        id: ImageId,
        bytes: &[u8],
    ) -> Result<(), Gone> {
        disk.begin(image(id, bytes.len())).await?;
        for chunk in bytes.chunks(100_000) {
            disk.append(chunk);
            disk.make_room().await?;
        }
        disk.end(Told::new(fetch, id));
        Ok(())
    }

    /// Nothing here takes that long: a wait that does has no end.
    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let test = async { tokio::time::timeout(Duration::from_secs(60), test).await };
        runtime.block_on(test).expect("an end");
    }

    #[test]
    fn large_images_are_spread_and_all_are_there_when_it_is_settled() {
        run(async {
            let (_place, fetch) = fetch();
            let mut disk = Disk::with(&fetch, 3, 4);
            let mut due = Vec::new();
            for n in 0..12u8 {
                let bytes = vec![n; 1_000_000 + usize::from(n)];
                let id = ImageId::of(&bytes);
                put(&mut disk, &fetch, id, &bytes).await.unwrap();
                due.push(name(id));
            }
            disk.settle().await.unwrap();
            due.sort();
            assert_eq!(names(&fetch), due);
            assert!((1..=3).contains(&disk.makers.len()));
            let spare = std::iter::from_fn(|| disk.spare.try_recv().ok()).count();
            assert_eq!(spare, 3, "no batch is lost, and none was added");
            disk.finish().await.unwrap();
        });
    }

    #[test]
    fn r2_a_broken_image_is_asked_for_once_more_and_then_has_failed() {
        run(async {
            let (_place, fetch) = fetch();
            let mut disk = Disk::with(&fetch, 1, 4);
            put(&mut disk, &fetch, ImageId(7), b"others").await.unwrap();
            assert_eq!(fetch.again(&mut disk).await, [ImageId(7)]);
            assert_eq!(fetch.progress.exit(), Exit::Success);
            put(&mut disk, &fetch, ImageId(7), b"others").await.unwrap();
            assert_eq!(fetch.again(&mut disk).await, []);
            assert_eq!(fetch.progress.exit(), Exit::SomeFailed);
            disk.finish().await.unwrap();
            assert_eq!(names(&fetch), [""; 0]);
        });
    }

    #[test]
    fn what_is_given_up_or_not_whole_leaves_nothing() {
        run(async {
            for given_up in [true, false] {
                let (_place, fetch) = fetch();
                let mut disk = Disk::with(&fetch, 2, 4);
                disk.begin(image(ImageId(7), 2_000_000)).await.unwrap();
                for _ in 0..10 {
                    disk.append(&[1; 100_000]);
                    disk.make_room().await.unwrap();
                }
                disk.settle().await.unwrap();
                assert_eq!(names(&fetch).len(), 1, "a temporary");
                if given_up {
                    disk.give_up();
                    disk.settle().await.unwrap();
                    assert_eq!(names(&fetch), [""; 0]);
                }
                disk.finish().await.unwrap();
                assert_eq!(names(&fetch), [""; 0]);
            }
        });
    }

    #[test]
    fn a_thread_that_ends_early_ends_every_wait() {
        run(async {
            // The folder is gone.
            let (_place, fetch) = fetch();
            let mut disk = Disk::with(&fetch, 2, 4);
            std::fs::remove_dir_all(fetch.folder.path()).unwrap();
            let bytes = vec![1; 10_000_000];
            let id = ImageId::of(&bytes);
            let put = put(&mut disk, &fetch, id, &bytes).await;
            assert!(put.is_err() || disk.settle().await.is_err());
            assert_eq!(disk.finish().await.unwrap_err().exit, Exit::Disk);
        });
        run(async {
            // It panics: there are fewer bytes than it is told.
            let (_place, fetch) = fetch();
            let mut disk = Disk::with(&fetch, 1, 4);
            disk.batch.steps.push(Step::Bytes(1));
            disk.settle().await.unwrap_err();
            disk.hand_over().await.unwrap_err();
            let failure = disk.finish().await.unwrap_err();
            assert_eq!(failure.exit, Exit::Other);
            assert!(failure.message.contains("failed"), "{failure}");
        });
    }
}
