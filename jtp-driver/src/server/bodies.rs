//! Bringing images from the store into memory, a piece at a time, while earlier pieces are being sent.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use jtp_core::Image;
use jtp_core::server::{BodyWanted, ServerConnection};
use jtp_store::{ImageBody, ImageStore, LoadError, Loaded, load};

use crate::runtime::Runtime;

/// The bytes of one piece. Two of them keep disk and network busy at once.
const PIECE: usize = 256 * 1024;

/// The bytes of one piece where many connections are sent images: slower for one, and no slower for all of them.
const SMALL_PIECE: usize = 32 * 1024;

/// How many connections of a server read in large pieces at a time. A reader that stops keeps what was read for
/// it: two pieces, and one of the images that follow.
const MOST_LARGE: usize = 64;

/// The most images that one trip to the disk opens.
const MOST_IMAGES: usize = 128;

/// A piece of an open image, the image for the next one, and whether that may be there without a wait.
type Piece = (Box<dyn ImageBody>, Result<Vec<u8>, LoadError>, bool);

/// What a blocking task brings back.
enum Job<R: Runtime> {
    /// The next images, from the first on.
    Load(R::Job<Vec<Result<Loaded, LoadError>>>),
    /// The next piece of the open image.
    Read(R::Job<Piece>),
}

/// The memory that a server has for large pieces.
#[derive(Debug, Default)]
pub(super) struct Memory {
    /// How many connections use it.
    used: AtomicUsize,
}

/// One connection's share of it; given back when dropped.
#[derive(Debug)]
struct Share(Arc<Memory>);

