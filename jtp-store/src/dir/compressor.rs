//! Compresses images in the background, and knows how much memory their variants may take. // S9

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use cap_std::fs::Dir;
use jtp_core::ImageId;
use jtp_core::compress::Threshold;

use super::encode::{EncodeJob, Encoded, encode};
use super::record::{Name, Variant};
use super::settings::Settings;
use super::shared::SharedIndex;
use crate::known::Record;
use crate::variants::VariantCache;

/// The largest variant that is kept in memory. A server needs constant memory whatever the size of an image.
const MAX_IN_MEMORY: u64 = 16 * 1024 * 1024;

/// The shortest interval between two searches for variants that are missing from the cache.
const CACHE_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// The compressing threads, and the images that they work on.
pub(super) struct Compressor {
    workers: Workers,
    index: Arc<SharedIndex>,
    cache: Option<VariantCache>,
    /// The most bytes of all variants in memory.
    memory: u64,
    /// The images that are being compressed, and the bytes of memory reserved for each.
    in_progress: HashMap<ImageId, u64>,
    cache_checked: Option<Instant>,
}

/// What the caller has to do after a job.
pub(super) enum FollowUp {
    Nothing,
    /// Keep these records for the next run.
    Save(Vec<Record>),
    /// Check the file again.
    CheckFile,
}

impl Compressor {
    /// Starts the threads. `report` gets each outcome, and returns `false` to end the thread.
    pub(super) fn start(
        settings: &Settings,
        index: &Arc<SharedIndex>,
        stop: &Arc<AtomicBool>,
        report: impl Fn(Name, ImageId, Encoded) -> bool + Clone + Send + 'static,
    ) -> io::Result<Compressor> {
        let (threads, threshold) = (settings.compressing_threads, settings.threshold);
        Ok(Compressor {
            workers: Workers::start(threads, threshold, stop, report)?,
            index: Arc::clone(index),
            cache: settings.variant_cache.clone(),
            memory: settings.variant_memory,
            in_progress: HashMap::new(),
            cache_checked: None,
        })
    }

    /// Gives each idle thread an image from the queue.
    pub(super) fn fill(&mut self, dir: &Arc<Dir>) {
        let cache = self.cache.as_ref().filter(|cache| !cache.is_disabled());
        while self.in_progress.len() < self.workers.threads.len() {
            if cache.is_some_and(|cache| !cache.accepts_new()) {
                return;
            }
            let mut index = self.index.write();
            let taken = index.variant_bytes() + self.in_progress.values().sum::<u64>();
            let free = self.memory.saturating_sub(taken);
            if cache.is_none() && free == 0 {
                return;
            }
            let Some((name, record)) = index.next_to_compress() else {
                return;
            };
            drop(index);
            let memory = free.min(u64::from(record.length)).min(MAX_IN_MEMORY);
            let reserved = if cache.is_some() { 0 } else { memory };
            self.in_progress.insert(record.id, reserved);
            self.workers.send(EncodeJob {
                dir: Arc::clone(dir),
                name,
                record,
                cache: cache.cloned(),
                memory,
            });
        }
    }

    /// Takes the outcome of a job.
    pub(super) fn finished(&mut self, id: ImageId, encoded: Encoded) -> FollowUp {
        self.in_progress.remove(&id);
        let mut index = self.index.write();
        match encoded {
            Encoded::Variant(variant) => index.set_variant(id, variant),
            Encoded::NoRoom => index.set_no_room(id),
            Encoded::CacheFailed => index.retry_compression(id),
            Encoded::Stopped => {}
            Encoded::Incompressible => return FollowUp::Save(index.set_incompressible(id)),
            Encoded::FileChanged => {
                index.clear_variant_state(id);
                return FollowUp::CheckFile;
            }
        }
        FollowUp::Nothing
    }

    /// A variant is missing from the cache. Others may be missing too: those images are sent raw until their
    /// variants are made again.
    pub(super) fn variant_missing(&mut self, id: ImageId, now: Instant) {
        let Some(cache) = &self.cache else {
            return;
        };
        let recent = |at: Instant| now.duration_since(at) < CACHE_CHECK_INTERVAL;
        if self.cache_checked.is_some_and(recent) {
            return;
        }
        self.cache_checked = Some(now);
        let cached: Vec<ImageId> = self.index.read().with_cached_variant().collect();
        let mut missing = 0;
        for other in cached.into_iter().filter(|other| *other != id) {
            let located = self.index.read().located(other);
            let key = located.map(|located| located.record.variant_key());
            if key.is_some_and(|key| !cache.contains(key)) {
                self.index.write().remove_cached_variant(other);
                missing += 1;
            }
        }
        if missing > 0 {
            tracing::info!(
                missing,
                "another program removed compressed variants from the cache; they are made again"
            );
        }
    }

    /// A variant in the cache is not as it was made. It is discarded and made again. // S13
    pub(super) fn variant_damaged(&mut self, id: ImageId) {
        let Some(cache) = &self.cache else {
            return;
        };
        self.index.log().variant_damaged(id);
        let located = self.index.read().located(id);
        if let Some(located) = located {
            if matches!(located.variant, Some(Variant::Cached { .. })) {
                cache.discard(located.record.variant_key());
            }
        }
        self.index.write().remove_cached_variant(id);
    }
}

/// The threads. Dropping it joins them; once `stop` is set they end at their next buffer.
struct Workers {
    jobs: Option<Sender<EncodeJob>>,
    threads: Vec<JoinHandle<()>>,
}

impl Workers {
    fn start(
        threads: usize,
        threshold: Threshold,
        stop: &Arc<AtomicBool>,
        report: impl Fn(Name, ImageId, Encoded) -> bool + Clone + Send + 'static,
    ) -> io::Result<Workers> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut workers = Workers {
            jobs: Some(jobs),
            threads: Vec::new(),
        };
        for n in 0..threads {
            let (queue, stop, report) = (Arc::clone(&queue), Arc::clone(stop), report.clone());
            let thread = thread::Builder::new()
                .name(format!("jtp-zstd-{n}"))
                .spawn(move || work(&queue, threshold, &stop, report))?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    fn send(&self, job: EncodeJob) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(
    queue: &Mutex<Receiver<EncodeJob>>,
    threshold: Threshold,
    stop: &AtomicBool,
    report: impl Fn(Name, ImageId, Encoded) -> bool,
) {
    let mut buffer = Vec::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else {
            return;
        };
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let encoded = encode(&job, threshold, &mut buffer, stop).unwrap_or_else(|e| {
            tracing::debug!(name = ?job.name, error = %e, "an image cannot be compressed");
            Encoded::FileChanged
        });
        if !report(job.name, job.record.id, encoded) {
            return;
        }
    }
}
