//! Servers that are known by their certificates, or by a CA.

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, Error, RootCertStore};
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::X509Certificate;

use super::signatures::verify_signatures;

/// Accepts servers by a list of trusted certificates. // T7
///
/// - A CA certificate (basicConstraints) vouches for the servers whose certificates it signed.
/// - Any certificate of the list, CA or not, is accepted as that of the server itself: by its exact bytes, between its
///   dates and for its names.
/// - A certificate that is no CA's vouches for nothing else: not for a certificate that its key signed.
///
/// For [`with_custom_certificate_verifier`](rustls::client::danger::DangerousClientConfigBuilder) of a
/// [`rustls::ClientConfig`]. Certificates that were revoked are not detected.
#[derive(Debug)]
pub struct CertificateVerifier {
    trusted: Vec<Trusted>,
    /// Verifies what a CA certificate signed; `None` if there is none.
    authorities: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

/// A certificate that is trusted for itself.
#[derive(Debug)]
struct Trusted {
    certificate: CertificateDer<'static>,
    not_before: UnixTime,
    not_after: UnixTime,
}

/// A certificate of the list cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
#[error("certificate {number} of the list cannot be used")]
pub struct UnusableCertificate {
    /// Its position in the list, from 1.
    pub number: usize,
    /// The cause.
    pub source: Error,
}

impl CertificateVerifier {
    /// Trusts these certificates.
    ///
    /// # Errors
    ///
    /// A certificate is malformed, or of X.509 version 1.
    pub fn new(
        certificates: impl IntoIterator<Item = CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<CertificateVerifier, UnusableCertificate> {
        let mut roots = RootCertStore::empty();
        let mut trusted = Vec::new();
        for (index, certificate) in certificates.into_iter().enumerate() {
            let read = Trusted::read(certificate, &mut roots);
            trusted.push(read.map_err(|source| UnusableCertificate {
                number: index + 1,
                source,
            })?);
        }
        let authorities = (!roots.is_empty())
            .then(|| {
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
                    .build()
            })
            .transpose()
            // Only revocation lists could fail, and there are none.
            .unwrap_or_default();
        Ok(CertificateVerifier {
            trusted,
            authorities,
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

impl Trusted {
    /// Reads a certificate, and adds it to `roots` if it is that of a CA.
    fn read(
        certificate: CertificateDer<'static>,
        roots: &mut RootCertStore,
    ) -> Result<Trusted, Error> {
        ParsedCertificate::try_from(&certificate)?;
        let (_, parsed) =
            parse_x509_certificate(&certificate).map_err(|_| CertificateError::BadEncoding)?;
        if is_authority(&parsed)? {
            roots.add(certificate.clone())?;
        }
        let validity = parsed.validity();
        let (not_before, not_after) = (
            unix_time(validity.not_before.timestamp()),
            unix_time(validity.not_after.timestamp()),
        );
        Ok(Trusted {
            certificate,
            not_before,
            not_after,
        })
    }

    fn verify(&self, name: &ServerName<'_>, now: UnixTime) -> Result<ServerCertVerified, Error> {
        if now < self.not_before {
            return Err(CertificateError::NotValidYetContext {
                time: now,
                not_before: self.not_before,
            }
            .into());
        }
        if now > self.not_after {
            return Err(CertificateError::ExpiredContext {
                time: now,
                not_after: self.not_after,
            }
            .into());
        }
        verify_server_name(&ParsedCertificate::try_from(&self.certificate)?, name)?;
        Ok(ServerCertVerified::assertion())
    }
}

/// Whether the certificate may sign others: basicConstraints says so, and keyUsage does not deny it.
fn is_authority(certificate: &X509Certificate<'_>) -> Result<bool, Error> {
    let malformed = |_| Error::from(CertificateError::BadEncoding);
    let is_ca = certificate
        .basic_constraints()
        .map_err(malformed)?
        .is_some_and(|constraints| constraints.value.ca);
    let may_sign = certificate
        .key_usage()
        .map_err(malformed)?
        .is_none_or(|usage| usage.value.key_cert_sign());
    Ok(is_ca && may_sign)
}

/// A time before 1970 is 1970.
fn unix_time(seconds: i64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(seconds.try_into().unwrap_or(0)))
}

impl ServerCertVerifier for CertificateVerifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let exact = |trusted: &&Trusted| trusted.certificate == *certificate;
        if let Some(trusted) = self.trusted.iter().find(exact) {
            return trusted.verify(name, now);
        }
        match &self.authorities {
            Some(authorities) => {
                authorities.verify_server_cert(certificate, intermediates, name, ocsp, now)
            }
            None => Err(CertificateError::UnknownIssuer.into()),
        }
    }

    verify_signatures!();
}
