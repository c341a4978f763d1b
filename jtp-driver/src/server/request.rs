//! A request as the application sees it, and the application's answer.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use jtp_core::wire::request::{RequestHead, RequestKind};
use jtp_core::wire::response::ErrorCode;

use super::Peer;
use crate::BoxFuture;
use crate::store::{ImageStore, IntoStore};

/// A request that waits for a decision: see [`ServerBuilder::on_request`](super::ServerBuilder::on_request).
///
/// CANCEL is never seen here. The IDs of a request are read after it was accepted (S8); an
/// [`Observer`](super::Observer) sees them if [`ServerConfig`](jtp_core::server::ServerConfig::with_record_ids) says so.
#[derive(Debug)]
#[must_use]
pub struct Request {
    peer: Arc<Peer>,
    head: RequestHead,
}

impl Request {
    pub(super) fn new(peer: Arc<Peer>, head: RequestHead) -> Request {
        Request { peer, head }
    }

    /// The client.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The request's type, and the number of IDs that it announces.
    #[must_use]
    pub fn kind(&self) -> RequestKind {
        self.head.kind
    }

    /// The request's head.
    #[must_use]
    pub fn head(&self) -> &RequestHead {
        &self.head
    }

    /// Answers it from the server's store, with the catalog as it is then. // S3
    pub fn accept(self) -> Decision {
        Decision(Answer::Accept(None))
    }

    /// Answers it from another store. A peer that sees one catalog in LIST should see the same one in the requests that
    /// follow.
    pub fn accept_with(self, store: impl IntoStore) -> Decision {
        Decision(Answer::Accept(Some(store.into_store())))
    }

    /// Refuses it: the peer gets `JTPE` with this code and message, and the connection ends. // S11
    ///
    /// [`ErrorCode`] says which codes make a client try again; [`ErrorCode::InvalidRequest`] is the one for "forbidden".
    pub fn refuse(self, code: ErrorCode, message: impl Into<Cow<'static, str>>) -> Decision {
        Decision(Answer::Refuse(code, message.into()))
    }
}

/// The answer to a [`Request`].
#[must_use]
pub struct Decision(pub(super) Answer);

pub(super) enum Answer {
    /// With the server's own store, or another one.
    Accept(Option<Arc<dyn ImageStore>>),
    Refuse(ErrorCode, Cow<'static, str>),
}

impl fmt::Debug for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Answer::Accept(None) => f.write_str("Accept"),
            Answer::Accept(Some(_)) => f.write_str("AcceptWith"),
            Answer::Refuse(code, message) => {
                f.debug_tuple("Refuse").field(code).field(message).finish()
            }
        }
    }
}

/// The application's request handler.
pub(super) type Handler = dyn Fn(Request) -> BoxFuture<Decision> + Send + Sync;
