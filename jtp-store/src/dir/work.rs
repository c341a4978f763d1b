//! The threads that read files: a bounded number, with a buffer each.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use cap_std::fs::Dir;
use jtp_core::FileType;

use super::Shared;
use super::index::Name;
use super::keeper::Message;
use crate::fingerprint::{Fingerprint, SETTLE};
use crate::hash::{self, Chunks, Links};
use crate::known::Contents;

/// What is to be found out about a file.
#[derive(Debug)]
pub(super) enum Task {
    /// What it holds, unless its fingerprint is `known`.
    Look {
        /// How old its last change must be.
        quiet: Duration,
        known: Option<Fingerprint>,
        /// What an earlier look saw, and when: the way to tell quiet where clocks disagree.
        seen: Option<(Fingerprint, Instant)>,
        /// Whether it is to be read although it is known from an earlier run.
        anew: bool,
    },
    /// Whether its bytes are those of another file. // S4
    Compare {
        fingerprint: Fingerprint,
        other: Name,
        other_fingerprint: Fingerprint,
    },
}

/// A task for the pool.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) dir: Arc<Dir>,
    pub(super) name: Name,
    pub(super) task: Task,
}

/// What a look or a comparison found.
#[derive(Debug)]
pub(super) enum Found {
    /// It is the known file.
    Same,
    /// It was read, and did not change meanwhile.
    New {
        fingerprint: Fingerprint,
        length: u32,
        contents: Contents,
    },
    /// It changed just now.
    Unsettled {
        fingerprint: Fingerprint,
        wait: Duration,
    },
    /// There is no such file.
    Gone,
    /// It cannot be an image of the catalog.
    Refused {
        fingerprint: Option<Fingerprint>,
        why: String,
    },
    /// Both files have the same bytes.
    Equal,
    /// They have not. // S4
    Different,
    /// The other file is gone or changed.
    OtherChanged,
    /// The store is being dropped.
    Stopped,
}

