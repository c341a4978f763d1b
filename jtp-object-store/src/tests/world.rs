//! A backend in memory whose requests take time, fail, and lose answers; and the processes that use it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::stream::{self, BoxStream, StreamExt};
use jtp_core::{BodyReceiver, DEFAULT_MAX_WINDOW, Image, ImageFault, ImageId};
use jtp_driver::store::{ImageStore, OpenImage, StoreError};
use jtp_kit::{Rng, wait_until};
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutMultipartOptions, PutOptions, PutPayload,
    PutResult, Result,
};

use super::executor::{Executor, SimClock};
use crate::catalog::Proposal;
use crate::clock::Clock;
use crate::{Bucket, IndexReport, IndexerConfig, ObjectImages, StoreConfig};

/// How often what happens to a request, in percent.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Faults {
    pub(super) fails: u64,
    pub(super) answer_lost: u64,
    /// The request is carried out after its answer was an error.
    pub(super) late: u64,
    pub(super) slow: u64,
    /// No request is answered.
    pub(super) is_down: bool,
    /// Puts are made, and their answers are lost.
    pub(super) puts_unanswered: bool,
    /// Ranges are read, and take 9 s.
    pub(super) slow_ranges: bool,
    /// Puts are made whatever their condition is.
    pub(super) ignores_conditions: bool,
    /// Puts and deletes are refused.
    pub(super) is_read_only: bool,
    /// The backend has no conditional updates.
    pub(super) has_no_updates: bool,
    /// Answers with more bytes end after this number of them.
    pub(super) breaks_after: Option<usize>,
}

/// The backend as one process sees it.
#[derive(Clone)]
pub(super) struct SimStore {
    pub(super) inner: Arc<InMemory>,
    clock: SimClock,
    shared: Arc<Mutex<Shared>>,
}

#[derive(Debug)]
pub(super) struct Shared {
    rng: Rng,
    pub(super) faults: Faults,
    pub(super) requests: BTreeMap<&'static str, u64>,
    /// Puts and deletes that are carried out later.
    late: Vec<(Path, Option<Put>)>,
}

type Put = (PutPayload, PutOptions);

enum Fate {
    Answered,
    Failed,
    Lost,
    Late,
}

impl SimStore {
    pub(super) fn new(seed: u64, clock: SimClock) -> SimStore {
        SimStore {
            inner: Arc::new(InMemory::new()),
            clock,
            shared: Arc::new(Mutex::new(Shared {
                rng: Rng::new(seed),
                faults: Faults::default(),
                requests: BTreeMap::new(),
                late: Vec::new(),
            })),
        }
    }

