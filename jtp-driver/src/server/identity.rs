//! Which clients a server with a list of clients admits. // T7

use std::io;
use std::sync::Arc;

use jtp_core::server::{CloseReason, ServerConnection};
use jtp_core::wire::response::ErrorCode;

use super::connection::{Connection, Scheduling};
use super::drain::Drain;
use super::limits::Permit;
use super::{Peer, Shared};
use crate::runtime::{Runtime, Transport};
use crate::signal::ShutdownSignal;
use crate::wait::race;

/// The message of RateLimited for a client that has as many connections as it may.
#[cfg(feature = "tls")]
const TOO_MANY: &str = "too many connections of this client";

/// Why a connection is refused before its first request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Refusal {
    pub(super) code: ErrorCode,
    pub(super) message: &'static str,
}

/// A peer that was looked up in the server's list.
pub(super) struct Identified {
    peer: Peer,
    refusal: Option<Refusal>,
    /// Begins when the client is removed from the list.
    removed: Option<ShutdownSignal>,
}

impl Identified {
    /// A peer of a server that admits everybody.
    fn anonymous(peer: Peer) -> Identified {
        Identified {
            peer,
            refusal: None,
            removed: None,
        }
    }

    /// A peer that is refused.
    #[cfg(feature = "tls")]
    pub(super) fn refused(peer: Peer, code: ErrorCode, message: &'static str) -> Identified {
        Identified {
            refusal: Some(Refusal { code, message }),
            ..Identified::anonymous(peer)
        }
    }
}

impl<R: Runtime> Shared<R> {
    /// Looks up the peer of a connection whose handshake, if any, is complete. A client of the list is counted by its
    /// key from then on, not by its address. // T7 T8
    #[cfg(feature = "tls")]
    pub(super) fn identify(&self, mut peer: Peer, permit: Option<Arc<Permit>>) -> Identified {
        let Some(clients) = &self.clients else {
            return Identified::anonymous(peer);
        };
        let Some(tls) = &peer.tls else {
            return Identified::refused(peer, ErrorCode::UnsupportedFeature, crate::TLS_REQUIRED);
        };
        let key = tls.key();
        let Some(admission) = key.and_then(|key| clients.admit(&key)) else {
            if let Some(key) = key {
                clients.record_refusal(&key);
            }
            return Identified::refused(peer, ErrorCode::InvalidRequest, crate::NOT_ADMITTED);
        };
        peer.identity = Some(admission.identity);
        if let (Some(permit), Some(client)) = (permit, peer.client_id()) {
            if !permit.identify(client) {
                return Identified::refused(peer, ErrorCode::RateLimited, TOO_MANY);
            }
        }
        Identified {
            removed: Some(admission.removed),
            ..Identified::anonymous(peer)
        }
    }

    /// Without TLS there is no list.
    #[cfg(not(feature = "tls"))]
    pub(super) fn identify(&self, peer: Peer, _: Option<Arc<Permit>>) -> Identified {
        Identified::anonymous(peer)
    }
}

/// Serves a connection to its end, or until its client is removed from the list.
pub(super) async fn serve<R: Runtime, T: Transport>(
    shared: Arc<Shared<R>>,
    identified: Identified,
    io: T,
    drain: Arc<Drain>,
    scheduling: Scheduling,
) -> io::Result<Option<CloseReason>> {
    let config = shared.options.config;
    let machine = |now| match identified.refusal {
        Some(Refusal { code, message }) => ServerConnection::refused(config, code, message, now),
        None => ServerConnection::new(config, now),
    };
    let peer = Arc::new(identified.peer);
    // Boxed: the futures around it would have room for it several times, on stacks that may be small.
    let connection = Connection::new(shared, peer, io, machine, drain, scheduling);
    let mut connection = Box::new(connection);
    let Some(removed) = identified.removed else {
        return connection.run().await;
    };
    let ended = async {
        removed.wait().await;
        Ok(Some(CloseReason::Refused(ErrorCode::InvalidRequest)))
    };
    race(connection.run(), ended).await
}
