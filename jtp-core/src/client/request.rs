//! Requests, before and while they are answered.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::event::ResponseKind;
use crate::image::ImageId;
use crate::wire::request::{RequestHead, RequestKind, encode_ids};

/// What a client can ask.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Request {
    /// The catalog.
    List,
    /// These images, in this order; at most 255. Unknown ones are left out, doubled ones come twice. // S7
    GetById(Vec<ImageId>),
    /// Every image but these. // S8
    Batch(HaveSet),
    /// Every image.
    ListAndGet,
    /// News of each image that enters the catalog from now on, until CANCEL. // N1
    Watch,
}

impl Request {
    /// The response that answers it.
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

/// The images that a client has: at most 1,000,000 IDs, sorted, each once, cheap to clone. // S8
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

/// More IDs than BATCH can say that one has. // S8
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "{count} images are more than the {} that BATCH can exclude",
    HaveSet::MAX
)]
pub struct HaveSetTooLarge {
    /// How many different IDs there were.
    pub count: usize,
}

impl HaveSet {
    /// The most IDs. // S8
    pub const MAX: usize = 1_000_000;

    /// No image at all.
    #[must_use]
    pub fn new() -> HaveSet {
        HaveSet::default()
    }

    /// Collects IDs in any order.
    ///
    /// # Errors
    ///
    /// [`HaveSetTooLarge`] if more than [`HaveSet::MAX`] different ones came. A part of them is a good set
    /// too: the server then sends again what is missing in it.
    pub fn try_from_iter(
        ids: impl IntoIterator<Item = ImageId>,
    ) -> Result<HaveSet, HaveSetTooLarge> {
        HaveSet::try_from(ids.into_iter().collect::<Vec<_>>())
    }

    /// How many IDs it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it holds this one.
    #[must_use]
    pub fn contains(&self, id: ImageId) -> bool {
        self.0.binary_search(&id).is_ok()
    }

    /// The IDs, ascending.
    #[must_use]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = ImageId> + '_ {
        self.0.iter().copied()
    }

    /// The IDs, ascending.
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

/// How much of a request has become output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoded {
    Nothing,
    /// The head, and so many IDs.
    Ids(usize),
    All,
}

/// What became of cancelling a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cancel {
    No,
    /// CANCEL is to follow as soon as the request is whole.
    Wanted,
    /// CANCEL has become output: one `JTPC` is due. // C1
    Encoded,
}

/// A request that is not wholly answered.
#[derive(Debug)]
pub(super) struct Pending {
    request: Request,
    keep_alive: bool,
    encoded: Encoded,
    pub(super) cancel: Cancel,
    /// The response is complete, and only `JTPC` is still due. // C7
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

    /// Whether the connection stays open behind it: WATCH keeps it open by itself. // S2
    pub(super) fn keeps_open(&self) -> bool {
        self.keep_alive || self.kind() == ResponseKind::Watch
    }

    /// Whether nothing of it has become output.
    pub(super) fn is_untouched(&self) -> bool {
        self.encoded == Encoded::Nothing
    }

    /// Whether all of it has become output, so that its response can come.
    pub(super) fn is_sent(&self) -> bool {
        self.encoded == Encoded::All
    }

    /// Whether it is a WATCH that goes on until the application has enough.
    pub(super) fn is_watching(&self) -> bool {
        self.kind() == ResponseKind::Watch && self.cancel == Cancel::No
    }

    /// Whether the next request has to wait for its end.
    pub(super) fn holds_back(&self, pipeline: bool) -> bool {
        self.cancel != Cancel::No
            || match self.kind() {
                ResponseKind::Watch => true,        // N3
                ResponseKind::GetById => !pipeline, // R7
                _ => false,
            }
    }

    /// How many IDs it has on the wire.
    pub(super) fn ids(&self) -> &[ImageId] {
        match &self.request {
            Request::GetById(ids) => ids,
            Request::Batch(have) => have.as_slice(),
            _ => &[],
        }
    }

    /// Encodes what is missing, at most some `room` bytes, and the CANCEL behind it; whether it is whole.
    pub(super) fn encode(&mut self, out: &mut Vec<u8>, room: usize) -> bool {
        if self.encoded == Encoded::Nothing {
            let count = self.ids().len();
            let kind = match self.request {
                Request::List => RequestKind::List,
                // Both counts were checked when the request was made.
                Request::GetById(_) => RequestKind::GetById {
                    count: u8::try_from(count).unwrap_or(u8::MAX),
                },
                Request::Batch(_) => RequestKind::Batch {
                    have: u32::try_from(count).unwrap_or(u32::MAX),
                },
                Request::ListAndGet => RequestKind::ListAndGet,
                Request::Watch => RequestKind::Watch,
            };
            let keep_alive = self.keep_alive;
            RequestHead::new(kind, keep_alive).encode(out);
            self.encoded = Encoded::Ids(0);
        }
        if let Encoded::Ids(done) = self.encoded {
            let left = self.ids().get(done..).unwrap_or_default();
            let now = left.get(..room / 8).unwrap_or(left);
            encode_ids(now, out);
            if now.len() < left.len() {
                self.encoded = Encoded::Ids(done + now.len());
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

    /// Whether an image may come in answer; for `GET_BY_ID` that uses up one of the IDs asked for. // R1
    pub(super) fn admits(&mut self, id: ImageId) -> bool {
        match &mut self.request {
            Request::GetById(ids) => match ids.iter().position(|&asked| asked == id) {
                Some(at) => {
                    ids.swap_remove(at);
                    true
                }
                None => false,
            },
            Request::Batch(have) => !have.contains(id),
            _ => true,
        }
    }
}
