//! Which servers a client trusts: certificates, CAs, keys. // T7

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};

use crate::support::{ALL, CLIENT, Folder as _, Output, Process, SERVER, TestDir, key_of};

const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

fn params(name: &str, is_ca: IsCa) -> CertificateParams {
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = is_ca;
    params
}

/// Writes a certificate and its key as `NAME.pem` and `NAME.key`.
fn write(dir: &TestDir, name: &str, certificate: &str, key: &KeyPair) {
    dir.write(format!("{name}.pem"), certificate);
    dir.write(format!("{name}.key"), key.serialize_pem());
}

/// Writes a self-signed certificate.
fn self_signed(dir: &TestDir, name: &str, params: &CertificateParams) -> KeyPair {
    let key = KeyPair::generate().unwrap();
    write(dir, name, &params.self_signed(&key).unwrap().pem(), &key);
    key
}

/// Writes a certificate for `bank.example` that this issuer signed, followed by the issuer's own.
fn leaf_of(dir: &TestDir, name: &str, issuer: &CertificateParams, issuer_key: &KeyPair) {
    let key = KeyPair::generate().unwrap();
    let leaf = params("bank.example", IsCa::NoCa)
        .signed_by(&key, &Issuer::from_params(issuer, issuer_key))
        .unwrap();
    let chain = leaf.pem() + &issuer.self_signed(issuer_key).unwrap().pem();
    write(dir, name, &chain, &key);
}

fn serve(dir: &TestDir, name: &str) -> Process {
    let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
    dir.serve(&format!("--cert {cert} --key {key}"))
}

fn fetch(dir: &TestDir, server: &Process, cert: &str, name: &str) -> Output {
    dir.fetch(server, &format!("--tls --cert {cert} --server-name {name}"))
}

#[test]
fn t7_key_of_a_trusted_server_cannot_sign_for_another_name() {
    let dir = TestDir::with_images();
    for is_ca in [IsCa::NoCa, IsCa::ExplicitNoCa] {
        let own = params("localhost", is_ca);
        let key = self_signed(&dir, "a", &own);
        leaf_of(&dir, "mallory", &own, &key);
        fetch(&dir, &serve(&dir, "a"), "a.pem", "localhost").assert_success(ALL);
        fetch(&dir, &serve(&dir, "mallory"), "a.pem", "bank.example")
            .assert_failure(5, &["is not trusted by a.pem"]);
    }
}

#[test]
fn t7_key_of_a_generated_certificate_cannot_sign_for_another_name() {
    let dir = TestDir::with_images();
    dir.serve("").stop();
    let key = KeyPair::from_pem(&fs::read_to_string(dir.path("key.pem")).unwrap()).unwrap();
    let mut issuer = params("localhost", IsCa::ExplicitNoCa);
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer
        .distinguished_name
        .push(DnType::CommonName, "JTP server");
    leaf_of(&dir, "mallory", &issuer, &key);
    fetch(&dir, &serve(&dir, "mallory"), "cert.pem", "bank.example")
        .assert_failure(5, &["is not trusted by cert.pem"]);
}

#[test]
fn t7_ca_certificate_vouches_for_what_it_signed_unless_it_may_not_sign() {
    let dir = TestDir::with_images();
    for (usages, accepted) in [
        (vec![], true),
        (vec![KeyUsagePurpose::KeyCertSign], true),
        (vec![KeyUsagePurpose::DigitalSignature], false),
    ] {
        let mut own = params("localhost", CA);
        own.key_usages = usages;
        let key = self_signed(&dir, "a", &own);
        leaf_of(&dir, "leaf", &own, &key);
        let output = fetch(&dir, &serve(&dir, "leaf"), "a.pem", "bank.example");
        if accepted {
            output.assert_success(ALL);
        } else {
            output.assert_failure(5, &["is not trusted by a.pem"]);
        }
        // The certificate itself, as `openssl req -x509` makes it.
        fetch(&dir, &serve(&dir, "a"), "a.pem", "localhost").assert_success(ALL);
    }
}

#[test]
fn t7_trusted_certificate_is_checked_for_dates_and_name() {
    let dir = TestDir::with_images();
    let mut expired = params("localhost", IsCa::NoCa);
    expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let mut early = params("localhost", CA);
    early.not_before = rcgen::date_time_ymd(4000, 1, 1);
    let good = params("localhost", IsCa::NoCa);
    for (params, name, error) in [
        (
            &expired,
            "localhost",
            "has expired (verified with a.pem); the server needs a new one",
        ),
        (
            &early,
            "localhost",
            "is not valid yet (verified with a.pem); check this machine's clock",
        ),
        (
            &good,
            "bank.example",
            "is for localhost (verified with a.pem); pass that name with --server-name",
        ),
    ] {
        self_signed(&dir, "a", params);
        fetch(&dir, &serve(&dir, "a"), "a.pem", name).assert_failure(5, &[error]);
    }
}

