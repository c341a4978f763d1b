//! Requests the catalog, and scans the folder meanwhile.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use jtp_core::client::{ClientError, Retry};
use jtp_driver::Runtime;
use jtp_driver::client::{Client, Entries, Error as ClientFailure};
use jtp_store::OutputFolder;

use super::error::Error;
use super::event::SyncEvent;
use super::race::{Either, race};
use super::run::Run;
use super::scan::{FolderScan, Scanned};
use super::session::Session;
use crate::inventory::Inventory;
use crate::options::Fetch;

/// The memory that an image of the catalog takes, apart from its name, in bytes.
const ENTRY_BYTES: usize = 100;

/// The memory that a folder in the names of a catalog takes, in bytes. // W9
const FOLDER_BYTES: usize = 40;

/// How often a scan reports its progress at most.
const SCANNING_INTERVAL: Duration = Duration::from_millis(100);

/// After how many files that it does not read a scan looks at the clock.
const SCANNING_FILES: u64 = 16;

/// What has arrived of a LIST.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Received {
    pub(super) announced: u64,
    pub(super) entries: u64,
}

impl Received {
    fn is_complete(self) -> bool {
        self.announced == self.entries
    }

    /// Whether only some entries are missing: a server that announces more than it sends.
    fn is_nearly_complete(self) -> bool {
        let missing = self.announced.saturating_sub(self.entries);
        self.entries > 0 && missing <= 16.max(self.announced / 100)
    }
}

impl<R: Runtime> Run<R> {
    /// Requests the catalog and passes it to the planner. `rescan`: what the folder contains, too.
    pub(super) async fn list(&mut self, rescan: bool) -> Result<(), Error> {
        loop {
            let scan = self.lock_and_scan(rescan || !self.is_known).await?;
            let begun = self.runtime.now();
            let wants_all = rescan && self.wants_all();
            let with_images = wants_all && self.connections == 1 && self.session.selection.is_all();
            if wants_all && self.spares.is_empty() {
                let spare = |_| self.clients.clone().build();
                self.spares = (1..self.connections).map(spare).collect();
            }
            let received = self.receive_list(with_images).await;
            if received.is_err() {
                self.session.state().planner.list_failed();
            }
            let received = received?;
            self.list_time = self.runtime.now().saturating_duration_since(begun);
            if self.lock_new_folder(scan.is_some()).await? {
                return self.end_list(received, scan).await;
            }
        }
    }

    /// Whether it is known before the LIST that images will be fetched: all that are selected.
    fn wants_all(&self) -> bool {
        let all = self.fetch == Fetch::All || !self.path.is_dir();
        all && !self.session.read_only
    }

    /// Begins to scan the folder. One that does not exist is created after the first LIST, so that a wrong address
    /// leaves no empty folder behind.
    pub(super) fn start_scan(&self, scan: bool) -> Result<Option<FolderScan>, Error> {
        if !scan || !self.path.is_dir() {
            return Ok(None);
        }
        self.open_folder()?;
        let Ok(folder) = self.session.folder() else {
            return Ok(None);
        };
        let progress = self.scan_progress();
        FolderScan::start(folder, self.scan_mode, self.in_folders, progress).map(Some)
    }

    /// Reports the progress of a scan, now and then.
    fn scan_progress(&self) -> impl FnMut(u64, u64) + Send + use<R> {
        let (session, runtime) = (Arc::clone(&self.session), self.runtime.clone());
        session.emit(&SyncEvent::Scanning { files: 0, read: 0 });
        let mut next = runtime.now() + SCANNING_INTERVAL;
        let mut read_before = 0;
        move |files, read| {
            if read == read_before && files % SCANNING_FILES != 0 {
                return;
            }
            read_before = read;
            let now = runtime.now();
            if now >= next && session.check().is_ok() {
                next = now + SCANNING_INTERVAL;
                session.emit(&SyncEvent::Scanning { files, read });
            }
        }
    }

    /// One that is only looked at may be missing. One that is open must still be the one at the path.
    pub(super) fn open_folder(&self) -> Result<(), Error> {
        if self.session.folder().is_ok() {
            return self.session.check_folder();
        }
        if self.session.read_only {
            if let Some(folder) = OutputFolder::open_read_only(&self.path)? {
                self.session.set_folder(folder);
            }
        } else {
            let folder = OutputFolder::open(&self.path)?;
            folder.index_stored();
            self.session.set_folder(folder);
        }
        Ok(())
    }

    /// Ends a LIST: compares it with the folder.
    pub(super) async fn end_list(
        &mut self,
        received: Received,
        scan: Option<FolderScan>,
    ) -> Result<(), Error> {
        self.open_folder()?;
        if let Some(mut scan) = scan {
            let absorbed = absorb_parts(&self.session, &mut scan);
            let scanned = match race(self.session.stopped(), absorbed).await {
                Either::First(()) => return Err(Error::Cancelled),
                Either::Second(scanned) => scanned?,
            };
            let summary = &scanned.summary;
            self.session.emit(&SyncEvent::Scanned {
                files: summary.files,
                read: summary.read,
            });
            for (name, error) in &scanned.unreadable {
                self.session.emit(&SyncEvent::Unreadable { name, error });
            }
            let state = &mut *self.session.state();
            state.settled_before = summary.settled_before;
            state.unreadable = scanned.unreadable_in(&self.session.selection);
            state.planner.set_folder(scanned.inventory);
        } else if !self.is_known {
            self.session.state().planner.set_folder(Inventory::new());
        }
        self.is_known = true;
        let report = {
            let state = &mut *self.session.state();
            let report = state.planner.end_list(received.is_complete());
            if self.session.mirror.is_some() {
                let selects = |name: &str| self.session.selects_extra(name);
                state.present = state.planner.present_selected(selects);
                state.awaits_mirror = true;
            }
            report
        };
        self.session.emit(&SyncEvent::Listed {
            report: &report,
            announced: received.announced,
        });
        self.session.emit_arrived();
        Ok(())
    }