impl Memory {
    fn share(self: &Arc<Self>) -> Option<Share> {
        let one_more = |used| (used < MOST_LARGE).then_some(used + 1);
        let order = Ordering::Relaxed;
        let shared = self.used.fetch_update(order, order, one_more);
        shared.is_ok().then(|| Share(Arc::clone(self)))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.0.used.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The images of a response on their way through memory.
pub(super) struct Bodies<R: Runtime, S: ?Sized> {
    store: Arc<S>,
    memory: Arc<Memory>,
    /// While a response is under way, if there was one to be had.
    share: Option<Share>,
    job: Option<Job<R>>,
    /// Images that were read ahead.
    ahead: VecDeque<Result<Loaded, LoadError>>,
    /// The rest of the image that is being sent.
    open: Option<Box<dyn ImageBody>>,
    /// Pieces that are loaded and not sent; of the first one `sent` bytes are.
    pieces: VecDeque<Vec<u8>>,
    sent: usize,
    /// Whether the next piece may be in memory: what has to wait for no disk is read here, when it can be sent, and
    /// so is not taken from one processor to another.
    ready: bool,
    /// A piece that was sent, for the next one: new memory would have to be cleared each time.
    spare: Option<Vec<u8>>,
}

impl<R: Runtime, S: ImageStore + ?Sized> Bodies<R, S> {
    pub(super) fn new(store: Arc<S>, memory: Arc<Memory>) -> Self {
        Bodies {
            store,
            memory,
            share: None,
            job: None,
            ahead: VecDeque::new(),
            open: None,
            pieces: VecDeque::new(),
            sent: 0,
            ready: R::LOADS_ASIDE,
            spare: None,
        }
    }

    /// The next bytes of the body that are in memory.
    pub(super) fn piece(&self) -> &[u8] {
        self.pieces
            .front()
            .and_then(|piece| piece.get(self.sent..))
            .unwrap_or_default()
    }

    /// So many bytes of [`Bodies::piece`] were sent.
    pub(super) fn sent(&mut self, count: usize) {
        self.sent += count;
        if self
            .pieces
            .front()
            .is_some_and(|piece| self.sent >= piece.len())
        {
            self.spare = self.pieces.pop_front();
            self.sent = 0;
        }
    }

    /// Nothing more can be loaded. What is loaded is still to be sent: the machine counts on it. // S13
    pub(super) fn failed(&mut self) {
        self.job = None;
        self.ahead.clear();
        self.open = None;
        self.spare = None;
    }

    /// Gets ready what comes next; `Ready` with the answer to a wanted body when there is one.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        connection: &ServerConnection,
    ) -> Poll<Result<u32, LoadError>> {
        if !R::LOADS_ASIDE && !self.piece().is_empty() {
            return Poll::Pending;
        }
        match connection.wants_body() {
            Some(BodyWanted { image, offset: 0 }) => loop {
                if let Some(next) = self.ahead.pop_front() {
                    match next {
                        Ok(loaded) if loaded.image == image => {
                            return Poll::Ready(Ok(self.begin(loaded)));
                        }
                        Ok(_) => {
                            // Read ahead for another response: CANCEL came in between.
                            self.ahead.clear();
                        }
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                self.start_load(connection.upcoming());
                ready!(self.poll_job(cx))?;
            },
            Some(wanted) => {
                if self.pieces.len() >= 2 {
                    return Poll::Pending;
                }
                if self.ready && self.job.is_none() {
                    if !self.piece().is_empty() {
                        return Poll::Pending;
                    }
                    if let Some(read) = self.try_read(wanted).transpose() {
                        return Poll::Ready(read);
                    }
                    self.ready = false;
                }
                self.start_read(wanted);
                let before = self.pieces.len();
                ready!(self.poll_job(cx))?;
                match self.pieces.back() {
                    Some(piece) if self.pieces.len() > before => {
                        Poll::Ready(Ok(u32::try_from(piece.len()).unwrap_or(u32::MAX)))
                    }
                    _ => Poll::Pending,
                }
            }
            None => {
                // All of the image is loaded, and its file is not held open for a connection at rest.
                self.open = None;
                // What was read ahead for a response that CANCEL has ended is of no use to a later one: its
                // files may have been changed by then. Nor is memory kept at rest.
                if connection.upcoming().next().is_none() {
                    self.ahead = VecDeque::new();
                    self.spare = None;
                    self.job.take_if(|job| matches!(job, Job::Load(_)));
                    if self.pieces.is_empty() {
                        self.share = None;
                    }
                }
                // While the last of what is loaded goes out, the next images come in.
                if self.job.is_none() && self.ahead.is_empty() {
                    self.start_load(connection.upcoming());
                }
                if self.job.is_some() {
                    ready!(self.poll_job(cx))?;
                }
                Poll::Pending
            }
        }
    }

    /// Makes an image the one that is being sent; how much of it is loaded.
    fn begin(&mut self, loaded: Loaded) -> u32 {
        let count = u32::try_from(loaded.first.len()).unwrap_or(u32::MAX);
        self.open = loaded.body;
        self.pieces.clear();
        self.sent = 0;
        if count > 0 {
            self.pieces.push_back(loaded.first);
        }
        count
    }

    /// How long the next piece may be.
    fn budget(&mut self) -> usize {
        if self.share.is_none() {
            self.share = self.memory.share();
        }
        if self.share.is_some() {
            PIECE
        } else {
            SMALL_PIECE
        }
    }

    fn start_load(&mut self, upcoming: impl Iterator<Item = Image>) {
        if self.job.is_some() {
            return;
        }
        let images: Vec<Image> = upcoming.take(MOST_IMAGES).collect();
        if images.is_empty() {
            return;
        }
        let (store, budget) = (Arc::clone(&self.store), self.budget());
        self.job = Some(Job::Load(R::spawn_blocking(move || {
            load(&*store, &images, budget)
        })));
    }

    fn start_read(&mut self, wanted: BodyWanted) {
        if self.job.is_some() {
            return;
        }
        let Some(mut body) = self.open.take() else {
            return;
        };
        let count = self.next_len(wanted);
        let mut piece = self.spare.take().unwrap_or_default();
        self.job = Some(Job::Read(R::spawn_blocking(move || {
            piece.resize(count, 0);
            let offset = u64::from(wanted.offset);
            let (read, ready) = match body.try_read_at(offset, &mut piece) {
                Ok(None) => (body.read_at(offset, &mut piece), false),
                Ok(Some(count)) => (Ok(count), true),
                Err(error) => (Err(error), true),
            };
            let result = read.map_err(LoadError::from).map(|count| {
                piece.truncate(count);
                piece
            });
            (body, result, ready)
        })));
    }

    /// The next piece, if it is in memory; how long it is.
    fn try_read(&mut self, wanted: BodyWanted) -> Result<Option<u32>, LoadError> {
        let Some(mut body) = self.open.take() else {
            return Ok(None);
        };
        let mut piece = self.spare.take().unwrap_or_default();
        piece.resize(self.next_len(wanted), 0);
        let read = body.try_read_at(u64::from(wanted.offset), &mut piece);
        self.open = Some(body);
        let Some(count) = read? else {
            self.spare = Some(piece);
            return Ok(None);
        };
        piece.truncate(count);
        self.pieces.push_back(piece);
        Ok(Some(u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// How long the next piece is to be.
    fn next_len(&mut self, wanted: BodyWanted) -> usize {
        let left = wanted.image.length - wanted.offset;
        let budget = self.budget();
        usize::try_from(left).map_or(budget, |left| left.min(budget))
    }

    /// Takes in what the job under way has brought. A store that panics takes the connection with it, and
    /// nothing else.
    fn poll_job(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), LoadError>> {
        match &mut self.job {
            Some(Job::Load(job)) => {
                let loaded = ready!(Pin::new(job).poll(cx));
                self.job = None;
                self.ahead.extend(loaded);
            }
            Some(Job::Read(job)) => {
                let (body, piece, ready) = ready!(Pin::new(job).poll(cx));
                self.job = None;
                self.ready = ready && R::LOADS_ASIDE;
                self.open = Some(body);
                self.pieces.push_back(piece?);
            }
            None => {}
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_have_a_share_and_a_next_one_when_one_is_given_back() {
        let memory = Arc::new(Memory::default());
        let mut shares: Vec<Share> = std::iter::from_fn(|| memory.share()).collect();
        assert_eq!(shares.len(), MOST_LARGE);
        drop(shares.pop());
        assert!(memory.share().is_some());
        drop(shares);
        assert_eq!(memory.used.load(Ordering::Relaxed), 0);
    }
}
