//! The checks of a connection: after every call, and of the outcome.

use jtp_core::client::ClientError;
use jtp_core::server::CloseReason;
use jtp_core::wire::response::ErrorCode;

use super::connection::Connection;
use super::store::Store;

impl Connection {
    /// Checks the server's state. Offered output may only grow.
    pub(super) fn check_server(&mut self) {
        let output = self.server.transmit();
        let frames = output.bytes.len();
        if !self.server.is_closed() {
            assert!(
                output.len() >= self.offered.len(),
                "offered output was withdrawn"
            );
            let both = frames.min(self.offered.len());
            assert_eq!(
                output.bytes[..both],
                self.offered[..both],
                "offered output changed"
            );
        }
        let nothing_to_do = output.is_empty()
            && self.server.wants_body().is_none()
            && !self.server.wants_finish()
            && !self.server.is_closed()
            && !self.deciding;
        if nothing_to_do && !self.up.end_reported {
            assert!(
                self.server.wants_read(&self.input),
                "stuck: {:?}",
                self.server
            );
        }
        if self.server.is_watching() && nothing_to_do && self.server.close_reason().is_none() {
            let deadline = self.server.deadline();
            assert!(
                deadline.is_none() || self.model.is_cancel_started(),
                "N4: {deadline:?}"
            );
        }
        match self.server.close_reason() {
            Some(
                CloseReason::InvalidRequest(_)
                | CloseReason::StrayCancel
                | CloseReason::RequestDuringWatch,
            ) => {
                panic!("the server blames a correct client: {:?}", self.server)
            }
            Some(CloseReason::TooManyIds { have, max }) => {
                assert!(have > max && max == self.max_have);
            }
            Some(CloseReason::WatchDisabled) => assert!(!self.watch),
            Some(CloseReason::WatchLag) => assert!(self.max_lag < 1_000),
            Some(CloseReason::Refused(code)) => assert_eq!(self.causes.refused, Some(code)),
            Some(CloseReason::BodyFailed) => assert!(self.causes.body_failed),
            Some(CloseReason::Shutdown) => assert!(self.causes.shutdown),
            Some(CloseReason::PeerClosed | CloseReason::TruncatedRequest) => assert!(self.up.ended),
            _ => {}
        }
    }

    pub(super) fn check(&mut self) {
        if let Some(ClientError::Peer(error)) = self.client.fault() {
            panic!("the client blames a correct server: {error}");
        }
        if self.client.fault().is_some() {
            assert!(self.client.transmit().is_empty() && self.client.deadline().is_none());
        } else {
            assert_eq!(self.client.outstanding(), self.model.outstanding());
        }
        // Two windows: the one being sent, and the refill, which starts when half of it is left.
        assert!(
            self.client.transmit().len() <= 40 * 1024,
            "too much buffered output"
        );
    }

    /// Checks the outcome once nothing more can happen without time passing.
    pub(crate) fn check_settled(&self, store: &Store) {
        if self.causes.reset {
            return;
        }
        let reason = self.server.close_reason();
        match (self.client.fault(), reason) {
            (Some(ClientError::TimedOut), _) => return,
            (Some(ClientError::Server(error)), Some(CloseReason::Refused(code))) => {
                assert_eq!(error.code, code);
            }
            (Some(ClientError::Server(error)), Some(CloseReason::BodyFailed)) => {
                assert_eq!(error.code, ErrorCode::ServerError);
            }
            (Some(ClientError::Server(error)), Some(CloseReason::TooManyIds { .. })) => {
                assert_eq!(error.code, ErrorCode::InvalidRequest);
            }
            (Some(ClientError::Server(error)), Some(CloseReason::WatchDisabled)) => {
                assert_eq!(error.code, ErrorCode::UnsupportedFeature);
            }
            (Some(ClientError::EarlyEof), Some(CloseReason::NoKeepAlive) | None) => {
                panic!("early EOF without a cause: {self:?}")
            }
            (Some(ClientError::EarlyEof), Some(CloseReason::PeerClosed)) => {
                assert!(self.causes.half_closed);
            }
            (Some(ClientError::EarlyEof), Some(_)) => {}
            (None, _) => {}
            (Some(fault), reason) => panic!("{fault:?} for {reason:?}"),
        }
        match reason {
            None | Some(CloseReason::NoKeepAlive) => self.model.check_complete(store),
            Some(CloseReason::PeerClosed | CloseReason::Shutdown) => {
                self.model.check_accepted(false);
            }
            Some(CloseReason::TruncatedRequest) => self.model.check_accepted(true),
            Some(_) => {}
        }
    }

    pub(crate) fn check_closed(&self) {
        assert!(
            self.causes.reset || self.server.is_closed(),
            "not closed: {self:?}"
        );
    }
}
