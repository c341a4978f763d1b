//! The server's certificate and private key, generated on the first start.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::CertificateError;
use rustls::client::verify_server_name;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use rustls::server::ParsedCertificate;

use crate::exit::{Exit, Failure};
use crate::host_name::HostName;
use crate::pem::{read_certificates, read_private_key};

/// The crypto provider of both programs. It is passed explicitly; no process-wide default is set or used.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Generates the certificate and its private key if neither file exists. Returns whether it did.
///
/// The certificate is self-signed, for localhost, 127.0.0.1, ::1 and the machine's name. It is not a CA certificate, so
/// a client that trusts it trusts only this server. The key file is created with mode 0600.
///
/// # Errors
///
/// Only one of the two files exists, or they cannot be written.
pub fn create_if_missing(cert: &Path, key: &Path) -> Result<bool, Failure> {
    let exists = |path: &Path| {
        path.try_exists()
            .map_err(|error| Failure::other(format!("cannot access {}: {error}", path.display())))
    };
    let incomplete = |present: &Path, missing: &Path| {
        Err(Failure::other(format!(
            "{} exists but {} is missing: restore it, or remove {} to generate both again",
            present.display(),
            missing.display(),
            present.display()
        )))
    };
    match (exists(cert)?, exists(key)?) {
        (true, true) => return Ok(false),
        (true, false) => return incomplete(cert, key),
        // Another server may be starting at the same time and may have written only the key so far.
        (false, true) if wait_for_file(cert) => return Ok(false),
        (false, true) => return incomplete(key, cert),
        (false, false) => {}
    }
    let (cert_pem, key_pem) = generate(machine_name().as_deref())
        .map_err(|error| Failure::other(format!("cannot generate a certificate: {error}")))?;
    let failed = |path: &Path, error: &io::Error| {
        Err(Failure::other(format!(
            "cannot write {}: {error}; choose other paths with --cert and --key, or use --no-tls",
            path.display()
        )))
    };
    // The key is written first, so that a process that sees the certificate also sees the key.
    match write_new(key, &key_pem, 0o600) {
        Ok(()) => {}
        // Another server wrote its key first and is about to write its certificate.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return if wait_for_file(cert) {
                Ok(false)
            } else {
                incomplete(key, cert)
            };
        }
        Err(error) => return failed(key, &error),
    }
    if let Err(error) = write_new(cert, &cert_pem, 0o644) {
        // A key without a certificate would make the next start fail.
        let _ = std::fs::remove_file(key);
        return failed(cert, &error);
    }
    Ok(true)
}

/// Waits up to 1 s for a file that another server may be writing. Returns whether it exists.
fn wait_for_file(path: &Path) -> bool {
    (0..100).any(|_| {
        let exists = path.exists();
        if !exists {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        exists
    })
}

/// The TLS configuration of a server with this certificate: TLS 1.2 and 1.3. The server adds the ALPN protocol. // T1
///
/// # Errors
///
/// A file cannot be read or parsed, or the key does not match the certificate.
pub fn server_config(cert: &Path, key: &Path) -> Result<rustls::ServerConfig, Failure> {
    load(cert, key).map_err(|failure| Failure {
        // The exit code for TLS errors is the client's.
        exit: Exit::Other,
        ..failure
    })
}

fn load(cert: &Path, key: &Path) -> Result<rustls::ServerConfig, Failure> {
    let provider = provider();
    let chain = read_certificates(cert)?;
    let private = read_private_key(key)?;
    provider
        .key_provider
        .load_private_key(private.clone_key())
        .map_err(|_| {
            Failure::other(format!(
                "cannot use the private key in {}: it is malformed or of an unsupported type; use an RSA key of 2048 to 8192 bits, an ECDSA key on P-256, P-384 or P-521, or an Ed25519 key",
                key.display()
            ))
        })?;
    if let Some(own) = chain.first() {
        warn_without_host_name(cert, own);
    }
    rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(|error| {
            let (cert, key) = (cert.display(), key.display());
            Failure::other(match error {
                rustls::Error::InconsistentKeys(_) => format!(
                    "the private key in {key} does not match the certificate in {cert}; pass the key that the certificate was made with"
                ),
                rustls::Error::InvalidCertificate(error) => {
                    format!("cannot use the certificate in {cert}: {}", certificate_error(&error))
                }
                error => format!("cannot use {cert} with {key}: {error}"),
            })
        })
}

/// Warns of a certificate that no client accepts.
fn warn_without_host_name(cert: &Path, certificate: &CertificateDer<'_>) {
    // The error has the names.
    let any = DnsName::try_from("name.invalid").map(ServerName::DnsName);
    let (Ok(parsed), Ok(any)) = (ParsedCertificate::try_from(certificate), any) else {
        return;
    };
    let Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForNameContext {
        presented,
        ..
    })) = verify_server_name(&parsed, &any)
    else {
        return;
    };
    if HostName::all(&presented)
        .iter()
        .all(HostName::is_address_as_dns_name)
    {
        tracing::warn!(
            "clients reject the certificate in {}: it has no DNS name and no IP address in a subjectAltName; make a new one with subjectAltName=DNS:NAME",
            cert.display()
        );
    }
}

