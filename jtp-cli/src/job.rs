//! One job: the catalog, what is lacking, and fetching it over one or several connections.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};

use jtp_core::ImageId;
use jtp_core::client::{CatalogEntry, HaveSet};
use jtp_store::{NamePlan, OutputError, OutputFolder, Scan};
use jtp_tokio::client::Client;

use crate::client_args::ClientArgs;
use crate::connect::{self, Connector};
use crate::escape::escaped;
use crate::exit::{Exit, Failure};
use crate::fetch::{Fetch, disk_failure};
use crate::progress::{Progress, Rest, Style};
use crate::queue::Queue;
use crate::signals::Stop;
use crate::terminal::note_line;

/// What all jobs of a run have in common.
#[derive(Debug)]
pub struct Run {
    /// The command line.
    pub args: ClientArgs,
    /// The way to the server.
    pub connector: Connector,
    /// Whether the user wants to stop.
    pub stop: Stop,
    /// The output folder, once it has been opened.
    folder: Option<OutputFolder>,
}

/// How a job ended.
#[derive(Debug)]
pub struct Done {
    /// With `--watch`: the images that are in the folder now, as far as the catalog knows them.
    pub have: HashSet<ImageId>,
    /// The code that the images lead to.
    pub exit: Exit,
}

impl Run {
    /// A run without a job yet.
    #[must_use]
    pub fn new(args: &ClientArgs, connector: Connector, stop: Stop) -> Run {
        Run {
            args: args.clone(),
            connector,
            stop,
            folder: None,
        }
    }