    pub(super) fn shared(&self) -> std::sync::MutexGuard<'_, Shared> {
        self.shared.lock().unwrap()
    }

    pub(super) fn requests(&self, kind: &str) -> u64 {
        self.shared().requests.get(kind).copied().unwrap_or(0)
    }

    /// Waits as long as a request takes, before it is carried out, and says what becomes of it.
    async fn request(&self, kind: &'static str) -> Fate {
        let (time, fate) = {
            let mut shared = self.shared();
            *shared.requests.entry(kind).or_default() += 1;
            let faults = shared.faults;
            let mut time = Duration::from_millis(shared.rng.below(20));
            if shared.rng.percent(faults.slow) {
                time = Duration::from_millis(shared.rng.below(9000));
            }
            if faults.slow_ranges && kind == "range" {
                time = Duration::from_secs(9);
            }
            if faults.is_down {
                time = Duration::from_secs(100_000);
            }
            let at = shared.rng.below(100);
            let fate = if at < faults.fails {
                Fate::Failed
            } else if at < faults.fails + faults.answer_lost {
                Fate::Lost
            } else if at < faults.fails + faults.answer_lost + faults.late {
                Fate::Late
            } else {
                Fate::Answered
            };
            (time, fate)
        };
        self.clock.sleep(time).await;
        fate
    }

    /// Time between carrying a request out and its answer.
    async fn answer(&self) {
        let time = self.shared().rng.below(20);
        self.clock.sleep(Duration::from_millis(time)).await;
    }

    /// Carries out one of the requests that were thought to have failed.
    pub(super) async fn carry_out_late(&self) {
        let late = {
            let mut shared = self.shared();
            let count = shared.late.len() as u64;
            if count == 0 {
                return;
            }
            let at = usize::try_from(shared.rng.below(count)).unwrap();
            shared.late.swap_remove(at)
        };
        _ = self.carry_out(&late.0, late.1).await;
    }

    async fn carry_out(&self, path: &Path, put: Option<Put>) -> Result<Option<PutResult>> {
        match put {
            Some((payload, options)) => {
                let put = self.inner.put_opts(path, payload, options);
                put.await.map(Some)
            }
            None => self.inner.delete(path).await.map(|()| None),
        }
    }

    /// Puts or deletes an object.
    async fn write(&self, path: &Path, put: Option<Put>) -> Result<Option<PutResult>> {
        let is_put = put.is_some();
        let fate = self.request(if is_put { "put" } else { "delete" }).await;
        let faults = self.shared().faults;
        if faults.is_read_only {
            return Err(Error::PermissionDenied {
                path: path.to_string(),
                source: "read only".into(),
            });
        }
        match fate {
            Fate::Answered if !(is_put && faults.puts_unanswered) => {
                let result = self.carry_out(path, put).await;
                if is_put {
                    self.answer().await;
                }
                return result;
            }
            Fate::Answered | Fate::Lost => _ = self.carry_out(path, put).await,
            Fate::Late => self.shared().late.push((path.clone(), put)),
            Fate::Failed => {}
        }
        Err(no_answer())
    }
}

fn no_answer() -> Error {
    Error::Generic {
        store: "simulated",
        source: "no answer".into(),
    }
}

impl fmt::Display for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SimStore")
    }
}

#[async_trait]
impl ObjectStore for SimStore {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> Result<PutResult> {
        if self.shared().faults.has_no_updates && matches!(options.mode, PutMode::Update(_)) {
            return Err(Error::NotImplemented {
                operation: "update".to_owned(),
                implementer: self.to_string(),
            });
        }
        let options = match self.shared().faults.ignores_conditions {
            true => PutOptions::default(),
            false => options,
        };
        let result = self.write(path, Some((payload, options))).await;
        Ok(result?.expect("the result of a put"))
    }

    async fn put_multipart_opts(
        &self,
        _: &Path,
        _: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        Err(no_answer())
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> Result<GetResult> {
        let kind = if options.range.is_some() {
            "range"
        } else {
            "get"
        };
        match self.request(kind).await {
            Fate::Answered => {}
            _ => return Err(no_answer()),
        }
        let result = self.inner.get_opts(path, options).await;
        self.answer().await;
        let (breaks_after, mut result) = (self.shared().faults.breaks_after, result?);
        if let Some(at) = breaks_after {
            let mut bytes = self.inner.get_range(path, result.range.clone()).await?;
            let breaks = bytes.len() > at;
            bytes.truncate(at);
            let half = bytes.split_to(bytes.len() / 2);
            let pieces = [Ok(half), Ok(bytes)].into_iter();
            let pieces = pieces.chain(breaks.then(|| Err(no_answer())));
            result.payload = GetResultPayload::Stream(stream::iter(pieces).boxed());
        }
        Ok(result)
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Result<Path>>,
    ) -> BoxStream<'static, Result<Path>> {
        let this = self.clone();
        paths
            .then(move |path| {
                let this = this.clone();
                async move {
                    let path = path?;
                    this.write(&path, None).await?;
                    Ok(path)
                }
            })
            .boxed()
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let (this, prefix) = (self.clone(), prefix.cloned());
        let listing = async move {
            match this.request("list").await {
                Fate::Answered => {}
                _ => return stream::once(async { Err(no_answer()) }).boxed(),
            }
            let listed: Vec<_> = this.inner.list(prefix.as_ref()).collect().await;
            this.answer().await;
            // The connection may end in the middle of a listing.
            let (at, breaks) = {
                let mut shared = this.shared();
                let fails = shared.faults.fails;
                (shared.rng.below(8), shared.rng.percent(fails))
            };
            let at = usize::try_from(at).unwrap();
            if breaks && at < listed.len() {
                let first = listed.into_iter().take(at);
                return stream::iter(first.chain([Err(no_answer())])).boxed();
            }
            stream::iter(listed).boxed()
        };
        stream::once(listing).flatten().boxed()
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(no_answer())
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(no_answer())
    }
}

