//! Brings the images of a response into memory, ahead of the bytes that are being sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use jtp_core::server::{BodyRequest, ServerConnection};
use jtp_core::{Image, ImageHasher, ImageId};

use crate::BoxFuture;
use crate::store::{ImageBody, ImageStore, OpenImage, ReadAhead, StoreError};

/// The length of a chunk. Two of them keep the store and the network busy at once.
const CHUNK: usize = 256 * 1024;

/// The length of a chunk while many connections are sent images: slower for one of them, not for all.
const SMALL_CHUNK: usize = 32 * 1024;

/// The number of connections of a server that use large chunks at a time. A peer that stops reading keeps what was
/// loaded for it: two chunks of an image, and as much again of the next ones.
const MAX_LARGE: usize = 64;

/// Images that are opened in one call.
const MAX_GROUP: usize = 128;

/// Chunks of one image that are loaded and not sent.
const MAX_CHUNKS: usize = 2;

/// The memory that a server has for large chunks.
#[derive(Debug, Default)]
pub(super) struct MemoryBudget {
    /// The number of connections that use it.
    used: AtomicUsize,
}

/// One connection's share of the budget; returned when dropped.
#[derive(Debug)]
struct Share(Arc<MemoryBudget>);

impl MemoryBudget {
    fn share(self: &Arc<Self>) -> Option<Share> {
        let take_one = |used| (used < MAX_LARGE).then_some(used + 1);
        let order = Ordering::Relaxed;
        let taken = self.used.fetch_update(order, order, take_one);
        taken.is_ok().then(|| Share(Arc::clone(self)))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What [`BodyReader::poll`] has loaded.
#[derive(Debug)]
pub(super) enum Loaded {
    /// The image was opened in this variant, and this many of its bytes are loaded.
    Opened(Image, u32),
    /// This many more bytes of the open image are loaded.
    Read(u32),
}

/// A call to open images, in the order of the response.
enum Opening {
    One(Image, BoxFuture<Result<OpenImage, StoreError>>),
    Many(Vec<Image>, BoxFuture<Vec<Result<OpenImage, StoreError>>>),
    Done(Image, Result<OpenImage, StoreError>),
}

impl Opening {
    fn first(&self) -> Option<Image> {
        match self {
            Opening::One(image, _) | Opening::Done(image, _) => Some(*image),
            Opening::Many(images, _) => images.first().copied(),
        }
    }

    fn is_pending(&self) -> bool {
        matches!(self, Opening::One(..) | Opening::Many(..))
    }

    fn images(&self) -> &[Image] {
        match self {
            Opening::One(image, _) | Opening::Done(image, _) => std::slice::from_ref(image),
            Opening::Many(images, _) => images,
        }
    }
}

/// The image that is being sent, while bytes of it are still to be read.
struct OpenBody {
    image: Image,
    body: Arc<dyn ImageBody>,
    /// Where the next read begins.
    next: u32,
    /// Ranges that are being read, in order.
    reads: VecDeque<Reading>,
    /// The hash of the bytes that were loaded, if they are the raw image.
    hasher: Option<ImageHasher>,
    /// Whether the last bytes were in memory. Then the next ones are read when they can be sent, on this thread.
    in_memory: bool,
}

enum Reading {
    Pending(BoxFuture<Result<Bytes, StoreError>>),
    Done(Result<Bytes, StoreError>),
}

/// Loaded bytes of the image that is being sent.
struct Chunk {
    offset: u32,
    bytes: Bytes,
}

/// The images of a response on their way from the store to the connection.
pub(super) struct BodyReader {
    budget: Arc<MemoryBudget>,
    /// Held while a response is under way, if one was available.
    share: Option<Share>,
    /// The store of the response under way.
    store: Option<Arc<dyn ImageStore>>,
    read_ahead: ReadAhead,
    /// Whether the store opens many images in one call.
    opens_many: bool,
    opening: VecDeque<Opening>,
    open: Option<OpenBody>,
    chunks: VecDeque<Chunk>,
    /// A buffer that was sent, for the next read in place: a new one would have to be zeroed.
    spare: BytesMut,
}

impl BodyReader {
    pub(super) fn new(budget: Arc<MemoryBudget>) -> Self {
        BodyReader {
            budget,
            share: None,
            store: None,
            read_ahead: ReadAhead::local(),
            opens_many: true,
            opening: VecDeque::new(),
            open: None,
            chunks: VecDeque::new(),
            spare: BytesMut::new(),
        }
    }

    /// A response begins, with images of this store.
    pub(super) fn begin_response(&mut self, store: Arc<dyn ImageStore>) {
        self.opening.clear();
        self.read_ahead = store.read_ahead();
        self.opens_many = true;
        self.store = Some(store);
    }

    /// Loaded bytes from `offset` of the open image on, at most as many as one write should send: an image in memory is
    /// one chunk, however long it is.
    pub(super) fn chunk(&self, offset: u32) -> &[u8] {
        self.chunks
            .front()
            .and_then(|chunk| {
                let at = usize::try_from(offset.checked_sub(chunk.offset)?).ok()?;
                let end = chunk.bytes.len().min(at.saturating_add(CHUNK));
                chunk.bytes.get(at..end)
            })
            .unwrap_or_default()
    }

    /// Releases chunks that were sent: those before `unsent`, or all of them.
    pub(super) fn release(&mut self, unsent: Option<u32>) {
        while let Some(chunk) = self.chunks.front() {
            let end = u64::from(chunk.offset).saturating_add(len64(&chunk.bytes));
            if unsent.is_some_and(|unsent| u64::from(unsent) < end) {
                return;
            }
            let sent = self.chunks.pop_front().map(|chunk| chunk.bytes);
            if let Some(Ok(buffer)) = sent.map(Bytes::try_into_mut) {
                if buffer.capacity() > self.spare.capacity() {
                    self.spare = buffer;
                }
            }
        }
    }

    /// Nothing more can be loaded. What is loaded is still to be sent: the machine counts on it. // S13
    pub(super) fn fail(&mut self) {
        self.opening.clear();
        self.open = None;
        self.spare = BytesMut::new();
    }

    /// Loads what comes next. `Ready` with the answer to the machine's request for a body.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        machine: &ServerConnection,
    ) -> Poll<Result<Loaded, StoreError>> {
        match machine.wants_body() {
            Some(BodyRequest::Open { image }) => loop {
                if self.opening.front().and_then(Opening::first) != Some(image) {
                    // Opened ahead for a response that CANCEL ended.
                    self.opening.clear();
                }
                if let Some(Opening::Done(..)) = self.opening.front() {
                    if let Some(Opening::Done(_, result)) = self.opening.pop_front() {
                        return Poll::Ready(result.and_then(|opened| self.begin(image, opened)));
                    }
                }
                self.open_ahead(machine);
                if self.opening.is_empty() {
                    return Poll::Ready(Err(StoreError::Gone(image.id)));
                }
                ready!(self.poll_opening(cx));
            },
            Some(BodyRequest::Read { image, offset }) => {
                if self.read_ahead.opens > 1 {
                    self.open_ahead(machine);
                    let _ = self.poll_opening(cx);
                }
                self.poll_read(cx, image, offset)
            }
            _ => {
                // The image is loaded as a whole; an idle connection keeps no file open.
                self.open = None;
                if machine.upcoming().next().is_none() {
                    // Nor memory.
                    self.opening = VecDeque::new();
                    self.spare = BytesMut::new();
                    if self.chunks.is_empty() {
                        self.share = None;
                    }
                } else {
                    // The next images are loaded while the last bytes of this one are sent.
                    self.open_ahead(machine);
                    let _ = self.poll_opening(cx);
                }
                Poll::Pending
            }
        }
    }

    fn budget(&mut self) -> usize {
        if self.share.is_none() {
            self.share = self.budget.share();
        }
        if self.share.is_some() {
            CHUNK
        } else {
            SMALL_CHUNK
        }
    }

    /// Opens images of the response ahead of their packets, as far as the store and the budget allow.
    fn open_ahead(&mut self, machine: &ServerConnection) {
        let Some(store) = self.store.clone() else {
            return;
        };
        let is_local = self.read_ahead.opens == 1;
        if is_local && self.opening.back().is_some_and(Opening::is_pending) {
            return;
        }
        let chunk = self.budget();
        let known = self.opening.iter().flat_map(Opening::images);
        let (mut count, mut bytes) = known.fold((0, 0), |(count, bytes), image| {
            (count + 1, bytes + first_len(image, chunk))
        });
        let (max_opens, max_bytes) = match self.share {
            // One call at a time. It is made while the images of the call before are being sent.
            _ if is_local && bytes >= chunk => return,
            _ if is_local => (self.opening.len() + 1, 2 * chunk),
            Some(_) => (self.read_ahead.opens, self.read_ahead.bytes),
            None => (self.read_ahead.opens.min(4), chunk),
        };
        let mut upcoming = machine.upcoming().skip(count).peekable();
        while let Some(first) = upcoming.next() {
            let length = first_len(&first, chunk);
            if count > 0 && (self.opening.len() >= max_opens || bytes + length > max_bytes) {
                return;
            }
            if self.opens_many && first_len(&first, usize::MAX) <= chunk {
                let mut group = vec![first];
                let mut total = length;
                while group.len() < MAX_GROUP {
                    let fits = |image: &Image| first_len(image, usize::MAX) <= chunk - total;
                    let Some(image) = upcoming.next_if(fits) else {
                        break;
                    };
                    total += first_len(&image, chunk);
                    group.push(image);
                }
                if group.len() > 1 {
                    if let Some(opening) = Arc::clone(&store).open_many(group.clone()) {
                        count += group.len();
                        bytes += total;
                        self.opening.push_back(Opening::Many(group, opening));
                        continue;
                    }
                    self.opens_many = false;
                }
                // One by one, as far as they are allowed.
                for image in group {
                    let length = first_len(&image, chunk);
                    if count > 0 && (self.opening.len() >= max_opens || bytes + length > max_bytes)
                    {
                        return;
                    }
                    self.start_open(&store, image, chunk);
                    count += 1;
                    bytes += length;
                }
                continue;
            }
            self.start_open(&store, first, chunk);
            count += 1;
            bytes += length;
        }
    }

    fn start_open(&mut self, store: &Arc<dyn ImageStore>, image: Image, chunk: usize) {
        let opening = Arc::clone(store).open(image, chunk);
        let opening = Box::pin(async move { with_first(opening.await?, chunk).await });
        self.opening.push_back(Opening::One(image, opening));
    }

    /// Polls the calls that are under way. `Ready` once the first image is open, or failed.
    fn poll_opening(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut at = 0;
        while let Some(opening) = self.opening.get_mut(at) {
            match opening {
                Opening::One(image, future) => {
                    if let Poll::Ready(result) = future.as_mut().poll(cx) {
                        *opening = Opening::Done(*image, result);
                    }
                }
                Opening::Many(images, future) => {
                    if let Poll::Ready(mut results) = future.as_mut().poll(cx) {
                        let images = std::mem::take(images);
                        if results.is_empty() {
                            // At least the first image has a result.
                            let gone = images.iter().map(|image| StoreError::Gone(image.id));
                            results.extend(gone.map(Err).take(1));
                        }
                        let done = images.into_iter().zip(results);
                        let done = done.map(|(image, result)| Opening::Done(image, result));
                        let rest = self.opening.split_off(at + 1);
                        self.opening.truncate(at);
                        self.opening.extend(done);
                        at = self.opening.len();
                        self.opening.extend(rest);
                        continue;
                    }
                }
                Opening::Done(..) => {}
            }
            at += 1;
        }
        match self.opening.front().is_some_and(Opening::is_pending) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    }

    /// Makes an image the one that is being sent.
    fn begin(&mut self, asked: Image, opened: OpenImage) -> Result<Loaded, StoreError> {
        let (image, first, body) = opened.into_parts();
        let loaded = u32::try_from(first.len()).unwrap_or(u32::MAX);
        let is_whole = loaded == image.length;
        if image.id != asked.id || loaded > image.length || (body.is_none() && !is_whole) {
            return Err(StoreError::Changed(asked.id)); // S13
        }
        let is_raw = !image.flags.is_compressed();
        if is_raw && is_whole && ImageId::of(&first) != image.id {
            return Err(self.mismatch(image));
        }
        let hasher = (is_raw && !is_whole).then(|| {
            let mut hasher = ImageHasher::new();
            hasher.update(&first);
            hasher
        });
        self.chunks.clear();
        if loaded > 0 {
            self.chunks.push_back(Chunk {
                offset: 0,
                bytes: first,
            });
        }
        self.open = body.filter(|_| !is_whole).map(|body| OpenBody {
            image,
            body,
            next: loaded,
            reads: VecDeque::new(),
            hasher,
            in_memory: true,
        });
        Ok(Loaded::Opened(image, loaded))
    }

    fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        image: Image,
        offset: u32,
    ) -> Poll<Result<Loaded, StoreError>> {
        if self.chunks.len() >= MAX_CHUNKS {
            return Poll::Pending;
        }
        let (chunk, max_reads) = (self.budget(), self.read_ahead.reads);
        let max_reads = if self.share.is_some() { max_reads } else { 1 };
        let Some(open) = self.open.as_mut().filter(|open| open.image == image) else {
            return Poll::Ready(Err(StoreError::Gone(image.id)));
        };
        if open.reads.is_empty() {
            if open.in_memory && !self.chunks.is_empty() {
                return Poll::Pending;
            }
            let mut buffer = std::mem::take(&mut self.spare);
            buffer.resize(range_len(image, offset, chunk), 0);
            let read = open.body.try_read(u64::from(offset), &mut buffer);
            open.in_memory = matches!(read, Ok(Some(_)));
            match read {
                Ok(Some(count)) => {
                    buffer.truncate(count);
                    open.next = offset.saturating_add(u32::try_from(count).unwrap_or(u32::MAX));
                    return Poll::Ready(self.loaded(image, offset, buffer.freeze()));
                }
                Ok(None) => self.spare = buffer,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        while open.reads.len() < max_reads && open.next < image.length {
            let length = range_len(image, open.next, chunk);
            let read = Arc::clone(&open.body).read(u64::from(open.next), length);
            open.reads.push_back(Reading::Pending(read));
            open.next = open
                .next
                .saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        }
        for reading in &mut open.reads {
            if let Reading::Pending(future) = reading {
                if let Poll::Ready(result) = Pin::new(future).poll(cx) {
                    *reading = Reading::Done(result);
                }
            }
        }
        if !matches!(open.reads.front(), Some(Reading::Done(_))) {
            return Poll::Pending;
        }
        match open.reads.pop_front() {
            Some(Reading::Done(Ok(bytes))) => Poll::Ready(self.loaded(image, offset, bytes)),
            Some(Reading::Done(Err(error))) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    }

    fn loaded(&mut self, image: Image, offset: u32, bytes: Bytes) -> Result<Loaded, StoreError> {
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if count == 0 || count > image.length.saturating_sub(offset) {
            return Err(StoreError::Changed(image.id)); // S13
        }
        // The bytes are hashed while they are in the processor's cache. The last ones are only released if the hash is the
        // ID: inodes and times of some file systems prove nothing. // S13
        let hasher = self.open.as_mut().and_then(|open| open.hasher.as_mut());
        if let Some(hasher) = hasher {
            hasher.update(&bytes);
            if offset + count == image.length && hasher.id() != image.id {
                return Err(self.mismatch(image));
            }
        }
        self.chunks.push_back(Chunk { offset, bytes });
        Ok(Loaded::Read(count))
    }

    /// The store gave bytes that are not the image's. // S13
    fn mismatch(&self, image: Image) -> StoreError {
        if let Some(store) = &self.store {
            store.report_mismatch(&image);
        }
        StoreError::Changed(image.id)
    }
}

/// Reads the first bytes of an image that was opened without any, so that a failure is known before its packet begins.
/// // S12
async fn with_first(opened: OpenImage, chunk: usize) -> Result<OpenImage, StoreError> {
    let (image, first, body) = opened.into_parts();
    match body {
        Some(body) if first.is_empty() && image.length > 0 => {
            let first = Arc::clone(&body)
                .read(0, range_len(image, 0, chunk))
                .await?;
            Ok(OpenImage::streamed(image, first, body))
        }
        Some(body) => Ok(OpenImage::streamed(image, first, body)),
        None => Ok(OpenImage::whole(image, first)),
    }
}

fn len64(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// The bytes of an image that are loaded when it is opened.
fn first_len(image: &Image, chunk: usize) -> usize {
    range_len(*image, 0, chunk)
}

/// The length of the range from `offset` on that is read at once.
fn range_len(image: Image, offset: u32, chunk: usize) -> usize {
    let left = image.length.saturating_sub(offset);
    usize::try_from(left).map_or(chunk, |left| left.min(chunk))
}