    /// The catalog.
    ///
    /// # Errors
    ///
    /// The server cannot be asked, or the user wants to stop.
    pub async fn list(&self, client: &mut Client) -> Result<Vec<CatalogEntry<'static>>, Failure> {
        let mut stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.requested() => Err(Failure::interrupted()),
            entries = client.list() => entries.map_err(|error| connect::failure(&error, &self.args)),
        }
    }

    /// The output folder, which is made if it is missing.
    ///
    /// # Errors
    ///
    /// It cannot be made or opened.
    pub fn folder(&mut self) -> Result<OutputFolder, Failure> {
        if let Some(folder) = &self.folder {
            return Ok(folder.clone());
        }
        let folder = OutputFolder::open(&self.args.out).map_err(|error| disk_failure(&error))?;
        Ok(self.folder.insert(folder).clone())
    }

    /// Does the whole job once.
    ///
    /// # Errors
    ///
    /// What ended it early. Images that were complete by then are in place, and the last line has been printed.
    pub async fn job(&mut self, client: &mut Client) -> Result<Done, Failure> {
        // What is there is read while the catalog comes.
        let scanning = match self.args.batch && self.args.out.is_dir() {
            true => Some(Scanning::start(&self.folder()?, self.args.checksum)),
            false => None,
        };
        let entries = self.list(client).await?;
        tracing::debug!(images = entries.len(), "the catalog is here");
        // Made only now: whoever mistypes the address gets no empty folder.
        let folder = self.folder()?;
        let style = if self.args.quiet {
            Style::Quiet
        } else {
            Style::Bar
        };
        let mut progress = Progress::new(style);
        let held = match scanning {
            Some(scanning) => {
                progress.preparing(&format!("reading what {} holds", self.args.out.display()));
                let held = scanning.held(&self.stop).await;
                if held.is_err() {
                    progress.hide();
                }
                held?
            }
            None => Scan::default(),
        };
        // Where nothing is lacking, nothing needs a name.
        let complete = entries.iter().all(|entry| held.contains(entry.id));
        let (names, lacking) = if complete {
            (NamePlan::new(), HashMap::new())
        } else {
            let names = plan_names(&entries);
            let lacking = lacking(&entries, &held, &names);
            (names, lacking)
        };
        let total = lacking.values().map(|size| u64::from(*size)).sum();
        progress.fetching(count(lacking.len()), total);
        let already = count(entries.len() - lacking.len());
        let fetch = Arc::new(Fetch::new(&self.args, folder, progress, &self.stop));
        *fetch.names.write().unwrap_or_else(PoisonError::into_inner) = names;
        fetch.want(lacking);

        let result = self.fetch(client, &fetch, &entries).await;
        let mut rest = Rest {
            already,
            ..Rest::default()
        };
        let result = match result {
            Ok(()) => {
                self.account_for_missing(client, &fetch, &entries, &mut rest)
                    .await
            }
            Err(failure) => Err(failure),
        };
        rest.unfetched = count(
            fetch
                .wanted
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len(),
        );
        fetch.progress.finish(rest);
        match result {
            // A failed image is no reason to hide a worse failure, nor the other way round.
            Err(failure) => Err(Failure {
                exit: failure.exit.max(fetch.progress.exit()),
                ..failure
            }),
            Ok(mut missing) => {
                let failed = fetch.failed.lock().unwrap_or_else(PoisonError::into_inner);
                missing.extend(failed.iter().copied());
                // Who does not stay needs to remember nothing.
                let entries = if self.args.watch { &entries[..] } else { &[] };
                let have = entries
                    .iter()
                    .map(|entry| entry.id)
                    .filter(|id| !missing.contains(id))
                    .collect();
                Ok(Done {
                    have,
                    exit: fetch.progress.exit(),
                })
            }
        }
    }

    async fn fetch(
        &self,
        client: &mut Client,
        fetch: &Arc<Fetch>,
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
        let workers = usize::from(self.args.parallel).min(wanted.len());
        // One request for everything, as long as the server can be told what not to send.
        if workers == 1 && entries.len() <= HaveSet::MAX {
            if wanted.len() == entries.len() {
                return fetch.all(client, Client::list_and_get).await;
            }
            let lacks: HashSet<ImageId> = wanted.iter().map(|(id, _)| *id).collect();
            let have = entries
                .iter()
                .map(|entry| entry.id)
                .filter(|id| !lacks.contains(id));
            if let Ok(have) = HaveSet::try_from_iter(have) {
                return fetch.all(client, |client| client.batch(have)).await;
            }
        }
        let queue = Arc::new(Queue::new(wanted, workers));
        let others = self.start_others(workers - 1, fetch, &queue);
        let mut results = vec![fetch.work(client, &queue).await];
        results.extend(others?.into_iter().map(|other| {
            other
                .join()
                .unwrap_or_else(|_| Err(Failure::other("a connection's thread failed")))
        }));
        let failed: Vec<Failure> = results
            .iter()
            .filter_map(|result| result.clone().err())
            .collect();
        let Some(worst) = failed.iter().cloned().reduce(Failure::or_worse) else {
            return Ok(());
        };
        let some_work = failed.len() < results.len();
        if !some_work || worst.exit >= Exit::Tls || self.stop.is_requested() {
            return Err(worst);
        }
        tracing::warn!(
            connections = failed.len(),
            "connections that could not be used: {worst}"
        );
        // Those that ended well may have been done before the others gave their work back.
        fetch.work(client, &queue).await
    }

    /// Starts the other connections, each on a thread of its own: a disk that is slow to take an image holds up
    /// no other connection.
    fn start_others(
        &self,
        count: usize,
        fetch: &Arc<Fetch>,
        queue: &Arc<Queue>,
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
                        .block_on(fetch.work(&mut client, &queue))
                })
                .map_err(|error| Failure::other(format!("cannot start a connection: {error}")))
        };
        (0..count).map(start).collect()
    }

    /// Finds out why listed images did not come: those that are not in the catalog any more are gone, the others
    /// have failed. Returns all of them.
    async fn account_for_missing(
        &self,
        client: &mut Client,
        fetch: &Fetch,
        entries: &[CatalogEntry<'static>],
        rest: &mut Rest,
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
                fetch.progress.failed(
                    entry.id,
                    &name,
                    "not sent",
                    &"the server lists it, but does not send it",
                );
            } else {
                rest.gone += 1;
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

/// A thread that reads what the folder holds, until it is dropped.
struct Scanning {
    enough: Arc<AtomicBool>,
    thread: tokio::task::JoinHandle<Result<Scan, OutputError>>,
}

impl Scanning {
    fn start(folder: &OutputFolder, anew: bool) -> Scanning {
        let enough = Arc::new(AtomicBool::new(false));
        let (folder, until) = (folder.clone(), Arc::clone(&enough));
        Scanning {
            enough,
            thread: tokio::task::spawn_blocking(move || folder.scan_until(anew, &until)),
        }
    }

    /// What was found, unless the user wants to stop before.
    async fn held(mut self, stop: &Stop) -> Result<Scan, Failure> {
        let mut stop = stop.clone();
        let scanned = tokio::select! {
            scanned = &mut self.thread => scanned,
            () = stop.requested() => return Err(Failure::interrupted()),
        };
        let held = scanned
            .map_err(|error| Failure::other(format!("reading the output folder failed: {error}")))?
            .map_err(|error| disk_failure(&error))?;
        for (name, error) in &held.unreadable {
            note_line(format_args!(
                "warning: cannot read {}: {error}; taken as not there",
                escaped(&name.to_string_lossy())
            ));
        }
        Ok(held)
    }
}

impl Drop for Scanning {
    fn drop(&mut self) {
        self.enough.store(true, Ordering::Relaxed);
    }
}

/// The names of all images of a catalog. // R5
#[must_use]
pub fn plan_names(entries: &[CatalogEntry<'_>]) -> NamePlan {
    let mut names = NamePlan::new();
    for entry in entries {
        names.add(entry.id, &entry.name, entry.flags.file_type());
    }
    names
}

/// The images to fetch, with their sizes: what the folder lacks, and what it would lack afterwards since a file
/// is replaced by another image of the same name.
fn lacking(entries: &[CatalogEntry<'_>], held: &Scan, names: &NamePlan) -> HashMap<ImageId, u32> {
    if held.ids.is_empty() {
        return entries
            .iter()
            .map(|entry| (entry.id, entry.length))
            .collect();
    }
    let by_id: HashMap<ImageId, &CatalogEntry<'_>> =
        entries.iter().map(|entry| (entry.id, entry)).collect();
    let mut holders: HashMap<String, ImageId> = HashMap::new();
    let mut copies: HashMap<ImageId, usize> = HashMap::new();
    for (id, files) in held.ids.iter().filter(|(id, _)| by_id.contains_key(id)) {
        holders.extend(files.iter().map(|file| (folded(file), *id)));
        copies.insert(*id, files.len());
    }
    let mut lacking = HashMap::new();
    let mut found: Vec<ImageId> = entries
        .iter()
        .map(|entry| entry.id)
        .filter(|id| !held.contains(*id))
        .collect();
    while let Some(id) = found.pop() {
        let Some(entry) = by_id.get(&id) else {
            continue;
        };
        if lacking.insert(id, entry.length).is_some() {
            continue;
        }
        let name = names.name(id, entry.flags.file_type());
        let Some(replaced) = holders.remove(&folded(name.as_str().as_ref())) else {
            continue;
        };
        if let Some(copies) = copies.get_mut(&replaced) {
            *copies -= 1;
            if *copies == 0 {
                found.push(replaced);
            }
        }
    }
    lacking
}

/// Names that some file systems take for one.
fn folded(name: &std::ffi::OsStr) -> String {
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

    fn lacking_ids(catalog: &[(u64, &'static str)], folder: &[(u64, &str)]) -> Vec<u64> {
        let entries = entries(catalog);
        let mut held = Scan::default();
        for (id, name) in folder {
            held.ids
                .entry(ImageId(*id))
                .or_default()
                .push(OsString::from(name));
        }
        let lacking = lacking(&entries, &held, &plan_names(&entries));
        let mut ids: Vec<u64> = lacking.keys().map(|id| id.0).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn an_image_is_had_under_whatever_name() {
        let catalog = [(1, "a.png"), (2, "b.png")];
        assert_eq!(lacking_ids(&catalog, &[]), [1, 2]);
        assert_eq!(lacking_ids(&catalog, &[(1, "x.png")]), [2]);
        assert_eq!(
            lacking_ids(&catalog, &[(1, "x.png"), (2, "b.png"), (3, "c.png")]),
            [0; 0]
        );
    }

    #[test]
    fn an_image_whose_last_file_will_be_replaced_is_fetched_too() {
        // On the server a.png was renamed to b.png, and a new image is a.png.
        let catalog = [(2, "a.png"), (1, "b.png")];
        assert_eq!(lacking_ids(&catalog, &[(1, "a.png")]), [1, 2]);
        assert_eq!(lacking_ids(&catalog, &[(1, "A.PNG")]), [1, 2]);
        assert_eq!(lacking_ids(&catalog, &[(1, "a.png"), (1, "copy.png")]), [2]);
        // One pushes out the next.
        let chain = [(3, "a.png"), (1, "b.png"), (2, "c.png")];
        assert_eq!(
            lacking_ids(&chain, &[(1, "a.png"), (2, "b.png")]),
            [1, 2, 3]
        );
        // An image that the server has no more may go.
        assert_eq!(lacking_ids(&[(2, "a.png")], &[(9, "a.png")]), [2]);
    }
}
