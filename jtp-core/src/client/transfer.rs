//! Fetching images across connections: what to ask for next, what to ask for again, and when to give up.
//!
//! A [`ClientConnection`](super::ClientConnection) lives as long as its transport. A [`Transfer`] outlives it:
//! images that were complete stand, a bad one is asked for once more (R2), and after a loss the rest is
//! asked for on a new connection, with back-off (R6).

use alloc::collections::{BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::time::Duration;

use super::error::{ClientError, ServerError};
use super::request::{HaveSet, Request};
use crate::image::ImageId;
use crate::wire::request::MAX_GET;
use crate::wire::response::ErrorCode;

/// How often a client tries again without progress, by default. // R6
pub const DEFAULT_RETRIES: u32 = 3;

/// The first pause before a new try; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(250);

/// The first pause after `RateLimited`.
const FIRST_RATE_PAUSE: Duration = Duration::from_secs(1);

/// The most bad images of a job that are asked for once more: a server that sends nothing else must not fill
/// the memory with their IDs. // R2 R3
const MOST_FAULTED: usize = 100_000;

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Counts tries without progress, and says how long to wait before the next. // R6
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
    tries: u32,
}

impl Retry {
    /// At most `limit` tries in a row without progress.
    #[must_use]
    pub const fn new(limit: u32) -> Retry {
        Retry { limit, tries: 0 }
    }

    /// Something was achieved: the count begins anew.
    pub fn progress(&mut self) {
        self.tries = 0;
    }

    /// How long to wait before the next try; `None` if it is time to give up. A server that said
    /// `RateLimited` is given longer.
    pub fn pause(&mut self, rate_limited: bool) -> Option<Duration> {
        if self.tries >= self.limit {
            return None;
        }
        let first = if rate_limited {
            FIRST_RATE_PAUSE
        } else {
            FIRST_PAUSE
        };
        let pause = first.saturating_mul(1u32.checked_shl(self.tries).unwrap_or(u32::MAX));
        self.tries += 1;
        Some(pause.min(LONGEST_PAUSE))
    }
}

impl ClientError {
    /// Whether a new connection may help: the connection ended or stalled, or the server had a failure of
    /// its own or wants fewer requests. // R6
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

    /// Whether the server wants fewer requests. // S15
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

/// One job of fetching images: certain ones, or all that are not had.
///
/// Ask with [`next_request`](Self::next_request); tell of each
/// [`Event::ImageEnd`](super::Event::ImageEnd) by [`image_end`](Self::image_end), of each
/// [`Event::End`](super::Event::End) by [`response_end`](Self::response_end), of a connection's end by
/// [`connection_lost`](Self::connection_lost).
///
/// ```
/// use jtp_core::client::{Request, Transfer};
/// use jtp_core::ImageId;
///
/// let mut transfer = Transfer::of([ImageId(1), ImageId(2)]);
/// assert_eq!(transfer.next_request(), Some(Request::GetById(vec![ImageId(1), ImageId(2)])));
/// transfer.image_end(ImageId(1), true);
/// transfer.connection_lost(); // Of the two one is there.
/// assert_eq!(transfer.next_request(), Some(Request::GetById(vec![ImageId(2)])));
/// ```
#[derive(Debug, Clone)]
pub struct Transfer {
    /// What the catalog is to be asked for as a whole, until that is done.
    rest: Option<Rest>,
    /// What is to be asked for by ID.
    queue: VecDeque<ImageId>,
    asked: VecDeque<Asked>,
    /// What came broken once. // R2
    faulted: BTreeSet<ImageId>,
    absent: Vec<ImageId>,
}

/// All images but these.
#[derive(Debug, Clone)]
struct Rest {
    have: HaveSet,
    /// Came since.
    came: Vec<ImageId>,
    /// Whether `LIST_AND_GET` says it, which is so as long as nothing is had.
    whole: bool,
}

/// A request whose response is not complete.
#[derive(Debug, Clone)]
enum Asked {
    Rest,
    /// What has not come yet.
    Ids(Vec<ImageId>),
}

impl Transfer {
    fn new(rest: Option<Rest>, queue: VecDeque<ImageId>) -> Transfer {
        Transfer {
            rest,
            queue,
            asked: VecDeque::new(),
            faulted: BTreeSet::new(),
            absent: Vec::new(),
        }
    }

    /// Fetches these images, 255 in a request.
    #[must_use]
    pub fn of(ids: impl IntoIterator<Item = ImageId>) -> Transfer {
        Transfer::new(None, ids.into_iter().collect())
    }

    /// Fetches all images but those, by BATCH.
    #[must_use]
    pub fn missing(have: HaveSet) -> Transfer {
        Transfer::new(
            Some(Rest {
                have,
                came: Vec::new(),
                whole: false,
            }),
            VecDeque::new(),
        )
    }

    /// Fetches all images, by `LIST_AND_GET`.
    #[must_use]
    pub fn all() -> Transfer {
        let rest = Rest {
            have: HaveSet::new(),
            came: Vec::new(),
            whole: true,
        };
        Transfer::new(Some(rest), VecDeque::new())
    }

