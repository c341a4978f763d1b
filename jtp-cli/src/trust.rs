//! Verification of the server's certificate: against a file of certificates, or the system's roots.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_platform_verifier::BuilderVerifierExt;

use crate::address::Address;
use crate::certificates::{certificate_error, provider};
use crate::exit::{Exit, Failure};
use crate::pem::read_certificates;

/// Returns the client's TLS configuration, which trusts the certificates in `cert`, or the system's roots. The client
/// adds the ALPN protocol. // T1
///
/// # Errors
///
/// The file is not a PEM file of certificates, or the system's roots cannot be loaded.
pub fn client_config(cert: Option<&Path>) -> Result<rustls::ClientConfig, Failure> {
    let provider = provider();
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::new(Exit::Tls, format!("cannot set up TLS: {error}")))?;
    let builder = match cert {
        Some(path) => {
            let verifier = FileVerifier::new(read_certificates(path)?, provider).map_err(|error| {
                Failure::new(Exit::Tls, format!("cannot use {}: {error}", path.display()))
            })?;
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
        }
        None => builder.with_platform_verifier().map_err(|error| {
            Failure::new(
                Exit::Tls,
                format!(
                    "cannot use the system's root certificates: {error}; pass the server's certificate with --cert"
                ),
            )
        })?,
    };
    Ok(builder.with_no_client_auth())
}

/// The name to verify and to send as SNI: `explicit`, else the host; `localhost` for a loopback address.
///
/// # Errors
///
/// The name is neither a DNS name nor an IP address.
pub fn server_name(
    explicit: Option<&str>,
    address: &Address,
) -> Result<ServerName<'static>, Failure> {
    let name = match explicit {
        Some(name) => name.to_owned(),
        None => match address.ip() {
            Some(ip) if ip.is_loopback() => "localhost".to_owned(),
            // Certificates do not contain zones such as %eth0.
            _ => address
                .host
                .split('%')
                .next()
                .unwrap_or_default()
                .to_owned(),
        },
    };
    ServerName::try_from(name).map_err(|_| {
        Failure::new(
            Exit::Tls,
            format!("no valid server name for {address}; pass one with --server-name"),
        )
    })
}

/// Trusts the certificates of a file as CAs, and each of them as a server's own certificate.
///
/// The latter is needed for self-signed certificates that are marked as a CA, as `openssl req -x509` creates them.
/// webpki rejects such a certificate as a server's, even if the user trusts that very certificate.
#[derive(Debug)]
struct FileVerifier {
    inner: Arc<WebPkiServerVerifier>,
    trusted: Vec<CertificateDer<'static>>,
}

impl FileVerifier {
    fn new(
        trusted: Vec<CertificateDer<'static>>,
        provider: Arc<CryptoProvider>,
    ) -> Result<FileVerifier, String> {
        let mut roots = RootCertStore::empty();
        for certificate in &trusted {
            roots
                .add(certificate.clone())
                .map_err(|error| match error {
                    Error::InvalidCertificate(error) => certificate_error(&error),
                    error => error.to_string(),
                })?;
        }
        let inner = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| error.to_string())?;
        Ok(FileVerifier { inner, trusted })
    }
}

impl ServerCertVerifier for FileVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self.inner.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verdict {
            // webpki reports this error after it checked the dates and before it checks the name.
            Err(error)
                if is_ca_as_server(&error) && self.trusted.iter().any(|own| own == end_entity) =>
            {
                let parsed = rustls::server::ParsedCertificate::try_from(end_entity)?;
                rustls::client::verify_server_name(&parsed, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

fn is_ca_as_server(error: &Error) -> bool {
    let Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    matches!(
        other.0.downcast_ref(),
        Some(webpki::Error::CaUsedAsEndEntity)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(
        presented: &rcgen::CertificateParams,
        trusted: &rcgen::CertificateParams,
        name: &str,
    ) -> Result<(), Error> {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = presented.self_signed(&key).unwrap();
        let same = std::ptr::eq(presented, trusted);
        let trusted = if same {
            certificate.clone()
        } else {
            trusted.self_signed(&key).unwrap()
        };
        FileVerifier::new(vec![trusted.der().clone()], provider())
            .unwrap()
            .verify_server_cert(
                certificate.der(),
                &[],
                &ServerName::try_from(name).unwrap(),
                &[],
                UnixTime::now(),
            )
            .map(drop)
    }

    fn params(is_ca: rcgen::IsCa) -> rcgen::CertificateParams {
        let mut params =
            rcgen::CertificateParams::new(vec!["pictures.example".to_owned()]).unwrap();
        params.is_ca = is_ca;
        params
    }

    #[test]
    fn self_signed_certificate_is_trusted_for_its_name_only() {
        let ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        for is_ca in [rcgen::IsCa::NoCa, rcgen::IsCa::ExplicitNoCa, ca] {
            let params = params(is_ca);
            verdict(&params, &params, "pictures.example").unwrap();
            assert!(verdict(&params, &params, "other.example").is_err());
        }
    }

    #[test]
    fn untrusted_or_expired_ca_is_rejected() {
        let ca = params(rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained));
        let mut other = ca.clone();
        other.serial_number = Some(7_u64.into());
        assert!(verdict(&ca, &other, "pictures.example").is_err());
        let mut expired = ca;
        expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
        assert!(verdict(&expired, &expired, "pictures.example").is_err());
    }

    #[test]
    fn server_name_defaults_to_host_or_localhost() {
        for (address, explicit, name) in [
            ("127.0.0.1", None, "localhost"),
            ("[::1]", None, "localhost"),
            ("192.0.2.1", None, "192.0.2.1"),
            ("pictures.example", None, "pictures.example"),
            ("127.0.0.1", Some("pictures.example"), "pictures.example"),
            ("127.0.0.1", Some("127.0.0.1"), "127.0.0.1"),
            ("fe80::1%eth0", None, "fe80::1"),
        ] {
            let name_found = server_name(explicit, &address.parse().unwrap()).unwrap();
            assert_eq!(name_found.to_str(), name);
        }
        assert!(server_name(Some("a b"), &"x".parse().unwrap()).is_err());
    }
}
