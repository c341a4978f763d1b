//! Stays connected, and goes on with each new image. // N5

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jtp_core::client::CatalogEntry;
use jtp_driver::Runtime;
use jtp_driver::client::{Client, Error as ClientFailure, Watch};

use super::error::Error;
use super::event::SyncEvent;
use super::listing::{Received, receive_entries};
use super::race::{Either, race};
use super::replicas::fail_over;
use super::run::{Run, is_transient};

/// How often the catalog and the folder are compared as a whole. // N5
const RECONCILE_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Minimum and maximum pause before a reconnect.
const RETRY_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// Events that follow each other within this time are handled together.
const GATHER_TIME: Duration = Duration::from_millis(50);

/// From this many events on they are a burst, in which some servers lose events: a LIST follows [`SETTLE_TIME`] after
/// the last of them. After fewer events it follows later.
const BURST: u64 = 8;

const SETTLE_TIME: Duration = Duration::from_secs(2);

/// The time to the LIST after single events.
const LATE_SETTLE_TIME: Duration = Duration::from_secs(30);

/// Maximum number of events, and of bytes of their names, that are queued while images are fetched. // R3
const MAX_QUEUED: (usize, usize) = (10_000, 8 << 20);

/// Maximum memory for announced names since the last LIST, which frees those that it does not name. // R3
const MAX_ANNOUNCED_BYTES: usize = 32 << 20;

/// Why a watch ended.
enum End {
    /// The catalog is to be compared again, on a new connection.
    Again,
    /// The server admits no second connection: fetch first, then watch again.
    Single,
}

/// Events that were received and not handled yet.
#[derive(Default)]
struct EventQueue {
    entries: Vec<CatalogEntry<'static>>,
    /// Total length of their names, in bytes.
    bytes: usize,
    /// Events were dropped because the queue was full. A LIST makes up for them.
    overflowed: bool,
    /// The error that ended the watch.
    error: Option<ClientFailure>,
}

/// When a LIST follows the events since the last one.
#[derive(Default)]
struct ListTimer {
    at: Option<Instant>,
    events: u64,
    /// What the names of the events take, in bytes of memory.
    bytes: usize,
}

impl ListTimer {
    /// Counts an event with a name of this length. LISTs take at most a twentieth of the time.
    fn count(&mut self, name_length: usize, now: Instant, list_time: Duration) {
        self.events += 1;
        self.bytes += name_length + 128;
        let settle = match self.events >= BURST {
            true => SETTLE_TIME,
            false => LATE_SETTLE_TIME,
        };
        self.at = Some(now + settle.max(list_time.saturating_mul(20)));
    }

    fn is_due(&self, now: Instant) -> bool {
        self.bytes > MAX_ANNOUNCED_BYTES || self.at.is_some_and(|at| at <= now)
    }
}

impl<R: Runtime> Run<R> {
    /// Follows the server until an error that another attempt cannot repair.
    pub(super) async fn follow(&mut self) -> Result<Infallible, Error> {
        let mut pause = RETRY_PAUSE.0;
        let mut single = false;
        self.check_backup()?;
        self.session.state().follows = true;
        loop {
            self.session.check()?;
            let mut client = self.clients.clone().build();
            let mut watching_since = None;
            let mut ended = Box::pin(self.watch(&mut client, single, &mut watching_since)).await;
            client.close().await;
            self.main.watches = false;
            if matches!(ended, Ok(End::Single)) {
                single = true;
                ended = Box::pin(self.settle()).await.map(|()| End::Single);
                self.main.client.close().await;
            }
            // A server that lists images and ends each watch at once is no progress.
            if watching_since.is_some_and(|since| self.runtime.now() >= since + pause) {
                pause = RETRY_PAUSE.0;
            }
            let error = match ended {
                Ok(_) => continue,
                Err(Error::Client(error)) => error,
                Err(error) => return Err(error),
            };
            let error = match fail_over(&self.session, &mut client, error) {
                // The LIST of the new server has what was missed. // N5
                Ok(_) => continue,
                Err(error) if error.is_transient() => error,
                Err(error) => return Err(error.into()),
            };
            // The server may admit more after that.
            single = false;
            self.main.report_retry(&error, pause);
            self.main.sleep(pause).await?;
            pause = (pause * 2).min(RETRY_PAUSE.1);
        }
    }

