//! `--watch`: stays, and fetches each new image. // N5

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jtp_core::ImageId;
use jtp_core::client::CatalogEntry;
use jtp_tokio::client::{Client, Error, Watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::connect;
use crate::exit::{Exit, Failure};
use crate::fetch::Fetch;
use crate::job::{Run, plan_names};
use crate::progress::{Progress, Style};
use crate::queue::Queue;
use crate::terminal::note_line;

/// How often the catalog is compared as a whole. // N5
const RECONCILE_EVERY: Duration = Duration::from_secs(5 * 60);

/// The first and the longest pause before the server is asked again.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// News that come so close one after another are fetched together.
const GATHER: Duration = Duration::from_millis(50);

/// The most news that are fetched together: what one request can ask for.
const GATHER_MOST: usize = 255;

/// The most news, and bytes of their names, that are remembered while images are fetched.
const REMEMBERED: (usize, usize) = (10_000, 8 << 20);

/// How much memory news may take until the catalog is compared: a server can tell names without end. // R3
const MOST_TOLD: usize = 32 * 1024 * 1024;

/// Why the watch over one connection is over.
enum End {
    /// The user wants to stop.
    Stopped,
    /// Trying again may help.
    Lost(Failure),
    /// It will not.
    Fatal(Failure),
}

impl End {
    fn of_error(error: &Error, run: &Run) -> End {
        let failure = connect::failure(error, &run.args);
        if error.is_transient() {
            End::Lost(failure)
        } else {
            End::Fatal(failure)
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        match failure.exit {
            Exit::Interrupted => End::Stopped,
            Exit::Connect | Exit::RateLimited | Exit::Other => End::Lost(failure),
            _ => End::Fatal(failure),
        }
    }
}

/// Fetches each new image until the user stops it. `have` is what is in the folder.
///
/// # Errors
///
/// What cannot be mended by trying again: the local disk, TLS, a server that breaks the protocol or does not
/// offer WATCH; and at last the user's wish to stop.
pub async fn follow(mut run: Run, client: Client, have: HashSet<ImageId>) -> Result<Exit, Failure> {
    let style = if run.args.quiet {
        Style::Quiet
    } else {
        Style::Lines
    };
    let folder = run.folder()?;
    let progress = Progress::new(style);
    let fetch = Arc::new(Fetch::new(&run.args, folder, progress, &run.stop));
    let mut follower = Follower {
        run,
        fetch,
        client,
        have,
        told: 0,
        was_up: false,
        said: false,
    };
    let mut pause = PAUSES.0;
    loop {
        let failure = match follower.watch().await {
            End::Stopped => return Err(Failure::interrupted()),
            End::Fatal(failure) => return Err(failure),
            End::Lost(failure) => failure,
        };
        if std::mem::take(&mut follower.was_up) {
            pause = PAUSES.0;
        }
        follower.note(format_args!(
            "{failure} (trying again in {} s)",
            pause.as_secs()
        ));
        let mut stop = follower.run.stop.clone();
        tokio::select! {
            biased;
            () = stop.requested() => return Err(Failure::interrupted()),
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSES.1);
    }
}

struct Follower {
    run: Run,
    fetch: Arc<Fetch>,
    /// For the catalog and the images; the watching connection is another one.
    client: Client,
    have: HashSet<ImageId>,
    /// What is remembered of the news since the catalog was compared, in bytes.
    told: usize,
    /// Whether a watch has stood since the last pause.
    was_up: bool,
    /// Whether the user has been told what goes on.
    said: bool,
}

impl Follower {
    fn note(&self, line: std::fmt::Arguments<'_>) {
        if !self.run.args.quiet {
            note_line(line);
        }
    }

    /// Watches over one connection until it fails.
    async fn watch(&mut self) -> End {
        let mut watcher = self.run.connector.impatient_client();
        let mut stop = self.run.stop.clone();
        let began = tokio::select! {
            biased;
            () = stop.requested() => return End::Stopped,
            began = watcher.list_and_watch() => began,
        };
        let (entries, mut watch) = match began {
            Ok(began) => began,
            Err(error) => return End::of_error(&error, &self.run),
        };
        self.was_up = true;
        if !std::mem::replace(&mut self.said, true) {
            self.note(format_args!(
                "watching {} for new images; Ctrl-C ends",
                self.run.args.addr
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
    ) -> Result<End, End> {
        let mut heard = Heard::default();
        heard.during(self.reconcile(entries), watch).await?;
        let mut stop = self.run.stop.clone();
        let mut due = Instant::now() + RECONCILE_EVERY;
        loop {
            // Also when news come without a pause.
            if std::mem::take(&mut heard.too_much) || self.told > MOST_TOLD || due <= Instant::now()
            {
                let reconcile = async {
                    let entries = self.run.list(&mut self.client).await?;
                    self.reconcile(&entries).await
                };
                heard.during(reconcile, watch).await?;
                due = Instant::now() + RECONCILE_EVERY;
                continue;
            }
            if !heard.news.is_empty() {
                let news = std::mem::take(&mut heard.news);
                heard.during(self.announce(&news), watch).await?;
                continue;
            }
            if let Some(error) = &heard.lost {
                return Ok(End::of_error(error, &self.run));
            }
            tokio::select! {
                biased;
                () = stop.requested() => return Ok(End::Stopped),
                first = watch.next() => heard.gather(first, watch).await,
                () = sleep_until(due) => {}
            }
        }
    }

    /// Fetches what the catalog has and the folder lacks; from now on names are those of this catalog.
    async fn reconcile(&mut self, entries: &[CatalogEntry<'static>]) -> Result<(), Failure> {
        *self
            .fetch
            .names
            .write()
            .unwrap_or_else(PoisonError::into_inner) = plan_names(entries);
        // What the server has no more does not need to be remembered.
        let listed: HashSet<ImageId> = entries.iter().map(|entry| entry.id).collect();
        self.have.retain(|id| listed.contains(id));
        self.told = 0;
        self.get(entries).await
    }

    async fn announce(&mut self, news: &[CatalogEntry<'static>]) -> Result<(), Failure> {
        {
            let mut names = self
                .fetch
                .names
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            for entry in news {
                // The name as it was told, and what is made of it.
                self.told += entry.name.len() + 1024;
                for replaced in names.announce(entry.id, &entry.name, entry.flags.file_type()) {
                    self.have.remove(&replaced);
                }
            }
        }
        self.get(news).await
    }

    async fn get(&mut self, entries: &[CatalogEntry<'static>]) -> Result<(), Failure> {
        let lacking = entries
            .iter()
            .filter(|entry| !self.have.contains(&entry.id));
        let new: Vec<(ImageId, u32)> = lacking.map(|entry| (entry.id, entry.length)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let ids: Vec<ImageId> = new.iter().map(|(id, _)| *id).collect();
        self.fetch.want(new.iter().copied().collect());
        let result = self.fetch.work(&mut self.client, &Queue::new(new, 1)).await;
        // What did not come is asked for again when the catalog is compared the next time, if it is there then.
        let (wanted, failed) = (lock(&self.fetch.wanted), lock(&self.fetch.failed));
        let is_there = |id: &ImageId| !wanted.contains_key(id) && !failed.contains(id);
        self.have.extend(ids.into_iter().filter(is_there));
        result
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the watching connection has told and nobody has acted on.
#[derive(Default)]
struct Heard {
    news: Vec<CatalogEntry<'static>>,
    /// The bytes of their names.
    bytes: usize,
    /// Whether there was more than is remembered: the whole catalog tells as much.
    too_much: bool,
    /// How the watch ended.
    lost: Option<Error>,
}

impl Heard {
    fn note(&mut self, next: Result<CatalogEntry<'static>, Error>) {
        match next {
            Ok(_) if self.too_much => {}
            Ok(entry) => {
                if self.news.is_empty() {
                    self.bytes = 0;
                }
                self.bytes += entry.name.len();
                self.news.push(entry);
                if self.news.len() > REMEMBERED.0 || self.bytes > REMEMBERED.1 {
                    self.too_much = true;
                    self.news.clear();
                }
            }
            Err(error) => self.lost = Some(error),
        }
    }

    /// Works, and goes on listening: a server gives up a watcher that does not read. // N2
    async fn during<T>(&mut self, work: impl Future<Output = T>, watch: &mut Watch<'_>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return done,
                next = watch.next(), if self.lost.is_none() => self.note(next),
            }
        }
    }

    /// Takes in the first of several new images, and what comes right behind it.
    async fn gather(&mut self, first: Result<CatalogEntry<'static>, Error>, watch: &mut Watch<'_>) {
        self.note(first);
        while self.lost.is_none() && self.news.len() < GATHER_MOST {
            match timeout(GATHER, watch.next()).await {
                Ok(next) => self.note(next),
                Err(_) => return,
            }
        }
    }
}
