//! The receiving half: requests, their IDs, and CANCEL.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::completed::RequestLog;
use super::packets::{HaveBitmap, ImageQueue, MissingImages};
use super::watching::WatchEnd;
use super::{CloseReason, RequestOutcome, Responding, ServerConnection, State};
use crate::catalog::Catalog;
use crate::connection::Received;
use crate::image::{Image, ImageId};
use crate::time::Time;
use crate::wire::request::{CANCEL, RequestHead, RequestKind};
use crate::wire::response::{ErrorCode, Header};
use crate::wire::{Decoded, WireError};

/// A `GET_BY_ID` or BATCH whose IDs are being read. Each ID is matched when it arrives, and not kept. // S8
#[derive(Debug)]
pub(super) struct RequestIds {
    catalog: Arc<Catalog>,
    keep_alive: bool,
    /// Whether its CANCEL was already received, which requires a request without IDs. // C5
    cancelled: bool,
    /// Number of bytes of IDs that are not received.
    bytes_left: u64,
    /// An incomplete ID.
    partial: [u8; 8],
    partial_len: usize,
    matched: MatchedIds,
}

#[derive(Debug)]
enum MatchedIds {
    /// The known images in the order of the request, at most 255. // S7
    Requested(Vec<Image>),
    /// One bit for each image of the catalog. // S8
    Have(HaveBitmap),
}

impl RequestIds {
    pub(super) fn new(head: &RequestHead, cancelled: bool, catalog: Arc<Catalog>) -> RequestIds {
        let matched = match head.kind {
            RequestKind::Batch { .. } => MatchedIds::Have(HaveBitmap::new(&catalog)),
            _ => MatchedIds::Requested(Vec::new()),
        };
        RequestIds {
            catalog,
            keep_alive: head.keep_alive,
            cancelled,
            bytes_left: u64::from(head.kind.ids()) * 8,
            partial: [0; 8],
            partial_len: 0,
            matched,
        }
    }

    /// Uses bytes of IDs from the front of `input`, and returns their number. The IDs of a `GET_BY_ID` are added to
    /// `record`.
    fn read(&mut self, input: &[u8], mut record: Option<&mut RequestLog>) -> usize {
        let limit = usize::try_from(self.bytes_left).unwrap_or(usize::MAX);
        let input = input.get(..limit).unwrap_or(input);
        let rest = self.complete_partial(input, record.as_deref_mut());
        let mut whole = rest.chunks_exact(8);
        for chunk in &mut whole {
            if let Some(bytes) = chunk.first_chunk::<8>() {
                let id = ImageId::from_be_bytes(*bytes);
                self.matched.add(&self.catalog, id, record.as_deref_mut());
            }
        }
        let left = self.complete_partial(whole.remainder(), record);
        debug_assert!(left.is_empty());
        self.bytes_left -= u64::try_from(input.len()).unwrap_or(self.bytes_left);
        input.len()
    }

    /// Adds bytes to the incomplete ID, and returns the bytes after them.
    fn complete_partial<'a>(
        &mut self,
        input: &'a [u8],
        record: Option<&mut RequestLog>,
    ) -> &'a [u8] {
        let need = self.partial.len() - self.partial_len;
        let (first, rest) = input.split_at(need.min(input.len()));
        for (to, from) in self.partial.iter_mut().skip(self.partial_len).zip(first) {
            *to = *from;
        }
        self.partial_len += first.len();
        if self.partial_len == self.partial.len() {
            self.partial_len = 0;
            let id = ImageId::from_be_bytes(self.partial);
            self.matched.add(&self.catalog, id, record);
        }
        rest
    }
}

impl MatchedIds {
    fn add(&mut self, catalog: &Catalog, id: ImageId, record: Option<&mut RequestLog>) {
        match self {
            MatchedIds::Requested(images) => {
                images.extend(catalog.get(id));
                if let Some(record) = record {
                    record.record_id(id);
                }
            }
            MatchedIds::Have(have) => have.mark(catalog, id),
        }
    }
}

