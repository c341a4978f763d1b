//! Admission of TCP connections. One that a proxy forwards is counted as its client's once its header was read.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use jtp_core::server::CloseReason;
use jtp_core::wire::response::ErrorCode;

use super::connection::Scheduling;
use super::drain::Drain;
use super::limits::{ClientId, ConnectionLimit, Permit};
use super::listener::unless_drained;
use super::proxy::{HEADER_TIMEOUT, Source, read_source};
use super::{Admitted, Peer, Shared};
use crate::runtime::Runtime;
use crate::wait::timeout_io;

/// A connection that the limits allow. One from a proxy counts for the limit in total, and for that of no client.
pub(super) struct Arrival<R: Runtime> {
    shared: Arc<Shared<R>>,
    address: SocketAddr,
    is_proxy: bool,
    permit: Arc<Permit>,
}

impl<R: Runtime> Shared<R> {
    /// Admits a connection from `address`, if the limits allow.
    pub(super) fn admit(self: &Arc<Self>, address: SocketAddr) -> Option<Arrival<R>> {
        let is_proxy = self.proxy.as_ref().is_some_and(|p| p.is_proxy(address));
        let (ip, now) = (address.ip(), self.runtime.now());
        let admitted = if is_proxy {
            self.connections.admit_unidentified(ip, now)
        } else {
            self.connections.admit(ip, now)
        };
        match admitted {
            Ok(permit) => Some(Arrival {
                shared: Arc::clone(self),
                address,
                is_proxy,
                permit: Arc::new(permit),
            }),
            Err(limit) => {
                self.observation.refused(address, limit);
                None
            }
        }
    }
}

impl<R: Runtime> Arrival<R> {
    /// Serves the connection, and reports how it ended.
    pub(super) async fn serve(
        self,
        mut socket: R::Socket,
        drain: Arc<Drain>,
        scheduling: Scheduling,
    ) -> io::Result<Option<CloseReason>> {
        let admitted = if self.is_proxy {
            // Boxed, so that the future of another connection has no room for a header.
            match Box::pin(self.identify(&mut socket, &drain)).await {
                Ok(admitted) => admitted,
                Err(end) => return end,
            }
        } else {
            let peer = Peer::new(Some(self.address));
            Admitted::new(&self.shared, peer, Some(self.permit))
        };
        let served = admitted.serve_tcp(socket, drain, scheduling);
        admitted.serve(served).await
    }

    /// Reads the header of a proxy, and admits the connection as its client's; or the connection's end.
    async fn identify(
        self,
        socket: &mut R::Socket,
        drain: &Drain,
    ) -> Result<Admitted<R>, io::Result<Option<CloseReason>>> {
        let Arrival {
            shared,
            address: proxy,
            permit,
            ..
        } = self;
        let first_byte = shared.options.first_byte_timeout;
        let limit = first_byte.map_or(HEADER_TIMEOUT, |limit| limit.min(HEADER_TIMEOUT)); // T4
        let header = timeout_io(&shared.runtime, Some(limit), read_source(socket));
        let mut peer = Peer::new(Some(proxy));
        let end = match unless_drained(drain, header).await {
            Ok(Some(Source::Client(client))) => {
                peer.address = Some(client);
                peer.proxy = Some(proxy);
                None
            }
            Ok(Some(Source::Proxy)) => None,
            Ok(Some(Source::Closed)) => Some(Ok(Some(CloseReason::PeerClosed))),
            Ok(None) => Some(Ok(Some(CloseReason::Shutdown))),
            Err(error) => {
                if let Some(protocol) = &shared.proxy {
                    protocol.log_failure(proxy, &error, shared.runtime.now());
                }
                Some(Err(error))
            }
        };
        if let Some(end) = end {
            let admitted = Admitted::new(&shared, peer, Some(permit));
            return Err(admitted.serve(async { end }).await);
        }
        let client = peer.address.unwrap_or(proxy);
        if !permit.identify(ClientId::at(client.ip())) {
            shared.observation.refused(client, ConnectionLimit::Client);
            return Err(Ok(Some(CloseReason::Refused(ErrorCode::RateLimited))));
        }
        Ok(Admitted::new(&shared, peer, Some(permit)))
    }
}
