//! The server's certificate and key: made on the first start, kept after that.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::exit::{Exit, Failure};

/// The protocol's name in TLS. // T1
pub const ALPN: &[u8] = b"jtp/1";

/// The cryptography of both programs. It is always passed on: no process-wide default is set or used.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// Makes the certificate and its key if neither is there.
///
/// The certificate is signed by its own key, for localhost, 127.0.0.1, ::1 and the machine's name. It says
/// that it is no authority, so that a client can trust just this one server by it. The key can be read by its
/// owner only, from the moment the file exists. Returns whether they were made.
///
/// # Errors
///
/// One of the two is missing, or they cannot be written.
pub fn make_if_missing(cert: &Path, key: &Path) -> Result<bool, Failure> {
    let there = |path: &Path| {
        path.try_exists()
            .map_err(|error| Failure::other(format!("cannot look for {}: {error}", path.display())))
    };
    let lonely = |here: &Path, missing: &Path| {
        Err(Failure::other(format!(
            "{} is there, but {} is missing: put it back, or remove {} to have both made anew",
            here.display(),
            missing.display(),
            here.display()
        )))
    };
    match (there(cert)?, there(key)?) {
        (true, true) => return Ok(false),
        (true, false) => return lonely(cert, key),
        // Perhaps another server that starts at the same moment is between the two.
        (false, true) if appears(cert) => return Ok(false),
        (false, true) => return lonely(key, cert),
        (false, false) => {}
    }
    let (cert_pem, key_pem) = generate(machine_name().as_deref())
        .map_err(|error| Failure::other(format!("cannot make a certificate: {error}")))?;
    let failed = |path: &Path, error: &io::Error| {
        Err(Failure::other(format!(
            "cannot write {}: {error}; choose a place with --cert and --key, or use --no-tls",
            path.display()
        )))
    };
    // The key first: whoever finds the certificate finds the key as well.
    match write_new(key, &key_pem, 0o600) {
        Ok(()) => {}
        // Another server that starts at the same moment was faster: its certificate follows.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return if appears(cert) {
                Ok(false)
            } else {
                lonely(key, cert)
            };
        }
        Err(error) => return failed(key, &error),
    }
    if let Err(error) = write_new(cert, &cert_pem, 0o644) {
        // A key alone would only be in the way of the next start.
        let _ = std::fs::remove_file(key);
        return failed(cert, &error);
    }
    Ok(true)
}

/// Whether a file is there, or comes within a second: as long as another server may take to write it.
fn appears(path: &Path) -> bool {
    (0..100).any(|_| {
        let there = path.exists();
        if !there {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        there
    })
}

/// The TLS configuration of a server with this certificate: TLS 1.2 and 1.3, ALPN `jtp/1`. // T1
///
/// # Errors
///
/// A file cannot be read, contains something else, or the two do not belong together.
pub fn server_config(cert: &Path, key: &Path) -> Result<rustls::ServerConfig, Failure> {
    let chain = read_certificates(cert)?;
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|error| pem_failure(key, "a private key", &error))?;
    let mut config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_no_client_auth()
                .with_single_cert(chain, private)
        })
        .map_err(|error| {
            Failure::other(match error {
                rustls::Error::InconsistentKeys(_) => {
                    format!(
                        "the key in {} does not belong to the certificate in {}",
                        key.display(),
                        cert.display()
                    )
                }
                error => format!(
                    "cannot use {} with {}: {error}",
                    cert.display(),
                    key.display()
                ),
            })
        })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
///
/// The file cannot be read, or contains no certificate.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let all: Result<Vec<_>, pem::Error> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    match all {
        Ok(all) if all.is_empty() => Err(pem_failure(
            path,
            "a certificate",
            &pem::Error::NoItemsFound,
        )),
        Ok(all) => Ok(all),
        Err(error) => Err(pem_failure(path, "a certificate", &error)),
    }
}

