//! Messages about certificates and keys that cannot be used.
//!
//! The files in `keys` are from openssl 3.0; the encrypted keys have the passphrase `secret`, and protect nothing.

use std::fs;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

use crate::support::{Folder as _, SERVER, TestDir};

/// A certificate with the common name `localhost` and these names, as in `DNS:a IP:::1`.
fn params(names: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    let name = |name: &str| match name.split_once(':').unwrap() {
        ("DNS", name) => SanType::DnsName(name.try_into().unwrap()),
        ("IP", address) => SanType::IpAddress(address.parse().unwrap()),
        ("URI", uri) => SanType::URI(uri.try_into().unwrap()),
        other => panic!("{other:?}"),
    };
    params.subject_alt_names = names.split_whitespace().map(name).collect();
    params
}

/// Writes `cert.pem` and `key.pem`.
fn write_pair(dir: &TestDir, params: &CertificateParams) {
    let key = KeyPair::generate().unwrap();
    dir.write("cert.pem", params.self_signed(&key).unwrap().pem());
    dir.write("key.pem", key.serialize_pem());
}

fn rows(table: &str) -> impl Iterator<Item = (&str, &str)> {
    let rows = table.trim().lines();
    rows.map(|row| row.split_once(": ").unwrap())
}

/// The names in a certificate, and the message of a client that expects `localhost`.
const NAMES: &str = "
: has no subjectAltName, and its common name (CN) alone is not accepted; the server needs a new one with subjectAltName=DNS:localhost
URI:https://localhost: has no DNS name and no IP address in its subjectAltName; the server needs a new one with subjectAltName=DNS:localhost
DNS:127.0.0.1: has an IP address as a DNS name: 127.0.0.1; the server needs a new one with subjectAltName=DNS:localhost
IP:192.0.2.1: is for 192.0.2.1; pass that address with --server-name
IP:::1 IP:127.0.0.1: is for ::1, 127.0.0.1; pass one of them with --server-name
DNS:*.pictures.example: is for *.pictures.example; pass a name that it covers with --server-name, such as www.pictures.example
DNS:pictures.example: is for pictures.example; pass that name with --server-name
DNS:a DNS:b DNS:c DNS:d DNS:e: is for a, b, c, d and 1 more; pass one of them with --server-name
";

#[test]
fn t1_client_says_which_names_the_certificate_has_and_what_to_do() {
    for (names, message) in rows(NAMES) {
        let dir = TestDir::with_images();
        write_pair(&dir, &params(names));
        let server = dir.serve("");
        let (what, hint) = message.split_once(';').unwrap();
        let message = format!(
            "the certificate of {} {what} (verified with cert.pem in the current folder);{hint}",
            server.address
        );
        dir.fetch(&server, "--tls")
            .assert_failure(5, &[])
            .assert_err(&format!("error: {message}\n"));
    }
}

#[test]
fn t1_client_names_the_address_that_the_certificate_lacks() {
    let dir = TestDir::with_images();
    write_pair(&dir, &params(""));
    let server = dir.serve("");
    dir.fetch(&server, "--tls --server-name 127.0.0.1")
        .assert_failure(5, &["needs a new one with subjectAltName=IP:127.0.0.1"]);
}

#[test]
fn server_warns_of_a_certificate_that_clients_reject() {
    for (names, warns) in [
        ("", true),
        ("DNS:127.0.0.1", true),
        ("DNS:localhost", false),
        ("IP:127.0.0.1", false),
    ] {
        let dir = TestDir::new();
        write_pair(&dir, &params(names));
        let output = dir.serve("").stop();
        output.assert_exit(0);
        assert_eq!(
            output
                .err
                .contains("clients reject the certificate in cert.pem"),
            warns,
            "{output:?}"
        );
    }
}

/// Writes one file of each kind, and the pair `cert.pem` and `key.pem`.
fn write_files(dir: &TestDir) {
    write_pair(dir, &params("DNS:localhost"));
    let key = KeyPair::from_pem(&fs::read_to_string(dir.path("key.pem")).unwrap()).unwrap();
    let cert = CertificateDer::from_pem_file(dir.path("cert.pem")).unwrap();
    let public = SubjectPublicKeyInfoDer::from_pem_slice(key.public_key_pem().as_bytes()).unwrap();
    let request = CertificateParams::default()
        .serialize_request(&key)
        .unwrap();
    let parameters = include_str!("keys/ec-parameters.pem");
    let utf16 = format!("\u{feff}{}", key.serialize_pem());
    let utf16 = utf16.encode_utf16().flat_map(u16::to_le_bytes);
    // Text, another section, and a byte order mark before the key.
    let parts = format!("\u{feff}{parameters}\nmine:\n{}", key.serialize_pem());
    let section =
        |kind: &str, text: &str| format!("-----BEGIN {kind}-----\n{text}\n-----END {kind}-----\n");
    for (name, content) in [
        ("empty", ""),
        ("text", "not PEM"),
        ("cut", "-----BEGIN PRIVATE KEY-----\nAAAA\n"),
        ("noise", &section("PRIVATE KEY", "!!!!")),
        ("nonsense", &section("PRIVATE KEY", "AAAA")),
        ("bad-cert", &section("CERTIFICATE", "AAAA")),
        ("cut-cert", "-----BEGIN CERTIFICATE-----\nAAAA\n"),
        ("noise-cert", &section("CERTIFICATE", "!!!!")),
        ("list", &section("X509 CRL", "AAAA")),
        ("openssh", &section("OPENSSH PRIVATE KEY", "AAAA")),
        ("pkcs8", include_str!("keys/encrypted-pkcs8.pem")),
        (
            "traditional",
            include_str!("keys/encrypted-traditional.pem"),
        ),
        ("version-1", include_str!("keys/version-1.pem")),
        ("parameters", parameters),
        ("request", &request.pem().unwrap()),
        ("public", &key.public_key_pem()),
        ("other", &KeyPair::generate().unwrap().serialize_pem()),
        ("parts", &parts),
    ] {
        dir.write(name, content);
    }
    for (name, content) in [
        // The start of a PKCS#12 file: a sequence with version 3.
        ("archive", vec![0x30, 3, 2, 1, 3]),
        ("utf-16", utf16.collect()),
        ("public.der", public.to_vec()),
        ("key.der", key.serialize_der()),
        ("cert.der", cert.to_vec()),
    ] {
        dir.write(name, content);
    }
    let pair = ["cert.pem", "traditional"].map(|name| dir.read(name));
    dir.write("pair", pair.concat());
    dir.make_dir("folder");
}

