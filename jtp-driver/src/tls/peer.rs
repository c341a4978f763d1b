//! A client's identity, as TLS knows it.

use rustls::pki_types::CertificateDer;

use super::KeyFingerprint;

/// What TLS knows about a client.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TlsPeer {
    /// Its certificates, its own first; empty if it presented none.
    pub certificates: Vec<CertificateDer<'static>>,
    /// The server name that it requested (SNI).
    pub server_name: Option<String>,
}

impl TlsPeer {
    /// A client that presented these certificates, its own first.
    #[must_use]
    pub fn new(certificates: Vec<CertificateDer<'static>>) -> TlsPeer {
        TlsPeer {
            certificates,
            server_name: None,
        }
    }

    /// The key of its certificate, which it proved to have; `None` if it presented no certificate.
    #[must_use]
    pub fn key(&self) -> Option<KeyFingerprint> {
        let certificate = self.certificates.first()?;
        KeyFingerprint::of_certificate(certificate).ok()
    }

    /// Adds the server name that it requested (SNI).
    #[must_use]
    pub fn with_server_name(mut self, name: Option<String>) -> TlsPeer {
        self.server_name = name;
        self
    }
}

impl From<&rustls::ServerConnection> for TlsPeer {
    fn from(connection: &rustls::ServerConnection) -> TlsPeer {
        let certificates = connection.peer_certificates().unwrap_or_default().to_vec();
        let name = connection.server_name().map(str::to_owned);
        TlsPeer::new(certificates).with_server_name(name)
    }
}