    /// Watches over one connection until it fails. `single`: no other connection is used meanwhile.
    async fn watch(
        &mut self,
        client: &mut Client<R>,
        single: bool,
        watching_since: &mut Option<Instant>,
    ) -> Result<End, Error> {
        let scan = self.lock_and_scan(!self.is_known).await?;
        {
            let state = &mut *self.session.state();
            state.planner.retry_failed();
            state.bulk = true;
        }
        let begun = self.runtime.now();
        let server = client.address().map(str::to_owned);
        let mut entries = client.entries_and_watch();
        let listed = Box::pin(receive_entries(&self.session, &mut entries)).await;
        let received = Received {
            announced: entries.announced().unwrap_or(0),
            entries: entries.received(),
        };
        self.list_time = self.runtime.now().saturating_duration_since(begun);
        if listed.is_ok() || received.entries > 0 {
            if !self.lock_new_folder(scan.is_some()).await? {
                return Ok(End::Again);
            }
            self.end_list(received, scan).await?;
        }
        if let Err(error) = listed {
            drop(entries);
            // What has arrived is used.
            if received.entries > 0 && is_transient(&error) {
                Box::pin(self.settle()).await?;
            }
            return Err(error);
        }
        *watching_since = Some(self.runtime.now());
        self.main.watches = true;
        self.session.emit(&SyncEvent::Watching);
        let mut watch = entries.into_watch()?;
        let mut queue = EventQueue::default();
        let begun = self.runtime.now();
        let reconcile_at = begun + RECONCILE_INTERVAL.max(self.list_time.saturating_mul(100));
        let mut list_timer = ListTimer::default();
        loop {
            self.session.check()?;
            if self.main.client.address() != server.as_deref() {
                // Images are fetched from another server: that one is watched.
                return Ok(End::Again);
            }
            // Checked first: events do not postpone a LIST that is due. Before that each event does, until the regular
            // LIST at the latest.
            let now = self.runtime.now();
            if queue.overflowed || list_timer.is_due(now) {
                if single {
                    return Ok(End::Again);
                }
                queue.overflowed = false;
                // A renamed file cannot be sent until the server has found it again, and a rename is no event. // N1
                self.session.state().planner.retry_failed();
                list_timer = ListTimer::default();
                match self.during(&mut queue, &mut watch, false).await {
                    Err(error) if is_refused(&error) => return Ok(End::Single),
                    done => done?,
                }
                continue;
            }
            if reconcile_at <= now {
                // With the folder, which may have changed.
                self.is_known = false;
                // A server that took over has had time to catch up.
                self.session.state().server_changed = false;
                return Ok(End::Again);
            }
            if !queue.entries.is_empty() {
                self.session.check_folder()?;
            }
            for entry in queue.take() {
                self.session.add_entry(&mut self.session.state(), &entry);
                list_timer.count(entry.name.len(), now, self.list_time);
            }
            if self.is_unsettled().await? {
                if single {
                    return Ok(End::Single);
                }
                match self.during(&mut queue, &mut watch, true).await {
                    Err(error) if is_refused(&error) => return Ok(End::Single),
                    done => done?,
                }
                continue;
            }
            if let Some(error) = queue.error.take() {
                return Err(error.into());
            }
            // Everything is in step.
            self.lock = None;
            let until = list_timer
                .at
                .map_or(reconcile_at, |at| at.min(reconcile_at));
            let sleep = self.runtime.sleep_until(until);
            let session = Arc::clone(&self.session);
            let woken = race(race(session.stopped(), sleep), watch.next()).await;
            if let Either::Second(first) = woken {
                queue.push(first);
                self.gather(&mut queue, &mut watch).await;
            }
        }
    }

    /// Whether anything is left to do, after the moves that need no connection.
    async fn is_unsettled(&mut self) -> Result<bool, Error> {
        self.main.workers.moves();
        self.main.drain().await;
        self.session.check()?;
        let state = self.session.state();
        let wanted = state.planner.wanted().images;
        Ok(state.wants_list() || wanted > 0 || state.awaits_mirror)
    }

