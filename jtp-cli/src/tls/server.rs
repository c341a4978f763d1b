//! What the server presents to clients, and whom it admits. SIGHUP reads both again.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use jtp_tokio::tls::{
    AuthorizedClients, ClientChanges, ClientIdentity, KeyFingerprint, ServerCertificate,
};
use rustls::CertificateError;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, DnsName, ServerName};
use rustls::server::{ParsedCertificate, ServerSessionMemoryCache};
use rustls::sign::CertifiedKey;

use super::host_name::HostName;
use super::pem::{read_certificates, read_private_key};
use super::validity::Validity;
use super::{certificate_error, clients, generated, provider};
use crate::escape::escaped;
use crate::exit::{Exit, Failure};

/// The tickets of a TLS 1.3 connection. Each resumes one more connection: those of `--parallel`, and the next one after a
/// lost connection.
const TICKETS: usize = 4;

/// The sessions that can be resumed, those of the last 256 connections. They are kept in memory, some 1 KiB each, and
/// resumed once. Tickets that contain the session would need a key that decrypts the recorded sessions of TLS 1.2.
const SESSIONS: usize = 256 * TICKETS;

/// How many clients a log line names.
const MAX_NAMES: usize = 20;

/// The files that a server with TLS reads at its start and on SIGHUP.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// Who may connect; everybody if there is none.
    pub clients: Option<PathBuf>,
}

/// The TLS side of the server.
#[derive(Debug)]
pub struct ServerTls {
    files: Files,
    config: rustls::ServerConfig,
    certificate: ServerCertificate,
    clients: Option<AuthorizedClients>,
}

/// A certificate with its key, as the files have it.
struct Loaded {
    key: CertifiedKey,
    fingerprint: KeyFingerprint,
}

impl ServerTls {
    /// Reads the files. A missing certificate is generated with its key, and one that the server generated is renewed
    /// before it expires. Logs warnings about what clients reject or others can read.
    ///
    /// # Errors
    ///
    /// A file cannot be read or used, or the key does not match the certificate.
    pub fn load(files: Files) -> Result<ServerTls, Failure> {
        // Read first, so that a mistyped path does not leave a new certificate behind.
        let clients = match &files.clients {
            Some(path) => Some(load_clients(path)?),
            None => None,
        };
        let (cert, key) = (&files.cert, &files.key);
        if generated::create_if_missing(cert, key, SystemTime::now())? {
            tracing::info!(
                "generated the certificate {} (clients trust it with --cert) and its private key {}",
                cert.display(),
                key.display()
            );
        }
        renew_certificate(&files);
        let loaded = load_certificate(&files)?;
        tracing::info!(
            "the server's key is {} (clients verify it with --pin)",
            loaded.fingerprint
        );
        let certificate = ServerCertificate::new(loaded.key);
        let config = config(certificate.clone(), clients.as_ref())?;
        Ok(ServerTls {
            files,
            config,
            certificate,
            clients,
        })
    }

    /// TLS 1.2 and 1.3. The server adds the ALPN protocol. // T1
    #[must_use]
    pub fn config(&self) -> rustls::ServerConfig {
        self.config.clone()
    }

    /// The clients that may connect; `None` if everybody may.
    #[must_use]
    pub fn clients(&self) -> Option<&AuthorizedClients> {
        self.clients.as_ref()
    }

    /// Reads the files again, and logs what changed. What cannot be used is logged as an error, and what was in use
    /// stays in use; certificate and clients are independent of each other.
    ///
    /// Connections go on, except those of clients that are no longer listed: they end at once. // T7
    pub fn reload(&self) {
        self.reload_clients();
        match load_certificate(&self.files) {
            Ok(loaded) => self.use_certificate(loaded),
            Err(failure) => {
                tracing::error!("SIGHUP: the certificate in use stays in use: {failure}");
            }
        }
    }

    fn use_certificate(&self, Loaded { key, fingerprint }: Loaded) {
        let current = self.certificate.current();
        let own = |chain: &[CertificateDer<'_>]| {
            chain
                .first()
                .and_then(|own| KeyFingerprint::of_certificate(own).ok())
        };
        if current.cert == key.cert {
            tracing::info!("SIGHUP: the certificate is unchanged");
            return;
        }
        let until = key
            .cert
            .first()
            .and_then(Validity::of)
            .map_or_else(String::new, |validity| {
                format!(" valid until {}", validity.last_day())
            });
        // Whoever reads the log can connect with the new one.
        self.certificate.replace(key);
        if own(&current.cert) == Some(fingerprint) {
            tracing::info!("SIGHUP: new certificate{until}, of the same key");
        } else {
            tracing::info!(
                "SIGHUP: new certificate{until}, with the new key {fingerprint}: clients that use --pin need it"
            );
        }
    }

    fn reload_clients(&self) {
        let (Some(path), Some(clients)) = (&self.files.clients, &self.clients) else {
            return;
        };
        match clients::read(path) {
            Ok(list) => {
                warn_if_nobody(path, list.is_empty());
                log_changes(path, &clients.replace(list));
            }
            Err(failure) => {
                tracing::error!("SIGHUP: the clients in use stay in use: {failure}");
            }
        }
    }
}

