//! One job: list the catalog, determine the missing images, and fetch them over one or more connections.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};

use jtp_core::ImageId;
use jtp_core::client::{CatalogEntry, HaveSet};
use jtp_store::{NamePlan, OutputError, OutputFolder, Scan};
use jtp_tokio::ShutdownSignal;
use jtp_tokio::client::Client;

use crate::client_args::ClientArgs;
use crate::connect::{self, Connector};
use crate::escape::escaped;
use crate::exit::{Exit, Failure};
use crate::fetch::{FetchState, output_failure};
use crate::progress::{OtherCounts, Progress, Style};
use crate::queue::DownloadQueue;
use crate::terminal::stderr_line;

/// The state that all jobs of one program run share.
#[derive(Debug)]
pub struct Session {
    /// The command line.
    pub args: ClientArgs,
    /// Creates the clients.
    pub connector: Connector,
    /// The shutdown request of the user.
    pub shutdown: ShutdownSignal,
    /// The output folder, once it is open.
    folder: Option<OutputFolder>,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Writer threads that have ended may still have a handle when the process exits.
        if let Some(folder) = &self.folder {
            folder.close();
        }
    }
}

/// The outcome of a job.
#[derive(Debug)]
pub struct JobOutcome {
    /// With `--watch`: the images of the catalog that are in the output folder now. Otherwise empty.
    pub present: HashSet<ImageId>,
    /// The exit code determined by the images.
    pub exit: Exit,
}

impl Session {
    /// Creates a session. The output folder is opened later.
    #[must_use]
    pub fn new(args: &ClientArgs, connector: Connector, shutdown: ShutdownSignal) -> Session {
        Session {
            args: args.clone(),
            connector,
            shutdown,
            folder: None,
        }
    }

