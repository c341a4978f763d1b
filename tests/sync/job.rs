//! A sync under test: its configuration, and how it is run on each runtime.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use jtp_core::client::ClientConfig;
use jtp_driver::client::{Client, ClientBuilder};
use jtp_driver::{Runtime, ShutdownSignal};
use jtp_kit::{Folder, Stopwatch};
use jtp_sync::{Error, FolderSync, MaxDelete, Options, Selection, SyncEvent, Totals};
use tempfile::TempDir;

use super::log::{Event, Log};
use super::world::{Accelerated, World};
use crate::support::TEST_TIMEOUT;
use crate::support::bytes::TestImage;
use crate::support::files::images_in;

type Reaction = dyn Fn(&SyncEvent<'_>) + Send + Sync;

/// The configuration of a sync, and what it has reported.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) address: SocketAddr,
    /// Other servers with the same catalog.
    pub(crate) replicas: Vec<SocketAddr>,
    pub(crate) folder: PathBuf,
    /// Keeps the folder of [`Job::of`].
    _parent: Option<Arc<TempDir>>,
    pub(crate) options: Options,
    pub(crate) selection: Selection,
    pub(crate) connections: usize,
    pub(crate) retries: u32,
    pub(crate) response_timeout: Duration,
    pub(crate) max_image_size: Option<u64>,
    pub(crate) max_total_size: Option<u64>,
    pub(crate) max_time: Option<Duration>,
    pub(crate) catalog_limits: Option<(usize, usize)>,
    pub(crate) mirror: Option<MaxDelete>,
    /// How fast the clock of the engine's runtime runs.
    pub(crate) rate: u32,
    pub(crate) cancel: ShutdownSignal,
    pub(crate) log: Log,
    /// Called in the observer.
    pub(crate) reaction: Arc<Reaction>,
}

/// What is done with one [`FolderSync`], one after another.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    Run,
    DryRun,
    Check,
    Follow,
    /// Polls `run` this often, then drops the future.
    DropRun(usize),
    /// Polls `follow` this often, then drops the future.
    DropFollow(usize),
    /// Drops the future of `run` when the signal is given.
    DropRunAt(ShutdownSignal),
}

/// The result of an action; `None` if the future was dropped.
pub(crate) type Ended = Option<Result<Totals, Error>>;

impl Job {
    /// A sync into a new folder, which does not exist yet.
    pub(crate) fn of(address: SocketAddr) -> Job {
        let (parent, folder) = target();
        let parent = Some(Arc::new(parent));
        Job {
            _parent: parent,
            ..Job::new(address, &folder)
        }
    }

    /// A sync into this folder.
    pub(crate) fn new(address: SocketAddr, folder: &Path) -> Job {
        Job {
            address,
            replicas: Vec::new(),
            folder: folder.to_owned(),
            _parent: None,
            options: Options::new(),
            selection: Selection::all(),
            connections: 1,
            retries: 3,
            response_timeout: TEST_TIMEOUT,
            max_image_size: None,
            max_total_size: None,
            max_time: Some(Duration::MAX), // No clock can represent it: no limit.
            catalog_limits: None,
            mirror: None,
            rate: 1,
            cancel: ShutdownSignal::new(),
            log: Log::default(),
            reaction: Arc::new(|_| {}),
        }
    }

    /// Another sync from the same server into the same folder.
    pub(crate) fn again(&self) -> Job {
        Job {
            _parent: self._parent.clone(),
            ..Job::new(self.address, &self.folder)
        }
    }

