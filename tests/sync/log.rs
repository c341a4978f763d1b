//! The events of a sync.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jtp_sync::{Cause, Change, Difference, ListReport, Reason, SyncEvent, Totals};

use crate::support::TEST_TIMEOUT;

/// An event as recorded.
#[derive(Debug, Clone)]
#[allow(dead_code, reason = "printed when a test fails")]
pub(crate) enum Event {
    Scanning {
        files: u64,
        read: u64,
    },
    Scanned {
        files: u64,
    },
    Listed {
        report: ListReport,
        announced: u64,
    },
    Planned(Totals),
    Started(u64),
    Progress(u64),
    Placed(String),
    Renamed {
        aside: bool,
    },
    Broken {
        id: u64,
        cause: String,
    },
    Refused {
        id: u64,
        reason: Reason,
        cause: Option<String>,
    },
    Retrying(String, Duration),
    ServerChanged {
        failed: String,
        address: String,
    },
    Fewer(usize),
    Change(Change),
    Difference(Difference),
    Watching,
    Other(String),
}

/// All events so far.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<(Mutex<Vec<Event>>, Condvar)>);

fn cause_text(cause: &Cause) -> String {
    match cause {
        Cause::Fault(fault) => format!("fault: {fault:?}"),
        Cause::NotSent => "not sent".to_owned(),
        Cause::Connection(error) => format!("connection: {error:?}"),
        Cause::Folder(error) => format!("folder: {error:?}"),
        other => format!("{other:?}"),
    }
}

impl Event {
    fn new(event: &SyncEvent<'_>) -> Event {
        match event {
            SyncEvent::Scanning { files, read } => Event::Scanning {
                files: *files,
                read: *read,
            },
            SyncEvent::Scanned { files, .. } => Event::Scanned { files: *files },
            SyncEvent::Listed { report, announced } => Event::Listed {
                report: (*report).clone(),
                announced: *announced,
            },
            SyncEvent::Planned(totals) => Event::Planned(**totals),
            SyncEvent::Started { id, .. } => Event::Started(id.0),
            SyncEvent::Progress { bytes } => Event::Progress(*bytes),
            SyncEvent::Placed { .. } => Event::Placed(format!("{event:?}")),
            SyncEvent::Renamed { aside, .. } => Event::Renamed { aside: *aside },
            SyncEvent::Broken { id, cause } => Event::Broken {
                id: id.0,
                cause: cause_text(cause),
            },
            SyncEvent::Refused {
                id, reason, cause, ..
            } => Event::Refused {
                id: id.0,
                reason: *reason,
                cause: cause.map(cause_text),
            },
            SyncEvent::Retrying { error, pause, .. } => {
                Event::Retrying(format!("{error:?}"), *pause)
            }
            SyncEvent::ServerChanged { failed, address } => Event::ServerChanged {
                failed: failed.to_string(),
                address: (*address).to_owned(),
            },
            SyncEvent::FewerConnections { connections } => Event::Fewer(*connections),
            SyncEvent::Change(change) => Event::Change((*change).clone()),
            SyncEvent::Difference(difference) => Event::Difference((*difference).clone()),
            SyncEvent::Watching => Event::Watching,
            other => Event::Other(format!("{other:?}")),
        }
    }
}

