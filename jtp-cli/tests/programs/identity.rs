//! `server --clients`, `client --identity` and `--show-identity`. // T7

use std::fs;
use std::io::Read;
use std::net::{Shutdown, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jtp_cli::tls::pem::{read_certificates, read_private_key};
use jtp_cli::tls::provider;
use jtp_tokio::tls::{AuthorizedClients, ClientList};
use rustls::SupportedProtocolVersion;
use rustls::version::{TLS12, TLS13};

use crate::support::{ALL, CLIENT, Folder as _, SERVER, TestDir};

/// Creates an identity with the client, and returns its line for the server.
pub(crate) fn identity(dir: &TestDir, file: &str) -> String {
    let output = dir.run(CLIENT, &format!("--identity {file} --show-identity"));
    output.assert_exit(0);
    output.assert_err("");
    output.out.trim_end().to_owned()
}

/// Replaces the file `clients` with these lines.
pub(crate) fn list(dir: &TestDir, lines: &[&str]) {
    dir.write("clients.tmp", lines.join("\n"));
    dir.set_mode("clients.tmp", 0o644);
    dir.rename("clients.tmp", "clients");
}

#[test]
fn t7_exactly_the_listed_clients_are_admitted() {
    let dir = TestDir::with_images();
    let (alice, mallory) = (identity(&dir, "alice.pem"), identity(&dir, "mallory.pem"));
    list(&dir, &["# all", &alice]);
    let server = dir.serve("--clients clients");
    dir.fetch(&server, "--identity alice.pem")
        .assert_success(ALL);
    let at = &server.address;
    dir.fetch(&server, "--identity mallory.pem")
        .assert_failure(5, &[])
        .assert_err(&format!(
            "error: {at} does not admit this client; its --clients file needs the line: {mallory}\n"
        ));
    dir.fetch(&server, "--tls")
        .assert_failure(5, &[])
        .assert_err(&format!(
            "error: {at} requires a client certificate; pass one with --identity\n"
        ));
    // From this machine, too.
    dir.fetch(&server, "")
        .assert_failure(5, &["requires TLS; use --tls"]);
    dir.fetch(&server, "--list --identity mallory.pem")
        .assert_failure(5, &["does not admit this client"]);
}

/// A TLS server of one version that admits nobody, and the number of its connections.
fn refusing(
    dir: &TestDir,
    version: &'static SupportedProtocolVersion,
) -> (String, Arc<AtomicUsize>) {
    let chain = read_certificates(&dir.path("cert.pem")).unwrap();
    let (key, _) = read_private_key(&dir.path("key.pem")).unwrap();
    let clients = AuthorizedClients::new(ClientList::default());
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(clients.verifier(&provider()))
        .with_single_cert(chain, key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let connections = Arc::new(AtomicUsize::new(0));
    let accepted = Arc::clone(&connections);
    thread::spawn(move || {
        for stream in listener.incoming() {
            accepted.fetch_add(1, Ordering::SeqCst);
            let mut stream = stream.unwrap();
            let mut tls = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
            tls.complete_io(&mut stream).unwrap_err();
            while tls.wants_write() {
                tls.write_tls(&mut stream).unwrap();
            }
            stream.shutdown(Shutdown::Write).unwrap();
            // Closing with unread bytes would reset the connection and discard the alert.
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    (address, connections)
}

#[test]
fn t7_client_explains_a_refusal_on_tls_1_2_and_1_3() {
    let dir = TestDir::with_images();
    dir.serve("").stop();
    let line = identity(&dir, "me.pem");
    let not_admitted =
        format!("does not admit this client; its --clients file needs the line: {line}");
    for version in [&TLS12, &TLS13] {
        let (address, connections) = refusing(&dir, version);
        for (args, message) in [
            (
                "--tls",
                "requires a client certificate; pass one with --identity",
            ),
            ("--identity me.pem", &*not_admitted),
        ] {
            dir.run(CLIENT, &format!("{args} --addr {address}"))
                .assert_failure(5, &[&address, message]);
        }
        // Without retries.
        assert_eq!(connections.load(Ordering::SeqCst), 2);
    }
}

#[test]
fn t7_identity_is_created_once_with_mode_0600() {
    let dir = TestDir::with_images();
    let server = dir.serve("");
    let first = dir.fetch(&server, "--identity me.pem");
    first.assert_exit(0);
    let line = identity(&dir, "me.pem");
    first.assert_err(&format!(
        "created the identity me.pem; the server's --clients file needs the line: {line}\n"
    ));
    let mode = |file: &str| {
        use std::os::unix::fs::PermissionsExt;
        fs::metadata(dir.path(file)).unwrap().permissions().mode() & 0o777
    };
    assert_eq!(mode("me.pem"), 0o600);
    let content = dir.read("me.pem");
    dir.fetch(&server, "--identity me.pem").assert_success(ALL);
    assert_eq!(dir.read("me.pem"), content);
    assert!(line.starts_with("sha256:") && !line.contains('\n'));
    // The file tells nothing about the user or the machine.
    let own = read_certificates(&dir.path("me.pem")).unwrap();
    let user = line.split_once(' ').unwrap().1;
    for name in user.split('@') {
        let found = own[0]
            .windows(name.len())
            .any(|part| part == name.as_bytes());
        assert!(!found, "{name}");
    }
    dir.run(CLIENT, "--identity new.pem --show-identity -q")
        .assert_no_error();
    dir.run(CLIENT, "--identity missing/me.pem --show-identity")
        .assert_failure(
            8,
            &["cannot write the identity missing/me.pem", "No such file"],
        );
}

#[test]
fn identity_that_cannot_be_used_is_an_error() {
    let dir = TestDir::new();
    dir.serve("").stop();
    identity(&dir, "me.pem");
    let remedy = "pass a file with a private key and its certificate with --identity";
    dir.write("empty", "");
    dir.make_dir("folder");
    let both = ["me.pem", "cert.pem"].map(|file| fs::read_to_string(dir.path(file)).unwrap());
    let (own_key, _) = both[0].split_once("-----BEGIN CERTIFICATE").unwrap();
    dir.write("mixed", own_key.to_owned() + &both[1]);
    for (file, message) in [
        ("cert.pem", remedy),
        ("key.pem", remedy),
        (
            "empty",
            "empty does not contain a private key: the file is empty",
        ),
        ("folder", "cannot read folder: it is a folder"),
        (
            "mixed",
            "cannot use the identity in mixed: the private key is not that of the certificate",
        ),
    ] {
        dir.run(CLIENT, &format!("--identity {file} --addr 127.0.0.1:1"))
            .assert_failure(5, &[message]);
    }
    dir.set_mode("me.pem", 0o644);
    dir.run(CLIENT, "--identity me.pem --show-identity").assert_exit(0).assert_err("warning: other users can read the private key in me.pem (mode 0644); run: chmod 600 me.pem\n");
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give files away.
    }
    std::os::unix::fs::chown(dir.path("me.pem"), Some(12_345), None).unwrap();
    dir.run(CLIENT, "--identity me.pem --show-identity")
        .assert_failure(5, &["me.pem: it belongs to another user (ID 12345)"]);
}

#[test]
fn clients_file_that_cannot_be_used_is_an_error() {
    let dir = TestDir::new();
    let line = format!("sha256:{}", "0a".repeat(32));
    let run = || dir.run(SERVER, "--clients clients --bind 127.0.0.1:0");
    run().assert_failure(1, &["cannot read clients: No such file"]);
    assert!(
        !dir.path("cert.pem").exists(),
        "a mistyped path leaves no certificate behind"
    );
    list(&dir, &["# all", &line, "", "sha256:00 b"]);
    run().assert_failure(1, &["cannot use clients: line 4: expected sha256:"]);
    list(&dir, &[&line]);
    dir.set_mode("clients", 0o664);
    run().assert_failure(1, &["other users can write it", "chmod go-w clients"]);
    list(&dir, &["# nobody yet"]);
    let log = dir.serve("--clients clients").stop().err;
    assert!(
        log.contains("clients lists no client: nobody can connect"),
        "{log}"
    );
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give files away.
    }
    std::os::unix::fs::chown(dir.path("clients"), Some(12_345), None).unwrap();
    run().assert_failure(1, &["clients: it belongs to another user (ID 12345)"]);
}

#[test]
fn t7_log_names_the_client() {
    let dir = TestDir::with_images();
    let line = identity(&dir, "me.pem");
    let (key, _) = line.split_once(' ').unwrap();
    list(&dir, &[&format!("{key}   the archive  ")]);
    let server = dir.serve("--clients clients -v");
    dir.fetch(&server, "--identity me.pem").assert_success(ALL);
    let log = server.stop().err;
    assert!(log.contains("(the archive)"), "{log}");
}
