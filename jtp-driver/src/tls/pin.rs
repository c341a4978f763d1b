//! Servers that are known by their keys.

use std::collections::HashSet;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, Error, OtherError};

use super::KeyFingerprint;
use super::signatures::verify_signatures;

/// Accepts servers that have one of the given keys, whatever else their certificates say: name, dates and issuer are not
/// checked. The handshake proves that the server has the private key. // T7
///
/// For [`with_custom_certificate_verifier`](rustls::client::danger::DangerousClientConfigBuilder) of a
/// [`rustls::ClientConfig`].
#[derive(Debug)]
pub struct ServerKeyVerifier {
    keys: HashSet<KeyFingerprint>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A server presented another key than the client expects. It is the source of the error
/// [`CertificateError::Other`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("the server has the key {presented}, which is not the expected one")]
pub struct UnexpectedKey {
    /// The key that the server presented.
    pub presented: KeyFingerprint,
}

impl ServerKeyVerifier {
    /// Accepts servers with one of these keys.
    #[must_use]
    pub fn new(
        keys: impl IntoIterator<Item = KeyFingerprint>,
        provider: &CryptoProvider,
    ) -> ServerKeyVerifier {
        ServerKeyVerifier {
            keys: keys.into_iter().collect(),
            algorithms: provider.signature_verification_algorithms,
        }
    }
}

impl ServerCertVerifier for ServerKeyVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let presented = KeyFingerprint::of_certificate(certificate)?;
        if self.keys.contains(&presented) {
            return Ok(ServerCertVerified::assertion());
        }
        let unexpected = OtherError(std::sync::Arc::new(UnexpectedKey { presented }));
        Err(CertificateError::Other(unexpected).into())
    }

    verify_signatures!();
}
