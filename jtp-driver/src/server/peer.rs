//! Who asks.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Who is at the other end of a connection.
#[derive(Clone, Default)]
#[non_exhaustive]
pub struct Peer {
    /// Its address, where the transport has one.
    pub address: Option<SocketAddr>,
    /// What TLS knows of it; `None` on plain TCP.
    #[cfg(feature = "tls")]
    pub tls: Option<TlsPeer>,
}

impl Peer {
    /// A peer of whom only the address is known.
    #[must_use]
    pub fn new(address: Option<SocketAddr>) -> Peer {
        Peer {
            address,
            ..Peer::default()
        }
    }

    pub(super) fn ip(&self) -> Option<IpAddr> {
        self.address.map(|address| address.ip())
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => address.fmt(f),
            None => f.write_str("a peer without an address"),
        }
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Peer({self})")
    }
}

/// What TLS knows of a peer.
#[cfg(feature = "tls")]
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TlsPeer {
    /// Its certificates, its own first; empty if it showed none.
    pub certificates: Vec<rustls::pki_types::CertificateDer<'static>>,
}
