//! Records of requests that have ended, for counters and traces.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use super::{CloseReason, ServerConnection};
use crate::image::ImageId;
use crate::wire::request::RequestKind;
use crate::wire::response::ErrorCode;

/// Number of records that are kept until they are taken.
const MAX_RECORDS: usize = 16;

/// A request that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompletedRequest {
    /// What was requested.
    pub kind: RequestKind,
    /// The IDs of a `GET_BY_ID`, at most 255, in the order of the request, unknown and repeated ones included. Those
    /// that had arrived, if the connection ended first. Empty for other requests, and unless
    /// [`ServerConfig::with_record_ids`](super::ServerConfig::with_record_ids) asks for them.
    pub ids: Vec<ImageId>,
    /// Number of packets whose last byte was acknowledged; 0 for LIST and WATCH.
    pub images: u64,
    /// Number of body bytes that were acknowledged, including those of an incomplete packet.
    pub body_bytes: u64,
    /// How the request ended.
    pub outcome: RequestOutcome,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestOutcome {
    /// The whole response was acknowledged.
    Answered,
    /// The client cancelled it. A CANCEL that is seen only after the response was complete leaves it `Answered`.
    Cancelled,
    /// It was refused with a `JTPE` before any response.
    Refused(ErrorCode),
    /// The connection ended first, for this reason. A WATCH ends like this unless it is cancelled.
    Aborted(CloseReason),
}

impl RequestOutcome {
    /// A fixed label for metrics, in snake case.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            RequestOutcome::Answered => "answered",
            RequestOutcome::Cancelled => "cancelled",
            RequestOutcome::Refused(_) => "refused",
            RequestOutcome::Aborted(_) => "aborted",
        }
    }
}

/// The request in progress, and the records of those before it.
#[derive(Debug, Default)]
pub(super) struct RequestLog {
    current: Option<RequestKind>,
    ids: Vec<ImageId>,
    /// Numbers of images and body bytes of the current request.
    images: u64,
    body_bytes: u64,
    completed: VecDeque<CompletedRequest>,
}

impl RequestLog {
    pub(super) fn begin(&mut self, kind: RequestKind) {
        self.current = Some(kind);
        self.ids = Vec::new();
        self.images = 0;
        self.body_bytes = 0;
    }

    pub(super) fn record_id(&mut self, id: ImageId) {
        self.ids.push(id);
    }

    pub(super) fn count_image(&mut self) {
        self.images += 1;
    }

    pub(super) fn count_body(&mut self, bytes: u32) {
        self.body_bytes += u64::from(bytes);
    }

    /// Ends the request in progress, if there is one.
    pub(super) fn end(&mut self, outcome: RequestOutcome) {
        let Some(kind) = self.current.take() else {
            return;
        };
        if self.completed.len() == MAX_RECORDS {
            self.completed.pop_front();
        }
        self.completed.push_back(CompletedRequest {
            kind,
            ids: core::mem::take(&mut self.ids),
            images: self.images,
            body_bytes: self.body_bytes,
            outcome,
        });
    }
}

impl ServerConnection {
    /// The record of a request that has ended, each once and in order; for counters and traces.
    ///
    /// CANCEL, and bytes that are not a request, have no record. The connection keeps the last 16 records that were
    /// not taken.
    pub fn take_completed(&mut self) -> Option<CompletedRequest> {
        self.requests.completed.pop_front()
    }
}