    /// Requests the catalog.
    ///
    /// # Errors
    ///
    /// The request failed, or a shutdown was requested.
    pub async fn list(&self, client: &mut Client) -> Result<Vec<CatalogEntry<'static>>, Failure> {
        tokio::select! {
            biased;
            () = self.shutdown.wait() => Err(Failure::interrupted()),
            entries = client.list() => entries.map_err(|error| connect::failure(&error, &self.args)),
        }
    }

    /// Returns the output folder. Creates it if it is missing.
    ///
    /// # Errors
    ///
    /// The folder cannot be created or opened.
    pub fn folder(&mut self) -> Result<OutputFolder, Failure> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let folder = OutputFolder::open(&self.args.out).map_err(|error| output_failure(&error))?;
        Ok(self.folder.insert(folder).clone())
    }

    /// Runs the whole job once.
    ///
    /// # Errors
    ///
    /// The failure that ended the job early. Images that were complete by then are stored, and if the transfer had
    /// started, the summary has been printed.
    pub async fn run_job(&mut self, client: &mut Client) -> Result<JobOutcome, Failure> {
        // The folder is scanned while the catalog is received.
        let scan = match self.args.batch && self.args.out.is_dir() {
            true => Some(FolderScan::start(&self.folder()?, self.args.checksum)),
            false => None,
        };
        let entries = self.list(client).await?;
        tracing::debug!(images = entries.len(), "received the catalog");
        // Created only now, so that a mistyped address does not leave an empty folder behind.
        let folder = self.folder()?;
        let style = if self.args.quiet {
            Style::Quiet
        } else {
            Style::Bar
        };
        let mut progress = Progress::new(style);
        let present = match scan {
            Some(scan) => {
                progress.show_spinner(&format!("scanning {}", self.args.out.display()));
                let present = scan.finish(&self.shutdown).await;
                if present.is_err() {
                    progress.hide();
                }
                present?
            }
            None => Scan::default(),
        };
        // If no image is missing, no file names are needed.
        let complete = entries.iter().all(|entry| present.contains(entry.id));
        let (names, missing) = if complete {
            (NamePlan::new(), HashMap::new())
        } else {
            let names = plan_names(&entries);
            let missing = missing_images(&entries, &present, &names);
            (names, missing)
        };
        let total = missing.values().map(|size| u64::from(*size)).sum();
        progress.show_bar(count(missing.len()), total);
        let already = count(entries.len() - missing.len());
        let fetch = Arc::new(FetchState::new(
            &self.args,
            folder,
            progress,
            &self.shutdown,
        ));
        *fetch.names.write().unwrap_or_else(PoisonError::into_inner) = names;
        fetch.set_wanted(missing);

        let result = self.fetch(client, &fetch, &entries).await;
        let mut counts = OtherCounts {
            already,
            ..OtherCounts::default()
        };
        let result = match result {
            Ok(()) => {
                self.check_not_received(client, &fetch, &entries, &mut counts)
                    .await
            }
            Err(failure) => Err(failure),
        };
        counts.unfetched = count(
            fetch
                .wanted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len(),
        );
        fetch.progress.finish(counts);
        match result {
            // The exit code of failed images and that of the failure are combined.
            Err(failure) => Err(Failure {
                exit: failure.exit.max(fetch.progress.exit()),
                ..failure
            }),
            Ok(mut absent) => {
                let failed = fetch.failed.lock().unwrap_or_else(PoisonError::into_inner);
                absent.extend(failed.iter().copied());
                // Only `--watch` needs the images.
                let entries = if self.args.watch { &entries[..] } else { &[] };
                let present = entries
                    .iter()
                    .map(|entry| entry.id)
                    .filter(|id| !absent.contains(id))
                    .collect();
                Ok(JobOutcome {
                    present,
                    exit: fetch.progress.exit(),
                })
            }
        }
    }

    async fn fetch(
        &self,
        client: &mut Client,
        fetch: &Arc<FetchState>,
        entries: &[CatalogEntry<'static>],
    ) -> Result<(), Failure> {
        let wanted: Vec<(ImageId, u32)> = {
            let wanted = fetch.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let sized = |entry: &CatalogEntry<'_>| Some((entry.id, *wanted.get(&entry.id)?));
            entries.iter().filter_map(sized).collect()
        };
        if wanted.is_empty() {
            return Ok(());
        }
        let connections = usize::from(self.args.parallel).min(wanted.len());
        // A single request, if the IDs that the server must not send fit into a BATCH.
        if connections == 1 && entries.len() <= HaveSet::MAX {
            if wanted.len() == entries.len() {
                return fetch.fetch_request(client, Client::list_and_get).await;
            }
            let missing: HashSet<ImageId> = wanted.iter().map(|(id, _)| *id).collect();
            let have = entries
                .iter()
                .map(|entry| entry.id)
                .filter(|id| !missing.contains(id));
            if let Ok(have) = HaveSet::try_from_iter(have) {
                return fetch
                    .fetch_request(client, |client| client.batch(have))
                    .await;
            }
        }
        let queue = Arc::new(DownloadQueue::new(wanted, connections));
        let threads = self.start_connections(connections - 1, fetch, &queue);
        let mut results = vec![fetch.fetch_queued(client, &queue).await];
        results.extend(threads?.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(Failure::other("a connection thread panicked")))
        }));
        let failed: Vec<Failure> = results
            .iter()
            .filter_map(|result| result.clone().err())
            .collect();
        let Some(worst) = failed.iter().cloned().reduce(Failure::or_worse) else {
            return Ok(());
        };
        let all_failed = failed.len() == results.len();
        if all_failed || worst.exit >= Exit::Tls || self.shutdown.has_begun() {
            return Err(worst);
        }
        tracing::warn!(
            connections = failed.len(),
            "some connections failed: {worst}"
        );
        // The failed connections may have put images back after the others had finished.
        fetch.fetch_queued(client, &queue).await
    }

    /// Starts additional connections, each on its own thread, so that a slow disk blocks only one of them.
    fn start_connections(
        &self,
        count: usize,
        fetch: &Arc<FetchState>,
        queue: &Arc<DownloadQueue>,
    ) -> Result<Vec<JoinHandle<Result<(), Failure>>>, Failure> {
        let start = |n: usize| {
            let (fetch, queue) = (Arc::clone(fetch), Arc::clone(queue));
            let mut client = self.connector.client();
            thread::Builder::new()
                .name(format!("connection-{}", n + 2))
                .spawn(move || {
                    tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()
                        .map_err(|error| {
                            Failure::other(format!("cannot start a connection: {error}"))
                        })?
                        .block_on(fetch.fetch_queued(&mut client, &queue))
                })
                .map_err(|error| Failure::other(format!("cannot start a connection: {error}")))
        };
        (0..count).map(start).collect()
    }

    /// Determines why listed images were not received: the server has removed those that a second LIST no longer
    /// contains; the others have failed. Returns all of them.
    async fn check_not_received(
        &self,
        client: &mut Client,
        fetch: &FetchState,
        entries: &[CatalogEntry<'static>],
        counts: &mut OtherCounts,
    ) -> Result<HashSet<ImageId>, Failure> {
        let missing: HashSet<ImageId> = {
            let wanted = fetch.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            wanted.keys().copied().collect()
        };
        if missing.is_empty() {
            return Ok(missing);
        }
        let listed: HashSet<ImageId> = self
            .list(client)
            .await?
            .iter()
            .map(|entry| entry.id)
            .collect();
        for entry in entries.iter().filter(|entry| missing.contains(&entry.id)) {
            if listed.contains(&entry.id) {
                let name = {
                    let names = fetch.names.read().unwrap_or_else(PoisonError::into_inner);
                    names.name(entry.id, entry.flags.file_type())
                };
                fetch.progress.image_failed(
                    entry.id,
                    &name,
                    "not sent",
                    &"the server lists this image but did not send it",
                );
            } else {
                counts.gone += 1;
            }
        }
        fetch
            .wanted
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        Ok(missing)
    }
}

