//! Requests, and their state until they are answered.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::event::ResponseKind;
use crate::image::ImageId;
use crate::wire::request::{MAX_GET, RequestHead, RequestKind, encode_ids};

/// A client's request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// All entries of the catalog.
    List,
    /// These images in this order, at most 255. The server omits unknown ones, and sends repeated ones repeatedly. // S7
    GetById(Vec<ImageId>),
    /// All images except these. // S8
    Batch(HaveSet),
    /// All images.
    ListAndGet,
    /// The entry of each image that is added to the catalog from now on, until CANCEL. // N1
    Watch,
}

impl Request {
    /// A request of this kind with these IDs, which kinds without IDs ignore. `None` for CANCEL, which is a request
    /// only on the wire, and for more IDs than a request can have.
    #[must_use]
    pub fn of(kind: RequestKind, ids: Vec<ImageId>) -> Option<Request> {
        Some(match kind {
            RequestKind::List => Request::List,
            RequestKind::GetById { .. } if ids.len() > MAX_GET => return None,
            RequestKind::GetById { .. } => Request::GetById(ids),
            RequestKind::Batch { .. } => Request::Batch(HaveSet::try_from(ids).ok()?),
            RequestKind::ListAndGet => Request::ListAndGet,
            RequestKind::Watch => Request::Watch,
            RequestKind::Cancel => return None,
        })
    }

    /// Its kind on the wire, with the number of its IDs.
    #[must_use]
    pub fn wire_kind(&self) -> RequestKind {
        match self {
            Request::List => RequestKind::List,
            Request::GetById(ids) => RequestKind::GetById { count: 0 }.with_ids(count(ids)),
            Request::Batch(have) => RequestKind::Batch {
                have: count(have.as_slice()),
            },
            Request::ListAndGet => RequestKind::ListAndGet,
            Request::Watch => RequestKind::Watch,
        }
    }

    /// Its IDs on the wire. // S7 S8
    #[must_use]
    #[inline]
    pub fn ids(&self) -> &[ImageId] {
        match self {
            Request::GetById(ids) => ids,
            Request::Batch(have) => have.as_slice(),
            Request::List | Request::ListAndGet | Request::Watch => &[],
        }
    }

    /// The kind of the response that answers it.
    #[must_use]
    pub const fn kind(&self) -> ResponseKind {
        match self {
            Request::List => ResponseKind::List,
            Request::GetById(_) => ResponseKind::GetById,
            Request::Batch(_) => ResponseKind::Batch,
            Request::ListAndGet => ResponseKind::ListAndGet,
            Request::Watch => ResponseKind::Watch,
        }
    }
}

/// The number of IDs. No request has more than 1,000,000.
fn count(ids: &[ImageId]) -> u32 {
    u32::try_from(ids.len()).unwrap_or(u32::MAX)
}

/// The images that a client has: at most 1,000,000 IDs, sorted and without duplicates. Cheap to clone. // S8
///
/// ```
/// use jtp_core::ImageId;
/// use jtp_core::client::HaveSet;
///
/// let have = HaveSet::try_from(vec![ImageId(2), ImageId(1), ImageId(2)])?;
/// assert_eq!(have.len(), 2);
/// assert!(have.contains(ImageId(1)));
/// # Ok::<(), jtp_core::client::HaveSetTooLarge>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HaveSet(Arc<[ImageId]>);

/// More IDs than a BATCH can name. // S8
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("{count} images, BATCH can exclude only {}", HaveSet::MAX)]
pub struct HaveSetTooLarge {
    /// Number of different IDs.
    pub count: usize,
}

impl HaveSet {
    /// Maximum number of IDs. // S8
    pub const MAX: usize = 1_000_000;

    /// A set without images.
    #[must_use]
    pub fn new() -> HaveSet {
        HaveSet::default()
    }

    /// Collects IDs in any order.
    ///
    /// # Errors
    ///
    /// [`HaveSetTooLarge`] if there are more than [`HaveSet::MAX`] different ones. A subset is valid too: the server
    /// then sends the omitted images again.
    pub fn try_from_iter(
        ids: impl IntoIterator<Item = ImageId>,
    ) -> Result<HaveSet, HaveSetTooLarge> {
        HaveSet::try_from(ids.into_iter().collect::<Vec<_>>())
    }