    /// Creates the folder, with these files.
    pub(crate) fn holding<'a>(self, files: impl IntoIterator<Item = &'a TestImage>) -> Job {
        self.folder.make_dir("");
        for file in files {
            self.folder.write(&file.name, &file.bytes);
        }
        self
    }

    /// Accelerates the clock of the engine. The response timeout stays what it is in real time.
    pub(crate) fn accelerated(mut self, rate: u32) -> Job {
        self.response_timeout *= rate;
        self.rate = rate;
        self
    }

    pub(crate) fn reaction(
        mut self,
        reaction: impl Fn(&SyncEvent<'_>) + Send + Sync + 'static,
    ) -> Job {
        self.reaction = Arc::new(reaction);
        self
    }

    /// Runs the sync once, which must end in time.
    #[track_caller]
    pub(crate) fn run(&self, world: World) -> Result<Totals, Error> {
        let ended = self.perform(world, &[Action::Run]);
        let result = ended.into_iter().next().unwrap().unwrap();
        if let Ok(totals) = &result {
            self.log.assert_truthful(totals);
        }
        result
    }

    /// Runs the sync once, which must succeed.
    #[track_caller]
    pub(crate) fn run_ok(&self, world: World) -> Totals {
        self.run(world)
            .unwrap_or_else(|error| panic!("{world:?}: {error:?}\n{}", self.log))
    }

    /// Runs the sync once. No image may fail, and the folder has exactly these images then.
    #[track_caller]
    pub(crate) fn fetch_all<'a>(
        &self,
        world: World,
        images: impl IntoIterator<Item = &'a TestImage>,
    ) -> Totals {
        let totals = self.run_ok(world);
        assert_eq!(totals.failed(), 0, "{world:?}\n{}", self.log);
        self.assert_files(images);
        totals
    }

    /// Does this with one `FolderSync`; all must end in time.
    #[track_caller]
    pub(crate) fn perform(&self, world: World, actions: &[Action]) -> Vec<Ended> {
        let ended = self.start(world, actions).recv_timeout(TEST_TIMEOUT);
        match ended {
            Ok(Ok(ended)) => ended,
            Ok(Err(panic)) => std::panic::resume_unwind(panic),
            Err(_) => panic!("{world:?}: not in time\n{}", self.log),
        }
    }

    /// Follows the server on a thread of its own.
    pub(crate) fn follow(&self, world: World) -> Running {
        self.begin(world, &[Action::Follow])
    }

    /// Does this on a thread of its own, until it is dropped.
    pub(crate) fn begin(&self, world: World, actions: &[Action]) -> Running {
        Running {
            job: self.clone(),
            ended: self.start(world, actions),
        }
    }

    pub(crate) fn start(
        &self,
        world: World,
        actions: &[Action],
    ) -> Receiver<thread::Result<Vec<Ended>>> {
        let (done, ended) = channel();
        let (job, actions) = (self.clone(), actions.to_vec());
        thread::spawn(move || {
            let performed = catch_unwind(AssertUnwindSafe(|| job.perform_here(world, &actions)));
            // A test that has failed does not wait any more.
            let _ = done.send(performed);
        });
        ended
    }

    fn perform_here(&self, world: World, actions: &[Action]) -> Vec<Ended> {
        match world {
            World::Tokio => tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap()
                .block_on(self.perform_on(jtp_tokio::Tokio::default(), actions)),
            World::AsyncStd => {
                async_std::task::block_on(self.perform_on(jtp_async_std::AsyncStd, actions))
            }
            World::Smol => {
                let runtime = jtp_async_std::smol::Smol::default();
                smol::block_on(self.perform_on(runtime, actions))
            }
            World::Blocking => {
                let runtime = jtp_blocking::Threads::default();
                jtp_blocking::runtime::block_on(self.perform_on(runtime, actions))
            }
        }
    }

    async fn perform_on<R: Runtime>(&self, runtime: R, actions: &[Action]) -> Vec<Ended> {
        let runtime = Accelerated::new(runtime, self.rate);
        let mut sync = self.build(&runtime);
        let mut ended = Vec::new();
        for action in actions {
            ended.push(match action {
                Action::Run => Some(sync.run().await),
                Action::DryRun => Some(sync.dry_run().await),
                Action::Check => {
                    let reported = || {
                        let is_difference = |event: &Event| matches!(event, Event::Difference(_));
                        u64::try_from(self.log.count(is_difference)).unwrap()
                    };
                    let before = reported();
                    Some(sync.check().await.map(|found| {
                        let count = found.missing + found.differs + found.renamed + found.extra;
                        assert_eq!(count, reported() - before);
                        let is_known = !found.is_incomplete && found.unreadable == 0;
                        assert_eq!(found.is_equal(), count == 0 && is_known);
                        sync.totals()
                    }))
                }
                Action::Follow => match sync.follow().await {
                    Ok(never) => match never {},
                    Err(error) => Some(Err(error)),
                },
                Action::DropRun(polls) => poll_up_to(sync.run(), *polls).await,
                Action::DropRunAt(signal) => {
                    let (mut run, mut dropped) = (pin!(sync.run()), pin!(signal.wait()));
                    poll_fn(|cx| match dropped.as_mut().poll(cx) {
                        Poll::Ready(()) => Poll::Ready(None),
                        Poll::Pending => run.as_mut().poll(cx).map(Some),
                    })
                    .await
                }
                Action::DropFollow(polls) => {
                    let polled = poll_up_to(sync.follow(), *polls).await;
                    polled.map(|result| result.map(|never| match never {}))
                }
            });
        }
        ended
    }

    pub(crate) fn build<R: Runtime>(&self, runtime: &R) -> FolderSync<R> {
        let config = ClientConfig::new().with_response_timeout(Some(self.response_timeout));
        let server = |address: SocketAddr| {
            ClientBuilder::<R, Client<R>>::new(runtime.clone(), address.to_string())
                .connect_timeout(Some(self.response_timeout))
        };
        let replicas = self.replicas.iter();
        let server = replicas
            .fold(server(self.address), |first, &address| {
                first.replica(server(address))
            })
            .config(config);
        let (log, reaction) = (self.log.clone(), Arc::clone(&self.reaction));
        let mut builder = FolderSync::builder(server, &self.folder)
            .options(self.options.clone())
            .select(self.selection.clone())
            .connections(self.connections)
            .retries(self.retries)
            .max_total_size(self.max_total_size)
            .max_time(self.max_time)
            .cancel(self.cancel.clone())
            .observer(move |event: &SyncEvent<'_>| {
                log.record(event);
                reaction(event);
            });
        if let Some(bytes) = self.max_image_size {
            builder = builder.max_image_size(bytes);
        }
        if let Some((images, bytes)) = self.catalog_limits {
            builder = builder.catalog_limits(images, bytes);
        }
        builder.mirror(self.mirror).build()
    }

    /// The visible files.
    pub(crate) fn files(&self) -> Vec<TestImage> {
        match self.folder.exists() {
            true => images_in(&self.folder),
            false => Vec::new(),
        }
    }

    /// Checks that the folder has exactly these images under their names.
    #[track_caller]
    pub(crate) fn assert_files<'a>(&self, images: impl IntoIterator<Item = &'a TestImage>) {
        let name_and_id = |image: &TestImage| (image.name.clone(), image.id);
        let mut expected: Vec<_> = images.into_iter().map(name_and_id).collect();
        expected.sort();
        let found: Vec<_> = self.files().iter().map(name_and_id).collect();
        assert!(
            found == expected,
            "found {found:?}\nexpected {expected:?}\n{}",
            self.log
        );
    }

    /// Checks that each visible file is one of these images under its name.
    #[track_caller]
    pub(crate) fn assert_only(&self, images: &[TestImage]) {
        for file in self.files() {
            let known = images
                .iter()
                .any(|image| (&image.name, image.id) == (&file.name, file.id));
            assert!(known, "{} is no complete image\n{}", file.name, self.log);
        }
    }
}

/// A sync that runs until it is complete or this is dropped.
pub(crate) struct Running {
    job: Job,
    ended: Receiver<thread::Result<Vec<Ended>>>,
}

impl Running {
    /// Cancels it, and returns its error and the time it took to end.
    #[track_caller]
    pub(crate) fn cancel(self) -> (Error, Duration) {
        let start = Stopwatch::start();
        self.job.cancel.begin();
        let mut ended = self
            .ended
            .recv_timeout(TEST_TIMEOUT)
            .unwrap_or_else(|_| panic!("it does not end\n{}", self.job.log))
            .expect("it does not panic");
        let error = ended.pop().unwrap().unwrap().unwrap_err();
        (error, start.elapsed())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.job.cancel.begin();
    }
}

/// Polls a future `polls` times; `None` if it is not ready by then.
async fn poll_up_to<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut polled = 0;
    poll_fn(|cx| {
        if polled == polls {
            return Poll::Ready(None);
        }
        polled += 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// A new folder for a sync to fill. It does not exist yet.
pub(crate) fn target() -> (TempDir, PathBuf) {
    let parent = tempfile::tempdir().unwrap();
    let folder = parent.path().join("out");
    (parent, folder)
}