/// A scan of the output folder on a blocking thread. Dropping it cancels the scan.
struct FolderScan {
    cancelled: Arc<AtomicBool>,
    thread: tokio::task::JoinHandle<Result<Scan, OutputError>>,
}

impl FolderScan {
    fn start(folder: &OutputFolder, checksum: bool) -> FolderScan {
        let cancelled = Arc::new(AtomicBool::new(false));
        let (folder, flag) = (folder.clone(), Arc::clone(&cancelled));
        FolderScan {
            cancelled,
            thread: tokio::task::spawn_blocking(move || folder.scan_until(checksum, &flag)),
        }
    }

    /// Waits for the scan, or for a shutdown request.
    async fn finish(mut self, shutdown: &ShutdownSignal) -> Result<Scan, Failure> {
        let scanned = tokio::select! {
            scanned = &mut self.thread => scanned,
            () = shutdown.wait() => return Err(Failure::interrupted()),
        };
        let scan = scanned
            .map_err(|error| Failure::other(format!("scanning the output folder failed: {error}")))?
            .map_err(|error| output_failure(&error))?;
        for (name, error) in &scan.unreadable {
            stderr_line(format_args!(
                "warning: cannot read {}: {error}; treating it as missing",
                escaped(&name.to_string_lossy())
            ));
        }
        Ok(scan)
    }
}

