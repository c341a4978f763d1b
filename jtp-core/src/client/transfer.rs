//! Fetching images across connections: what to request next, what to request again, and when to give up.
//!
//! A [`ClientConnection`](super::ClientConnection) lives as long as its transport. A [`Transfer`] outlives it: it keeps
//! which images were received, requests a bad one once more (R2), and after a lost connection requests the rest on a
//! new one, after the pause that [`Retry`] gives (R6).

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::error::{ClientError, ServerError};
use super::request::{HaveSet, Request};
use crate::image::ImageId;
use crate::wire::request::MAX_GET;
use crate::wire::response::ErrorCode;

/// The default number of attempts in a row without progress. // R6
pub const DEFAULT_RETRIES: u32 = 3;

/// The first pause before a new attempt. Each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The first pause after `RateLimited`.
const FIRST_RATE_PAUSE: Duration = Duration::from_secs(1);

/// Maximum number of bad images that are requested once more. It bounds the memory for their IDs. // R2 R3
const MAX_FAULTED: usize = 100_000;

/// The maximum pause.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Counts attempts without progress, and gives the pause before the next one. // R6
///
/// ```
/// use std::time::Duration;
/// use jtp_core::client::Retry;
///
/// let mut retry = Retry::new(2);
/// let pauses = [retry.pause(false), retry.pause(false), retry.pause(false)];
/// assert_eq!(pauses, [Some(Duration::from_millis(250)), Some(Duration::from_millis(500)), None]);
/// retry.progress();
/// assert!(retry.pause(false).is_some());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    limit: u32,
    attempts: u32,
}

impl Retry {
    /// Allows `limit` attempts in a row without progress.
    #[must_use]
    pub const fn new(limit: u32) -> Retry {
        Retry { limit, attempts: 0 }
    }

    /// Notes progress: the count starts again at zero.
    pub fn progress(&mut self) {
        self.attempts = 0;
    }

    /// The pause before the next attempt; `None` if it is time to give up. It is longer after `RateLimited`.
    pub fn pause(&mut self, rate_limited: bool) -> Option<Duration> {
        if self.attempts >= self.limit {
            return None;
        }
        let first = if rate_limited {
            FIRST_RATE_PAUSE
        } else {
            FIRST_PAUSE
        };
        let pause = first.saturating_mul(1u32.checked_shl(self.attempts).unwrap_or(u32::MAX));
        self.attempts += 1;
        Some(pause.min(MAX_PAUSE))
    }
}

impl ClientError {
    /// Whether a new attempt may succeed: the connection ended or stalled, or the server reported `ServerError` or
    /// `RateLimited`. // R6
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            ClientError::EarlyEof
                | ClientError::TimedOut
                | ClientError::Server(ServerError {
                    code: ErrorCode::ServerError | ErrorCode::RateLimited,
                    ..
                })
        )
    }

    /// Whether the server reported `RateLimited`. // S15
    #[must_use]
    pub const fn is_rate_limited(&self) -> bool {
        matches!(
            self,
            ClientError::Server(ServerError {
                code: ErrorCode::RateLimited,
                ..
            })
        )
    }
}

/// A job that fetches certain images, or all images that the client lacks.
///
/// Make the requests that [`next_request`](Self::next_request) returns, and report each
/// [`Event::ImageEnd`](super::Event::ImageEnd) to [`image_end`](Self::image_end), each
/// [`Event::End`](super::Event::End) to [`response_end`](Self::response_end), and the end of a connection to
/// [`connection_lost`](Self::connection_lost).
///
/// ```
/// use jtp_core::client::{Request, Transfer};
/// use jtp_core::ImageId;
///
/// let mut transfer = Transfer::of([ImageId(1), ImageId(2)]);
/// assert_eq!(transfer.next_request(), Some(Request::GetById(vec![ImageId(1), ImageId(2)])));
/// transfer.image_end(ImageId(1), true);
/// transfer.connection_lost(); // Only one of the two was received.
/// assert_eq!(transfer.next_request(), Some(Request::GetById(vec![ImageId(2)])));
/// ```
#[derive(Debug, Clone)]
pub struct Transfer {
    /// The request for all missing images, until its response is complete.
    bulk: Option<Bulk>,
    /// Images to request by ID.
    queue: VecDeque<ImageId>,
    in_progress: VecDeque<InProgress>,
    /// Images that were bad once. // R2
    faulted: BTreeSet<ImageId>,
    absent: Vec<ImageId>,
}

/// A request for all images except those that the client has.
#[derive(Debug, Clone)]
struct Bulk {
    have: HaveSet,
    /// Images received since `have` was collected.
    received: Vec<ImageId>,
    /// Whether to use `LIST_AND_GET`, which is possible while the client has nothing.
    list_and_get: bool,
}

/// A request whose response is not complete.
#[derive(Debug, Clone)]
enum InProgress {
    Bulk,
    /// The images that are not received.
    Ids(Vec<ImageId>),
}

