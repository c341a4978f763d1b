//! Which servers a client trusts: certificates, CAs, keys. // T7

use std::fs;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};

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

fn serve(dir: &TestDir, name: &str) -> Process {
    let (cert, key) = (format!("{name}.pem"), format!("{name}.key"));
    dir.serve(&format!("--cert {cert} --key {key}"))
}

fn fetch(dir: &TestDir, server: &Process, cert: &str, name: &str) -> Output {
    dir.fetch(server, &format!("--tls --cert {cert} --server-name {name}"))
}

#[test]
fn t7_a_certificate_of_another_server_is_not_trusted_and_the_message_says_how_to_trust_it() {
    let dir = TestDir::with_images();
    self_signed(&dir, "a", &params("localhost", IsCa::ExplicitNoCa));
    // `openssl req -x509` makes that of a CA.
    for is_ca in [IsCa::ExplicitNoCa, CA] {
        self_signed(&dir, "b", &params("localhost", is_ca));
        fetch(&dir, &serve(&dir, "b"), "a.pem", "localhost")
            .assert_failure(5, &["is not trusted by a.pem; pass the server's own"]);
    }
}

#[test]
fn t7_trusted_certificate_is_checked_for_dates() {
    let dir = TestDir::with_images();
    let mut expired = params("localhost", IsCa::NoCa);
    expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let mut early = params("localhost", CA);
    early.not_before = rcgen::date_time_ymd(4000, 1, 1);
    for (params, error) in [
        (
            expired,
            "has expired (verified with a.pem); the server needs a new one",
        ),
        (
            early,
            "is not valid yet (verified with a.pem); check this machine's clock",
        ),
    ] {
        self_signed(&dir, "a", &params);
        fetch(&dir, &serve(&dir, "a"), "a.pem", "localhost").assert_failure(5, &[error]);
    }
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
    let mut own = params("localhost", IsCa::NoCa);
    let warns = |own: &CertificateParams| {
        let _ = self_signed(&dir, "a", own);
        let log = serve(&dir, "a").stop().err;
        log.contains("WARN the certificate in a.pem expired on 2001-01-01")
    };
    assert!(!warns(&own));
    own.not_after = rcgen::date_time_ymd(2001, 1, 1);
    assert!(warns(&own));
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
    let log_of = |mode| {
        dir.set_mode("key.pem", mode);
        dir.serve("").stop().err
    };
    assert!(!log_of(0o600).contains("other users"));
    let warning =
        "other users can write the private key in key.pem (mode 0622); run: chmod 600 key.pem";
    assert!(log_of(0o622).contains(warning));
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give files away.
    }
    std::os::unix::fs::chown(dir.path("key.pem"), Some(12_345), None).unwrap();
    let error = "cannot use key.pem: it belongs to another user (ID 12345)";
    dir.run(SERVER, "--bind 127.0.0.1:0")
        .assert_failure(1, &[error, "chown 0 key.pem"]);
}