    /// The next request to make; `None` while that depends on responses under way, or when all is done.
    ///
    /// More than one request can be under way where only certain images are asked for.
    ///
    /// A BATCH after a loss names at most [`HaveSet::MAX`] images: the server sends the others again. // R6 S8
    pub fn next_request(&mut self) -> Option<Request> {
        if let Some(rest) = &mut self.rest {
            if !self.asked.is_empty() {
                return None;
            }
            let request = if rest.whole {
                Request::ListAndGet
            } else {
                if !rest.came.is_empty() {
                    let all = rest.have.iter().chain(rest.came.iter().copied());
                    // It fits: `image_end` keeps the sum within the limit.
                    if let Ok(have) = HaveSet::try_from_iter(all) {
                        rest.have = have;
                    }
                    rest.came = Vec::new();
                }
                Request::Batch(rest.have.clone())
            };
            self.asked.push_back(Asked::Rest);
            return Some(request);
        }
        if self.queue.is_empty() {
            return None;
        }
        let count = self.queue.len().min(MAX_GET);
        let ids: Vec<ImageId> = self.queue.drain(..count).collect();
        self.asked.push_back(Asked::Ids(ids.clone()));
        Some(Request::GetById(ids))
    }

    /// An image has come, good or bad. Answers whether that is final: a bad one is asked for once more, unless
    /// there were 100,000 others. // R2 R3
    pub fn image_end(&mut self, id: ImageId, good: bool) -> bool {
        match self.asked.front_mut() {
            Some(Asked::Rest) => {
                // No BATCH can name more: after a loss the others come again. // R6
                if let Some(rest) = &mut self.rest {
                    if rest.have.len() + rest.came.len() < HaveSet::MAX {
                        rest.came.push(id);
                    }
                }
            }
            Some(Asked::Ids(ids)) => {
                if let Some(at) = ids.iter().position(|asked| *asked == id) {
                    ids.remove(at);
                }
            }
            None => {}
        }
        if good || self.faulted.len() >= MOST_FAULTED || !self.faulted.insert(id) {
            return true;
        }
        self.queue.push_back(id);
        false
    }

    /// The response under way is complete. What was asked for by ID and has not come is not there. // S7
    pub fn response_end(&mut self) {
        match self.asked.pop_front() {
            Some(Asked::Rest) => self.rest = None,
            Some(Asked::Ids(ids)) => self.absent.extend(ids),
            None => {}
        }
    }

    /// The connection is gone: what has not come will be asked for again. // R6
    pub fn connection_lost(&mut self) {
        while let Some(asked) = self.asked.pop_back() {
            match asked {
                Asked::Ids(ids) => ids
                    .into_iter()
                    .rev()
                    .for_each(|id| self.queue.push_front(id)),
                Asked::Rest => {
                    if let Some(rest) = &mut self.rest {
                        rest.whole &= rest.came.is_empty();
                    }
                }
            }
        }
    }

    /// Whether nothing is left to ask for or to wait for.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.rest.is_none() && self.queue.is_empty() && self.asked.is_empty()
    }

    /// Images that were asked for by ID and that the server does not have (any more).
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
    fn certain_images_are_asked_for_255_at_a_time() {
        let mut transfer = Transfer::of(ids(0..300));
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
    fn r2_a_bad_image_is_asked_for_once_more_and_then_counts() {
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
        assert!(transfer.image_end(ImageId(2), false), "now it counts");
        transfer.response_end();
        assert!(transfer.is_done());
    }

    #[test]
    fn r6_after_a_loss_the_rest_is_asked_for() {
        let mut transfer = Transfer::all();
        transfer.next_request().unwrap();
        transfer.connection_lost();
        assert_eq!(
            transfer.next_request(),
            Some(Request::ListAndGet),
            "nothing has come"
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
    fn r6_after_a_loss_a_batch_names_as_much_as_it_can() {
        let most = HaveSet::MAX as u64;
        let mut transfer = Transfer::missing(HaveSet::try_from(ids(0..most - 1)).unwrap());
        transfer.next_request().unwrap();
        for id in ids(most..most + 3) {
            transfer.image_end(id, true);
        }
        transfer.connection_lost();
        let Some(Request::Batch(have)) = transfer.next_request() else {
            panic!("the rest can be asked for");
        };
        assert_eq!(have.len(), HaveSet::MAX);
    }

    #[test]
    fn r3_what_a_server_sends_bounds_what_is_remembered_of_it() {
        let mut transfer = Transfer::all();
        transfer.next_request().unwrap();
        let most = MOST_FAULTED as u64;
        for id in ids(0..most) {
            assert!(!transfer.image_end(id, false), "it is asked for once more");
        }
        for id in ids(most..most + 1000) {
            assert!(transfer.image_end(id, false), "too many to ask again");
        }
        assert_eq!(transfer.faulted.len(), MOST_FAULTED);
        assert_eq!(transfer.queue.len(), MOST_FAULTED);
    }

    #[test]
    fn r6_an_id_asked_for_twice_is_waited_for_twice() {
        let mut transfer = Transfer::of(ids([1, 1]));
        transfer.next_request().unwrap();
        transfer.image_end(ImageId(1), true);
        transfer.connection_lost();
        assert_eq!(transfer.next_request(), Some(Request::GetById(ids([1]))));
    }

    #[test]
    fn r6_pauses_grow_and_end() {
        let mut retry = Retry::new(40);
        let pauses: Vec<_> = core::iter::from_fn(|| retry.pause(true)).collect();
        assert_eq!(pauses.len(), 40);
        assert_eq!(pauses[..3], [1, 2, 4].map(Duration::from_secs));
        assert!(pauses.iter().all(|pause| *pause <= LONGEST_PAUSE));
        assert_eq!(Retry::new(0).pause(false), None);
    }

    #[test]
    fn r6_what_a_new_connection_may_help_against() {
        let server = |code| {
            ClientError::Server(ServerError {
                code,
                message: "".into(),
            })
        };
        assert!(ClientError::EarlyEof.is_transient());
        assert!(server(ErrorCode::ServerError).is_transient());
        assert!(server(ErrorCode::RateLimited).is_rate_limited());
        assert!(!server(ErrorCode::InvalidRequest).is_transient());
        assert!(!server(ErrorCode::UnsupportedFeature).is_transient());
    }
}