/// A bucket, and what was in it.
pub(super) struct World {
    pub(super) executor: Executor,
    pub(super) store: SimStore,
    pub(super) images: BTreeMap<usize, Arc<ObjectImages>>,
    writers: u64,
    /// The images that each name has had.
    pub(super) history: BTreeMap<String, BTreeSet<ImageId>>,
}

pub(super) const PREFIX: &str = "photos";

impl World {
    pub(super) fn new(seed: u64) -> World {
        let executor = Executor::new(seed);
        let store = SimStore::new(seed ^ 0x5eed, executor.clock.clone());
        World {
            executor,
            store,
            images: BTreeMap::new(),
            writers: 0,
            history: BTreeMap::new(),
        }
    }

    pub(super) fn bucket(&self) -> Bucket {
        let store = Arc::new(self.store.clone());
        let clock = Arc::new(self.executor.clock.clone());
        Bucket::new(store, Path::from(PREFIX), clock)
    }

    /// A store of a process, without its tasks.
    pub(super) fn open(&mut self) -> Arc<ObjectImages> {
        self.open_with(StoreConfig::default())
    }

    pub(super) fn open_with(&mut self, config: StoreConfig) -> Arc<ObjectImages> {
        self.writers += 1;
        let open = ObjectImages::open(self.bucket(), config.with_writer(self.writers));
        self.executor.block_on(open).unwrap()
    }

    /// One pass over the bucket.
    pub(super) fn index(&mut self, images: &Arc<ObjectImages>) -> IndexReport {
        let indexer = images.indexer(IndexerConfig::default());
        let pass = async move { indexer.run_once().await };
        self.executor.block_on(pass).unwrap()
    }

    /// Starts a process: a server, and an indexer if `indexes`.
    pub(super) fn start(&mut self, process: usize, indexes: Option<IndexerConfig>) {
        self.writers += 1;
        let config = StoreConfig::default().with_writer(self.writers);
        let images = ObjectImages::unloaded(self.bucket(), config);
        self.images.insert(process, Arc::clone(&images));
        if let Some(config) = indexes {
            let indexer = images.indexer(config);
            self.executor
                .spawn(process, async move { indexer.run().await });
        }
        self.executor.spawn(process, images.follow());
    }

    pub(super) fn kill(&mut self, process: usize) {
        self.executor.kill(process);
        self.images.remove(&process);
    }

    pub(super) fn run(&mut self, seconds: u64) {
        self.executor.run_for(Duration::from_secs(seconds), |_| {});
    }

    /// Waits until all variants are made that were requested, and until all servers know it.
    pub(super) fn settle(&mut self) {
        wait_until("variants are made", || {
            self.run(2);
            let mut servers = self.images.values();
            servers.all(|images| images.variants().is_idle())
        });
        self.run(5);
    }

    fn path(key: &str) -> Path {
        Path::parse(format!("{PREFIX}/{key}").trim_end_matches('/')).unwrap()
    }

    /// Puts an object into the bucket, as another tool does.
    pub(super) fn put(&mut self, key: &str, bytes: &[u8]) {
        self.replace(key, bytes);
        let had = self.history.entry(key.replace('/', "\u{29f8}"));
        had.or_default().insert(ImageId::of(bytes));
    }

    /// Replaces an object of the catalog.
    pub(super) fn replace(&self, key: &str, bytes: &[u8]) {
        now(self
            .store
            .inner
            .put(&World::path(key), bytes.to_vec().into()))
        .unwrap();
    }

