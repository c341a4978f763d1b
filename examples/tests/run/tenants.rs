//! The example `tenants`: two clients and a stranger, each with a certificate of its own.

use std::sync::Arc;
use std::time::Duration;

use jtp_kit::{Folder, Process};
use jtp_tokio::Client;
use jtp_tokio::client::Error;
use jtp_tokio::jtp_core::ImageId;
use jtp_tokio::jtp_core::client::ClientError;
use jtp_tokio::rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use jtp_tokio::rustls::{self, ClientConfig, RootCertStore};
use jtp_tokio::server::ErrorCode;
use jtp_tokio::store::MemoryStore;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::http::serve;
use crate::process::command;
use example::{Fingerprint, Tenants, server, server_tls};

#[expect(dead_code, reason = "the example's main is not used here")]
#[path = "../../tenants.rs"]
mod example;

const LIMIT: usize = 1 << 20;

struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
    /// Certificate and key.
    pem: [String; 2],
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, name: &str) -> Identity {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Identity {
            certificate: certificate.der().clone(),
            key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            pem: [certificate.pem(), key.serialize_pem()],
        }
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    /// A client that presents this identity, or none.
    fn client(&self, address: &str, identity: Option<Identity>) -> Client {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots());
        let config = match identity {
            Some(Identity {
                certificate, key, ..
            }) => config
                .with_client_auth_cert(vec![certificate], key)
                .unwrap(),
            None => config.with_no_client_auth(),
        };
        Client::builder(address)
            .tls(config, "localhost".try_into().unwrap())
            .build()
    }
}

async fn listed(client: &mut Client) -> Vec<String> {
    let entries = client.list().await.unwrap();
    entries.into_iter().map(|e| e.name.into_owned()).collect()
}

async fn fetched(client: &mut Client, ids: &[ImageId]) -> Vec<Vec<u8>> {
    let mut images = client.get(ids.iter().copied());
    let mut bodies = Vec::new();
    while let Some(image) = images.next().await.unwrap() {
        bodies.push(image.bytes(LIMIT).await.unwrap());
    }
    bodies
}

#[tokio::test]
async fn each_tenant_sees_its_own_catalog_and_a_stranger_is_refused() {
    let authority = Authority::new();
    let [alice, bob, stranger] = ["alice", "bob", "stranger"].map(|name| authority.issue(name));
    let stores = [(); 2].map(|()| Arc::new(MemoryStore::new()));
    let a = stores[0]
        .insert("alice.png", b"of alice".as_slice())
        .unwrap();
    let b = stores[1].insert("bob.png", b"of bob".as_slice()).unwrap();
    let mut tenants = Tenants::default();
    tenants.add(Fingerprint::of(&alice.certificate), stores[0].clone());
    tenants.add(Fingerprint::of(&bob.certificate), stores[1].clone());

    let own = authority.issue("localhost");
    let tls = server_tls(vec![own.certificate], own.key, authority.roots()).unwrap();
    let server = server(tls, tenants);
    let address = serve(&server).await;
    let mut clients = [alice, bob].map(|identity| authority.client(&address, Some(identity)));

    assert_eq!(listed(&mut clients[0]).await, ["alice.png"]);
    assert_eq!(listed(&mut clients[1]).await, ["bob.png"]);

    // Each asks for both images.
    assert_eq!(fetched(&mut clients[0], &[a, b]).await, [b"of alice"]);
    assert_eq!(fetched(&mut clients[1], &[a, b]).await, [b"of bob"]);

    // Each watches. Only the store of its tenant reports an image to it.
    let [first, second] = &mut clients;
    let (_, mut first) = first.list_and_watch().await.unwrap();
    let (_, mut second) = second.list_and_watch().await.unwrap();
    stores[1]
        .insert("bob2.png", b"another of bob".as_slice())
        .unwrap();
    assert_eq!(second.next().await.unwrap().name, "bob2.png");
    stores[0]
        .insert("alice2.png", b"another of alice".as_slice())
        .unwrap();
    assert_eq!(first.next().await.unwrap().name, "alice2.png");
    let nothing = tokio::time::timeout(Duration::from_millis(100), second.next()).await;
    assert!(nothing.is_err(), "bob is notified of {nothing:?}");

    // A certificate of the CA without a tenant: refused, with a reason, whatever it asks for.
    let mut client = authority.client(&address, Some(stranger));
    let refused = |error: Error| match error {
        Error::Protocol(ClientError::Server(error)) => {
            assert_eq!(error.code, ErrorCode::InvalidRequest);
            assert!(error.message.contains("no access"), "{error}");
        }
        error => panic!("{error:?}"),
    };
    refused(client.list().await.unwrap_err());
    refused(client.get([a]).next().await.unwrap_err());
    refused(client.list_and_get().next().await.unwrap_err());
    refused(client.watch().await.unwrap().next().await.unwrap_err());

    server.shutdown().await;
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_ca_fails_in_tls() {
    let (authority, other) = (Authority::new(), Authority::new());
    let own = authority.issue("localhost");
    let tls = server_tls(vec![own.certificate], own.key, authority.roots()).unwrap();
    let server = server(tls, Tenants::default());
    let address = serve(&server).await;
    for identity in [None, Some(other.issue("alice"))] {
        let error = authority
            .client(&address, identity)
            .list()
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
        assert!(!error.is_transient());
    }
}

/// The program itself, with its files.
#[tokio::test]
async fn the_program_serves_a_folder_to_its_tenant() {
    let authority = Authority::new();
    let [own, alice] = ["localhost", "alice"].map(|name| authority.issue(name));
    let place = tempfile::tempdir().unwrap();
    place.path().make_dir("photos");
    for (name, content) in [
        ("server.pem", &*own.pem[0]),
        ("server.key", &*own.pem[1]),
        ("ca.pem", &*authority.pem),
        ("photos/alice.png", "of alice"),
    ] {
        place.path().write(name, content);
    }
    let fingerprint = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &alice.certificate);
    let digits = fingerprint.as_ref().iter().map(|b| format!("{b:02X}"));
    let tenant = format!("{}=photos", digits.collect::<Vec<_>>().join(":"));

    let args = ["127.0.0.1:0", "server.pem", "server.key", "ca.pem", &tenant];
    let program = Process::listening(command("tenants", &args, place.path()));
    let mut client = authority.client(&program.address, Some(alice));
    assert_eq!(listed(&mut client).await, ["alice.png"]);
}

#[test]
fn fingerprints_are_read_as_openssl_prints_them() {
    let bytes: Vec<String> = (0..32).map(|n| format!("{n:02X}")).collect();
    let parsed = Fingerprint::parse(&bytes.join(":"));
    assert!(parsed.is_some());
    assert_eq!(parsed, Fingerprint::parse(&bytes.concat().to_lowercase()));
    assert_eq!(Fingerprint::parse("00:01"), None);
    assert_eq!(Fingerprint::parse(&"g".repeat(64)), None);
}