impl Transfer {
    fn new(bulk: Option<Bulk>, queue: VecDeque<ImageId>) -> Transfer {
        Transfer {
            bulk,
            queue,
            in_progress: VecDeque::new(),
            faulted: BTreeSet::new(),
            absent: Vec::new(),
        }
    }

    /// Fetches these images, 255 in each request.
    #[must_use]
    pub fn of(ids: impl IntoIterator<Item = ImageId>) -> Transfer {
        Transfer::new(None, ids.into_iter().collect())
    }

    /// Fetches all images except these, by BATCH.
    #[must_use]
    pub fn missing(have: HaveSet) -> Transfer {
        Transfer::new(
            Some(Bulk {
                have,
                received: Vec::new(),
                list_and_get: false,
            }),
            VecDeque::new(),
        )
    }

    /// Fetches all images, by `LIST_AND_GET`.
    #[must_use]
    pub fn all() -> Transfer {
        let bulk = Bulk {
            have: HaveSet::new(),
            received: Vec::new(),
            list_and_get: true,
        };
        Transfer::new(Some(bulk), VecDeque::new())
    }

    /// The next request to make; `None` while that depends on a response in progress, or when the job is done.
    ///
    /// If only certain images are fetched, several requests can be in progress.
    ///
    /// A BATCH after a lost connection names at most [`HaveSet::MAX`] images: the server sends the others again. // R6 S8
    pub fn next_request(&mut self) -> Option<Request> {
        if let Some(bulk) = &mut self.bulk {
            if !self.in_progress.is_empty() {
                return None;
            }
            let request = if bulk.list_and_get {
                Request::ListAndGet
            } else {
                if !bulk.received.is_empty() {
                    let all = bulk.have.iter().chain(bulk.received.iter().copied());
                    // It fits: `image_end` keeps the sum within the limit.
                    if let Ok(have) = HaveSet::try_from_iter(all) {
                        bulk.have = have;
                    }
                    bulk.received = Vec::new();
                }
                Request::Batch(bulk.have.clone())
            };
            self.in_progress.push_back(InProgress::Bulk);
            return Some(request);
        }
        if self.queue.is_empty() {
            return None;
        }
        let count = self.queue.len().min(MAX_GET);
        let ids: Vec<ImageId> = self.queue.drain(..count).collect();
        self.in_progress.push_back(InProgress::Ids(ids.clone()));
        Some(Request::GetById(ids))
    }

    /// Notes that an image was received, good or bad. Returns whether that is final: a bad image is requested once
    /// more, unless 100,000 others were bad before. // R2 R3
    pub fn image_end(&mut self, id: ImageId, good: bool) -> bool {
        match self.in_progress.front_mut() {
            Some(InProgress::Bulk) => {
                // A BATCH cannot name more: after a lost connection the server sends the others again. // R6
                if let Some(bulk) = &mut self.bulk {
                    if bulk.have.len() + bulk.received.len() < HaveSet::MAX {
                        bulk.received.push(id);
                    }
                }
            }
            Some(InProgress::Ids(ids)) => {
                if let Some(at) = ids.iter().position(|requested| *requested == id) {
                    ids.remove(at);
                }
            }
            None => {}
        }
        if good || self.faulted.len() >= MAX_FAULTED || !self.faulted.insert(id) {
            return true;
        }
        self.queue.push_back(id);
        false
    }

    /// Notes that the current response is complete. The server lacks the images that were requested by ID and not
    /// received. // S7
    pub fn response_end(&mut self) {
        match self.in_progress.pop_front() {
            Some(InProgress::Bulk) => self.bulk = None,
            Some(InProgress::Ids(ids)) => self.absent.extend(ids),
            None => {}
        }
    }

    /// Notes that the connection is lost. The images that were not received are requested again. // R6
    pub fn connection_lost(&mut self) {
        while let Some(request) = self.in_progress.pop_back() {
            match request {
                InProgress::Ids(ids) => ids
                    .into_iter()
                    .rev()
                    .for_each(|id| self.queue.push_front(id)),
                InProgress::Bulk => {
                    if let Some(bulk) = &mut self.bulk {
                        bulk.list_and_get &= bulk.received.is_empty();
                    }
                }
            }
        }
    }