fn pem_failure(path: &Path, what: &str, error: &pem::Error) -> Failure {
    let path = path.display();
    Failure::new(
        Exit::Tls,
        match error {
            pem::Error::Io(error) => format!("cannot read {path}: {error}"),
            pem::Error::NoItemsFound => format!("{path} does not contain {what} in PEM form"),
            pem::Error::MissingSectionEnd { .. } => {
                format!("{path} does not contain {what} in PEM form: it ends too early")
            }
            pem::Error::Base64Decode(_) => {
                format!("{path} does not contain {what} in PEM form: its base64 is broken")
            }
            _ => format!("{path} does not contain {what} in PEM form: it is damaged"),
        },
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

/// The machine's name, if a certificate can hold it and it is not there anyway.
fn machine_name() -> Option<String> {
    #[cfg(unix)]
    let name = rustix::system::uname()
        .nodename()
        .to_str()
        .ok()?
        .to_ascii_lowercase();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").ok()?.to_ascii_lowercase();
    let name = rustls::pki_types::DnsName::try_from(name).ok()?;
    let name = name.as_ref().trim_end_matches('.');
    (name != "localhost").then(|| name.to_owned())
}

/// Writes a new file that appears whole; one that is there stays.
fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // Said in the system's words, which do not come through from below.
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

/// `tempfile` adds the temporary file's path, which would only confuse.
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
    fn servers_that_start_at_once_in_one_folder_share_what_the_first_makes() {
        for _ in 0..20 {
            let folder = tempfile::tempdir().unwrap();
            let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
            let made = std::thread::scope(|scope| {
                let start = || {
                    let made = make_if_missing(&cert, &key).unwrap();
                    server_config(&cert, &key).unwrap();
                    made
                };
                let servers = [(); 4].map(|()| scope.spawn(start));
                servers.map(|server| server.join().unwrap())
            });
            assert_eq!(made.iter().filter(|made| **made).count(), 1);
        }
    }

    #[test]
    fn a_certificate_that_cannot_be_written_leaves_no_key_behind() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("no/c.pem"), folder.path().join("k.pem"));
        let failed = make_if_missing(&cert, &key).unwrap_err().to_string();
        assert!(failed.contains("No such file or directory"), "{failed}");
        assert!(!key.exists());
    }

    #[test]
    fn both_are_made_once_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        assert_eq!(make_if_missing(&cert, &key), Ok(true));
        let before = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());
        assert_eq!(make_if_missing(&cert, &key), Ok(false));
        assert_eq!(before, (fs::read(&cert).unwrap(), fs::read(&key).unwrap()));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "nothing else is left"
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
    fn one_without_the_other_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        fs::write(&cert, "").unwrap();
        let failure = make_if_missing(&cert, &key).unwrap_err();
        assert!(failure.message.contains("k.pem is missing"), "{failure}");
        fs::rename(&cert, &key).unwrap();
        let failure = make_if_missing(&cert, &key).unwrap_err();
        assert!(failure.message.contains("c.pem is missing"), "{failure}");
    }

    #[test]
    fn broken_files_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name| folder.path().join(name);
        make_if_missing(&path("c.pem"), &path("k.pem")).unwrap();
        make_if_missing(&path("c2.pem"), &path("k2.pem")).unwrap();
        fs::write(path("empty"), "").unwrap();
        fs::write(path("cut"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
        fs::write(
            path("noise"),
            "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        fs::write(
            path("der"),
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        for (cert, key, word) in [
            ("empty", "k.pem", "empty does not contain a certificate"),
            ("cut", "k.pem", "cut does not contain a certificate"),
            ("noise", "k.pem", "noise does not contain a certificate"),
            ("der", "k.pem", "cannot use"),
            ("c.pem", "empty", "empty does not contain a private key"),
            ("c.pem", "c.pem", "c.pem does not contain a private key"),
            ("c.pem", "k2.pem", "does not belong to"),
            (".", "k.pem", "cannot read"),
            ("none", "k.pem", "none: No such file"),
        ] {
            let failure = server_config(&path(cert), &path(key)).unwrap_err();
            assert!(failure.message.contains(word), "{cert} {key}: {failure}");
            assert!(!failure.message.contains('\n'), "{failure}");
        }
    }
}
