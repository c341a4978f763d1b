//! Compressing images in the background. // S9

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use cap_std::fs::Dir;
use jtp_core::ImageHasher;
use jtp_core::compress::{SAMPLE_LEN, Threshold, level};

use super::Shared;
use super::index::{FileRecord, Name};
use super::keeper::Message;
use crate::fingerprint::Fingerprint;
use crate::hash::{self, BUFFER_LEN, Chunks, Links};

/// An image to be compressed.
#[derive(Debug)]
pub(super) struct PressJob {
    pub(super) dir: Arc<Dir>,
    pub(super) name: Name,
    pub(super) record: FileRecord,
    /// The most bytes that its form may have.
    pub(super) room: u64,
}

/// How it went.
#[derive(Debug)]
pub(super) enum Pressed {
    /// The form, which was decompressed once and found to be the image.
    Form(Arc<[u8]>),
    /// Not worth it, or there is no room.
    Raw,
    /// The file is not the indexed one any more.
    Changed,
}

/// The compressing threads. Dropping it waits for them; they end at their next buffer when the store stops.
pub(super) struct Presser {
    jobs: Option<Sender<PressJob>>,
    threads: Vec<JoinHandle<()>>,
}

impl Presser {
    pub(super) fn start(
        threads: usize,
        threshold: Threshold,
        shared: &Arc<Shared>,
        outbox: &Sender<Message>,
    ) -> io::Result<Presser> {
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        let mut presser = Presser {
            jobs: Some(jobs),
            threads: Vec::new(),
        };
        for n in 0..threads {
            let (queue, shared, outbox) = (Arc::clone(&queue), Arc::clone(shared), outbox.clone());
            let thread = thread::Builder::new()
                .name(format!("jtp-press-{n}"))
                .spawn(move || work(&queue, threshold, &shared, &outbox))?;
            presser.threads.push(thread);
        }
        Ok(presser)
    }

    pub(super) fn threads(&self) -> usize {
        self.threads.len()
    }

    pub(super) fn send(&self, job: PressJob) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job);
        }
    }
}

impl Drop for Presser {
    fn drop(&mut self) {
        drop(self.jobs.take());
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(
    queue: &Mutex<Receiver<PressJob>>,
    threshold: Threshold,
    shared: &Shared,
    outbox: &Sender<Message>,
) {
    let mut buffer = Vec::new();
    loop {
        let job = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else {
            return;
        };
        if shared.stop.load(Ordering::Relaxed) {
            return;
        }
        let pressed = press(&job, threshold, &mut buffer, shared).unwrap_or_else(|e| {
            tracing::debug!(name = ?job.name, error = %e, "an image could not be compressed");
            Pressed::Changed
        });
        if outbox
            .send(Message::Pressed(job.name, job.record.id, pressed))
            .is_err()
        {
            return;
        }
    }
}

fn press(
    job: &PressJob,
    threshold: Threshold,
    buffer: &mut Vec<u8>,
    shared: &Shared,
) -> io::Result<Pressed> {
    let file = hash::open(&job.dir, &job.name, Links::Follow)?;
    let raw = u64::from(job.record.length);
    if Fingerprint::of_file(&file)? != job.record.fingerprint {
        return Ok(Pressed::Changed);
    }
    if raw > SAMPLE_LEN && !sample_is_worth_it(&file, raw, threshold)? {
        return Ok(Pressed::Raw);
    }
    let form = Bounded {
        bytes: Vec::new(),
        room: job.room,
        raw,
        threshold,
    };
    let mut encoder = zstd::stream::write::Encoder::new(form, level(raw))?;
    encoder.set_pledged_src_size(Some(raw))?;
    let mut reader = Chunks::new(&file, buffer);
    while let Some(chunk) = reader.next()? {
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(Pressed::Raw);
        }
        match encoder.write_all(chunk) {
            Ok(()) => {}
            Err(_) if encoder.get_ref().is_full() => return Ok(Pressed::Raw),
            Err(e) => return Err(e),
        }
    }
    let mut end = encoder.do_finish();
    if encoder.get_ref().is_full() {
        end = Ok(());
    }
    end?;
    let form = encoder.get_ref();
    if form.is_full() {
        return Ok(Pressed::Raw);
    }
    if Fingerprint::of_file(&file)? != job.record.fingerprint {
        return Ok(Pressed::Changed);
    }
    if !is_form_of(&form.bytes, job, shared)? {
        return Ok(Pressed::Changed);
    }
    Ok(Pressed::Form(Arc::from(form.bytes.as_slice())))
}

/// Compresses as much as [`SAMPLE_LEN`] from the middle: the beginning is often unlike the rest.
fn sample_is_worth_it(file: &File, raw: u64, threshold: Threshold) -> io::Result<bool> {
    let mut sample = vec![0; usize::try_from(SAMPLE_LEN).unwrap_or(BUFFER_LEN)];
    let middle = raw.saturating_sub(SAMPLE_LEN) / 2;
    let mut filled = 0;
    while let Some(rest) = sample.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let at = middle + u64::try_from(filled).unwrap_or(0);
        match hash::read_at(file, at, rest)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            n => filled += n,
        }
    }
    let form = zstd::bulk::compress(&sample, level(raw))?;
    Ok(threshold.accepts(SAMPLE_LEN, u64::try_from(form.len()).unwrap_or(u64::MAX)))
}

/// Whether the form gives the image back, within the window that every receiver takes. // W8
fn is_form_of(form: &[u8], job: &PressJob, shared: &Shared) -> io::Result<bool> {
    const WINDOW_LOG_MAX: u32 = 23;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(form)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut hasher = ImageHasher::new();
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let n = decoder.read(&mut buffer)?;
        if n == 0 {
            return Ok(hasher.id() == job.record.id);
        }
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
    }
}

/// Takes bytes as long as they are worth it and there is room.
struct Bounded {
    bytes: Vec<u8>,
    room: u64,
    raw: u64,
    threshold: Threshold,
}

impl Bounded {
    /// Whether it has more than it should: it is then not to be used.
    fn is_full(&self) -> bool {
        let len = u64::try_from(self.bytes.len()).unwrap_or(u64::MAX);
        len > self.room || !self.threshold.accepts(self.raw, len)
    }
}

impl Write for Bounded {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(buf);
        if self.is_full() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