    /// Whether nothing is left to request or to wait for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.bulk.is_none() && self.queue.is_empty() && self.in_progress.is_empty()
    }

    /// Images that were requested by ID and that the server does not have.
    #[must_use]
    pub fn absent(&self) -> &[ImageId] {
        &self.absent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: impl IntoIterator<Item = u64>) -> Vec<ImageId> {
        numbers.into_iter().map(ImageId).collect()
    }

    #[test]
    fn images_are_requested_255_at_a_time() {
        let mut transfer = Transfer::of(ids(0..300));
        assert!(!transfer.is_done());
        assert_eq!(transfer.next_request(), Some(Request::GetById(ids(0..255))));
        assert_eq!(
            transfer.next_request(),
            Some(Request::GetById(ids(255..300)))
        );
        assert_eq!(transfer.next_request(), None);
        for id in ids(0..250) {
            assert!(transfer.image_end(id, true));
        }
        transfer.response_end();
        assert_eq!(transfer.absent(), ids(250..255));
        assert!(!transfer.is_done());
        for id in ids(255..300) {
            assert!(transfer.image_end(id, true));
        }
        transfer.response_end();
        assert!(transfer.is_done());
    }

    #[test]
    fn r2_a_bad_image_is_requested_once_more() {
        let mut transfer = Transfer::all();
        assert_eq!(transfer.next_request(), Some(Request::ListAndGet));
        assert!(transfer.image_end(ImageId(1), true));
        assert!(!transfer.image_end(ImageId(2), false));
        assert_eq!(
            transfer.next_request(),
            None,
            "not before the response is complete"
        );
        transfer.response_end();
        assert_eq!(transfer.next_request(), Some(Request::GetById(ids([2]))));
        assert!(
            transfer.image_end(ImageId(2), false),
            "the second time is final"
        );
        transfer.response_end();
        assert!(transfer.is_done());
    }

    #[test]
    fn r6_after_a_lost_connection_the_rest_is_requested() {
        let mut transfer = Transfer::all();
        transfer.next_request().unwrap();
        transfer.connection_lost();
        assert_eq!(
            transfer.next_request(),
            Some(Request::ListAndGet),
            "nothing was received"
        );
        transfer.image_end(ImageId(1), true);
        transfer.image_end(ImageId(2), false);
        transfer.connection_lost();
        let have = HaveSet::try_from(ids([1, 2])).unwrap();
        assert_eq!(transfer.next_request(), Some(Request::Batch(have)));
        transfer.response_end();
        assert_eq!(transfer.next_request(), Some(Request::GetById(ids([2]))));

        let mut transfer = Transfer::of(ids(0..600));
        transfer.next_request().unwrap();
        transfer.next_request().unwrap();
        for id in ids(0..100) {
            transfer.image_end(id, true);
        }
        transfer.connection_lost();
        assert_eq!(
            transfer.next_request(),
            Some(Request::GetById(ids(100..355)))
        );
    }

    #[test]
    fn r6_after_a_lost_connection_a_batch_names_at_most_a_million_images() {
        let most = HaveSet::MAX as u64;
        let mut transfer = Transfer::missing(HaveSet::try_from(ids(0..most - 1)).unwrap());
        transfer.next_request().unwrap();
        for id in ids(most..most + 3) {
            transfer.image_end(id, true);
        }
        transfer.connection_lost();
        let Some(Request::Batch(have)) = transfer.next_request() else {
            panic!("no BATCH for the rest");
        };
        assert_eq!(have.len(), HaveSet::MAX);
    }

    #[test]
    fn r3_the_ids_of_bad_images_are_bounded() {
        let mut transfer = Transfer::all();
        transfer.next_request().unwrap();
        let most = MAX_FAULTED as u64;
        for id in ids(0..most) {
            assert!(!transfer.image_end(id, false), "it is requested once more");
        }
        for id in ids(most..most + 1000) {
            assert!(transfer.image_end(id, false), "too many bad images");
        }
        assert_eq!(transfer.faulted.len(), MAX_FAULTED);
        assert_eq!(transfer.queue.len(), MAX_FAULTED);
    }

    #[test]
    fn r6_an_id_that_is_requested_twice_is_expected_twice() {
        let mut transfer = Transfer::of(ids([1, 1]));
        transfer.next_request().unwrap();
        transfer.image_end(ImageId(1), true);
        transfer.connection_lost();
        assert_eq!(transfer.next_request(), Some(Request::GetById(ids([1]))));
    }

    #[test]
    fn r6_pauses_grow_up_to_the_maximum_and_end_with_the_limit() {
        let mut retry = Retry::new(40);
        let pauses: Vec<_> = core::iter::from_fn(|| retry.pause(true)).collect();
        assert_eq!(pauses.len(), 40);
        assert_eq!(pauses[..3], [1, 2, 4].map(Duration::from_secs));
        assert!(pauses.iter().all(|pause| *pause <= MAX_PAUSE));
        retry.progress();
        assert!(retry.pause(false).is_some());
        assert_eq!(Retry::new(0).pause(false), None);
    }

    #[test]
    fn r6_transient_errors_are_those_that_a_new_attempt_may_avoid() {
        let server = |code| ClientError::Server(ServerError::new(code, ""));
        assert!(ClientError::EarlyEof.is_transient());
        assert!(!ClientError::EarlyEof.is_rate_limited());
        assert!(server(ErrorCode::ServerError).is_transient());
        assert!(server(ErrorCode::RateLimited).is_rate_limited());
        assert!(!server(ErrorCode::InvalidRequest).is_transient());
        assert!(!server(ErrorCode::UnsupportedFeature).is_transient());
    }
}
