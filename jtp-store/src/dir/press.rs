//! Compressing images in the background. // S9

use std::fs::File;
use std::io::{self, Read, Write};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use cap_std::fs::Dir;
use jtp_core::compress::{SAMPLE_LEN, Threshold, level};
use jtp_core::{ImageHasher, ImageId};

use super::Shared;
use super::index::{FileRecord, Form, Name};
use super::keeper::Message;
use crate::fingerprint::Fingerprint;
use crate::forms::{FormCache, FormKey, NewForm, Whole};
use crate::hash::{self, BUFFER_LEN, Chunks, Links};

/// An image to be compressed.
#[derive(Debug)]
pub(super) struct PressJob {
    pub(super) dir: Arc<Dir>,
    pub(super) name: Name,
    pub(super) record: FileRecord,
    /// Where the form goes; without a cache, into memory.
    pub(super) cache: Option<FormCache>,
    /// The most bytes that a form in memory may have.
    pub(super) room: u64,
}

impl PressJob {
    fn key(&self) -> FormKey {
        form_key(&self.record)
    }
}

/// The form that an image's file leads to.
pub(super) fn form_key(record: &FileRecord) -> FormKey {
    FormKey {
        id: record.id,
        level: level(u64::from(record.length)),
        raw: record.length,
        source: record.fingerprint,
    }
}

/// How it went.
#[derive(Debug)]
pub(super) enum Pressed {
    /// The form, which was decompressed once and found to be the image.
    Form(Form),
    /// Not worth it at this threshold.
    Unworthy,
    /// There is no room.
    NoRoom,
    /// The cache failed, and is done without from now on.
    NoCache,
    /// The file is not the indexed one any more.
    Changed,
    /// The store is being dropped.
    Stopped,
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

/// Finds or makes the form of an image.
pub(super) fn press(
    job: &PressJob,
    threshold: Threshold,
    buffer: &mut Vec<u8>,
    shared: &Shared,
) -> io::Result<Pressed> {
    let raw = u64::from(job.record.length);
    let found = |cache: &FormCache| cache.find(job.key(), &shared.stop);
    if let (Some(cache), Some((whole, same_file))) =
        (&job.cache, job.cache.as_ref().and_then(found))
    {
        let Whole { length, checksum } = whole;
        return Ok(if !threshold.accepts(raw, u64::from(length)) {
            Pressed::Unworthy
        } else if !same_file && !is_of_these_bytes(cache, job, whole, buffer, shared)? {
            // Of another file with the same ID: one of them has to do without. // S4
            Pressed::NoRoom
        } else {
            Pressed::Form(Form::Cached { length, checksum })
        });
    }
    let file = hash::open(&job.dir, &job.name, Links::Follow)?;
    if Fingerprint::of_file(&file)? != job.record.fingerprint {
        return Ok(Pressed::Changed);
    }
    if raw > SAMPLE_LEN && !sample_is_worth_it(&file, raw, threshold)? {
        return Ok(Pressed::Unworthy);
    }
    let sink = Sink {
        bytes: Vec::new(),
        length: 0,
        raw,
        threshold,
        cache: job.cache.clone(),
        room: job.room,
        form: None,
        full: None,
    };
    let mut encoder = zstd::stream::write::Encoder::new(sink, level(raw))?;
    encoder.set_pledged_src_size(Some(raw))?;
    let mut reader = Chunks::new(&file, buffer);
    let mut written = Ok(());
    while let (Ok(()), Some(chunk)) = (&written, reader.next()?) {
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(Pressed::Stopped);
        }
        written = encoder.write_all(chunk);
    }
    if written.is_ok() {
        written = encoder.do_finish();
    }
    if let Some(full) = encoder.get_mut().full.take() {
        return Ok(full);
    }
    written?;
    if Fingerprint::of_file(&file)? != job.record.fingerprint {
        return Ok(Pressed::Changed);
    }
    encoder.get_mut().finish(job, shared)
}