#[test]
fn t7_other_certificate_of_a_trusted_key_is_rejected() {
    let dir = TestDir::with_images();
    let mut own = params("localhost", IsCa::ExplicitNoCa);
    let key = self_signed(&dir, "a", &own);
    own.serial_number = Some(7_u64.into());
    write(&dir, "b", &own.self_signed(&key).unwrap().pem(), &key);
    fetch(&dir, &serve(&dir, "b"), "a.pem", "localhost")
        .assert_failure(5, &["is not trusted by a.pem"]);
}

#[test]
fn client_says_what_it_verifies_the_server_with() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    let says = |args: &str, line: &str| {
        let output = dir.fetch(&server, &format!("--tls -v {args}"));
        output.assert_exit(0);
        let line = format!("the server's certificate is verified with {line}");
        output.assert_in_err(&line);
    };
    says("", "cert.pem in the current folder");
    says("--cert ./cert.pem", "./cert.pem");
    let pin = key_of(&server);
    says(&format!("--pin {pin}"), "--pin");
    dir.fetch(&server, "--tls --server-name bank.example")
        .assert_failure(5, &["(verified with cert.pem in the current folder)"]);
    let other = TestDir::new();
    let mut client = other.command(CLIENT, &["--tls", "--addr", &server.address]);
    // A root that did not sign the server's certificate, whatever roots this machine has.
    self_signed(&other, "root", &params("root.example", CA));
    client.env("SSL_CERT_FILE", other.path("root.pem"));
    Output::of(&mut client).assert_failure(
        5,
        &["is not trusted by this system's root certificates; pass the server's own certificate with --cert"],
    );
}

#[test]
fn certificate_that_another_user_left_in_the_current_folder_is_not_trusted() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    let cert = dir.path("cert.pem");
    let refused = "cert.pem in the current folder is not trusted";
    dir.set_mode("cert.pem", 0o666);
    dir.fetch(&server, "--tls")
        .assert_failure(5, &[refused, "every user can write it (mode 0666)"]);
    dir.fetch(&server, "--tls --cert cert.pem")
        .assert_success(ALL);
    dir.set_mode("cert.pem", 0o664);
    dir.fetch(&server, "--tls").assert_success(ALL);
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give files away.
    }
    std::os::unix::fs::chown(&cert, Some(12_345), None).unwrap();
    dir.fetch(&server, "--tls")
        .assert_failure(5, &[refused, "it belongs to another user (ID 12345)"]);
    dir.fetch(&server, "--tls --cert cert.pem")
        .assert_success(ALL);
}

#[test]
fn t7_pinned_key_replaces_certificate_name_and_dates() {
    let dir = TestDir::with_images();
    let mut own = params("elsewhere.example", IsCa::NoCa);
    own.not_after = rcgen::date_time_ymd(2001, 1, 1);
    self_signed(&dir, "a", &own);
    let server = serve(&dir, "a");
    let pin = key_of(&server);
    dir.fetch(&server, &format!("--pin {pin}"))
        .assert_success(ALL);
    let other = format!("sha256:{}", "0a".repeat(32));
    dir.fetch(&server, &format!("--pin {other} --pin {pin}"))
        .assert_success(ALL);
    dir.fetch(&server, &format!("--pin {other}")).assert_failure(5, &[]).assert_err(&format!(
            "error: the key of {} is {pin}, but --pin expects {other}; it is another server, or has a new key: ask its operator before you pin that one\n",
            server.address
        ));
    // Pinning implies TLS.
    let plain = dir.serve("--no-tls");
    dir.fetch(&plain, &["--pin", &pin])
        .assert_failure(5, &["does not speak TLS"]);
}

#[test]
fn plain_tcp_to_another_machine_causes_one_warning() {
    let dir = TestDir::new();
    let warning = "is neither encrypted nor verified";
    // A name that does not exist: nothing leaves this machine.
    let run = |args: &str| {
        let args = format!("--connect-timeout 1 --retries 0 {args}");
        dir.run(CLIENT, &args).err
    };
    let output = run("--addr host.invalid");
    assert_eq!(output.matches(warning).count(), 1, "{output}");
    assert!(output.starts_with(
        "warning: the connection to host.invalid:8443 is neither encrypted nor verified: others in the network can read and change what it transfers; use --tls\n"
    ));
    for args in [
        "--addr host.invalid -q",
        "--addr 127.0.0.1:1",
        "--addr [::1]:1",
        "--addr localhost:1",
        "--addr host.invalid --tls --cert nowhere",
    ] {
        assert!(!run(args).contains(warning), "{args:?}");
    }
}

