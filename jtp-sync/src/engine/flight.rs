//! Images that are arriving.

use std::sync::Arc;
use std::thread;

use jtp_core::ImageId;
use jtp_store::FileName;

use super::session::Session;

/// One image's contribution to the progress. It never exceeds the listed length, so that the sum stays correct even if
/// the encoded length has changed. Dropped before it is complete, it is subtracted again. An image that is not planned,
/// or that is arriving already, contributes nothing. // S6
pub(super) struct Flight {
    session: Arc<Session>,
    /// The image, if it contributes.
    id: Option<ImageId>,
    listed: u64,
    reported: u64,
    /// Where it comes from, and of how many servers, if there are several.
    pub(super) server: Option<(Arc<str>, usize)>,
}

impl Flight {
    /// An image begins to arrive. Also returns the name that it is to get, if a LIST names it.
    pub(super) fn begin(
        session: &Arc<Session>,
        id: ImageId,
        server: Option<(Arc<str>, usize)>,
    ) -> (Flight, Option<FileName>) {
        let state = &mut *session.state();
        let length = state.planner.length(id).unwrap_or(0);
        let counts = state.planner.awaits(id) && state.arriving.insert(id);
        let flight = Flight {
            session: Arc::clone(session),
            id: Some(id).filter(|_| counts),
            listed: if counts { u64::from(length) } else { 0 },
            reported: 0,
            server,
        };
        (flight, state.planner.name(id))
    }

    pub(super) fn add(&mut self, bytes: u64) {
        let bytes = bytes.min(self.listed - self.reported);
        if bytes > 0 {
            self.reported += bytes;
            self.session.progress(bytes, 0);
        }
    }

    pub(super) fn complete(&mut self) {
        self.add(u64::MAX);
        self.listed = 0;
        self.reported = 0;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.session.state().arriving.remove(&id);
        }
        // An observer that panics is not called again.
        if self.reported > 0 && !thread::panicking() {
            self.session.progress(0, self.reported);
        }
    }
}
