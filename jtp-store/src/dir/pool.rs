//! The threads that read files: a bounded number, each with a buffer.

use std::fs::{File, Metadata};
use std::io::{self, Seek};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use cap_std::fs::Dir;
use jtp_core::{FileType, ImageId};

use super::left_out::LeftOutReason;
use super::mounts::{SharedMounts, not_mounted};
use super::non_images::{self, SharedLeftOut};
use super::quiet::Quiet;
use super::record::Name;
use super::shared::SharedKnown;
use crate::file_system::FileSystem;
use crate::fingerprint::{Fingerprint, SETTLE, Stat};
use crate::hash::{self, Chunks, Links};
use crate::known::Contents;
use crate::lease::{WriterCheck, Writers};
use crate::lock;
use crate::name::has_certain_extension;

/// The time until a file is tried again for which the system had no file descriptor or memory.
const SHORTAGE_DELAY: Duration = Duration::from_secs(1);

/// What to do with a file.
#[derive(Debug)]
pub(super) enum Task {
    /// Read the contents, unless the fingerprint is `known`: that of an image, or of a file that is none.
    Examine {
        quiet: Quiet,
        known: Option<Fingerprint>,
        /// What an earlier check found, and when. It shows that a file is quiet where the clock of the file
        /// system differs from ours.
        seen: Option<(Fingerprint, Instant)>,
        /// Read the file even if its fingerprint is `known`, or the index file has its contents.
        rehash: bool,
        /// The same for a file that is identified by its name.
        replaced: bool,
    },
    /// Compare the bytes with those of another file. // S4
    Compare {
        /// The ID of both.
        id: ImageId,
        fingerprint: Fingerprint,
        other: Name,
        other_fingerprint: Fingerprint,
    },
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) dir: Arc<Dir>,
    /// That of `dir`.
    pub(super) file_system: FileSystem,
    pub(super) name: Name,
    pub(super) task: Task,
}

impl Job {
    fn fingerprint(&self, stat: &Stat) -> Fingerprint {
        self.file_system.fingerprint(stat, &self.name)
    }
}

/// The outcome of a task.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The fingerprint is the known one.
    Unchanged,
    /// The contents are known; the file did not change while it was read.
    Read {
        fingerprint: Fingerprint,
        length: u32,
        contents: Contents,
        /// Whether the contents came from the index file.
        from_index_file: bool,
        /// The time until the fingerprint is settled, if the file was read too early for that.
        unsettled: Option<Duration>,
    },
    /// The file changed too recently; try again after `wait`.
    Unsettled {
        fingerprint: Fingerprint,
        wait: Duration,
    },
    /// A program has the file open for writing.
    OpenForWriting { fingerprint: Fingerprint },
    /// The system cannot open or read any file at the moment; try again after `wait`.
    Postponed { wait: Duration },
    /// There is no such file.
    Missing,
    /// The name has no image extension, and the first bytes are not those of an image.
    NotAnImage {
        fingerprint: Fingerprint,
        from_index_file: bool,
        /// The time until the fingerprint is settled.
        unsettled: Option<Duration>,
    },
    /// The name is that of a link that leads to no file.
    LeadsNowhere,
    /// The system cannot open or read the file at the moment, for a reason other than a shortage. It may still be there.
    Unreadable {
        /// That of the file, if its metadata can be read.
        fingerprint: Option<Fingerprint>,
        reason: String,
        /// Whether the folder that contains it cannot be opened or searched.
        with_folder: bool,
    },
    /// The file cannot be an image of the catalog.
    Refused {
        fingerprint: Option<Fingerprint>,
        kind: LeftOutReason,
        reason: String,
    },
    /// Both files have the same bytes.
    Equal,
    /// The files differ. // S4
    Different,
    /// The other file is missing or changed.
    OtherChanged,
    /// The store is being dropped.
    Stopped,
}

