//! `--watch`: keeps running and fetches each new image. // N5

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jtp_core::ImageId;
use jtp_core::client::CatalogEntry;
use jtp_tokio::client::{Client, Error, Watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::connect;
use crate::exit::{Exit, Failure};
use crate::fetch::FetchState;
use crate::job::{Session, plan_names};
use crate::progress::{Progress, Style};
use crate::queue::{DownloadQueue, MAX_IMAGES};
use crate::terminal::stderr_line;

/// How often the whole catalog is compared with the folder. // N5
const RECONCILE_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Minimum and maximum delay before a reconnect.
const RETRY_DELAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Events that follow each other within this time are fetched with one request, up to [`MAX_IMAGES`].
const GATHER_TIME: Duration = Duration::from_millis(50);

/// Maximum number of events, and of bytes of their names, that are queued while images are fetched.
const MAX_QUEUED: (usize, usize) = (10_000, 8 << 20);

/// Maximum memory for announced names. Beyond it the catalog is reconciled, which frees them: a server may announce any
/// number of names. // R3
const MAX_ANNOUNCED_BYTES: usize = 32 * 1024 * 1024;

/// Why the watch over one connection ended.
enum WatchEnd {
    /// A shutdown was requested.
    Shutdown,
    /// A failure that a reconnect may resolve.
    Transient(Failure),
    /// A failure that a reconnect cannot resolve.
    Fatal(Failure),
}

impl WatchEnd {
    fn from_error(error: &Error, session: &Session) -> WatchEnd {
        let failure = connect::failure(error, &session.args);
        if error.is_transient() {
            WatchEnd::Transient(failure)
        } else {
            WatchEnd::Fatal(failure)
        }
    }
}

impl From<Failure> for WatchEnd {
    fn from(failure: Failure) -> WatchEnd {
        match failure.exit {
            Exit::Interrupted => WatchEnd::Shutdown,
            Exit::Connect | Exit::RateLimited | Exit::Other => WatchEnd::Transient(failure),
            _ => WatchEnd::Fatal(failure),
        }
    }
}

/// Fetches each new image until a shutdown is requested. `present` is the set of images in the output folder.
///
/// # Errors
///
/// A failure that a retry cannot resolve (local disk, TLS, a protocol error, a server without WATCH), or finally
/// [`Exit::Interrupted`].
pub async fn follow(
    mut session: Session,
    client: Client,
    present: HashSet<ImageId>,
) -> Result<Exit, Failure> {
    let style = if session.args.quiet {
        Style::Quiet
    } else {
        Style::Lines
    };
    let folder = session.folder()?;
    let progress = Progress::new(style);
    let fetch = Arc::new(FetchState::new(
        &session.args,
        folder,
        progress,
        &session.shutdown,
    ));
    let mut watcher = Watcher {
        session,
        fetch,
        client,
        present,
        announced_bytes: 0,
        was_connected: false,
        has_reported: false,
    };
    let mut delay = RETRY_DELAY.0;
    loop {
        let failure = match watcher.watch().await {
            WatchEnd::Shutdown => return Err(Failure::interrupted()),
            WatchEnd::Fatal(failure) => return Err(failure),
            WatchEnd::Transient(failure) => failure,
        };
        if std::mem::take(&mut watcher.was_connected) {
            delay = RETRY_DELAY.0;
        }
        watcher.print(format_args!(
            "{failure} (retrying in {} s)",
            delay.as_secs()
        ));
        tokio::select! {
            biased;
            () = watcher.session.shutdown.wait() => return Err(Failure::interrupted()),
            () = sleep(delay) => {}
        }
        delay = (delay * 2).min(RETRY_DELAY.1);
    }
}

struct Watcher {
    session: Session,
    fetch: Arc<FetchState>,
    /// The client for the catalog and the images. The watch has its own connection.
    client: Client,
    /// The images in the output folder.
    present: HashSet<ImageId>,
    /// Memory used by names announced since the last reconcile, in bytes.
    announced_bytes: usize,
    /// Whether a watch was established since the last retry delay.
    was_connected: bool,
    /// Whether the start of the watch was reported to the user.
    has_reported: bool,
}

impl Watcher {
    fn print(&self, line: std::fmt::Arguments<'_>) {
        if !self.session.args.quiet {
            stderr_line(line);
        }
    }

    /// Watches over one connection until it fails.
    async fn watch(&mut self) -> WatchEnd {
        let mut watch_client = self.session.connector.client_without_retries();
        let started = tokio::select! {
            biased;
            () = self.session.shutdown.wait() => return WatchEnd::Shutdown,
            started = watch_client.list_and_watch() => started,
        };
        let (entries, mut watch) = match started {
            Ok(started) => started,
            Err(error) => return WatchEnd::from_error(&error, &self.session),
        };
        self.was_connected = true;
        if !std::mem::replace(&mut self.has_reported, true) {
            self.print(format_args!(
                "watching {} for new images; press Ctrl-C to stop",
                self.session.args.addr
            ));
        }
        self.follow(&entries, &mut watch)
            .await
            .unwrap_or_else(|end| end)
    }

    async fn follow(
        &mut self,
        entries: &[CatalogEntry<'static>],
        watch: &mut Watch<'_>,
    ) -> Result<WatchEnd, WatchEnd> {
        let mut queue = EventQueue::default();
        queue.receive_during(self.reconcile(entries), watch).await?;
        let mut due = Instant::now() + RECONCILE_INTERVAL;
        loop {
            // Checked first, so that a constant flow of events does not postpone the reconcile.
            if std::mem::take(&mut queue.overflowed)
                || self.announced_bytes > MAX_ANNOUNCED_BYTES
                || due <= Instant::now()
            {
                let reconcile = async {
                    let entries = self.session.list(&mut self.client).await?;
                    self.reconcile(&entries).await
                };
                queue.receive_during(reconcile, watch).await?;
                due = Instant::now() + RECONCILE_INTERVAL;
                continue;
            }
            if !queue.entries.is_empty() {
                let entries = std::mem::take(&mut queue.entries);
                queue
                    .receive_during(self.fetch_announced(&entries), watch)
                    .await?;
                continue;
            }
            if let Some(error) = &queue.error {
                return Ok(WatchEnd::from_error(error, &self.session));
            }
            tokio::select! {
                biased;
                () = self.session.shutdown.wait() => return Ok(WatchEnd::Shutdown),
                first = watch.next() => queue.gather(first, watch).await,
                () = sleep_until(due) => {}
            }
        }
    }

    /// Fetches the images of the catalog that the folder lacks, and assigns file names from this catalog.
    async fn reconcile(&mut self, entries: &[CatalogEntry<'static>]) -> Result<(), Failure> {
        *self
            .fetch
            .names
            .write()
            .unwrap_or_else(PoisonError::into_inner) = plan_names(entries);
        // Forgets images that the server no longer has.
        let listed: HashSet<ImageId> = entries.iter().map(|entry| entry.id).collect();
        self.present.retain(|id| listed.contains(id));
        self.announced_bytes = 0;
        self.fetch_missing(entries).await
    }

    async fn fetch_announced(&mut self, entries: &[CatalogEntry<'static>]) -> Result<(), Failure> {
        {
            let mut names = self
                .fetch
                .names
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            for entry in entries {
                // The announced name, and an estimate for the file name derived from it.
                self.announced_bytes += entry.name.len() + 1024;
                for replaced in names.announce(entry.id, &entry.name, entry.flags.file_type()) {
                    self.present.remove(&replaced);
                }
            }
        }
        self.fetch_missing(entries).await
    }

    async fn fetch_missing(&mut self, entries: &[CatalogEntry<'static>]) -> Result<(), Failure> {
        let missing = entries
            .iter()
            .filter(|entry| !self.present.contains(&entry.id));
        let new: Vec<(ImageId, u32)> = missing.map(|entry| (entry.id, entry.length)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let ids: Vec<ImageId> = new.iter().map(|(id, _)| *id).collect();
        self.fetch.set_wanted(new.iter().copied().collect());
        let queue = DownloadQueue::new(new, 1);
        let result = self.fetch.fetch_queued(&mut self.client, &queue).await;
        // Images that were not stored are requested again at the next reconcile, if they are still listed.
        let (wanted, failed) = (lock(&self.fetch.wanted), lock(&self.fetch.failed));
        let is_stored = |id: &ImageId| !wanted.contains_key(id) && !failed.contains(id);
        self.present.extend(ids.into_iter().filter(is_stored));
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Events received from the watch and not processed yet.
#[derive(Default)]
struct EventQueue {
    entries: Vec<CatalogEntry<'static>>,
    /// Total length of their names, in bytes.
    bytes: usize,
    /// Whether events were dropped because the queue was full. A reconcile makes up for them.
    overflowed: bool,
    /// The error that ended the watch.
    error: Option<Error>,
}

impl EventQueue {
    fn push(&mut self, next: Result<CatalogEntry<'static>, Error>) {
        match next {
            Ok(_) if self.overflowed => {}
            Ok(entry) => {
                if self.entries.is_empty() {
                    self.bytes = 0;
                }
                self.bytes += entry.name.len();
                self.entries.push(entry);
                if self.entries.len() > MAX_QUEUED.0 || self.bytes > MAX_QUEUED.1 {
                    self.overflowed = true;
                    self.entries.clear();
                }
            }
            Err(error) => self.error = Some(error),
        }
    }

    /// Runs `task`, and meanwhile receives events: a server disconnects a watcher that does not read. // N2
    async fn receive_during<T>(
        &mut self,
        task: impl Future<Output = T>,
        watch: &mut Watch<'_>,
    ) -> T {
        let mut task = std::pin::pin!(task);
        loop {
            tokio::select! {
                biased;
                done = &mut task => return done,
                next = watch.next(), if self.error.is_none() => self.push(next),
            }
        }
    }

    /// Queues a first event and those that follow it closely.
    async fn gather(&mut self, first: Result<CatalogEntry<'static>, Error>, watch: &mut Watch<'_>) {
        self.push(first);
        while self.error.is_none() && self.entries.len() < MAX_IMAGES {
            match timeout(GATHER_TIME, watch.next()).await {
                Ok(next) => self.push(next),
                Err(_) => return,
            }
        }
    }
}