/// Whether a form that was made from another file of the same ID is this one's too: the bytes tell. // S4
fn is_of_these_bytes(
    cache: &FormCache,
    job: &PressJob,
    whole: Whole,
    buffer: &mut Vec<u8>,
    shared: &Shared,
) -> io::Result<bool> {
    const WINDOW_LOG_MAX: u32 = 23;
    let form = cache.open_form(job.key(), whole)?;
    let form = form.take(u64::from(whole.length));
    let mut decoder = zstd::stream::read::Decoder::new(form)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let file = hash::open(&job.dir, &job.name, Links::Follow)?;
    let mut theirs = vec![0; BUFFER_LEN];
    let mut reader = Chunks::new(&file, buffer);
    while let Some(chunk) = reader.next()? {
        let theirs = theirs.get_mut(..chunk.len()).unwrap_or_default();
        match decoder.read_exact(theirs) {
            Ok(()) if *theirs == *chunk => {}
            Ok(()) => return Ok(false),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(e) => return Err(e),
        }
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
    }
    let ends = decoder.read(&mut theirs)? == 0;
    Ok(ends && Fingerprint::of_file(&file)? == job.record.fingerprint)
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
fn is_form_of(form: impl Read, id: ImageId, shared: &Shared) -> io::Result<bool> {
    const WINDOW_LOG_MAX: u32 = 23;
    let mut decoder = zstd::stream::read::Decoder::new(form)?;
    decoder.window_log_max(WINDOW_LOG_MAX)?;
    let mut hasher = ImageHasher::new();
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        let n = decoder.read(&mut buffer)?;
        if n == 0 {
            return Ok(hasher.id() == id);
        }
        if shared.stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        hasher.update(buffer.get(..n).unwrap_or_default());
    }
}

/// What a form has in memory before it goes to the cache.
const SPILL: usize = 1024 * 1024;

/// Takes bytes as long as they are worth it and there is room: into memory, or by way of it into the cache.
struct Sink {
    bytes: Vec<u8>,
    length: u64,
    raw: u64,
    threshold: Threshold,
    cache: Option<FormCache>,
    room: u64,
    form: Option<NewForm>,
    /// Why it takes no more.
    full: Option<Pressed>,
}

impl Sink {
    /// Moves what is in memory into the cache. An error of the cache is none of the image's.
    fn spill(&mut self, cache: &FormCache) -> io::Result<()> {
        let mut spilt = || {
            if self.form.is_none() {
                self.form = Some(cache.begin()?);
            }
            match &mut self.form {
                Some(form) => form.append(&self.bytes),
                None => Ok(false),
            }
        };
        let spilt = spilt();
        self.bytes.clear();
        self.no_room_unless(cache, spilt)
    }

    fn no_room_unless(&mut self, cache: &FormCache, room: io::Result<bool>) -> io::Result<()> {
        self.full = match room {
            Ok(true) => return Ok(()),
            Ok(false) => Some(Pressed::NoRoom),
            Err(e) => Some(failed(cache, &e)),
        };
        Err(io::ErrorKind::WriteZero.into())
    }

    /// Checks the form and keeps it.
    fn finish(&mut self, job: &PressJob, shared: &Shared) -> io::Result<Pressed> {
        let id = job.record.id;
        let Some(cache) = self.cache.clone() else {
            return Ok(if is_form_of(self.bytes.as_slice(), id, shared)? {
                Pressed::Form(Form::Memory(Arc::from(self.bytes.as_slice())))
            } else {
                Pressed::Changed
            });
        };
        let spilt = self.spill(&cache);
        let (Ok(()), Some(mut form)) = (spilt, self.form.take()) else {
            return Ok(self.full.take().unwrap_or(Pressed::NoRoom));
        };
        if !is_form_of(form.read_back()?, id, shared)? {
            return Ok(Pressed::Changed);
        }
        match form.keep(job.key()) {
            Ok(Some(Whole { length, checksum })) => {
                Ok(Pressed::Form(Form::Cached { length, checksum }))
            }
            Ok(None) => Ok(Pressed::NoRoom),
            Err(e) => Ok(failed(&cache, &e)),
        }
    }
}

fn failed(cache: &FormCache, error: &io::Error) -> Pressed {
    cache.fail(error);
    Pressed::NoCache
}

impl Write for Sink {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.length += u64::try_from(buf.len()).unwrap_or(u64::MAX);
        let in_memory_too_long = self.cache.is_none() && self.length > self.room;
        if !self.threshold.accepts(self.raw, self.length) {
            self.full = Some(Pressed::Unworthy);
        } else if in_memory_too_long {
            self.full = Some(Pressed::NoRoom);
        }
        if self.full.is_some() {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(buf);
        if let Some(cache) = self.cache.clone().filter(|_| self.bytes.len() >= SPILL) {
            self.spill(&cache)?;
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