#[test]
fn server_warns_of_dates_that_clients_reject() {
    let dir = TestDir::new();
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let in_days = |days: u64| {
        rcgen::date_time_ymd(1970, 1, 1)
            + (now + std::time::Duration::from_secs(days * 24 * 60 * 60))
    };
    for (from, until, problem) in [
        (
            rcgen::date_time_ymd(2000, 1, 1),
            rcgen::date_time_ymd(2001, 1, 1),
            Some("expired on 2001-01-01"),
        ),
        (
            rcgen::date_time_ymd(4000, 1, 1),
            rcgen::date_time_ymd(4001, 1, 1),
            Some("is not valid before 4000-01-01"),
        ),
        (in_days(0), in_days(13), Some("expires on ")),
        (in_days(0), in_days(15), None),
    ] {
        let mut own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        own.not_before = from;
        own.not_after = until;
        let _ = self_signed(&dir, "a", &own);
        let log = serve(&dir, "a").stop().err;
        let warning = log.lines().find(|line| line.contains("WARN the certif"));
        match problem {
            Some(problem) => {
                let expected = format!("the certificate in a.pem {problem}");
                assert!(
                    warning.is_some_and(|line| line.contains(&expected)),
                    "{log}"
                );
            }
            None => assert_eq!(warning, None),
        }
    }
}

#[test]
fn generated_certificate_near_its_end_is_renewed_with_the_same_key() {
    let dir = TestDir::with_images();
    let mut own = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    own.distinguished_name = rcgen::DistinguishedName::new();
    own.distinguished_name
        .push(DnType::CommonName, "JTP server on somewhere");
    own.not_after = rcgen::date_time_ymd(2026, 1, 1);
    let key = self_signed(&dir, "a", &own);
    let old = dir.read("a.pem");
    dir.write("old.pem", &old);
    let server = serve(&dir, "a");
    let line = server.err.wait_for("renewed the certificate a.pem");
    assert!(
        line.contains("clients that trust a copy of the old file with --cert need the new one"),
        "{line}"
    );
    let pin = key_of(&server);
    assert_ne!(dir.read("a.pem"), old);
    assert_eq!(
        fs::read_to_string(dir.path("a.key")).unwrap(),
        key.serialize_pem()
    );
    fetch(&dir, &server, "a.pem", "localhost").assert_success(ALL);
    dir.fetch(&server, &format!("--pin {pin}"))
        .assert_success(ALL);
    fetch(&dir, &server, "old.pem", "localhost")
        .assert_failure(5, &["is not trusted by old.pem", "--pin"]);
    // Of somebody else, although it has expired: kept.
    own.distinguished_name = rcgen::DistinguishedName::new();
    own.distinguished_name
        .push(DnType::CommonName, "pictures.example");
    self_signed(&dir, "b", &own);
    let old = dir.read("b.pem");
    let log = serve(&dir, "b").stop().err;
    assert!(log.contains("b.pem expired on 2026-01-01"), "{log}");
    assert_eq!(dir.read("b.pem"), old);
}

#[test]
fn server_that_others_can_reach_says_that_everyone_can_fetch() {
    let dir = TestDir::with_images();
    dir.write("clients", "");
    dir.set_mode("clients", 0o644);
    let warning = |bind: &str, args: &str| {
        let log = dir.serve_on(bind, args).stop().err;
        log.matches("can fetch every image: admit only known clients with --clients")
            .count()
    };
    assert_eq!(warning("0.0.0.0:0", ""), 1);
    assert_eq!(warning("0.0.0.0:0", "--no-tls"), 1);
    assert_eq!(warning("127.0.0.1:0", ""), 0);
    assert_eq!(warning("0.0.0.0:0", "--clients clients"), 0);
}

#[test]
fn private_key_of_another_user_is_refused_and_one_that_others_can_read_causes_a_warning() {
    let dir = TestDir::new();
    dir.serve("").stop();
    for (mode, warning) in [
        (0o600, None),
        (
            0o640,
            Some(
                "other users can read the private key in key.pem (mode 0640); run: chmod 600 key.pem",
            ),
        ),
        (
            0o604,
            Some(
                "other users can read the private key in key.pem (mode 0604); run: chmod 600 key.pem",
            ),
        ),
        (
            0o622,
            Some(
                "other users can write the private key in key.pem (mode 0622); run: chmod 600 key.pem",
            ),
        ),
    ] {
        dir.set_mode("key.pem", mode);
        let log = dir.serve("").stop().err;
        match warning {
            Some(warning) => assert!(log.contains(warning), "{log}"),
            None => assert!(!log.contains("other users"), "{log}"),
        }
    }
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give files away.
    }
    std::os::unix::fs::chown(dir.path("key.pem"), Some(12_345), None).unwrap();
    dir.run(SERVER, "--bind 127.0.0.1:0").assert_failure(
        1,
        &[
            "cannot use key.pem: it belongs to another user (ID 12345)",
            "chown 0 key.pem",
        ],
    );
}