impl Log {
    pub(crate) fn record(&self, event: &SyncEvent<'_>) {
        self.lock().push(Event::new(event));
        self.0.1.notify_all();
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Event) -> bool) -> usize {
        self.lock().iter().filter(|event| wanted(event)).count()
    }

    pub(crate) fn retries(&self) -> usize {
        self.count(|event| matches!(event, Event::Retrying(..)))
    }

    pub(crate) fn watches(&self) -> usize {
        self.count(|event| matches!(event, Event::Watching))
    }

    /// The pauses after lost connections, together.
    pub(crate) fn pauses(&self) -> Duration {
        let events = self.lock();
        let pauses = events.iter().map(|event| match event {
            Event::Retrying(_, pause) => *pause,
            _ => Duration::ZERO,
        });
        pauses.sum()
    }

    pub(crate) fn placed(&self) -> usize {
        self.count(|event| matches!(event, Event::Placed(_)))
    }

    /// The images that were given up, and why.
    pub(crate) fn refused(&self) -> Vec<(u64, Reason, String)> {
        let refused = |event: &Event| match event {
            Event::Refused {
                id, reason, cause, ..
            } => Some((*id, *reason, cause.clone().unwrap_or_default())),
            _ => None,
        };
        let mut refused: Vec<_> = self.lock().iter().filter_map(refused).collect();
        refused.sort_by_key(|refused| refused.0);
        refused
    }

    /// Waits until this many events meet the condition.
    #[track_caller]
    pub(crate) fn wait_for(&self, count: usize, what: &str, wanted: impl Fn(&Event) -> bool) {
        let deadline = Instant::now() + TEST_TIMEOUT;
        let mut events = self.lock();
        while events.iter().filter(|event| wanted(event)).count() < count {
            let left = deadline.saturating_duration_since(Instant::now());
            if left == Duration::ZERO {
                drop(events);
                panic!("not in time: {count} {what}\n{self}");
            }
            let waited = self.0.1.wait_timeout(events, left);
            events = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until this many images are placed.
    #[track_caller]
    pub(crate) fn await_placed(&self, count: usize) {
        self.wait_for(count, "images placed", |event| {
            matches!(event, Event::Placed(_))
        });
    }

    /// Waits until this many watches have begun.
    #[track_caller]
    pub(crate) fn await_watches(&self, count: usize) {
        self.wait_for(count, "watches", |event| matches!(event, Event::Watching));
    }

    /// Checks that the totals of a complete run are the sum of its events.
    #[track_caller]
    pub(crate) fn assert_truthful(&self, totals: &Totals) {
        let events = self.lock().clone();
        let arrived = totals.fetched.images + totals.unfetched.images;
        assert_eq!(totals.planned.images, arrived, "{totals:?}\n{self}");
        let bytes = totals.fetched.bytes + totals.unfetched.bytes;
        assert_eq!(totals.planned.bytes, bytes, "{totals:?}\n{self}");
        let number = |wanted: &dyn Fn(&Event) -> bool| {
            u64::try_from(events.iter().filter(|event| wanted(event)).count()).unwrap()
        };
        let placed = number(&|event| matches!(event, Event::Placed(_)));
        assert_eq!(totals.placed.images, placed, "{totals:?}\n{self}");
        let renamed = number(&|event| matches!(event, Event::Renamed { aside: false }));
        assert_eq!(totals.renamed.images, renamed, "{totals:?}\n{self}");
        let aside = number(&|event| matches!(event, Event::Renamed { aside: true }));
        assert_eq!(totals.kept_aside.images, aside, "{totals:?}\n{self}");
        let failed = number(&|event| {
            matches!(event, Event::Refused { reason, .. } if matches!(reason,
                Reason::NotReceived | Reason::CannotFetch | Reason::CannotWrite | Reason::NamesTaken))
        });
        assert_eq!(totals.failed(), failed, "{totals:?}\n{self}");
        let planned = events.iter().rev().find_map(|event| match event {
            Event::Planned(planned) => Some(*planned),
            _ => None,
        });
        assert_eq!(planned, Some(*totals), "the last event tells the totals");
        let progress = events.iter().rev().find_map(|event| match event {
            Event::Progress(bytes) => Some(*bytes),
            _ => None,
        });
        let progress = progress.unwrap_or(0);
        assert_eq!(progress, totals.fetched.bytes, "{self}");
    }
}

impl fmt::Display for Log {
    /// The events, without most of those that are frequent.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.lock();
        let rare = events
            .iter()
            .filter(|event| !matches!(event, Event::Progress(_) | Event::Started(_)));
        let rare: Vec<_> = rare.collect();
        writeln!(f, "{} events, of which {}:", events.len(), rare.len())?;
        for event in &rare[..rare.len().min(60)] {
            writeln!(f, "  {event:?}")?;
        }
        for event in &rare[rare.len().min(60).max(rare.len().saturating_sub(20))..] {
            writeln!(f, "  … {event:?}")?;
        }
        Ok(())
    }
}
