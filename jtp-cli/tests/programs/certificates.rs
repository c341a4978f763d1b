//! Messages about certificates and keys that cannot be used.
//!
//! The files in `keys` are from openssl 3.0; the encrypted keys have the passphrase `secret`, and protect nothing.

use std::fs;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, SubjectPublicKeyInfoDer};

use crate::support::{SERVER, TestDir};

/// A certificate with the common name `localhost` and these names.
fn params(names: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "localhost");
    params.subject_alt_names = names;
    params
}

fn dns(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

/// Writes `cert.pem` and `key.pem`.
fn write_pair(dir: &TestDir, params: &CertificateParams) {
    let key = KeyPair::generate().unwrap();
    fs::write(
        dir.path("cert.pem"),
        params.self_signed(&key).unwrap().pem(),
    )
    .unwrap();
    fs::write(dir.path("key.pem"), key.serialize_pem()).unwrap();
}

#[test]
fn t1_client_says_which_names_the_certificate_has_and_what_to_do() {
    let uri = SanType::URI("https://localhost".try_into().unwrap());
    let ip = |text: &str| SanType::IpAddress(text.parse().unwrap());
    let address_as_name = dns("127.0.0.1");
    for (names, message) in [
        (
            vec![],
            "has no subjectAltName, and its common name (CN) alone is not accepted; the server needs a new one with subjectAltName=DNS:localhost",
        ),
        (
            vec![uri],
            "has no DNS name and no IP address in its subjectAltName; the server needs a new one with subjectAltName=DNS:localhost",
        ),
        (
            vec![address_as_name],
            "has an IP address as a DNS name: 127.0.0.1; the server needs a new one with subjectAltName=DNS:localhost",
        ),
        (
            vec![ip("192.0.2.1")],
            "is for 192.0.2.1; pass that address with --server-name",
        ),
        (
            vec![ip("::1"), ip("127.0.0.1")],
            "is for ::1, 127.0.0.1; pass one of them with --server-name",
        ),
        (
            vec![dns("*.pictures.example")],
            "is for *.pictures.example; pass a name that it covers with --server-name, such as www.pictures.example",
        ),
        (
            vec![dns("pictures.example")],
            "is for pictures.example; pass that name with --server-name",
        ),
        (
            ["a", "b", "c", "d", "e"].map(dns).to_vec(),
            "is for a, b, c, d and 1 more; pass one of them with --server-name",
        ),
    ] {
        let dir = TestDir::with_images();
        write_pair(&dir, &params(names));
        let server = dir.serve(&[]);
        let (what, hint) = message.split_once(';').unwrap();
        let message = format!(
            "the certificate of {} {what} (verified with cert.pem in the current folder);{hint}",
            server.address
        );
        let output = dir.fetch(&server, &["--tls"]);
        output.assert_failure(5, &[]);
        assert_eq!(output.err, format!("error: {message}\n"));
    }
}

#[test]
fn t1_client_names_the_address_that_the_certificate_lacks() {
    let dir = TestDir::with_images();
    write_pair(&dir, &params(vec![]));
    let server = dir.serve(&[]);
    dir.fetch(&server, &["--tls", "--server-name", "127.0.0.1"])
        .assert_failure(5, &["needs a new one with subjectAltName=IP:127.0.0.1"]);
}

#[test]
fn server_warns_of_a_certificate_that_clients_reject() {
    for (names, warns) in [
        (vec![], true),
        (vec![dns("127.0.0.1")], true),
        (vec![dns("localhost")], false),
        (vec![SanType::IpAddress([127, 0, 0, 1].into())], false),
    ] {
        let dir = TestDir::new();
        write_pair(&dir, &params(names));
        let output = dir.serve(&[]).stop();
        assert_eq!(output.code, Some(0), "{output:?}");
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
    write_pair(dir, &params(vec![dns("localhost")]));
    let key = KeyPair::from_pem(&fs::read_to_string(dir.path("key.pem")).unwrap()).unwrap();
    let cert = CertificateDer::from_pem_file(dir.path("cert.pem")).unwrap();
    let public = SubjectPublicKeyInfoDer::from_pem_slice(key.public_key_pem().as_bytes()).unwrap();
    let request = CertificateParams::default().serialize_request(&key);
    let openssh = "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    let parameters = include_str!("keys/ec-parameters.pem");
    let utf16: Vec<u8> = format!("\u{feff}{}", key.serialize_pem())
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    for (name, content) in [
        ("empty", &b""[..]),
        ("text", b"not PEM"),
        ("cut", b"-----BEGIN PRIVATE KEY-----\nAAAA\n"),
        (
            "noise",
            b"-----BEGIN PRIVATE KEY-----\n!!!!\n-----END PRIVATE KEY-----\n",
        ),
        (
            "nonsense",
            b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ),
        (
            "bad-cert",
            b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        ),
        ("cut-cert", b"-----BEGIN CERTIFICATE-----\nAAAA\n"),
        (
            "noise-cert",
            b"-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
        ),
        (
            "list",
            b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n",
        ),
        ("pkcs8", include_bytes!("keys/encrypted-pkcs8.pem")),
        (
            "traditional",
            include_bytes!("keys/encrypted-traditional.pem"),
        ),
        ("version-1", include_bytes!("keys/version-1.pem")),
        ("parameters", parameters.as_bytes()),
        // The start of a PKCS#12 file: a sequence with version 3.
        ("archive", &[0x30, 3, 2, 1, 3]),
        ("openssh", openssh.as_bytes()),
        ("utf-16", &utf16),
        ("request", request.unwrap().pem().unwrap().as_bytes()),
        ("public", key.public_key_pem().as_bytes()),
        ("public.der", &public),
        ("key.der", &key.serialize_der()),
        ("cert.der", &cert),
        (
            "other",
            KeyPair::generate().unwrap().serialize_pem().as_bytes(),
        ),
        // Text, another section, and a byte order mark before the key.
        (
            "parts",
            format!("\u{feff}{parameters}\nmine:\n{}", key.serialize_pem()).as_bytes(),
        ),
    ] {
        fs::write(dir.path(name), content).unwrap();
    }
    let pair = ["cert.pem", "traditional"].map(|name| fs::read(dir.path(name)).unwrap());
    fs::write(dir.path("pair"), pair.concat()).unwrap();
    fs::create_dir(dir.path("folder")).unwrap();
}

#[test]
fn server_says_why_a_key_cannot_be_used() {
    let dir = TestDir::new();
    write_files(&dir);
    for (key, message) in [
        (
            "pkcs8",
            "the private key in pkcs8 is encrypted; decrypt it with: openssl pkey -in pkcs8 -out NEW_FILE",
        ),
        (
            "traditional",
            "the private key in traditional is encrypted; decrypt it with: openssl pkey -in traditional -out NEW_FILE",
        ),
        (
            "pair",
            "the private key in pair is encrypted; decrypt it with: openssl pkey -in pair -out NEW_FILE",
        ),
        (
            "cert.pem",
            "cert.pem contains a certificate, not a private key; pass a private key with --key",
        ),
        (
            "public",
            "public contains a public key, not a private key; pass a private key with --key",
        ),
        (
            "request",
            "request contains a certificate request, not a private key; pass a private key with --key",
        ),
        (
            "parameters",
            "parameters contains only EC parameters, not a private key; pass a private key with --key",
        ),
        (
            "list",
            "list does not contain a private key, but a PEM section X509 CRL; pass a private key with --key",
        ),
        (
            "openssh",
            "openssh contains a private key in OpenSSH format; pass a private key in PKCS#8 format, as openssl genpkey creates it",
        ),
        (
            "key.der",
            "key.der contains a private key in DER format, not PEM; convert it with: openssl pkey -inform DER -in key.der -out NEW_FILE",
        ),
        (
            "cert.der",
            "cert.der contains a certificate in DER format, not a private key in PEM format; pass a private key with --key",
        ),
        (
            "public.der",
            "public.der contains a public key in DER format, not a private key in PEM format; pass a private key with --key",
        ),
        (
            "archive",
            "archive is in PKCS#12 format, not PEM; convert it with: openssl pkcs12 -in archive -nodes -out NEW_FILE",
        ),
        (
            "empty",
            "empty does not contain a private key: the file is empty",
        ),
        ("text", "text does not contain a private key in PEM format"),
        (
            "utf-16",
            "utf-16 does not contain a private key in PEM format: the file is UTF-16 text; save it as ASCII or UTF-8",
        ),
        (
            "cut",
            "cut does not contain a private key in PEM format: the file is truncated",
        ),
        (
            "noise",
            "noise does not contain a private key in PEM format: invalid base64",
        ),
        (
            "nonsense",
            "cannot use the private key in nonsense: it is malformed or of an unsupported type; use an RSA key of 2048 to 8192 bits, an ECDSA key on P-256, P-384 or P-521, or an Ed25519 key",
        ),
        (
            "other",
            "the private key in other does not match the certificate in cert.pem; pass the key that the certificate was made with",
        ),
        (
            "folder",
            "cannot read folder: it is a folder; pass a file in PEM format",
        ),
    ] {
        let output = dir.run(SERVER, &["--cert", "cert.pem", "--key", key]);
        output.assert_failure(1, &[]);
        assert_eq!(output.err, format!("error: {message}\n"));
    }
    dir.serve(&["--cert", "cert.pem", "--key", "parts"]).stop();
    // The certificate before an encrypted key can be used.
    dir.serve(&["--cert", "pair", "--key", "key.pem"]).stop();
}

#[test]
fn both_programs_say_why_a_certificate_cannot_be_used() {
    let dir = TestDir::new();
    write_files(&dir);
    let server = dir.serve(&["--cert", "cert.pem", "--key", "key.pem"]);
    for (cert, message) in [
        (
            "key.pem",
            "key.pem contains a private key, not a certificate; pass a certificate with --cert",
        ),
        (
            "pkcs8",
            "pkcs8 contains an encrypted private key, not a certificate; pass a certificate with --cert",
        ),
        (
            "traditional",
            "traditional contains an encrypted private key, not a certificate; pass a certificate with --cert",
        ),
        (
            "cert.der",
            "cert.der contains a certificate in DER format, not PEM; convert it with: openssl x509 -inform DER -in cert.der -out NEW_FILE",
        ),
        (
            "key.der",
            "key.der contains a private key in DER format, not a certificate in PEM format; pass a certificate with --cert",
        ),
        (
            "empty",
            "empty does not contain a certificate: the file is empty",
        ),
        (
            "cut-cert",
            "cut-cert does not contain a certificate in PEM format: the file is truncated",
        ),
        (
            "noise-cert",
            "noise-cert does not contain a certificate in PEM format: invalid base64",
        ),
        (
            "folder",
            "cannot read folder: it is a folder; pass a file in PEM format",
        ),
    ] {
        let output = dir.run(SERVER, &["--cert", cert, "--key", "key.pem"]);
        output.assert_failure(1, &[]);
        assert_eq!(output.err, format!("error: {message}\n"));
        let output = dir.fetch(&server, &["--tls", "--cert", cert]);
        output.assert_failure(5, &[]);
        assert_eq!(output.err, format!("error: {message}\n"));
    }
    dir.run(SERVER, &["--cert", "version-1", "--key", "key.pem"])
        .assert_failure(
            1,
            &["cannot use the certificate in version-1: it is of X.509 version 1, which has no subjectAltName; make a new one of version 3"],
        );
    dir.run(SERVER, &["--cert", "bad-cert", "--key", "key.pem"])
        .assert_failure(
            1,
            &["cannot use the certificate in bad-cert: it is malformed"],
        );
    dir.fetch(&server, &["--tls", "--cert", "bad-cert"])
        .assert_failure(5, &["cannot use bad-cert: it is malformed"]);
}
