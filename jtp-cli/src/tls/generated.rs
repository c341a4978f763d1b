//! The server's certificate and private key, generated on the first start, and renewed before the certificate expires.

use std::fs::File;
use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::PublicKeyData;
use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;

use super::files::{PRIVATE, PUBLIC, replace, write_new};
use super::pem::{read_certificates, read_private_key};
use super::validity::{DAY, Validity};
use super::{name, serial_number};
use crate::exit::Failure;

/// How long a generated certificate is valid.
const LIFETIME: Duration = Duration::from_secs(2 * 365 * DAY.as_secs());

/// A generated certificate that ends sooner is renewed.
const RENEWAL: Duration = Duration::from_secs(60 * DAY.as_secs());

/// The common name of generated certificates. Earlier versions appended ` on ` and the machine's name.
const COMMON_NAME: &str = "JTP server";

/// How long to wait for another server that generates or renews the same certificate.
const WAIT: Duration = Duration::from_secs(1);

/// Generates the certificate and its private key if neither file exists. Returns whether it did.
///
/// The certificate is self-signed, for localhost, 127.0.0.1, ::1 and the machine's name, and valid for two years. It is
/// not a CA certificate, so a client that trusts it trusts only this server. The key file is created with mode 0600.
///
/// # Errors
///
/// Only one of the two files exists, or they cannot be written.
pub fn create_if_missing(cert: &Path, key: &Path, now: SystemTime) -> Result<bool, Failure> {
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
    let (cert_pem, key_pem) = generate(now)
        .map_err(|error| Failure::other(format!("cannot generate a certificate: {error}")))?;
    let failed = |path: &Path, error: &io::Error| {
        Err(Failure::other(format!(
            "cannot write {}: {error}; choose other paths with --cert and --key, or use --no-tls",
            path.display()
        )))
    };
    // The key is written first, so that a process that sees the certificate also sees the key.
    match write_new(key, &key_pem, PRIVATE) {
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
    if let Err(error) = write_new(cert, &cert_pem, PUBLIC) {
        // A key without a certificate would make the next start fail.
        let _ = std::fs::remove_file(key);
        return failed(cert, &error);
    }
    Ok(true)
}

/// Renews a certificate that the server generated and that ends within 60 days: a new one of the same key replaces it.
/// Returns the last day of the new one; `None` if nothing was renewed.
///
/// A certificate is one that the server generated if it is the only one in its file, names itself as its issuer, has the
/// common name of generated certificates, and the key is its own. Files that cannot be used are not an error here.
///
/// # Errors
///
/// The new certificate cannot be written.
pub fn renew_if_due(cert: &Path, key: &Path, now: SystemTime) -> Result<Option<String>, Failure> {
    if due(cert, now).is_none() {
        return Ok(None);
    }
    // Of two servers that start at the same time one renews, and the other one reads what it wrote.
    let _lock = lock(key);
    let Some(old) = due(cert, now) else {
        return Ok(None);
    };
    let Some(pair) = read_private_key(key)
        .ok()
        .and_then(|(private, _)| rcgen::KeyPair::try_from(&private).ok())
    else {
        return Ok(None);
    };
    if !is_generated(&old, &pair) {
        return Ok(None);
    }
    let new = certificate(&pair, now)
        .map_err(|error| Failure::other(format!("cannot generate a certificate: {error}")))?;
    replace(cert, &new.pem(), PUBLIC).map_err(|error| {
        Failure::other(format!(
            "cannot replace {}: {error}; make it writable, or remove it and {} to generate both again",
            cert.display(),
            key.display()
        ))
    })?;
    Ok(Validity::of(new.der()).map(|validity| validity.last_day()))
}

/// The only certificate of the file, if it ends soon.
fn due(cert: &Path, now: SystemTime) -> Option<CertificateDer<'static>> {
    let certificate = match &read_certificates(cert).ok()?[..] {
        [only] => only.clone(),
        _ => return None,
    };
    Validity::of(&certificate)?
        .ends_within(RENEWAL, now)
        .then_some(certificate)
}

fn is_generated(certificate: &CertificateDer<'_>, key: &rcgen::KeyPair) -> bool {
    let Ok((_, parsed)) = parse_x509_certificate(certificate) else {
        return false;
    };
    let names: Vec<&str> = parsed
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok())
        .collect();
    let ours = |name: &str| {
        name.strip_prefix(COMMON_NAME)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(" on "))
    };
    matches!(names[..], [name] if ours(name))
        && parsed.subject().as_raw() == parsed.issuer().as_raw()
        && parsed.public_key().raw == key.subject_public_key_info()
}

