//! The list of clients, and the verifiers of certificates: any text and any bytes in place of a certificate. What is
//! accepted is compared with a second reader of the list, and with another parser of certificates. // T7

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jtp_driver::tls::{
    AuthorizedClients, CertificateVerifier, ClientList, KeyFingerprint, ServerKeyVerifier,
};
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Self-signed for `a.example`, not a CA.
pub const SELF_SIGNED: &[u8] = include_bytes!("../certificates/self_signed.der");
/// A CA.
pub const CA: &[u8] = include_bytes!("../certificates/ca.der");
/// For `a.example`, signed by the CA.
pub const SIGNED_BY_CA: &[u8] = include_bytes!("../certificates/signed_by_ca.der");
/// Signed by the key of [`SELF_SIGNED`].
pub const FORGED: &[u8] = include_bytes!("../certificates/forged.der");

/// When the certificates are valid: 2030.
const NOW: Duration = Duration::from_secs(1_900_000_000);

pub fn run(data: &[u8]) {
    let Some((mode, rest)) = data.split_first() else {
        return;
    };
    match mode % 3 {
        0 => check_list(&String::from_utf8_lossy(rest)),
        1 => check_keys(&CertificateDer::from(rest)),
        _ => check_certificates(&CertificateDer::from(rest)),
    }
}

/// Lines of the list by a second reader: key in lower case, and the rest of the line.
fn lines(text: &str) -> impl Iterator<Item = (String, String)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let mut words = line.splitn(2, char::is_whitespace);
            let key = words.next().unwrap_or_default().to_owned();
            let name = words
                .next()
                .map_or(key.clone(), |name| name.trim().to_owned());
            (key, name)
        })
}

fn check_list(text: &str) {
    let Ok(list) = text.parse::<ClientList>() else {
        return;
    };
    let mut expected = HashMap::new();
    for (key, name) in lines(text) {
        let digits = key.strip_prefix("sha256:").expect("no key");
        assert!(digits.len() == 64 && digits.chars().all(|digit| digit.is_ascii_hexdigit()));
        let key: KeyFingerprint = key.parse().expect("a fingerprint");
        assert_eq!(key.to_string(), format!("sha256:{}", digits.to_lowercase()));
        assert!(name.len() <= 255 && !name.contains(char::is_control));
        assert!(expected.insert(key, name).is_none(), "a key twice");
    }
    assert_eq!(list.len(), expected.len());
    let clients = AuthorizedClients::new(list);
    for (key, name) in &expected {
        assert_eq!(clients.get(key).expect("listed").name(), name);
    }
    let changes = clients.replace(ClientList::default());
    assert_eq!(changes.removed.len(), expected.len());
    assert!(expected.keys().all(|key| clients.get(key).is_none()));
}

fn provider() -> &'static Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(rustls::crypto::ring::default_provider()))
}

/// The SubjectPublicKeyInfo of [`SELF_SIGNED`].
fn known_spki() -> &'static [u8] {
    let (_, parsed) = X509Certificate::from_der(SELF_SIGNED).expect("a certificate");
    parsed.tbs_certificate.subject_pki.raw
}

fn known_key() -> KeyFingerprint {
    KeyFingerprint::of_public_key(known_spki())
}

/// The key of a certificate, by another parser.
fn key_of(certificate: &[u8]) -> Option<KeyFingerprint> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(KeyFingerprint::of_public_key(parsed.public_key().raw))
}

fn check_keys(certificate: &CertificateDer<'_>) {
    let now = UnixTime::since_unix_epoch(NOW);
    let clients: AuthorizedClients =
        AuthorizedClients::new([(known_key(), "known")].into_iter().collect());
    let verifier = clients.verifier(provider());
    let as_client = verifier.verify_client_cert(certificate, &[], now).is_ok();
    let name = ServerName::try_from("any.example").expect("a name");
    let as_server = ServerKeyVerifier::new([known_key()], provider())
        .verify_server_cert(certificate, &[], &name, &[], now)
        .is_ok();
    assert_eq!(as_client, as_server, "both sides know keys alike");
    if as_client {
        // The other parser may refuse it for something that says nothing about a key, such as a date.
        let key = key_of(certificate).unwrap_or(known_key());
        assert_eq!(key, known_key(), "another key");
        let contains_key = certificate
            .windows(known_spki().len())
            .any(|part| part == known_spki());
        assert!(contains_key, "the key is not in the certificate");
    }
}

/// An arbitrary certificate is presented to a client that trusts known ones, and is itself a trusted one.
fn check_certificates(certificate: &CertificateDer<'_>) {
    let now = UnixTime::since_unix_epoch(NOW);
    let name = ServerName::try_from("a.example").expect("a name");
    let verify = |trusted: &[&[u8]], presented: &[u8], name: &ServerName<'_>| {
        let trusted = trusted.iter().map(|der| CertificateDer::from(der.to_vec()));
        let verifier = CertificateVerifier::new(trusted, provider()).ok()?;
        let presented = CertificateDer::from(presented.to_vec());
        verifier
            .verify_server_cert(&presented, &[], name, &[], now)
            .ok()
    };
    if verify(&[SELF_SIGNED], certificate, &name).is_some() {
        assert_eq!(&**certificate, SELF_SIGNED, "not the exact bytes");
    }
    if verify(&[CA], certificate, &name).is_some() {
        // The signature covers everything but itself, and an ECDSA signature has more than one encoding.
        assert_eq!(
            key_of(certificate),
            key_of(SIGNED_BY_CA),
            "the CA signed another key"
        );
    }
    // Trusted, it vouches for others only if it says that it is a CA.
    let bank = ServerName::try_from("bank.example").expect("a name");
    if &**certificate != FORGED && verify(&[certificate], FORGED, &bank).is_some() {
        let (_, parsed) = X509Certificate::from_der(certificate).expect("a certificate");
        assert!(parsed.is_ca(), "it vouches for another, and is no CA");
    }
}
