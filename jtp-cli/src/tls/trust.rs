//! How the client verifies the server, and how it identifies itself.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jtp_tokio::tls::{CertificateVerifier, KeyFingerprint, ServerKeyVerifier, UnusableCertificate};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls_platform_verifier::BuilderVerifierExt;

use super::identity::Identity;
use super::pem::{read_certificates, read_found_certificates};
use super::{certificate_error, provider};
use crate::address::Address;
use crate::client_args::ClientArgs;
use crate::exit::{Exit, Failure};

/// The default of `--cert`, if the file exists.
const DEFAULT_CERT: &str = "cert.pem";

/// What the server's certificate is verified with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// The keys of `--pin`, in place of any certificate.
    Keys(Vec<KeyFingerprint>),
    /// The certificates of `--cert`.
    File(PathBuf),
    /// The certificates of `cert.pem` in the current folder, because neither option was given.
    DefaultFile,
    /// The system's roots.
    System,
}

impl Trust {
    /// What the options say.
    #[must_use]
    pub fn of(args: &ClientArgs) -> Trust {
        match &args.cert {
            _ if !args.pin.is_empty() => Trust::Keys(args.pin.clone()),
            Some(path) => Trust::File(path.clone()),
            None if Path::new(DEFAULT_CERT).is_file() => Trust::DefaultFile,
            None => Trust::System,
        }
    }
}

impl fmt::Display for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trust::Keys(_) => f.write_str("--pin"),
            Trust::File(path) => path.display().fmt(f),
            Trust::DefaultFile => write!(f, "{DEFAULT_CERT} in the current folder"),
            Trust::System => f.write_str("this system's root certificates"),
        }
    }
}

/// The client's TLS configuration. The client adds the ALPN protocol. // T1
///
/// # Errors
///
/// A file is not a PEM file of certificates, or the system's roots cannot be loaded.
pub fn client_config(
    trust: &Trust,
    identity: Option<Identity>,
) -> Result<rustls::ClientConfig, Failure> {
    let provider = provider();
    let failed = |error| Failure::new(Exit::Tls, format!("cannot set up TLS: {error}"));
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(failed)?;
    let builder = match verifier(trust, &provider)? {
        Some(verifier) => builder
            .dangerous()
            .with_custom_certificate_verifier(verifier),
        None => builder.with_platform_verifier().map_err(|error| {
            Failure::new(
                Exit::Tls,
                format!(
                    "cannot use the system's root certificates: {error}; pass the server's certificate with --cert"
                ),
            )
        })?,
    };
    match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.chain, identity.key)
            .map_err(failed),
        None => Ok(builder.with_no_client_auth()),
    }
}

/// Verifies servers; `None` means the system's verifier.
fn verifier(
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ServerCertVerifier>>, Failure> {
    let (path, certificates) = match trust {
        Trust::Keys(keys) => {
            let verifier = ServerKeyVerifier::new(keys.iter().copied(), provider);
            return Ok(Some(Arc::new(verifier)));
        }
        Trust::File(path) => (path.as_path(), read_certificates(path)?),
        Trust::DefaultFile => {
            let path = Path::new(DEFAULT_CERT);
            (path, read_found_certificates(path)?)
        }
        Trust::System => return Ok(None),
    };
    let number = certificates.len();
    // T7
    let verifier = CertificateVerifier::new(certificates, provider)
        .map_err(|error| unusable(path, number, &error))?;
    Ok(Some(Arc::new(verifier)))
}

fn unusable(path: &Path, certificates: usize, error: &UnusableCertificate) -> Failure {
    let cause = match &error.source {
        rustls::Error::InvalidCertificate(error) => certificate_error(error),
        error => error.to_string(),
    };
    let which = match certificates {
        1 => String::new(),
        _ => format!("certificate {} of ", error.number),
    };
    Failure::new(
        Exit::Tls,
        format!("cannot use {which}{}: {cause}", path.display()),
    )
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

#[cfg(test)]
mod tests {
    use super::*;

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