/// The threads. Dropping the pool joins them; once `stop` is set they end at their next buffer.
pub(super) struct Pool {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// Starts the threads. `report` gets each outcome, and whether the file can change under another name; it returns
    /// `false` to end the thread.
    pub(super) fn start(
        threads: usize,
        known: &Arc<SharedKnown>,
        left_out: &Arc<SharedLeftOut>,
        mounts: &Arc<SharedMounts>,
        stop: &Arc<AtomicBool>,
        report: impl Fn(Name, Outcome, bool) -> bool + Clone + Send + 'static,
    ) -> io::Result<Pool> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut pool = Pool {
            jobs: Some(jobs),
            threads: Vec::new(),
        };
        for n in 0..threads {
            let (queue, report) = (Arc::clone(&queue), report.clone());
            let mut worker = Worker {
                known: Arc::clone(known),
                left_out: Arc::clone(left_out),
                mounts: Arc::clone(mounts),
                stop: Arc::clone(stop),
                is_linked: false,
                writers: WriterCheck::default(),
                buffer: Vec::new(),
                other_buffer: Vec::new(),
            };
            let thread = thread::Builder::new()
                .name(format!("jtp-hash-{n}"))
                .spawn(move || worker.work(&queue, report))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    pub(super) fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The threads end before the queue only when the store stops.
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

struct Worker {
    known: Arc<SharedKnown>,
    left_out: Arc<SharedLeftOut>,
    mounts: Arc<SharedMounts>,
    stop: Arc<AtomicBool>,
    /// Whether the last file that was examined can change under another name.
    is_linked: bool,
    writers: WriterCheck,
    buffer: Vec<u8>,
    other_buffer: Vec<u8>,
}

impl Worker {
    fn work(&mut self, queue: &Mutex<Receiver<Job>>, report: impl Fn(Name, Outcome, bool) -> bool) {
        loop {
            let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(job) = job else {
                return;
            };
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            self.is_linked = false;
            let outcome = self.run(&job);
            if !report(job.name, outcome, self.is_linked) {
                return;
            }
        }
    }

    fn run(&mut self, job: &Job) -> Outcome {
        let result = match &job.task {
            Task::Examine {
                quiet,
                known,
                seen,
                rehash,
                replaced,
            } => self.examine(job, *quiet, *known, *seen, (*rehash, *replaced)),
            Task::Compare {
                id,
                fingerprint,
                other,
                other_fingerprint,
            } => self.compare(job, *id, *fingerprint, (other, *other_fingerprint)),
        };
        result.unwrap_or_else(|e| match e.kind() {
            io::ErrorKind::NotFound if self.mounts.hides(&job.dir, &job.name) => {
                Outcome::Unreadable {
                    fingerprint: None,
                    reason: not_mounted().to_string(),
                    with_folder: true,
                }
            }
            io::ErrorKind::NotFound if self.is_linked => Outcome::LeadsNowhere,
            io::ErrorKind::NotFound => Outcome::Missing,
            _ if hash::is_shortage(&e) => Outcome::Postponed {
                wait: SHORTAGE_DELAY,
            },
            _ => failed(job, &e),
        })
    }

    fn examine(
        &mut self,
        job: &Job,
        quiet: Quiet,
        known: Option<Fingerprint>,
        seen: Option<(Fingerprint, Instant)>,
        (rehash, replaced): (bool, bool),
    ) -> io::Result<Outcome> {
        // A pipe or device is not opened: that may have an effect on other programs.
        let found = hash::symlink_metadata(&job.dir, &job.name)?;
        self.is_linked = found.is_symlink();
        let (path, found) = hash::target(&job.dir, &job.name, found)?;
        if !found.is_file() {
            let fingerprint = job.fingerprint(&Stat::of_cap(&found));
            return Ok(not_a_file(fingerprint, found.is_dir(), self.is_linked));
        }
        let (is_link, file) = hash::open_link(&job.dir, &job.name);
        self.is_linked = is_link;
        let file = match file {
            // A program writes to it and lets nobody read it meanwhile.
            Err(e) if lock::is_sharing_violation(&e) => {
                let fingerprint = job.fingerprint(&Stat::of_cap(&found));
                return Ok(Outcome::OpenForWriting { fingerprint });
            }
            file => file?,
        };
        let metadata = file.metadata()?;
        self.is_linked |= has_more_names(&metadata);
        let fingerprint = job.fingerprint(&Stat::of(&metadata));
        if !metadata.is_file() {
            return Ok(not_a_file(fingerprint, metadata.is_dir(), is_link));
        }
        let rehash = rehash || (replaced && fingerprint.is_by_name());
        if known == Some(fingerprint) && !rehash {
            return Ok(Outcome::Unchanged);
        }
        let now = SystemTime::now();
        let is_second_look = seen.is_some_and(|(before, at)| {
            before == fingerprint && at.elapsed() >= fingerprint.settle_time()
        });
        let unsettled = match is_second_look && fingerprint.age(now).is_some() {
            true => None,
            false => fingerprint.unsettled(now),
        };
        let known = self.known.get(&fingerprint).filter(|_| !rehash);
        let is_no_image = known == Some(Contents::NOT_AN_IMAGE);
        let known = known.filter(|_| !is_no_image);
        let has_extension = path
            .file_name()
            .is_some_and(|name| has_certain_extension(&name.to_string_lossy()));
        if !has_extension && (is_no_image || !self.starts_as_image(&file)?) {
            return Ok(Outcome::NotAnImage {
                fingerprint,
                from_index_file: is_no_image,
                unsettled,
            });
        }
        let Ok(length) = u32::try_from(fingerprint.size) else {
            return Ok(Outcome::Refused {
                fingerprint: Some(fingerprint),
                kind: LeftOutReason::TooLarge,
                reason: "it is longer than 4,294,967,295 bytes, the limit of a packet".to_owned(), // S14
            });
        };
        let writers = self.writers.look(&file, (&job.dir, path.as_os_str()));
        if writers == Writers::Some {
            return Ok(Outcome::OpenForWriting { fingerprint });
        }
        if let Some(wait) = quiet.remaining(writers, &fingerprint, seen, SystemTime::now()) {
            return Ok(Outcome::Unsettled { fingerprint, wait });
        }
        if let Some(contents) = known {
            return Ok(Outcome::Read {
                fingerprint,
                length,
                contents,
                from_index_file: true,
                unsettled: None,
            });
        }
        let Some(hashed) = hash::hash(&file, &mut self.buffer, &self.stop)? else {
            return Ok(Outcome::Stopped);
        };
        let after = job.fingerprint(&Stat::of_file(&file)?);
        if after != fingerprint || hashed.length != fingerprint.size {
            return Ok(Outcome::Unsettled {
                fingerprint: after,
                wait: quiet.without_writers,
            });
        }
        let contents = Contents {
            id: hashed.id,
            sniffed: FileType::sniff(hashed.start()),
            incompressible_at: 0,
        };
        Ok(Outcome::Read {
            fingerprint,
            length,
            contents,
            from_index_file: false,
            unsettled,
        })
    }

    /// Whether a file without an image extension is an image by its first bytes.
    fn starts_as_image(&self, file: &File) -> io::Result<bool> {
        self.left_out.count_first_bytes();
        let mut start = [0; non_images::START_LEN];
        let length = hash::read_at(file, 0, &mut start)?;
        Ok(non_images::is_image_start(
            start.get(..length).unwrap_or_default(),
        ))
    }

    fn compare(
        &mut self,
        job: &Job,
        id: ImageId,
        fingerprint: Fingerprint,
        (other, other_fingerprint): (&Name, Fingerprint),
    ) -> io::Result<Outcome> {
        if fingerprint.size != other_fingerprint.size {
            return Ok(Outcome::Different);
        }
        if fingerprint == other_fingerprint && fingerprint.is_same_file(&other_fingerprint) {
            return Ok(Outcome::Equal); // Two links to one file.
        }
        let other_file = match hash::open(&job.dir, other, Links::Follow) {
            Ok(file) => file,
            Err(e) if hash::is_shortage(&e) => return Err(e),
            Err(_) => return Ok(Outcome::OtherChanged),
        };
        let file = hash::open(&job.dir, &job.name, Links::Follow)?;
        let mut equal = true;
        {
            let mut left = Chunks::new(&file, &mut self.buffer);
            let mut right = Chunks::new(&other_file, &mut self.other_buffer);
            while equal {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(Outcome::Stopped);
                }
                let Some(chunk) = left.next()? else {
                    break;
                };
                match right.next() {
                    Ok(other_chunk) => equal = other_chunk == Some(chunk),
                    Err(_) => return Ok(Outcome::OtherChanged),
                }
            }
        }
        if !fingerprint.is_of(&file, &job.name)? {
            return Ok(Outcome::Unsettled {
                fingerprint: job.fingerprint(&Stat::of_file(&file)?),
                wait: SETTLE,
            });
        }
        if !other_fingerprint.is_of(&other_file, other).unwrap_or(false) {
            return Ok(Outcome::OtherChanged);
        }
        if equal {
            return Ok(Outcome::Equal);
        }
        // Metadata may hide that a file has other bytes now than when it was read.
        let mut id_of = |mut file: File| {
            file.rewind()?;
            hash::hash(&file, &mut self.buffer, &self.stop)
        };
        match (id_of(file)?, id_of(other_file)?) {
            (Some(hashed), _) if hashed.id != id => {
                return self.examine(job, Quiet::CLOSED, None, None, (true, true));
            }
            (Some(_), Some(other)) if other.id != id => return Ok(Outcome::OtherChanged),
            (Some(_), Some(_)) => {}
            _ => return Ok(Outcome::Stopped),
        }
        Ok(Outcome::Different)
    }
}

/// The outcome for a file that cannot be opened or read.
fn failed(job: &Job, error: &io::Error) -> Outcome {
    // With a fingerprint the file is tried again when it changes.
    let found = hash::symlink_metadata(&job.dir, &job.name);
    let with_folder = found.as_ref().is_err_and(hash::is_inconclusive);
    let found = found.and_then(|found| hash::target(&job.dir, &job.name, found));
    let fingerprint = found.ok().map(|(_, m)| job.fingerprint(&Stat::of_cap(&m)));
    let reason = error.to_string();
    if hash::is_inconclusive(error) {
        return Outcome::Unreadable {
            fingerprint,
            reason,
            with_folder,
        };
    }
    Outcome::Refused {
        fingerprint,
        kind: kind_of(error),
        reason,
    }
}

/// The outcome for what is not a regular file.
fn not_a_file(fingerprint: Fingerprint, is_folder: bool, is_link: bool) -> Outcome {
    let (kind, reason) = match (is_folder, is_link) {
        (true, true) => (LeftOutReason::Link, "the link leads to a folder"),
        (true, false) => (LeftOutReason::Folder, "it is a folder"),
        (false, _) => (LeftOutReason::Special, "it is not a regular file"),
    };
    Outcome::Refused {
        fingerprint: Some(fingerprint),
        kind,
        reason: reason.to_owned(),
    }
}

/// Why a file is left out that cannot be opened or read.
fn kind_of(error: &io::Error) -> LeftOutReason {
    if hash::is_special_error(error) {
        return LeftOutReason::Special;
    }
    match hash::leads_out(error) || hash::is_link_error(error) {
        true => LeftOutReason::Link,
        false => LeftOutReason::Unreadable,
    }
}

/// Whether a file has several hard links.
#[cfg(unix)]
fn has_more_names(metadata: &Metadata) -> bool {
    std::os::unix::fs::MetadataExt::nlink(metadata) > 1
}

#[cfg(not(unix))]
fn has_more_names(_: &Metadata) -> bool {
    false
}