impl ServerConnection {
    /// Uses bytes from the front of `input`, up to the next request that needs a decision by
    /// [`accept`](Self::accept) or [`refuse`](Self::refuse).
    ///
    /// Call it again with the unused rest after every call that may have changed the state, and with an empty slice
    /// after [`receive_eof`](Self::receive_eof). It uses no bytes of a later request while an earlier one is in
    /// progress, except a CANCEL (S1). The event is never a CANCEL, and counts for the rate limit (S15).
    pub fn receive(&mut self, input: &[u8], now: Time) -> Received<RequestHead> {
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            let (more, request) = match &self.state {
                State::Head { .. } => self.receive_head(rest, now),
                State::Ids(_) => (self.receive_ids(rest, now), None),
                State::Deciding { .. } | State::Responding(_) => (self.look_ahead(rest, now), None),
                State::Watching(_) => (self.receive_watching(rest, now), None),
                State::Lingering { .. } => (self.discard(rest), None),
                State::Flushing | State::Finishing | State::Closed => (0, None),
            };
            used += more;
            if more == 0 || request.is_some() {
                return Received::new(used, request);
            }
        }
    }

    /// Notes the end of the client's stream, after the input that the caller still holds. Requests before it are
    /// answered. // T5
    ///
    /// It takes effect in the [`receive`](Self::receive) that uses the last of the input.
    pub fn receive_eof(&mut self) {
        self.input_ended = true;
        if let State::Lingering { .. } = self.state {
            self.state = State::Closed;
        }
    }

    /// Whether to read more, given the input that is read and not used. // S1
    ///
    /// During a response only a CANCEL is of interest: if anything else is next, reading stops.
    #[must_use]
    pub fn wants_read(&self, unused: &[u8]) -> bool {
        if self.input_ended {
            return false;
        }
        match &self.state {
            State::Head { .. } | State::Ids(_) | State::Lingering { .. } => true,
            State::Watching(watching) => watching.end.is_none(),
            State::Deciding {
                head, cancelled, ..
            } => !cancelled && head.kind.ids() == 0 && may_be_cancel(unused),
            State::Responding(responding) => !responding.cancelled && may_be_cancel(unused),
            State::Flushing | State::Finishing | State::Closed => false,
        }
    }

    fn receive_head(&mut self, input: &[u8], now: Time) -> (usize, Option<RequestHead>) {
        let State::Head { bytes, len } = &mut self.state else {
            return (0, None);
        };
        for (index, &byte) in input.iter().enumerate() {
            self.received_any = true;
            if *len == 0 {
                self.request_clock.start(self.since.max(now));
            }
            self.request_clock.count(1);
            if let Some(place) = bytes.get_mut(*len) {
                *place = byte;
                *len += 1;
            }
            let used = index + 1;
            match RequestHead::decode(bytes.get(..*len).unwrap_or(bytes)) {
                Ok(Decoded::Incomplete { .. }) => {}
                Ok(Decoded::Complete { value, .. }) => {
                    let rest = input.get(used..).unwrap_or_default();
                    return (used, self.head_complete(value, rest, now));
                }
                Err(error) => {
                    self.invalid(error, now);
                    return (used, None);
                }
            }
        }
        if self.input_ended {
            // S10: an incomplete request is not answered.
            let reason = if *len > 0 {
                CloseReason::TruncatedRequest
            } else {
                CloseReason::PeerClosed
            };
            self.close(reason, now);
        }
        (input.len(), None)
    }

    /// Answers bytes that are not a request. // S10
    fn invalid(&mut self, error: WireError, now: Time) {
        let code = match error {
            WireError::UnknownRequest(_) => ErrorCode::UnsupportedFeature,
            _ => ErrorCode::InvalidRequest,
        };
        let message = alloc::format!("{error}");
        self.error(code, &message, CloseReason::InvalidRequest(error), now);
    }

    fn head_complete(&mut self, head: RequestHead, rest: &[u8], now: Time) -> Option<RequestHead> {
        let refusal = match head.kind {
            RequestKind::Cancel if self.cancellable => {
                // C1 C3
                self.cancel_answered(now);
                return None;
            }
            RequestKind::Cancel => (ErrorCode::InvalidRequest, CloseReason::StrayCancel), // C4
            RequestKind::Watch if !self.config.watch() => {
                (ErrorCode::UnsupportedFeature, CloseReason::WatchDisabled) // S10
            }
            RequestKind::Batch { have } if have > self.config.max_have() => {
                let max = self.config.max_have(); // S8
                (
                    ErrorCode::InvalidRequest,
                    CloseReason::TooManyIds { have, max },
                )
            }
            kind => {
                if kind != RequestKind::Watch {
                    self.watch_from = None;
                }
                self.cancellable |= head.keep_alive || kind == RequestKind::Watch;
                self.request_clock.pause(now);
                self.requests.begin(kind);
                self.state = State::Deciding {
                    head,
                    cancelled: false,
                    watch_follows: watch_follows(&head, rest),
                };
                return Some(head);
            }
        };
        let (code, reason) = refusal;
        if head.kind != RequestKind::Cancel {
            self.requests.begin(head.kind);
            self.requests.end(RequestOutcome::Refused(code));
        }
        let message = alloc::format!("{reason}");
        self.error(code, &message, reason, now);
        None
    }

    fn receive_ids(&mut self, input: &[u8], now: Time) -> usize {
        let State::Ids(ids) = &mut self.state else {
            return 0;
        };
        let record = self.config.record_ids().then_some(&mut self.requests);
        let used = ids.read(input, record);
        self.request_clock.count(used);
        self.ids_complete(now);
        if self.input_ended && matches!(self.state, State::Ids(_)) {
            self.close(CloseReason::TruncatedRequest, now);
        }
        used
    }

    /// Begins the response if all IDs are received.
    pub(super) fn ids_complete(&mut self, now: Time) {
        if !matches!(&self.state, State::Ids(ids) if ids.bytes_left == 0) {
            return;
        }
        let State::Ids(ids) = core::mem::replace(&mut self.state, State::IDLE) else {
            return;
        };
        let body = match ids.matched {
            MatchedIds::Requested(images) => {
                let count = u32::try_from(images.len()).unwrap_or(u32::MAX);
                self.packets(
                    Header::Data,
                    count,
                    ImageQueue::Requested(images.into_iter()),
                )
            }
            MatchedIds::Have(have) => {
                let missing = MissingImages::new(ids.catalog, have);
                let count = missing.count();
                let images = ImageQueue::Missing(Box::new(missing));
                self.packets(Header::Batch, count, images)
            }
        };
        self.respond(ids.keep_alive, ids.cancelled, body, now);
    }

    /// Uses a CANCEL that directly follows the current request, and nothing else. // C2 C5
    fn look_ahead(&mut self, input: &[u8], now: Time) -> usize {
        let cancelled = match &mut self.state {
            State::Deciding {
                head,
                cancelled,
                watch_follows: follows,
            } => {
                // A WATCH after the CANCEL of the LIST does not follow it directly. // N5
                *follows = !*cancelled && watch_follows(head, input);
                if head.kind.ids() > 0 {
                    return 0; // IDs are next.
                }
                cancelled
            }
            State::Responding(Responding { cancelled, .. }) => cancelled,
            _ => return 0,
        };
        match RequestHead::decode(input) {
            Ok(Decoded::Complete { value, used })
                if value.kind == RequestKind::Cancel && !*cancelled =>
            {
                *cancelled = true;
                self.packet_boundary(now);
                used
            }
            _ => 0,
        }
    }

    /// Reads input during WATCH: only CANCEL is allowed. // N3
    fn receive_watching(&mut self, input: &[u8], now: Time) -> usize {
        let begun = self.since.max(now);
        let State::Watching(watching) = &mut self.state else {
            return 0;
        };
        if watching.end.is_some() {
            return 0;
        }
        let mut used = 0;
        for &byte in input {
            used += 1;
            let end = match watching.cancel_begun {
                None if byte == CANCEL => {
                    watching.cancel_begun = Some(begun);
                    continue;
                }
                None => WatchEnd::Close(CloseReason::RequestDuringWatch),
                Some(_) if byte > 1 => {
                    WatchEnd::Close(CloseReason::InvalidRequest(WireError::RequestFlags(byte)))
                }
                Some(_) => WatchEnd::Cancel,
            };
            watching.end = Some(end);
            break;
        }
        if watching.end.is_none() && self.input_ended {
            watching.end = Some(WatchEnd::Close(CloseReason::PeerClosed)); // N6
        }
        self.progress(now);
        used
    }

    /// Discards input while the connection closes. // S11
    fn discard(&mut self, input: &[u8]) -> usize {
        let State::Lingering { bytes } = &mut self.state else {
            return 0;
        };
        *bytes = bytes.saturating_add(u64::try_from(input.len()).unwrap_or(u64::MAX));
        if *bytes > self.config.linger_bytes() {
            self.state = State::Closed;
        }
        input.len()
    }
}

/// Whether the input begins a CANCEL, or may do so.
fn may_be_cancel(unused: &[u8]) -> bool {
    matches!(unused, [] | [CANCEL])
}

/// Whether the request is a LIST and the input after it begins with a WATCH. // N5
fn watch_follows(head: &RequestHead, rest: &[u8]) -> bool {
    head.kind == RequestKind::List
        && matches!(
            RequestHead::decode(rest),
            Ok(Decoded::Complete { value, .. }) if value.kind == RequestKind::Watch
        )
}