    /// Carries out the plan, after a LIST unless one was just `listed`, and meanwhile receives events: a server
    /// disconnects a watcher that does not read. // N2
    async fn during(
        &mut self,
        queue: &mut EventQueue,
        watch: &mut Watch<'_, R>,
        listed: bool,
    ) -> Result<(), Error> {
        let task = async {
            if !listed {
                Box::pin(self.list(false)).await?;
            }
            Box::pin(self.settle()).await
        };
        let mut task = pin!(task);
        loop {
            if queue.error.is_some() {
                return task.await;
            }
            match race(task.as_mut(), watch.next()).await {
                Either::First(done) => return done,
                Either::Second(next) => queue.push(next),
            }
        }
    }

    /// Receives the events that follow closely.
    async fn gather(&mut self, queue: &mut EventQueue, watch: &mut Watch<'_, R>) {
        let until = self.runtime.now() + GATHER_TIME;
        let mut sleep = self.runtime.sleep_until(until);
        while queue.error.is_none() && !queue.overflowed {
            match race(&mut sleep, watch.next()).await {
                Either::First(()) => return,
                Either::Second(next) => queue.push(next),
            }
        }
    }
}

impl EventQueue {
    fn push(&mut self, next: Result<CatalogEntry<'static>, ClientFailure>) {
        match next {
            Ok(_) if self.overflowed => {}
            Ok(entry) => {
                self.bytes += entry.name.len();
                self.entries.push(entry);
                if self.entries.len() > MAX_QUEUED.0 || self.bytes > MAX_QUEUED.1 {
                    self.overflowed = true;
                    self.take();
                }
            }
            Err(error) => self.error = Some(error),
        }
    }

    fn take(&mut self) -> Vec<CatalogEntry<'static>> {
        self.bytes = 0;
        std::mem::take(&mut self.entries)
    }
}

/// Whether the server admits no second connection.
fn is_refused(error: &Error) -> bool {
    matches!(error, Error::Client(error) if error.is_refused() && !error.is_rate_limited())
}

#[cfg(test)]
mod tests {
    use jtp_core::wire::entry::Entry;
    use jtp_core::{Flags, Image, ImageId};

    use super::*;

    #[test]
    fn r3_events_are_queued_up_to_10_000_and_8_mib_of_names() {
        for (name, most) in [("a", 10_000), (&*"x".repeat(1 << 16), 128)] {
            let image = Image::new(ImageId(1), Flags::from_bits(0), 1);
            let event = || Ok(CatalogEntry::from(Entry::new(name, image)).into_owned());
            let mut queue = EventQueue::default();
            (0..most).for_each(|_| queue.push(event()));
            assert_eq!((queue.overflowed, queue.entries.len()), (false, most));
            queue.push(event());
            queue.push(event());
            assert_eq!((queue.overflowed, queue.entries.len()), (true, 0));
        }
    }

    #[test]
    fn n5_a_list_follows_events_and_sooner_a_burst_or_names_that_fill_the_memory() {
        let now = Instant::now();
        let after = |events: u64, name_length: usize, list_time: Duration| {
            let mut timer = ListTimer::default();
            (0..events).for_each(|_| timer.count(name_length, now, list_time));
            let seconds = (0..120).map(Duration::from_secs);
            seconds.into_iter().find(|time| timer.is_due(now + *time))
        };
        let seconds = Duration::from_secs;
        assert_eq!(after(0, 10, seconds(0)), None);
        assert_eq!(after(BURST - 1, 10, seconds(0)), Some(seconds(30)));
        assert_eq!(after(BURST, 10, seconds(0)), Some(seconds(2)));
        assert_eq!(after(BURST, 10, seconds(3)), Some(seconds(60)));
        // R3: 32 MiB.
        assert_eq!(after(512, (1 << 16) - 128, seconds(0)), Some(seconds(2)));
        assert_eq!(after(513, (1 << 16) - 128, seconds(0)), Some(seconds(0)));
    }
}
