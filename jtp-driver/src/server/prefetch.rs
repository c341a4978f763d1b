//! Brings the images of a response into memory, ahead of the bytes that are being sent.

mod budget;
mod opening;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use jtp_core::server::{BodyRequest, ServerConnection};
use jtp_core::{Image, ImageHasher, ImageId};

use crate::BoxFuture;
use crate::store::{ImageBody, ImageStore, OpenImage, ReadAhead, StoreError};
pub(super) use budget::MemoryBudget;
use budget::{Ahead, Reserved, Share};
use opening::{Call, Openings};

/// The length of a chunk. Two of them keep the store and the network busy at once.
const CHUNK: usize = 256 * 1024;

/// The length of a chunk while many connections are sent images: slower for one of them, not for all.
const SMALL_CHUNK: usize = 32 * 1024;

/// Images that are opened in one call.
const MAX_GROUP: usize = 128;

/// Chunks of one image that are loaded and not sent.
const MAX_CHUNKS: usize = 2;

/// What [`BodyReader::poll`] has loaded.
#[derive(Debug)]
pub(super) enum Loaded {
    /// The image was opened in this variant, and this many of its bytes are loaded.
    Opened(Image, u32),
    /// This many more bytes of the open image are loaded.
    Read(u32),
}

/// The image that is being sent, while bytes of it are still to be read.
struct OpenBody {
    image: Image,
    body: Arc<dyn ImageBody>,
    /// Where the next read begins.
    next: u32,
    /// Ranges that are being read, in order, and their lengths.
    reads: VecDeque<(usize, Reading)>,
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
    /// Returned when the chunk is sent.
    _reserved: Option<Arc<Reserved>>,
}

/// The images of a response on their way from the store to the connection.
pub(super) struct BodyReader {
    budget: Arc<MemoryBudget>,
    /// Held while a response is under way, if one was available.
    share: Option<Share>,
    ahead: Arc<Ahead>,
    /// The store of the response under way.
    store: Option<Arc<dyn ImageStore>>,
    read_ahead: ReadAhead,
    /// Whether the store opens many images in one call.
    opens_many: bool,
    opening: Openings,
    open: Option<OpenBody>,
    chunks: VecDeque<Chunk>,
    /// A buffer that was sent, for the next read in place: a new one would have to be zeroed.
    spare: BytesMut,
}

