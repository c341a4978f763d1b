//! The client's identity: a private key and a certificate of it, in one PEM file. // T7

use std::io;
use std::path::Path;

use jtp_tokio::tls::KeyFingerprint;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use super::files::{PRIVATE, write_new};
use super::pem::read_identity;
use super::{certificate_error, name, provider, serial_number};
use crate::exit::{Exit, Failure};

/// The common name of generated certificates. TLS 1.2 sends it unencrypted, so it tells nothing about the user.
const COMMON_NAME: &str = "JTP client";

/// A client's private key and its certificate.
#[derive(Debug)]
pub struct Identity {
    /// The certificate, and those that follow it in the file.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
    /// What a server knows the client by.
    pub fingerprint: KeyFingerprint,
    /// A warning: other users can read or write the key.
    pub exposed: Option<String>,
}

impl Identity {
    /// Reads the file.
    ///
    /// # Errors
    ///
    /// The file cannot be read or used, or belongs to another user.
    pub fn read(path: &Path) -> Result<Identity, Failure> {
        let (chain, key, exposed) = read_identity(path)?;
        let cannot_use = |cause: &str| {
            Failure::new(
                Exit::Tls,
                format!("cannot use the identity in {}: {cause}", path.display()),
            )
        };
        let certified = CertifiedKey::from_der(chain.clone(), key.clone_key(), &provider());
        let fingerprint = certified
            .and_then(|certified| KeyFingerprint::of_certificate(certified.end_entity_cert()?))
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    cannot_use("the private key is not that of the certificate")
                }
                rustls::Error::InvalidCertificate(error) => cannot_use(&certificate_error(&error)),
                error => cannot_use(&error.to_string()),
            })?;
        Ok(Identity {
            chain,
            key,
            fingerprint,
            exposed,
        })
    }

    /// Reads the file, or creates it with a new key and mode 0600 if it is missing. Returns whether it was created.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), or the file cannot be written.
    pub fn read_or_create(path: &Path) -> Result<(Identity, bool), Failure> {
        let is_missing = |path: &Path| matches!(std::fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound);
        if !is_missing(path) {
            return Ok((Identity::read(path)?, false));
        }
        let content = generate().map_err(|error| {
            Failure::new(Exit::Tls, format!("cannot generate an identity: {error}"))
        })?;
        let created = match write_new(path, &content, PRIVATE) {
            Ok(()) => true,
            // Another client created it at the same time.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => {
                return Err(Failure::new(
                    Exit::Disk,
                    format!("cannot write the identity {}: {error}", path.display()),
                ));
            }
        };
        Ok((Identity::read(path)?, created))
    }

    /// The line for the server's `--clients` file.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{} {}", self.fingerprint, name::client())
    }
}

/// A new key and its certificate, as PEM.
fn generate() -> Result<String, rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, COMMON_NAME);
    params.not_before = rcgen::date_time_ymd(2026, 1, 1);
    // Servers know the key and ignore the dates. This is the date of certificates without an end (RFC 5280, 4.1.2.5).
    params.not_after =
        rcgen::date_time_ymd(9999, 12, 31) + std::time::Duration::from_secs(24 * 60 * 60 - 1);
    params.serial_number = Some(serial_number()?);
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.self_signed(&key)?;
    Ok(key.serialize_pem() + &certificate.pem())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    #[test]
    fn t7_clients_that_start_at_the_same_time_share_one_identity() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("me.pem");
            let made = thread::scope(|scope| {
                let clients =
                    [(); 4].map(|()| scope.spawn(|| Identity::read_or_create(&path).unwrap()));
                clients.map(|client| client.join().unwrap())
            });
            assert_eq!(made.iter().filter(|(_, created)| *created).count(), 1);
            let first = made[0].0.fingerprint;
            assert!(made.iter().all(|(own, _)| own.fingerprint == first));
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }
}