/// The threads. Dropping it waits for them; they end at their next buffer when the store stops.
pub(super) struct Pool {
    jobs: Option<Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    pub(super) fn start(
        threads: usize,
        shared: &Arc<Shared>,
        outbox: &Sender<Message>,
    ) -> io::Result<Pool> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut pool = Pool {
            jobs: Some(jobs),
            threads: Vec::new(),
        };
        for n in 0..threads {
            let (queue, shared, outbox) = (Arc::clone(&queue), Arc::clone(shared), outbox.clone());
            let thread = thread::Builder::new()
                .name(format!("jtp-hash-{n}"))
                .spawn(move || work(&queue, &shared, &outbox))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    pub(super) fn send(&self, job: Job) {
        if let Some(jobs) = &self.jobs {
            // The threads outlive the queue, so there is always one to receive.
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

fn work(queue: &Mutex<Receiver<Job>>, shared: &Shared, outbox: &Sender<Message>) {
    let mut worker = Worker {
        shared,
        buffer: Vec::new(),
        other_buffer: Vec::new(),
    };
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else {
            return;
        };
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let found = worker.run(&job);
        if outbox.send(Message::Found(job.name, found)).is_err() {
            return;
        }
    }
}

struct Worker<'a> {
    shared: &'a Shared,
    buffer: Vec<u8>,
    other_buffer: Vec<u8>,
}

impl Worker<'_> {
    fn run(&mut self, job: &Job) -> Found {
        let result = match &job.task {
            Task::Look {
                quiet,
                known,
                seen,
                anew,
            } => self.look(job, *quiet, *known, *seen, *anew),
            Task::Compare {
                fingerprint,
                other,
                other_fingerprint,
            } => self.compare(job, *fingerprint, other, *other_fingerprint),
        };
        result.unwrap_or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => Found::Gone,
            _ => Found::Refused {
                // So that it is tried again when it changes.
                fingerprint: job
                    .dir
                    .metadata(&*job.name)
                    .ok()
                    .map(|m| Fingerprint::of_cap(&m)),
                why: e.to_string(),
            },
        })
    }

    fn look(
        &mut self,
        job: &Job,
        quiet: Duration,
        known: Option<Fingerprint>,
        seen: Option<(Fingerprint, Instant)>,
        anew: bool,
    ) -> io::Result<Found> {
        let file = hash::open(&job.dir, &job.name, Links::Follow)?;
        let metadata = file.metadata()?;
        let fingerprint = Fingerprint::of(&metadata);
        let refused = |why: &str| {
            Ok(Found::Refused {
                fingerprint: Some(fingerprint),
                why: why.to_owned(),
            })
        };
        if !metadata.is_file() {
            return refused("not a regular file");
        }
        if known == Some(fingerprint) {
            return Ok(Found::Same);
        }
        let Ok(length) = u32::try_from(fingerprint.size) else {
            return refused("over 4,294,967,295 bytes, which no packet can carry"); // S14
        };
        if let Some(wait) = unsettled(fingerprint, quiet, seen) {
            return Ok(Found::Unsettled { fingerprint, wait });
        }
        if let Some(contents) = self.shared.known(&fingerprint).filter(|_| !anew) {
            return Ok(Found::New {
                fingerprint,
                length,
                contents,
            });
        }
        let Some(hashed) = hash::hash(&file, &mut self.buffer, &self.shared.stop)? else {
            return Ok(Found::Stopped);
        };
        let after = Fingerprint::of_file(&file)?;
        if after != fingerprint || hashed.length != fingerprint.size {
            return Ok(Found::Unsettled {
                fingerprint: after,
                wait: quiet,
            });
        }
        let contents = Contents {
            id: hashed.id,
            sniffed: FileType::sniff(hashed.start()),
            unworthy: 0,
        };
        Ok(Found::New {
            fingerprint,
            length,
            contents,
        })
    }

    fn compare(
        &mut self,
        job: &Job,
        fingerprint: Fingerprint,
        other: &Name,
        other_fingerprint: Fingerprint,
    ) -> io::Result<Found> {
        if fingerprint.size != other_fingerprint.size {
            return Ok(Found::Different);
        }
        if fingerprint == other_fingerprint {
            return Ok(Found::Equal); // Two links to one file.
        }
        let Ok(there) = hash::open(&job.dir, other, Links::Follow) else {
            return Ok(Found::OtherChanged);
        };
        let here = hash::open(&job.dir, &job.name, Links::Follow)?;
        let mut equal = true;
        {
            let mut left = Chunks::new(&here, &mut self.buffer);
            let mut right = Chunks::new(&there, &mut self.other_buffer);
            while equal {
                if self.shared.stop.load(Ordering::Relaxed) {
                    return Ok(Found::Stopped);
                }
                let Some(chunk) = left.next()? else {
                    break;
                };
                match right.next() {
                    Ok(theirs) => equal = theirs == Some(chunk),
                    Err(_) => return Ok(Found::OtherChanged),
                }
            }
        }
        let now = Fingerprint::of_file(&here)?;
        if now != fingerprint {
            return Ok(Found::Unsettled {
                fingerprint: now,
                wait: SETTLE,
            });
        }
        if !Fingerprint::of_file(&there).is_ok_and(|now| now == other_fingerprint) {
            return Ok(Found::OtherChanged);
        }
        Ok(if equal {
            Found::Equal
        } else {
            Found::Different
        })
    }
}

/// How long to wait until a file's last change is `quiet` ago; `None` if it is.
fn unsettled(
    fingerprint: Fingerprint,
    quiet: Duration,
    seen: Option<(Fingerprint, Instant)>,
) -> Option<Duration> {
    let age = fingerprint
        .age(SystemTime::now())
        .unwrap_or_else(|| match seen {
            Some((before, at)) if before == fingerprint => at.elapsed(),
            _ => Duration::ZERO,
        });
    let wait = quiet.checked_sub(age).filter(|wait| !wait.is_zero())?;
    // Timers may be a little early against the other clock.
    Some(wait + Duration::from_millis(1))
}
