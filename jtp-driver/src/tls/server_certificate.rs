//! A server certificate that can be replaced while the server runs.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A server's certificate and key, which can be replaced while it runs: for
/// [`with_cert_resolver`](rustls::ConfigBuilder::with_cert_resolver) of a [`rustls::ServerConfig`]. A handle: clones are
/// the same certificate.
///
/// Handshakes that begin after [`replace`](Self::replace) use the new certificate. Open connections go on, and clients
/// may resume sessions of the old one.
#[derive(Debug, Clone)]
pub struct ServerCertificate(Arc<RwLock<Arc<CertifiedKey>>>);

impl ServerCertificate {
    /// [`CertifiedKey::from_der`] reads certificate and key, and verifies that they belong together.
    #[must_use]
    pub fn new(key: CertifiedKey) -> ServerCertificate {
        ServerCertificate(Arc::new(RwLock::new(Arc::new(key))))
    }

    /// Uses another certificate from now on.
    pub fn replace(&self, key: CertifiedKey) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(key);
    }

    /// The certificate and key in use.
    #[must_use]
    pub fn current(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for ServerCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current())
    }
}