/// A file in place of the private key, and the message.
const KEYS: &str = "
pkcs8: the private key in pkcs8 is encrypted; decrypt it with: openssl pkey -in pkcs8 -out NEW_FILE
traditional: the private key in traditional is encrypted; decrypt it with: openssl pkey -in traditional -out NEW_FILE
pair: the private key in pair is encrypted; decrypt it with: openssl pkey -in pair -out NEW_FILE
cert.pem: cert.pem contains a certificate, not a private key; pass a private key with --key
public: public contains a public key, not a private key; pass a private key with --key
request: request contains a certificate request, not a private key; pass a private key with --key
parameters: parameters contains only EC parameters, not a private key; pass a private key with --key
list: list does not contain a private key, but a PEM section X509 CRL; pass a private key with --key
openssh: openssh contains a private key in OpenSSH format; pass a private key in PKCS#8 format, as openssl genpkey creates it
key.der: key.der contains a private key in DER format, not PEM; convert it with: openssl pkey -inform DER -in key.der -out NEW_FILE
cert.der: cert.der contains a certificate in DER format, not a private key in PEM format; pass a private key with --key
public.der: public.der contains a public key in DER format, not a private key in PEM format; pass a private key with --key
archive: archive is in PKCS#12 format, not PEM; convert it with: openssl pkcs12 -in archive -nodes -out NEW_FILE
empty: empty does not contain a private key: the file is empty
text: text does not contain a private key in PEM format
utf-16: utf-16 does not contain a private key in PEM format: the file is UTF-16 text; save it as ASCII or UTF-8
cut: cut does not contain a private key in PEM format: the file is truncated
noise: noise does not contain a private key in PEM format: invalid base64
nonsense: cannot use the private key in nonsense: it is malformed or of an unsupported type; use an RSA key of 2048 to 8192 bits, an ECDSA key on P-256, P-384 or P-521, or an Ed25519 key
other: the private key in other does not match the certificate in cert.pem; pass the key that the certificate was made with
folder: cannot read folder: it is a folder; pass a file in PEM format
";

#[test]
fn server_says_why_a_key_cannot_be_used() {
    let dir = TestDir::new();
    write_files(&dir);
    for (key, message) in rows(KEYS) {
        dir.run(SERVER, &format!("--cert cert.pem --key {key}"))
            .assert_failure(1, &[])
            .assert_err(&format!("error: {message}\n"));
    }
    dir.serve("--cert cert.pem --key parts").stop();
    // The certificate before an encrypted key can be used.
    dir.serve("--cert pair --key key.pem").stop();
}

/// A file in place of the certificate, and the message.
const CERTIFICATES: &str = "
key.pem: key.pem contains a private key, not a certificate; pass a certificate with --cert
pkcs8: pkcs8 contains an encrypted private key, not a certificate; pass a certificate with --cert
traditional: traditional contains an encrypted private key, not a certificate; pass a certificate with --cert
cert.der: cert.der contains a certificate in DER format, not PEM; convert it with: openssl x509 -inform DER -in cert.der -out NEW_FILE
key.der: key.der contains a private key in DER format, not a certificate in PEM format; pass a certificate with --cert
empty: empty does not contain a certificate: the file is empty
cut-cert: cut-cert does not contain a certificate in PEM format: the file is truncated
noise-cert: noise-cert does not contain a certificate in PEM format: invalid base64
folder: cannot read folder: it is a folder; pass a file in PEM format
";

#[test]
fn both_programs_say_why_a_certificate_cannot_be_used() {
    let dir = TestDir::new();
    write_files(&dir);
    let server = dir.serve("--cert cert.pem --key key.pem");
    for (cert, message) in rows(CERTIFICATES) {
        dir.run(SERVER, &format!("--cert {cert} --key key.pem"))
            .assert_failure(1, &[])
            .assert_err(&format!("error: {message}\n"));
        dir.fetch(&server, &["--tls", "--cert", cert])
            .assert_failure(5, &[])
            .assert_err(&format!("error: {message}\n"));
    }
    dir.run(SERVER, "--cert version-1 --key key.pem")
        .assert_failure(
            1,
            &["cannot use the certificate in version-1: it is of X.509 version 1, which has no subjectAltName; make a new one of version 3"],
        );
    dir.run(SERVER, "--cert bad-cert --key key.pem")
        .assert_failure(
            1,
            &["cannot use the certificate in bad-cert: it is malformed"],
        );
    dir.fetch(&server, "--tls --cert bad-cert")
        .assert_failure(5, &["cannot use bad-cert: it is malformed"]);
}
