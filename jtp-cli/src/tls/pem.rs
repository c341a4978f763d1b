//! Certificates and private keys in PEM files.

mod kind;

use std::fs::Metadata;
use std::path::Path;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::files::{check_found, check_owner, exposure, read_regular};
use crate::escape::escaped;
use crate::exit::{Exit, Failure};
use kind::Kind;

/// Reads the certificates of a PEM file, at least one. Other sections are skipped.
///
/// # Errors
///
/// The file cannot be read, or contains no certificate.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    PemFile::read(path)?.certificates()
}

/// [`read_certificates`], of a file that the user did not name.
///
/// # Errors
///
/// As [`read_certificates`], or another user may have put the file there.
pub(super) fn read_found_certificates(
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let file = PemFile::read(path)?;
    check_found(path, &file.metadata)?;
    file.certificates()
}

/// Reads the first private key of a PEM file. Other sections, such as `EC PARAMETERS`, are skipped. Returns also a
/// warning if other users can read or write the file.
///
/// # Errors
///
/// The file cannot be read, belongs to another user, or contains no private key, or an encrypted one.
pub fn read_private_key(path: &Path) -> Result<(PrivateKeyDer<'static>, Option<String>), Failure> {
    PemFile::read(path)?.private_key()
}

/// A private key, its certificates, and a warning if other users can read or write the file.
type PrivateKeyWithCertificates = (
    Vec<CertificateDer<'static>>,
    PrivateKeyDer<'static>,
    Option<String>,
);

/// Reads the first private key and all certificates of a client's identity.
///
/// # Errors
///
/// The file cannot be read, belongs to another user, or lacks one of the two.
pub(super) fn read_identity(path: &Path) -> Result<PrivateKeyWithCertificates, Failure> {
    let file = PemFile {
        is_identity: true,
        ..PemFile::read(path)?
    };
    let (key, exposed) = file.private_key()?;
    Ok((file.certificates()?, key, exposed))
}

/// A file that should be in PEM format.
struct PemFile<'a> {
    path: &'a Path,
    bytes: Vec<u8>,
    metadata: Metadata,
    /// Whether it should contain both a key and a certificate.
    is_identity: bool,
}

impl PemFile<'_> {
    fn read(path: &Path) -> Result<PemFile<'_>, Failure> {
        match read_regular(path) {
            Ok((bytes, metadata)) => Ok(PemFile {
                path,
                bytes,
                metadata,
                is_identity: false,
            }),
            Err(_) if path.is_dir() => Err(failure(format!(
                "cannot read {}: it is a folder; pass a file in PEM format",
                path.display()
            ))),
            Err(error) => Err(failure(format!("cannot read {}: {error}", path.display()))),
        }
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, Failure> {
        let sections = self.sections_of(Kind::Certificate)?;
        let certificates: Result<Vec<_>, pem::Error> = sections
            .into_iter()
            .map(CertificateDer::from_pem_slice)
            .collect();
        certificates.map_err(|error| self.malformed(Kind::Certificate, &error))
    }

    fn private_key(&self) -> Result<(PrivateKeyDer<'static>, Option<String>), Failure> {
        let sections = self.sections_of(Kind::PrivateKey)?;
        check_owner(self.path, &self.metadata)?;
        let key = sections
            .first()
            .map_or(Err(pem::Error::NoItemsFound), |section| {
                PrivateKeyDer::from_pem_slice(section)
            })
            .map_err(|error| self.malformed(Kind::PrivateKey, &error))?;
        Ok((key, exposure(self.path, &self.metadata)))
    }

    /// The sections of this kind, at least one.
    fn sections_of(&self, wanted: Kind) -> Result<Vec<&[u8]>, Failure> {
        let all = kind::sections(&self.bytes);
        let found: Vec<&[u8]> = all
            .iter()
            .filter(|section| section.kind() == wanted)
            .map(|section| section.bytes)
            .collect();
        if !found.is_empty() {
            return Ok(found);
        }
        // The file may have parameters or a certificate before the encrypted key.
        let other = all
            .iter()
            .find(|section| section.kind() == Kind::EncryptedPrivateKey)
            .or(all.first());
        let reason = match other {
            Some(section) => self.other_section(wanted, section),
            None => self.no_pem(wanted),
        };
        Err(failure(reason))
    }

    /// Why a section of another kind cannot be used.
    fn other_section(&self, wanted: Kind, section: &kind::Section<'_>) -> String {
        let file = self.path.display();
        match (wanted, section.kind()) {
            (Kind::PrivateKey, Kind::EncryptedPrivateKey) => format!(
                "the private key in {file} is encrypted; decrypt it with: openssl pkey -in {file} -out NEW_FILE"
            ),
            (Kind::PrivateKey, Kind::OpenSshPrivateKey) => format!(
                "{file} contains a private key in OpenSSH format; pass a private key in PKCS#8 format, as openssl genpkey creates it"
            ),
            (_, Kind::Other) => format!(
                "{file} does not contain {wanted}, but a PEM section {}; {}",
                escaped(&section.label),
                self.remedy(wanted)
            ),
            (_, found) => format!(
                "{file} contains {found}, not {wanted}; {}",
                self.remedy(wanted)
            ),
        }
    }

    /// Why a file without any PEM section cannot be used.
    fn no_pem(&self, wanted: Kind) -> String {
        let file = self.path.display();
        if self.bytes.trim_ascii().is_empty() {
            return format!("{file} does not contain {wanted}: the file is empty");
        }
        if self.bytes.starts_with(b"\xff\xfe") || self.bytes.starts_with(b"\xfe\xff") {
            return format!(
                "{file} does not contain {wanted} in PEM format: the file is UTF-16 text; save it as ASCII or UTF-8"
            );
        }
        let command = match (wanted, kind::of_der(&self.bytes)) {
            (_, Some(Kind::Pkcs12)) => {
                return format!(
                    "{file} is in PKCS#12 format, not PEM; convert it with: openssl pkcs12 -in {file} -nodes -out NEW_FILE"
                );
            }
            (Kind::Certificate, Some(Kind::Certificate)) => "x509",
            (Kind::PrivateKey, Some(Kind::PrivateKey | Kind::EncryptedPrivateKey)) => "pkey",
            (_, Some(found)) => {
                return format!(
                    "{file} contains {found} in DER format, not {wanted} in PEM format; {}",
                    self.remedy(wanted)
                );
            }
            (_, None) => return format!("{file} does not contain {wanted} in PEM format"),
        };
        format!(
            "{file} contains {wanted} in DER format, not PEM; convert it with: openssl {command} -inform DER -in {file} -out NEW_FILE"
        )
    }

    /// What to pass instead.
    fn remedy(&self, wanted: Kind) -> String {
        match (self.is_identity, wanted) {
            (true, _) => "pass a file with a private key and its certificate with --identity, or a file that does not exist yet".to_owned(),
            (false, Kind::PrivateKey) => format!("pass {wanted} with --key"),
            (false, _) => format!("pass {wanted} with --cert"),
        }
    }

    fn malformed(&self, wanted: Kind, error: &pem::Error) -> Failure {
        let reason = match error {
            pem::Error::MissingSectionEnd { .. } => "the file is truncated",
            pem::Error::Base64Decode(_) => "invalid base64",
            _ => "the file is malformed",
        };
        failure(format!(
            "{} does not contain {wanted} in PEM format: {reason}",
            self.path.display()
        ))
    }
}

fn failure(message: String) -> Failure {
    Failure::new(Exit::Tls, message)
}