    pub(super) fn delete(&self, key: &str) {
        now(self.store.inner.delete(&World::path(key))).unwrap();
    }

    /// The keys below a folder.
    pub(super) fn keys(&self, folder: &str) -> Vec<String> {
        let listing = self.store.inner.list(Some(&World::path(folder)));
        let paths = now(listing.collect::<Vec<_>>()).into_iter();
        let paths = paths.map(|meta| meta.unwrap().location);
        let key = |path: Path| path.as_ref()[PREFIX.len() + 1..].to_owned();
        paths.map(key).collect()
    }

    pub(super) fn read(&self, key: &str) -> Vec<u8> {
        let path = World::path(key);
        let read = async { self.store.inner.get(&path).await.unwrap().bytes().await };
        now(read).unwrap().to_vec()
    }

    /// Changes the last byte of an object of the catalog.
    pub(super) fn damage(&self, key: &str) {
        let mut bytes = self.read(key);
        *bytes.last_mut().unwrap() ^= 1;
        self.replace(key, &bytes);
    }

    /// Opens the image of these bytes with its first ones, on its own task. Returns the time that it took, too.
    pub(super) fn open_image(
        &mut self,
        images: &Arc<ObjectImages>,
        image: Image,
        first: usize,
    ) -> (Result<OpenImage, StoreError>, Duration) {
        let begin = self.executor.clock.elapsed();
        let opened = self
            .executor
            .block_on(Arc::clone(images).open(image, first));
        (opened, self.executor.clock.elapsed() - begin)
    }

    /// Changes the catalog as a pass over the bucket does. Returns the number of changes.
    pub(super) fn commit(&mut self, images: &Arc<ObjectImages>, changes: Vec<Proposal>) -> usize {
        let images = Arc::clone(images);
        let commit = async move { images.shared().commit(changes, false).await };
        self.executor.block_on(commit).unwrap()
    }

    #[track_caller]
    pub(super) fn assert_all_list(&self, count: usize) {
        for (process, images) in &self.images {
            assert_eq!(names(images).len(), count, "process {process}");
        }
    }
}

/// The output of a future that does not wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("the backend is in memory")
}

/// An image that a server lists.
pub(super) fn listed(images: &ObjectImages, bytes: &[u8]) -> Image {
    let snapshot = ImageStore::catalog(images).snapshot();
    snapshot.get(ImageId::of(bytes)).unwrap()
}

/// The names and IDs of a store's catalog.
pub(super) fn names(images: &ObjectImages) -> Vec<(String, ImageId)> {
    let snapshot = ImageStore::catalog(images).snapshot();
    let entries = snapshot.entries();
    entries
        .map(|entry| (entry.name.to_owned(), entry.id))
        .collect()
}

/// What a client gets: the packet's head, and its verdict of the body.
pub(super) async fn fetch(
    server: Arc<ObjectImages>,
    id: ImageId,
    max_first: usize,
) -> Result<(Image, Result<(), ImageFault>), StoreError> {
    let listed = server.catalog().snapshot().get(id);
    let opened = server.open(listed.ok_or(StoreError::Gone(id))?, max_first);
    let opened = opened.await?;
    let image = opened.image();
    assert_eq!(image.id, id);
    let mut body = BodyReceiver::new(1 << 30, DEFAULT_MAX_WINDOW);
    body.begin(image);
    let mut offset = 0;
    loop {
        let bytes = opened.read(offset, max_first).await?;
        offset += bytes.len() as u64;
        let mut rest = &*bytes;
        while !rest.is_empty() {
            rest = &rest[body.receive(rest).used..];
        }
        if offset == u64::from(image.length) {
            return Ok((image, body.verdict().unwrap().map(drop)));
        }
    }
}

/// A GIF with other bytes for each number.
pub(super) fn gif(number: u64) -> Vec<u8> {
    [b"GIF89a".as_slice(), &number.to_le_bytes()].concat()
}
