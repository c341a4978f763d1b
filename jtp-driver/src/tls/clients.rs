//! The clients that a server admits, by their keys. // T7

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DistinguishedName, Error};

use super::signatures::verify_signatures;
use super::{InvalidFingerprint, KeyFingerprint};
use crate::ShutdownSignal;
use crate::throttle::LogThrottle;

/// The longest name of a client, in bytes.
const MAX_NAME: usize = 255;

/// A client that is known by its key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ClientIdentity {
    key: KeyFingerprint,
    name: Arc<str>,
}

impl ClientIdentity {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> KeyFingerprint {
        self.key
    }

    /// Its name in the list; its fingerprint if the list has none.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// A list of clients, as it is read from a file.
///
/// Each line is a key as [`KeyFingerprint`] prints it, white space and the client's name. Empty lines and lines that
/// begin with `#` are ignored, as is white space at both ends of a line. A name may be left out, and may occur more than
/// once: one person can have several keys.
///
/// ```
/// use jtp_driver::tls::ClientList;
///
/// let list: ClientList = "
/// ## the archive
/// sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 alice's laptop
/// "
/// .parse()?;
/// assert_eq!(list.len(), 1);
/// # Ok::<(), jtp_driver::tls::ClientListError>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClientList(HashMap<KeyFingerprint, Arc<str>>);

/// A line of a list of clients is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientListError {
    /// It does not begin with a fingerprint.
    #[error("line {line}: expected sha256: and 64 hex digits, then the client's name")]
    Key {
        /// The number of the line, from 1.
        line: usize,
        /// The cause.
        source: InvalidFingerprint,
    },
    /// The name is longer than 255 bytes, or has a control character.
    #[error("line {line}: a name has at most 255 bytes and no control characters")]
    Name {
        /// The number of the line, from 1.
        line: usize,
    },
    /// The key was listed before.
    #[error("line {line}: this key is already in line {first}")]
    Duplicate {
        /// The number of the line, from 1.
        line: usize,
        /// The number of the line that has the key as well.
        first: usize,
    },
}

impl ClientList {
    /// The number of keys.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<N: Into<Arc<str>>> FromIterator<(KeyFingerprint, N)> for ClientList {
    /// Of clients with one key the last stands.
    fn from_iter<I: IntoIterator<Item = (KeyFingerprint, N)>>(clients: I) -> ClientList {
        ClientList(
            clients
                .into_iter()
                .map(|(key, name)| (key, name.into()))
                .collect(),
        )
    }
}

fn is_name(name: &str) -> bool {
    name.len() <= MAX_NAME && !name.contains(char::is_control)
}

impl FromStr for ClientList {
    type Err = ClientListError;

    fn from_str(text: &str) -> Result<ClientList, ClientListError> {
        let mut lines: HashMap<KeyFingerprint, usize> = HashMap::new();
        let mut list = HashMap::new();
        // Editors of some systems begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (line, content) in (1..).zip(text.lines()) {
            let content = content.trim();
            if content.is_empty() || content.starts_with('#') {
                continue;
            }
            let (key, name) = content
                .split_once(char::is_whitespace)
                .unwrap_or((content, content));
            let (key, name) = match key.parse::<KeyFingerprint>() {
                Ok(key) => (key, name.trim_start()),
                Err(source) => return Err(ClientListError::Key { line, source }),
            };
            if !is_name(name) {
                return Err(ClientListError::Name { line });
            }
            if let Some(first) = lines.insert(key, line) {
                return Err(ClientListError::Duplicate { line, first });
            }
            list.insert(key, Arc::from(name));
        }
        Ok(ClientList(list))
    }
}

/// The clients that a server admits: exactly those with a key of the list, whatever signed their certificates. A handle:
/// clones are the same list. // T7
///
/// Two parts of a server use it: [`verifier`](Self::verifier) asks for the client's certificate in the handshake, and
/// [`ServerBuilder::clients`](crate::server::ServerBuilder::clients) checks each connection afterwards, also one that
/// resumes a TLS session, and ends those of clients that are removed from the list. A server with only the second part
/// admits nobody.
#[derive(Debug, Clone, Default)]
pub struct AuthorizedClients(Arc<Clients>);

#[derive(Debug, Default)]
struct Clients {
    listed: RwLock<HashMap<KeyFingerprint, Listed>>,
    refused: Mutex<Refused>,
}

/// Clients with keys that are not in the list.
#[derive(Debug, Default)]
struct Refused {
    count: u64,
    log: LogThrottle,
}

/// A client of the list.
#[derive(Debug)]
struct Listed {
    name: Arc<str>,
    /// Begins when the client is removed from the list.
    removed: ShutdownSignal,
}

impl Listed {
    fn new(name: Arc<str>) -> Listed {
        Listed {
            name,
            removed: ShutdownSignal::new(),
        }
    }
}

/// A client that may connect, until it is removed from the list.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) identity: ClientIdentity,
    pub(crate) removed: ShutdownSignal,
}

/// What [`AuthorizedClients::replace`] changed; each sorted by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientChanges {
    /// Clients that were not in the list before.
    pub added: Vec<ClientIdentity>,
    /// Clients that are no longer in the list.
    pub removed: Vec<ClientIdentity>,
}

impl AuthorizedClients {
    /// Admits the clients of `list`.
    #[must_use]
    pub fn new(list: ClientList) -> AuthorizedClients {
        let clients = AuthorizedClients::default();
        clients.replace(list);
        clients
    }