impl Drop for FolderScan {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Assigns file names to all images of a catalog. // R5
#[must_use]
pub fn plan_names(entries: &[CatalogEntry<'_>]) -> NamePlan {
    let mut names = NamePlan::new();
    for entry in entries {
        names.add(entry.id, &entry.name, entry.flags.file_type());
    }
    names
}

/// Returns the images to fetch, with their sizes: those that the folder does not contain, and those whose last file
/// will be replaced by another image of the same name.
fn missing_images(
    entries: &[CatalogEntry<'_>],
    present: &Scan,
    names: &NamePlan,
) -> HashMap<ImageId, u32> {
    if present.ids.is_empty() {
        return entries
            .iter()
            .map(|entry| (entry.id, entry.length))
            .collect();
    }
    let by_id: HashMap<ImageId, &CatalogEntry<'_>> =
        entries.iter().map(|entry| (entry.id, entry)).collect();
    let mut ids_by_name: HashMap<String, ImageId> = HashMap::new();
    let mut copies: HashMap<ImageId, usize> = HashMap::new();
    for (id, files) in present.ids.iter().filter(|(id, _)| by_id.contains_key(id)) {
        ids_by_name.extend(files.iter().map(|file| (case_folded(file), *id)));
        copies.insert(*id, files.len());
    }
    let mut missing = HashMap::new();
    let mut pending: Vec<ImageId> = entries
        .iter()
        .map(|entry| entry.id)
        .filter(|id| !present.contains(*id))
        .collect();
    while let Some(id) = pending.pop() {
        let Some(entry) = by_id.get(&id) else {
            continue;
        };
        if missing.insert(id, entry.length).is_some() {
            continue;
        }
        let name = names.name(id, entry.flags.file_type());
        let Some(replaced) = ids_by_name.remove(&case_folded(name.as_str().as_ref())) else {
            continue;
        };
        if let Some(copies) = copies.get_mut(&replaced) {
            *copies -= 1;
            if *copies == 0 {
                pending.push(replaced);
            }
        }
    }
    missing
}

/// Folds the case of a file name, because some file systems ignore case.
fn case_folded(name: &std::ffi::OsStr) -> String {
    OsString::from(name).to_string_lossy().to_lowercase()
}

fn count(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use jtp_core::{FileType, Flags, Image};

    fn entries(list: &[(u64, &'static str)]) -> Vec<CatalogEntry<'static>> {
        list.iter()
            .map(|(id, name)| {
                let flags = Flags::new(FileType::Png, false);
                CatalogEntry::new(*name, Image::new(ImageId(*id), flags, 10))
            })
            .collect()
    }

    fn missing_ids(catalog: &[(u64, &'static str)], folder: &[(u64, &str)]) -> Vec<u64> {
        let entries = entries(catalog);
        let mut present = Scan::default();
        for (id, name) in folder {
            present
                .ids
                .entry(ImageId(*id))
                .or_default()
                .push(OsString::from(name));
        }
        let missing = missing_images(&entries, &present, &plan_names(&entries));
        let mut ids: Vec<u64> = missing.keys().map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn images_are_recognized_under_any_file_name() {
        let catalog = [(1, "a.png"), (2, "b.png")];
        assert_eq!(missing_ids(&catalog, &[]), [1, 2]);
        assert_eq!(missing_ids(&catalog, &[(1, "x.png")]), [2]);
        assert_eq!(
            missing_ids(&catalog, &[(1, "x.png"), (2, "b.png"), (3, "c.png")]),
            [0; 0]
        );
    }

    #[test]
    fn images_whose_last_file_will_be_replaced_are_fetched() {
        // The server renamed a.png to b.png and added a new a.png.
        let catalog = [(2, "a.png"), (1, "b.png")];
        assert_eq!(missing_ids(&catalog, &[(1, "a.png")]), [1, 2]);
        assert_eq!(missing_ids(&catalog, &[(1, "A.PNG")]), [1, 2]);
        assert_eq!(missing_ids(&catalog, &[(1, "a.png"), (1, "copy.png")]), [2]);
        // Each image replaces the file of the next one.
        let chain = [(3, "a.png"), (1, "b.png"), (2, "c.png")];
        assert_eq!(
            missing_ids(&chain, &[(1, "a.png"), (2, "b.png")]),
            [1, 2, 3]
        );
        // An image that the server no longer has may be replaced.
        assert_eq!(missing_ids(&[(2, "a.png")], &[(9, "a.png")]), [2]);
    }
}
