//! Certificates, private keys and identities of both programs.
//!
//! | module | content |
//! |---|---|
//! | [`server`] | what the server presents and whom it admits; SIGHUP replaces both |
//! | [`generated`] | the certificate that the server generates and renews |
//! | [`clients`] | the file of `--clients` |
//! | [`identity`] | the client's key and certificate, `--identity` |
//! | [`trust`] | how the client verifies the server: `--cert`, `--pin`, the system's roots |
//! | [`pem`] | PEM files |

pub mod clients;
mod files;
pub mod generated;
pub(crate) mod host_name;
pub mod identity;
mod name;
pub mod pem;
pub mod server;
pub mod trust;
mod validity;

use std::sync::Arc;

use rustls::CertificateError;
use rustls::crypto::CryptoProvider;

/// The crypto provider of both programs. It is passed explicitly; no process-wide default is set or used.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// An error about the certificate in a file. rustls calls it a peer's.
pub(crate) fn certificate_error(error: &CertificateError) -> String {
    match error {
        CertificateError::BadEncoding => "it is malformed".to_owned(),
        error if is_version_1(error) => {
            "it is of X.509 version 1, which has no subjectAltName; make a new one of version 3"
                .to_owned()
        }
        CertificateError::Other(other) => other.0.to_string(),
        error => error.to_string(),
    }
}

/// Whether a certificate was rejected because of its version. `openssl x509 -req` without extensions creates version 1.
pub(crate) fn is_version_1(error: &CertificateError) -> bool {
    is_webpki(error, &webpki::Error::UnsupportedCertVersion)
}

/// Whether a certificate was rejected for a cause that rustls has no error for.
pub(crate) fn is_webpki(error: &CertificateError, cause: &webpki::Error) -> bool {
    matches!(error, CertificateError::Other(other) if other.0.downcast_ref() == Some(cause))
}

/// A random serial number. Two certificates of one key have different ones.
fn serial_number() -> Result<rcgen::SerialNumber, rcgen::Error> {
    let mut bytes = [0; 16];
    provider()
        .secure_random
        .fill(&mut bytes)
        .map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive, and of full length.
    bytes[0] = bytes[0] & 0x7F | 0x40;
    Ok(rcgen::SerialNumber::from_slice(&bytes))
}
