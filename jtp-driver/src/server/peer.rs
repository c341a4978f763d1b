//! The client at the other end of a connection.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::limits::ClientId;
#[cfg(feature = "tls")]
use crate::tls::{ClientIdentity, TlsPeer};

/// The client at the other end of a connection.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Peer {
    /// Its address, if the transport has one.
    pub address: Option<SocketAddr>,
    /// The proxy that forwards its connection, if that named `address`: see
    /// [`proxy_protocol`](super::ServerBuilder::proxy_protocol).
    pub proxy: Option<SocketAddr>,
    /// What TLS knows about it; `None` on plain TCP.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsPeer>,
    #[cfg(feature = "tls")]
    pub(super) identity: Option<ClientIdentity>,
}

impl Peer {
    /// A peer with this address, or without one.
    #[must_use]
    pub fn new(address: Option<SocketAddr>) -> Peer {
        Peer {
            address,
            ..Peer::default()
        }
    }

    /// Adds what TLS knows about it.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn with_tls(mut self, tls: TlsPeer) -> Peer {
        self.tls = Some(tls);
        self
    }

    /// Which client of the server's list it is; `None` if the server has no list, see
    /// [`ServerBuilder::clients`](super::ServerBuilder::clients). // T7
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn identity(&self) -> Option<&ClientIdentity> {
        self.identity.as_ref()
    }

    /// Whom the limits count: a client of the server's list by its key, others by their address. `None` for a peer
    /// without either, which is not limited.
    pub(super) fn client_id(&self) -> Option<ClientId> {
        #[cfg(feature = "tls")]
        if let Some(identity) = &self.identity {
            return Some(ClientId::Key(*identity.key().as_bytes()));
        }
        self.ip().map(ClientId::at)
    }

    /// Whether the peer is on this machine, as far as its address proves it: an address that a proxy names may be one of
    /// the proxy's machine. // T2
    #[cfg_attr(not(feature = "tls"), allow(dead_code))]
    pub(super) fn is_local(&self) -> bool {
        let loopback = |ip: IpAddr| ip.to_canonical().is_loopback();
        self.proxy.is_none() && self.ip().is_some_and(loopback)
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f)?,
            None => f.write_str("a peer without an address")?,
        }
        #[cfg(feature = "tls")]
        if let Some(identity) = &self.identity {
            write!(f, " ({identity})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({self})")
    }
}