/// An error about the certificate in a file. rustls calls it a peer's.
pub(crate) fn certificate_error(error: &CertificateError) -> String {
    match error {
        CertificateError::BadEncoding => "it is malformed".to_owned(),
        error if is_version_1(error) => {
            "it is of X.509 version 1, which has no subjectAltName; make a new one of version 3"
                .to_owned()
        }
        error => error.to_string(),
    }
}

/// Whether a certificate was rejected because of its version. `openssl x509 -req` without extensions creates version 1.
pub(crate) fn is_version_1(error: &CertificateError) -> bool {
    let CertificateError::Other(other) = error else {
        return false;
    };
    matches!(
        other.0.downcast_ref(),
        Some(webpki::Error::UnsupportedCertVersion)
    )
}

fn generate(machine: Option<&str>) -> Result<(String, String), rcgen::Error> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(machine.map(str::to_owned));
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    let common = format!("JTP server on {}", machine.unwrap_or("this machine"));
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, common);
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    let key = rcgen::KeyPair::generate()?;
    Ok((params.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// The machine's name, if it is a valid DNS name other than `localhost`.
fn machine_name() -> Option<String> {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_str()
        .ok()?
        .to_ascii_lowercase();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").ok()?.to_ascii_lowercase();
    let name = DnsName::try_from(name).ok()?;
    let name = name.as_ref().trim_end_matches('.');
    (name != "localhost").then(|| name.to_owned())
}

/// Creates a file atomically. Fails if it exists.
fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // `tempfile` would hide the system's message.
    fs::metadata(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".jtp-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = builder
        .tempfile_in(folder)
        .map_err(|error| without_path(&error))?;
    file.write_all(content.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(())
}

/// Removes the temporary file's path that `tempfile` adds, because the user does not know that file.
fn without_path(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::from(error.kind()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concurrent_starts_in_one_folder_share_one_certificate() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
            let created = std::thread::scope(|scope| {
                let start = || {
                    let created = create_if_missing(&cert, &key).unwrap();
                    server_config(&cert, &key).unwrap();
                    created
                };
                let servers = [(); 4].map(|()| scope.spawn(start));
                servers.map(|server| server.join().unwrap())
            });
            assert_eq!(created.iter().filter(|created| **created).count(), 1);
        }
    }

    #[test]
    fn key_is_removed_if_the_certificate_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("no/c.pem"), folder.path().join("k.pem"));
        let failed = create_if_missing(&cert, &key).unwrap_err().to_string();
        assert!(failed.contains("No such file or directory"), "{failed}");
        assert!(!key.exists());
    }

    #[test]
    fn certificate_and_key_are_created_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        assert_eq!(create_if_missing(&cert, &key), Ok(true));
        let before = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());
        assert_eq!(create_if_missing(&cert, &key), Ok(false));
        assert_eq!(before, (fs::read(&cert).unwrap(), fs::read(&key).unwrap()));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "no other file remains"
        );
        server_config(&cert, &key).unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(
                fs::metadata(&key).unwrap().permissions().mode() & 0o777,
                0o600
            );
        }
    }

    #[test]
    fn missing_certificate_or_key_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        fs::write(&cert, "").unwrap();
        let failure = create_if_missing(&cert, &key).unwrap_err();
        assert!(failure.message.contains("k.pem is missing"), "{failure}");
        fs::rename(&cert, &key).unwrap();
        let failure = create_if_missing(&cert, &key).unwrap_err();
        assert!(failure.message.contains("c.pem is missing"), "{failure}");
    }
}