fn load_clients(path: &Path) -> Result<AuthorizedClients, Failure> {
    let list = clients::read(path)?;
    warn_if_nobody(path, list.is_empty());
    Ok(AuthorizedClients::new(list))
}

fn warn_if_nobody(path: &Path, is_empty: bool) {
    if is_empty {
        tracing::warn!(
            "{} lists no client: nobody can connect; add the line that client --show-identity prints",
            path.display()
        );
    }
}

/// Of a key, this much is shown beside a name: `sha256:` and 8 digits.
const KEY_SHOWN: usize = 15;

fn log_changes(path: &Path, changes: &ClientChanges) {
    let path = path.display();
    match (&changes.added[..], &changes.removed[..]) {
        ([], []) => tracing::info!("SIGHUP: the keys in {path} are unchanged"),
        (added, []) => tracing::info!("SIGHUP: added to {path}: {}", names(added)),
        ([], removed) => tracing::info!("SIGHUP: removed from {path}: {}", names(removed)),
        (added, removed) => tracing::info!(
            "SIGHUP: added to {path}: {}; removed: {}",
            names(added),
            names(removed)
        ),
    }
}

/// The first names, escaped, with the beginning of their keys, and how many follow.
fn names(clients: &[ClientIdentity]) -> String {
    let mut names: Vec<String> = clients
        .iter()
        .take(MAX_NAMES)
        .map(|client| {
            let key = client.key().to_string();
            let key = key.get(..KEY_SHOWN).unwrap_or(&key);
            format!("{} ({key}…)", escaped(client.name()))
        })
        .collect();
    if let Some(more @ 1..) = clients.len().checked_sub(MAX_NAMES) {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}

fn config(
    certificate: ServerCertificate,
    clients: Option<&AuthorizedClients>,
) -> Result<rustls::ServerConfig, Failure> {
    let provider = provider();
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::other(format!("cannot set up TLS: {error}")))?;
    let builder = match clients {
        Some(clients) => builder.with_client_cert_verifier(clients.verifier(&provider)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificate));
    config.send_tls13_tickets = TICKETS;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(config)
}

/// Replaces the certificate if that is due. The server does so at its start only: later it may be unable to write.
fn renew_certificate(files: &Files) {
    match generated::renew_if_due(&files.cert, &files.key, SystemTime::now()) {
        Ok(None) => {}
        Ok(Some(last_day)) => tracing::info!(
            "renewed the certificate {}: it is valid until {last_day} and has the same key; clients that trust a copy of the old file with --cert need the new one, those that use --pin need nothing",
            files.cert.display()
        ),
        Err(failure) => tracing::warn!("cannot renew the certificate: {failure}"),
    }
}

/// Reads the certificate with its key, and warns of what clients reject.
fn load_certificate(files: &Files) -> Result<Loaded, Failure> {
    read_pair(&files.cert, &files.key, SystemTime::now()).map_err(|failure| Failure {
        // The exit code for TLS errors is the client's.
        exit: Exit::Other,
        ..failure
    })
}

fn read_pair(cert: &Path, key: &Path, now: SystemTime) -> Result<Loaded, Failure> {
    let provider = provider();
    let chain = read_certificates(cert)?;
    let (private, exposed) = read_private_key(key)?;
    provider
        .key_provider
        .load_private_key(private.clone_key())
        .map_err(|_| {
            Failure::other(format!(
                "cannot use the private key in {}: it is malformed or of an unsupported type; use an RSA key of 2048 to 8192 bits, an ECDSA key on P-256, P-384 or P-521, or an Ed25519 key",
                key.display()
            ))
        })?;
    let unusable = |error| unusable(cert, key, error);
    let certified = CertifiedKey::from_der(chain, private, &provider).map_err(unusable)?;
    let own = certified.end_entity_cert().map_err(unusable)?;
    let fingerprint = KeyFingerprint::of_certificate(own).map_err(unusable)?;
    if let Some(exposed) = exposed {
        tracing::warn!("{exposed}");
    }
    warn_without_host_name(cert, own);
    if let Some(problem) = Validity::of(own).and_then(|validity| validity.problem(now)) {
        tracing::warn!(
            "the certificate in {} {problem}: clients without --pin reject it outside its dates; make a new one, and send SIGHUP to use it",
            cert.display()
        );
    }
    Ok(Loaded {
        fingerprint,
        key: certified,
    })
}

fn unusable(cert: &Path, key: &Path, error: rustls::Error) -> Failure {
    let (cert, key) = (cert.display(), key.display());
    Failure::other(match error {
        rustls::Error::InconsistentKeys(_) => format!(
            "the private key in {key} does not match the certificate in {cert}; pass the key that the certificate was made with"
        ),
        rustls::Error::InvalidCertificate(error) => {
            format!(
                "cannot use the certificate in {cert}: {}",
                certificate_error(&error)
            )
        }
        error => format!("cannot use {cert} with {key}: {error}"),
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