    /// Receives a LIST. After lost connections it is requested again; if the same part of it arrives again, or most of
    /// it, that is used: some servers announce more entries than they send. // R6 R8
    ///
    /// `with_images`: all images are requested in the same write, at the first attempt.
    async fn receive_list(&mut self, mut with_images: bool) -> Result<Received, Error> {
        let mut retry = Retry::new(self.retries);
        let mut before = 0;
        loop {
            self.session.check()?;
            let with_images = std::mem::take(&mut with_images);
            let (received, result) = self.receive_once(with_images).await;
            let error = match result {
                Ok(()) => return Ok(received),
                Err(Error::Client(error)) => error,
                Err(error) => return Err(error),
            };
            let is_transient = error.is_transient();
            let is_violation = matches!(error, ClientFailure::Protocol(ClientError::Peer(_)));
            if with_images && is_violation && received.entries > 0 {
                // The images may have begun where another entry was due.
                continue;
            }
            if self.main.is_second(&error) {
                return Err(error.into());
            }
            let same = received.entries > 0 && received.entries == before;
            if is_transient && same {
                return Ok(received);
            }
            let timed_out = is_timeout(&error);
            let Err(error) = self.main.fail_over(error) else {
                before = received.entries;
                continue;
            };
            if !error.is_transient() {
                return Err(error.into());
            }
            // A server that was never reached may not exist.
            if !self.is_connected && was_never_reached(&error) {
                return Err(error.into());
            }
            self.is_connected = true;
            if timed_out && received.is_nearly_complete() {
                return Ok(received);
            }
            before = received.entries;
            let Some(pause) = retry.pause(error.is_rate_limited()) else {
                return match received.entries {
                    0 => Err(error.into()),
                    _ => Ok(received),
                };
            };
            self.main.report_retry(&error, pause);
            self.main.sleep(pause).await?;
        }
    }

    /// One attempt. Meanwhile the spare connections are made, once this one is.
    async fn receive_once(&mut self, with_images: bool) -> (Received, Result<(), Error>) {
        let session = Arc::clone(&self.session);
        if !self.spares.is_empty() {
            let connected = match race(session.stopped(), self.main.client.connect()).await {
                Either::First(()) => Err(Error::Cancelled),
                Either::Second(connected) => connected.map_err(Error::from),
            };
            if connected.is_err() {
                return (Received::default(), connected);
            }
        }
        let mut entries = match with_images {
            true => self.main.client.entries_and_images(),
            false => self.main.client.entries(),
        };
        let receiving = Box::pin(receive_entries(&session, &mut entries));
        let result = match race(connect(&mut self.spares), receiving).await {
            Either::First(never) => match never {},
            Either::Second(result) => result,
        };
        let received = Received {
            announced: entries.announced().unwrap_or(0),
            entries: entries.received(),
        };
        (received, result)
    }
}

/// Connects, as far as that succeeds: who uses a client later connects it again. Never ends.
async fn connect<R: Runtime>(clients: &mut [Client<R>]) -> Infallible {
    let clients = clients.iter_mut();
    let mut connecting: Vec<_> = clients.map(|client| Box::pin(client.connect())).collect();
    poll_fn(|cx| {
        connecting.retain_mut(|connecting| connecting.as_mut().poll(cx).is_pending());
        Poll::Pending
    })
    .await
}

/// Passes what a scan finds to the planner while it goes on, and returns the rest.
async fn absorb_parts(session: &Session, scan: &mut FolderScan) -> Result<Scanned, Error> {
    while let Some(part) = scan.next_part().await {
        session.state().planner.add_files(&part);
    }
    scan.finish()
}

/// Passes the entries of a LIST to the planner, until its end.
pub(super) async fn receive_entries<R: Runtime>(
    session: &Session,
    entries: &mut Entries<'_, R>,
) -> Result<(), Error> {
    session.state().begin_list();
    let (max_entries, max_bytes) = (session.limits.max_entries, session.limits.max_catalog_bytes);
    let mut bytes = 0;
    let receiving = async {
        while let Some(entry) = entries.next().await? {
            bytes += ENTRY_BYTES + entry.name.len();
            let state = &mut *session.state();
            session.add_entry(state, &entry);
            let needed = bytes + FOLDER_BYTES * state.planner.folders();
            if state.planner.len() > max_entries || needed > max_bytes {
                return Err(Error::CatalogTooLarge {
                    entries: max_entries,
                    bytes: max_bytes,
                });
            }
        }
        Ok(())
    };
    match race(session.stopped(), receiving).await {
        Either::First(()) => Err(Error::Cancelled),
        Either::Second(result) => result,
    }
}

fn was_never_reached(error: &ClientFailure) -> bool {
    match error {
        ClientFailure::Connect { .. } | ClientFailure::Tls { .. } => true,
        ClientFailure::Replicas(errors) => errors
            .iter()
            .all(|replica| was_never_reached(replica.error())),
        _ => false,
    }
}

fn is_timeout(error: &ClientFailure) -> bool {
    matches!(error, ClientFailure::Protocol(ClientError::TimedOut))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_catalog_lacks_at_most_16_entries_or_one_in_a_hundred() {
        for (announced, entries, expected) in [
            (16, 0, false),
            (17, 1, true),
            (18, 1, false),
            (2_000, 1_980, true),
            (2_000, 1_979, false),
        ] {
            let received = Received { announced, entries };
            assert_eq!(received.is_nearly_complete(), expected, "{received:?}");
        }
    }
}