    /// Admits the clients of `list` from now on. Open connections of clients that are not in it end at once.
    pub fn replace(&self, list: ClientList) -> ClientChanges {
        let mut changes = ClientChanges::default();
        let identity = |key: &KeyFingerprint, name: &Arc<str>| ClientIdentity {
            key: *key,
            name: Arc::clone(name),
        };
        let mut listed = self
            .0
            .listed
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        listed.retain(|key, client| {
            let stays = list.0.contains_key(key);
            if !stays {
                client.removed.begin();
                changes.removed.push(identity(key, &client.name));
            }
            stays
        });
        for (key, name) in list.0 {
            match listed.entry(key) {
                Entry::Occupied(mut client) => client.get_mut().name = name,
                Entry::Vacant(entry) => {
                    changes.added.push(identity(&key, &name));
                    entry.insert(Listed::new(name));
                }
            }
        }
        drop(listed);
        for clients in [&mut changes.added, &mut changes.removed] {
            clients.sort_by(|a, b| (&a.name, a.key).cmp(&(&b.name, b.key)));
        }
        changes
    }

    /// The client with this key, if it is in the list.
    #[must_use]
    pub fn get(&self, key: &KeyFingerprint) -> Option<ClientIdentity> {
        self.admit(key).map(|admission| admission.identity)
    }

    pub(crate) fn admit(&self, key: &KeyFingerprint) -> Option<Admission> {
        let listed = self.0.listed.read().unwrap_or_else(PoisonError::into_inner);
        let client = listed.get(key)?;
        Some(Admission {
            identity: ClientIdentity {
                key: *key,
                name: Arc::clone(&client.name),
            },
            removed: client.removed.clone(),
        })
    }

    /// The number of times that a client was refused because its key is not in the list.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refusals().count
    }

    fn refusals(&self) -> MutexGuard<'_, Refused> {
        self.0
            .refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts and logs a refusal. Strangers can cause as many as they like.
    pub(crate) fn record_refusal(&self, key: &KeyFingerprint) {
        let mut refused = self.refusals();
        refused.count += 1;
        if let Some(count) = refused.log.record(Instant::now()) {
            tracing::warn!(%key, count, "refused a client whose key is not in the list");
        }
    }

    /// Verifies clients in the handshake: for
    /// [`with_client_cert_verifier`](rustls::ConfigBuilder::with_client_cert_verifier) of a [`rustls::ServerConfig`]. It
    /// follows the list. A client without a certificate gets the alert `certificate_required`, also with TLS 1.2, and one
    /// whose key is not in the list `access_denied`.
    #[must_use]
    pub fn verifier(&self, provider: &CryptoProvider) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Verifier {
            clients: self.clone(),
            algorithms: provider.signature_verification_algorithms,
        })
    }
}

#[derive(Debug)]
struct Verifier {
    clients: AuthorizedClients,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let key = KeyFingerprint::of_certificate(certificate)?;
        if self.clients.get(&key).is_some() {
            Ok(ClientCertVerified::assertion())
        } else {
            self.clients.record_refusal(&key);
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    verify_signatures!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> KeyFingerprint {
        KeyFingerprint::of_public_key(name.as_bytes())
    }

    fn list(text: &str) -> Result<ClientList, ClientListError> {
        text.parse()
    }

    #[test]
    fn t7_a_list_has_keys_names_and_comments() {
        let (a, b, c) = (key("a"), key("b"), key("c"));
        let text = format!("\u{feff}# all\r\n\r\n{a} Alice A. # 1\r\n  {b}\t Bob  \n{c}\n#{a} x");
        let clients = AuthorizedClients::new(list(&text).unwrap());
        let name = |key: KeyFingerprint| clients.get(&key).map(|client| client.name().to_owned());
        assert_eq!(name(a).as_deref(), Some("Alice A. # 1"));
        assert_eq!(name(b).as_deref(), Some("Bob"));
        assert_eq!(name(c), Some(c.to_string()));
        assert_eq!(name(key("d")), None);
    }

    #[test]
    fn errors_of_a_list_name_the_line() {
        let (a, b) = (key("a"), key("b"));
        let source = InvalidFingerprint;
        for (text, expected) in [
            (
                format!("{a} x\nsha256:12 y"),
                ClientListError::Key { line: 2, source },
            ),
            ("Alice".to_owned(), ClientListError::Key { line: 1, source }),
            (format!("{a}x"), ClientListError::Key { line: 1, source }),
            (
                format!("{a} {}", "x".repeat(256)),
                ClientListError::Name { line: 1 },
            ),
            (
                format!("{b} x\n\n{a} a\u{1b}[2J"),
                ClientListError::Name { line: 3 },
            ),
            (
                format!("{a} x\n{b} y\n{a} x"),
                ClientListError::Duplicate { line: 3, first: 1 },
            ),
        ] {
            assert_eq!(list(&text), Err(expected), "{text}");
        }
    }

    #[test]
    fn t7_replacing_the_list_signals_the_clients_that_were_removed() {
        let (a, b, c) = (key("a"), key("b"), key("c"));
        let clients = AuthorizedClients::new(list(&format!("{a} Alice\n{b} Bob")).unwrap());
        let (alice, bob) = (clients.admit(&a).unwrap(), clients.admit(&b).unwrap());
        let changes = clients.replace(list(&format!("{c} Carol\n{b} Robert")).unwrap());
        let names = |clients: &[ClientIdentity]| -> Vec<String> {
            clients.iter().map(ToString::to_string).collect()
        };
        assert_eq!(
            (names(&changes.added), names(&changes.removed)),
            (vec!["Carol".into()], vec!["Alice".into()])
        );
        assert!(alice.removed.has_begun() && !bob.removed.has_begun());
        assert_eq!(clients.get(&b).unwrap().name(), "Robert");
        // Listed again, Alice is admitted with a signal of its own.
        clients.replace(list(&format!("{a} Alice")).unwrap());
        assert!(!clients.admit(&a).unwrap().removed.has_begun());
        assert!(alice.removed.has_begun() && bob.removed.has_begun());
    }
}