/// Locks the key file against other servers that renew; released when the file is dropped. A lock that another program
/// holds for long delays nothing: then two servers may renew at the same time, and the later file stands.
fn lock(key: &Path) -> Option<File> {
    // Opening a pipe would wait.
    if !std::fs::metadata(key).ok()?.is_file() {
        return None;
    }
    #[cfg(windows)]
    {
        use std::os::windows::fs::OpenOptionsExt;

        const SHARE_READ: u32 = 1;
        const SHARING_VIOLATION: i32 = 32;
        // Nobody else can open the file for writing while it is open.
        let mut options = File::options();
        options.read(true).write(true).share_mode(SHARE_READ);
        let mut opened = None;
        poll(|| {
            let file = options.open(key);
            let is_held = |e: &io::Error| e.raw_os_error() == Some(SHARING_VIOLATION);
            let is_locked = file.as_ref().is_err_and(is_held);
            opened = file.ok();
            !is_locked
        });
        opened
    }
    #[cfg(not(windows))]
    {
        let file = File::open(key).ok()?;
        #[cfg(unix)]
        {
            use rustix::fs::{FlockOperation, flock};
            use rustix::io::Errno;

            poll(|| {
                flock(&file, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
            });
        }
        Some(file)
    }
}

/// Waits up to 1 s for a file that another server may be writing. Returns whether it exists.
fn wait_for_file(path: &Path) -> bool {
    poll(|| path.exists())
}

/// Waits up to 1 s for a condition. Returns whether it holds.
fn poll(mut condition: impl FnMut() -> bool) -> bool {
    /// Between two looks.
    const PAUSE: Duration = Duration::from_millis(10);
    let looks = WAIT.as_millis() / PAUSE.as_millis();
    (0..looks).any(|_| {
        let holds = condition();
        if !holds {
            thread::sleep(PAUSE);
        }
        holds
    })
}

/// A new key and its certificate, as PEM: the certificate first.
fn generate(now: SystemTime) -> Result<(String, String), rcgen::Error> {
    let key = rcgen::KeyPair::generate()?;
    Ok((certificate(&key, now)?.pem(), key.serialize_pem()))
}

fn certificate(key: &rcgen::KeyPair, now: SystemTime) -> Result<rcgen::Certificate, rcgen::Error> {
    let mut names = vec![
        "localhost".to_owned(),
        "127.0.0.1".to_owned(),
        "::1".to_owned(),
    ];
    names.extend(name::machine());
    let mut params = rcgen::CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, COMMON_NAME);
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    // A client's clock may be behind.
    params.not_before = epoch + now.saturating_sub(DAY);
    params.not_after = epoch + (now + LIFETIME);
    params.serial_number = Some(serial_number()?);
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages = vec![rcgen::KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth];
    params.self_signed(key)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn now() -> SystemTime {
        SystemTime::now()
    }

    /// A folder, and the paths of a certificate and of a key in it.
    fn pair() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        (folder, cert, key)
    }

    /// In how many of four servers that start at the same time this is true.
    fn count_of_four(start: impl Fn() -> bool + Sync) -> usize {
        std::thread::scope(|scope| {
            let servers = [(); 4].map(|()| scope.spawn(&start));
            let results = servers.map(|server| server.join().unwrap());
            results.into_iter().filter(|is_true| *is_true).count()
        })
    }

    #[test]
    fn servers_that_start_at_once_share_one_certificate_and_one_renewal() {
        for _ in 0..20 {
            let (folder, cert, key) = pair();
            let created = count_of_four(|| {
                let created = create_if_missing(&cert, &key, now()).unwrap();
                read_certificates(&cert).unwrap();
                read_private_key(&key).unwrap();
                created
            });
            let later = now() + 700 * DAY;
            let renewed = count_of_four(|| renew_if_due(&cert, &key, later).unwrap().is_some());
            assert_eq!((created, renewed), (1, 1));
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        }
    }

    #[test]
    fn key_is_removed_if_the_certificate_cannot_be_written() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("no/c.pem"), folder.path().join("k.pem"));
        let failed = create_if_missing(&cert, &key, now())
            .unwrap_err()
            .to_string();
        assert!(failed.contains("(os error 2)"), "{failed}");
        assert!(!key.exists());
    }

    #[test]
    fn certificate_and_key_are_created_once_and_kept() {
        let (folder, cert, key) = pair();
        assert_eq!(create_if_missing(&cert, &key, now()), Ok(true));
        // Basic constraints (2.5.29.19), critical, of which the first is false: it is no CA's.
        let is_no_ca = b"\x55\x1d\x13\x01\x01\xff\x04\x05\x30\x03\x01\x01\x00";
        let written = read_certificates(&cert).unwrap();
        assert!(
            written[0]
                .windows(is_no_ca.len())
                .any(|bytes| bytes == is_no_ca)
        );
        let before = (fs::read(&cert).unwrap(), fs::read(&key).unwrap());
        assert_eq!(create_if_missing(&cert, &key, now()), Ok(false));
        assert_eq!(before, (fs::read(&cert).unwrap(), fs::read(&key).unwrap()));
        assert_eq!(
            fs::read_dir(folder.path()).unwrap().count(),
            2,
            "no other file remains"
        );
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
        let (_folder, cert, key) = pair();
        fs::write(&cert, "").unwrap();
        let failure = create_if_missing(&cert, &key, now()).unwrap_err();
        assert!(failure.message.contains("k.pem is missing"), "{failure}");
        fs::rename(&cert, &key).unwrap();
        let failure = create_if_missing(&cert, &key, now()).unwrap_err();
        assert!(failure.message.contains("c.pem is missing"), "{failure}");
    }

    /// Whether a certificate is renewed that was generated some days ago and then changed.
    fn renewed_after(days: u32, change: impl Fn(&Path, &Path)) -> bool {
        let (_folder, cert, key) = pair();
        create_if_missing(&cert, &key, now()).unwrap();
        change(&cert, &key);
        let read = || (fs::read(&cert).unwrap(), fs::read(&key).unwrap());
        let before = read();
        let later = now() + days * DAY;
        let last_day = renew_if_due(&cert, &key, later).unwrap();
        let after = read();
        assert_eq!(before.1, after.1, "the key stays");
        assert_eq!(before.0 != after.0, last_day.is_some());
        if last_day.is_some() {
            let (chain, pair) = (
                read_certificates(&cert).unwrap(),
                read_private_key(&key).unwrap().0,
            );
            let provider = crate::tls::provider();
            rustls::sign::CertifiedKey::from_der(chain, pair, &provider).unwrap();
            assert_eq!(renew_if_due(&cert, &key, later), Ok(None));
        }
        last_day.is_some()
    }

    #[test]
    fn generated_certificate_is_renewed_in_its_last_60_days_and_after() {
        for (days, renewed) in [
            (0, false),
            (669, false),
            (671, true),
            (729, true),
            (731, true),
            (5000, true),
        ] {
            assert_eq!(renewed_after(days, |_, _| {}), renewed, "{days}");
        }
    }

    /// Replaces the certificate by another one of the same key, with this name and issuer.
    fn replace_certificate(cert: &Path, key: &Path, name: &str, issuer: &str) {
        let pair = rcgen::KeyPair::from_pem(&fs::read_to_string(key).unwrap()).unwrap();
        let params = |name: &str| {
            let mut params = rcgen::CertificateParams::default();
            params.distinguished_name = rcgen::DistinguishedName::new();
            params
                .distinguished_name
                .push(rcgen::DnType::CommonName, name);
            params.not_after = rcgen::date_time_ymd(2001, 1, 1);
            params
        };
        let issuer = rcgen::Issuer::new(params(issuer), &pair);
        let new = params(name).signed_by(&pair, &issuer).unwrap();
        fs::write(cert, new.pem()).unwrap();
    }

    #[test]
    fn only_generated_certificates_are_renewed() {
        for (name, issuer, renewed) in [
            ("JTP server", "JTP server", true),
            ("JTP server on here", "JTP server on here", true),
            ("JTP server on here", "JTP server on there", false),
            ("JTP servers", "JTP servers", false),
            ("pictures.example", "pictures.example", false),
        ] {
            let change = |cert: &Path, key: &Path| replace_certificate(cert, key, name, issuer);
            assert_eq!(renewed_after(0, change), renewed, "{name}");
        }
        let other_key = |_: &Path, key: &Path| {
            let other = rcgen::KeyPair::generate().unwrap();
            fs::write(key, other.serialize_pem()).unwrap();
        };
        assert!(!renewed_after(5000, other_key));
        let chain = |cert: &Path, _: &Path| {
            let twice = fs::read_to_string(cert).unwrap().repeat(2);
            fs::write(cert, twice).unwrap();
        };
        assert!(!renewed_after(5000, chain));
        let no_certificate = |cert: &Path, _: &Path| fs::write(cert, "").unwrap();
        assert!(!renewed_after(5000, no_certificate));
    }
}