    /// Number of IDs.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the set has no ID.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the set has this ID.
    #[must_use]
    pub fn contains(&self, id: ImageId) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// The IDs in ascending order.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ImageId> + '_ {
        self.0.iter().copied()
    }

    /// The IDs in ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[ImageId] {
        &self.0
    }
}

impl TryFrom<Vec<ImageId>> for HaveSet {
    type Error = HaveSetTooLarge;

    fn try_from(mut ids: Vec<ImageId>) -> Result<HaveSet, HaveSetTooLarge> {
        ids.sort_unstable();
        ids.dedup();
        if ids.len() > HaveSet::MAX {
            return Err(HaveSetTooLarge { count: ids.len() });
        }
        Ok(HaveSet(ids.into()))
    }
}

/// How much of a request is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoded {
    Nothing,
    /// The head, and this number of IDs.
    Ids(usize),
    All,
}

/// Whether a request is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    /// CANCEL follows as soon as the request is completely encoded.
    Wanted,
    /// CANCEL is encoded, and one `JTPC` is due. // C1
    Encoded,
}

/// A request that is not completely answered.
#[derive(Debug)]
pub(super) struct Pending {
    request: Request,
    keep_alive: bool,
    encoded: Encoded,
    pub(super) cancel: Cancel,
    /// The response is complete, and only `JTPC` is due. // C7
    pub(super) answered: bool,
}

impl Pending {
    pub(super) fn new(request: Request, keep_alive: bool) -> Pending {
        Pending {
            request,
            keep_alive,
            encoded: Encoded::Nothing,
            cancel: Cancel::No,
            answered: false,
        }
    }

    pub(super) const fn kind(&self) -> ResponseKind {
        self.request.kind()
    }

    /// Whether the connection stays open after it, as it always does after WATCH. // S2
    pub(super) fn keeps_open(&self) -> bool {
        self.keep_alive || self.kind() == ResponseKind::Watch
    }

    /// Whether nothing of it is encoded.
    pub(super) fn is_queued(&self) -> bool {
        self.encoded == Encoded::Nothing
    }

    /// Whether all of it is encoded, so that a response is valid.
    pub(super) fn is_sent(&self) -> bool {
        self.encoded == Encoded::All
    }

    /// Whether it is a WATCH that is not cancelled.
    pub(super) fn is_watching(&self) -> bool {
        self.kind() == ResponseKind::Watch && self.cancel == Cancel::No
    }

    /// Whether the next request must wait until this one is answered.
    pub(super) fn holds_back(&self, pipeline: bool) -> bool {
        self.cancel != Cancel::No
            || match self.kind() {
                ResponseKind::Watch => true,        // N3
                ResponseKind::GetById => !pipeline, // R7
                ResponseKind::List | ResponseKind::Batch | ResponseKind::ListAndGet => false,
            }
    }

    /// The IDs that it has on the wire.
    pub(super) fn ids(&self) -> &[ImageId] {
        self.request.ids()
    }

    /// Encodes the next part, about `room` bytes at most, and after the last one a CANCEL that is wanted. Returns
    /// whether the request is completely encoded.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>, room: usize) -> bool {
        if self.encoded == Encoded::Nothing {
            RequestHead::new(self.request.wire_kind(), self.keep_alive).encode(out);
            self.encoded = Encoded::Ids(0);
        }
        if let Encoded::Ids(done) = self.encoded {
            let left = self.ids().get(done..).unwrap_or_default();
            let part = left.get(..room / 8).unwrap_or(left);
            encode_ids(part, out);
            if part.len() < left.len() {
                self.encoded = Encoded::Ids(done + part.len());
                return false;
            }
            self.encoded = Encoded::All;
        }
        if self.cancel == Cancel::Wanted {
            let head = RequestHead::new(RequestKind::Cancel, false);
            head.encode(out);
            self.cancel = Cancel::Encoded;
        }
        true
    }

    /// Whether the image may be part of the response. For `GET_BY_ID` this removes one of the requested IDs. // R1
    pub(super) fn admits(&mut self, id: ImageId) -> bool {
        match &mut self.request {
            Request::GetById(ids) => match ids.iter().position(|&requested| requested == id) {
                Some(index) => {
                    ids.swap_remove(index);
                    true
                }
                None => false,
            },
            Request::Batch(have) => !have.contains(id),
            Request::List | Request::ListAndGet | Request::Watch => true,
        }
    }
}