impl BodyReader {
    pub(super) fn new(budget: Arc<MemoryBudget>) -> Self {
        BodyReader {
            ahead: Ahead::new(Arc::clone(&budget)),
            budget,
            share: None,
            store: None,
            read_ahead: ReadAhead::local(),
            opens_many: true,
            opening: Openings::new(),
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
                let kept = self.spare.capacity() + 1..=2 * CHUNK;
                if kept.contains(&buffer.capacity()) {
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
                if self.opening.images().next() != Some(&image) {
                    // Opened ahead for a response that CANCEL ended.
                    self.opening.clear();
                }
                if let Some((result, reserved)) = self.opening.take_done() {
                    return Poll::Ready(
                        result.and_then(|opened| self.begin(image, opened, reserved)),
                    );
                }
                self.open_ahead(machine);
                if self.opening.is_empty() {
                    return Poll::Ready(Err(StoreError::Gone(image.id)));
                }
                ready!(self.opening.poll(cx));
            },
            Some(BodyRequest::Read { image, offset }) => {
                if self.read_ahead.opens > 1 {
                    self.open_ahead(machine);
                    let _ = self.opening.poll(cx);
                }
                self.poll_read(cx, image, offset)
            }
            _ => {
                // The image is loaded as a whole; an idle connection keeps no file open.
                self.open = None;
                if machine.upcoming().next().is_none() {
                    // Nor memory.
                    self.opening.clear();
                    self.spare = BytesMut::new();
                    if self.chunks.is_empty() {
                        self.share = None;
                    }
                } else {
                    // The next images are loaded while the last bytes of this one are sent.
                    self.open_ahead(machine);
                    let _ = self.opening.poll(cx);
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

    /// Opens images of the response ahead of their packets, as far as the store and the budget allow. If none is open, the
    /// next one is opened whatever the budget says, with its first chunk: the peer may be waiting for it.
    fn open_ahead(&mut self, machine: &ServerConnection) {
        let Some(store) = self.store.clone() else {
            return;
        };
        let ahead = self.read_ahead;
        let is_local = ahead.opens == 1;
        let is_full = match is_local {
            true => self.opening.is_last_pending(),
            false => self.opening.len() >= ahead.opens,
        };
        if is_full {
            return;
        }
        let chunk = self.budget();
        let known = self.opening.images();
        let (mut count, bytes) = known.fold((0, 0), |(count, bytes), image| {
            (count + 1, bytes + first_len(image, chunk))
        });
        // One call at a time to a store on this machine. It is made while the images of the call before are being sent,
        // and needs no reservation: with them it has two chunks at most.
        if is_local && bytes >= chunk {
            return;
        }
        let max_opens = match is_local {
            true => self.opening.len() + 1,
            false => ahead.opens,
        };
        let must_reserve = |count| count > 0 && !is_local;
        let mut upcoming = machine.upcoming().skip(count).peekable();
        while let Some(&first) = upcoming.peek() {
            if count > 0 && self.opening.len() >= max_opens {
                return;
            }
            if self.opens_many && first_len(&first, usize::MAX) <= chunk {
                let mut group = Vec::new();
                let mut total = 0;
                while group.len() < MAX_GROUP {
                    let fits = |image: &Image| first_len(image, usize::MAX) <= chunk - total;
                    let Some(image) = upcoming.next_if(fits) else {
                        break;
                    };
                    total += first_len(&image, chunk);
                    group.push(image);
                }
                let must_reserve = must_reserve(count);
                let reserved = must_reserve.then(|| self.reserve(total)).flatten();
                if must_reserve && reserved.is_none() {
                    return;
                }
                if let Some(opening) = Arc::clone(&store).open_many(group.clone()) {
                    count += group.len();
                    self.opening.start(Call::Many(group, opening), reserved);
                    continue;
                }
                self.opens_many = false;
                upcoming = machine.upcoming().skip(count).peekable();
                continue;
            }
            // As much of the image as is loaded ahead, or its first chunk if the budget does not allow that.
            let lengths = [ahead.first.max(chunk), chunk].map(|max| first_len(&first, max));
            let must_reserve = must_reserve(count);
            let mut lengths = lengths.into_iter().filter(|_| must_reserve);
            let reserved = lengths.find_map(|length| self.reserve(length));
            if must_reserve && reserved.is_none() {
                return;
            }
            let length = reserved.as_ref().map_or(chunk, |reserved| reserved.bytes);
            let opening = Arc::clone(&store).open(first, length);
            let opening = Box::pin(async move { with_first(opening.await?, chunk).await });
            self.opening.start(Call::One(first, opening), reserved);
            upcoming.next();
            count += 1;
        }
    }

    fn reserve(&self, bytes: usize) -> Option<Arc<Reserved>> {
        self.ahead.reserve(bytes, self.read_ahead.bytes)
    }

    /// Makes an image the one that is being sent.
    fn begin(
        &mut self,
        asked: Image,
        opened: OpenImage,
        reserved: Option<Arc<Reserved>>,
    ) -> Result<Loaded, StoreError> {
        let (image, first, body) = opened.into_parts();
        let loaded = u32::try_from(first.len()).unwrap_or(u32::MAX);
        let is_whole = loaded == image.length;
        if image.id != asked.id || loaded > image.length || (body.is_none() && !is_whole) {
            return Err(self.mismatch(asked)); // S13
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
                _reserved: reserved,
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
                    let count = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
                    open.next = offset.saturating_add(count);
                    return Poll::Ready(self.loaded(image, offset, buffer.freeze()));
                }
                Ok(None) => self.spare = buffer,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        while open.reads.len() < max_reads && open.next < image.length {
            let length = range_len(image, open.next, chunk);
            let read = Arc::clone(&open.body).read(u64::from(open.next), length);
            open.reads.push_back((length, Reading::Pending(read)));
            open.next = open
                .next
                .saturating_add(u32::try_from(length).unwrap_or(u32::MAX));
        }
        for (_, reading) in &mut open.reads {
            if let Reading::Pending(future) = reading {
                if let Poll::Ready(result) = Pin::new(future).poll(cx) {
                    *reading = Reading::Done(result);
                }
            }
        }
        if !matches!(open.reads.front(), Some((_, Reading::Done(_)))) {
            return Poll::Pending;
        }
        match open.reads.pop_front() {
            // The next range is read already: nothing reads what is missing here. // S13
            Some((length, Reading::Done(Ok(bytes)))) if bytes.len() != length => {
                Poll::Ready(Err(self.mismatch(image)))
            }
            Some((_, Reading::Done(Ok(bytes)))) => Poll::Ready(self.loaded(image, offset, bytes)),
            Some((_, Reading::Done(Err(error)))) => Poll::Ready(Err(error)),
            _ => Poll::Pending,
        }
    }

    fn loaded(&mut self, image: Image, offset: u32, bytes: Bytes) -> Result<Loaded, StoreError> {
        let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if count == 0 || count > image.length.saturating_sub(offset) {
            return Err(self.mismatch(image)); // S13
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
        self.chunks.push_back(Chunk {
            offset,
            bytes,
            _reserved: None,
        });
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
