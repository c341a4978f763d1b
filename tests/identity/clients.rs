//! Servers that admit the clients of a list.

use std::sync::{Arc, Mutex};

use jtp_driver::server::{Peer, PlainPolicy};
use jtp_driver::tls::{AuthorizedClients, ClientList, ServerCertificate, ServerKeyVerifier};
use jtp_driver::{Error, TlsPeer};
use rustls::SupportedProtocolVersion;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};

use super::runtimes::{Serving, World, on_each_runtime};
use super::{Identity, params, provider};

const VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS12, &TLS13];

/// A server with a list of clients.
struct Listed {
    server: Identity,
    clients: AuthorizedClients,
}

impl Listed {
    fn new(clients: &[(&str, &Identity)]) -> Listed {
        Listed {
            server: Identity::new("localhost"),
            clients: AuthorizedClients::new(list(clients)),
        }
    }

    fn server_config(&self) -> rustls::ServerConfig {
        rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(self.clients.verifier(&provider()))
            .with_single_cert(
                vec![self.server.certificate.clone()],
                self.server.private_key(),
            )
            .unwrap()
    }

    fn serve<W: World>(&self) -> Serving<W> {
        Serving::start(|server| {
            server
                .tls(self.server_config())
                .plain(PlainPolicy::Allow)
                .clients(self.clients.clone())
        })
    }

    fn client_config(
        &self,
        identity: Option<&Identity>,
        version: &'static SupportedProtocolVersion,
    ) -> Arc<rustls::ClientConfig> {
        client_config(&self.server, identity, version)
    }
}

/// A client with this identity, if any, that knows the server's key.
fn client_config(
    server: &Identity,
    identity: Option<&Identity>,
    version: &'static SupportedProtocolVersion,
) -> Arc<rustls::ClientConfig> {
    let verifier = ServerKeyVerifier::new([server.fingerprint()], &provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Arc::new(match identity {
        Some(identity) => builder
            .with_client_auth_cert(vec![identity.certificate.clone()], identity.private_key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    })
}

fn list(clients: &[(&str, &Identity)]) -> ClientList {
    let lines: Vec<String> = clients
        .iter()
        .map(|(name, identity)| format!("{} {name}", identity.fingerprint()))
        .collect();
    lines.join("\n").parse().unwrap()
}

/// Whether the server refused the client: for its key, or because it has none.
fn is_refusal(error: &Error) -> bool {
    match error {
        Error::NotAdmitted { .. } => true,
        Error::Tls { source, .. } => {
            let cause = source.get_ref().and_then(|cause| cause.downcast_ref());
            matches!(cause, Some(rustls::Error::AlertReceived(_)))
        }
        _ => false,
    }
}

fn t7_exactly_the_listed_keys_are_admitted<W: World>() {
    let mut expired = params("whatever");
    expired.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let authority_params = params("ca");
    let authority = Identity::with(&authority_params);
    let (alice, bob) = (
        Identity::with(&expired),
        Identity::signed_by("x", &authority, &authority_params),
    );
    let mallory = Identity::new("alice");
    let listed = Listed::new(&[("Alice", &alice), ("Bob", &bob)]);
    W::block_on(async {
        let seen: Arc<Mutex<Vec<String>>> = Arc::default();
        let record = Arc::clone(&seen);
        let serving: Serving<W> = Serving::start(|server| {
            server
                .tls(listed.server_config())
                .plain(PlainPolicy::Allow)
                .clients(listed.clients.clone())
                .on_request(move |request| {
                    let identity = request.peer().identity().unwrap();
                    record.lock().unwrap().push(identity.name().to_owned());
                    async move { request.accept() }
                })
        });
        for version in VERSIONS {
            for identity in [&alice, &bob] {
                let mut client =
                    serving.client(Some(&listed.client_config(Some(identity), version)));
                assert_eq!(serving.in_time(client.list()).await.unwrap().len(), 1);
            }
            for identity in [Some(&mallory), Some(&authority), None] {
                let mut client = serving.client(Some(&listed.client_config(identity, version)));
                let error = serving.in_time(client.list()).await.unwrap_err();
                assert!(is_refusal(&error), "{error:?}");
            }
        }
        let error = serving
            .in_time(serving.client(None).list())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::TlsServer { .. }), "{error:?}");
        assert_eq!(*seen.lock().unwrap(), ["Alice", "Bob", "Alice", "Bob"]);
        assert_eq!(serving.server.counters().clients_refused, 4);
    });
}

fn t7_removing_a_client_ends_its_connections_and_its_sessions<W: World>() {
    let (alice, bob) = (Identity::new("a"), Identity::new("b"));
    let listed = Listed::new(&[("Alice", &alice), ("Bob", &bob)]);
    W::block_on(async {
        let serving: Serving<W> = listed.serve();
        for version in VERSIONS {
            listed
                .clients
                .replace(list(&[("Alice", &alice), ("Bob", &bob)]));
            let configs =
                [&alice, &bob].map(|identity| listed.client_config(Some(identity), version));
            let mut clients = configs
                .each_ref()
                .map(|config| serving.client(Some(config)));
            for client in &mut clients {
                serving.in_time(client.list()).await.unwrap();
            }
            let [of_alice, of_bob] = &mut clients;
            let (_, mut of_alice) = serving.in_time(of_alice.list_and_watch()).await.unwrap();
            let (_, mut of_bob) = serving.in_time(of_bob.list_and_watch()).await.unwrap();

            listed.clients.replace(list(&[("Bob", &bob)]));
            let ended = serving.in_time(of_alice.next()).await;
            assert!(ended.is_err(), "{ended:?}");
            let name = format!("{version:?}.png");
            serving
                .store
                .insert(&name, name.clone().into_bytes())
                .unwrap();
            assert_eq!(serving.in_time(of_bob.next()).await.unwrap().name, name);

            // Alice's session is resumed: the verifier of the handshake is not asked.
            let resumed = serving
                .in_time(serving.client(Some(&configs[0])).list())
                .await;
            let refused = matches!(resumed, Err(Error::NotAdmitted { .. }));
            assert!(refused, "{version:?}: {resumed:?}");
            let mut again = serving.client(Some(&configs[1]));
            serving.in_time(again.list()).await.unwrap();
        }
        // For each version the watch, and the resumed session: a full handshake would have failed.
        serving.server.shutdown().await;
        let closed = serving.server.counters().connections_closed;
        assert_eq!(closed.get("refused"), Some(&4), "{closed:?}");
        assert_eq!(closed.get("failed"), None, "{closed:?}");
    });
}

fn t7_a_server_without_the_verifier_or_without_tls_admits_nobody<W: World>() {
    let alice = Identity::new("a");
    let listed = Listed::new(&[("Alice", &alice)]);
    W::block_on(async {
        let unverified = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![listed.server.certificate.clone()],
                listed.server.private_key(),
            )
            .unwrap();
        let serving: Serving<W> =
            Serving::start(|server| server.tls(unverified).clients(listed.clients.clone()));
        let mut client = serving.client(Some(&listed.client_config(Some(&alice), &TLS13)));
        let refused = serving.in_time(client.list()).await;
        let not_admitted = matches!(refused, Err(Error::NotAdmitted { .. }));
        assert!(not_admitted, "{refused:?}");

        let serving: Serving<W> = Serving::start(|server| server.clients(listed.clients.clone()));
        let refused = serving.in_time(serving.client(None).list()).await;
        assert!(
            matches!(refused, Err(Error::TlsServer { .. })),
            "{refused:?}"
        );
    });
}

fn t7_a_replaced_certificate_is_used_for_new_connections_alone<W: World>() {
    let (old, new) = (Identity::new("localhost"), Identity::new("localhost"));
    let certified = |identity: &Identity| {
        let chain = vec![identity.certificate.clone()];
        CertifiedKey::from_der(chain, identity.private_key(), &provider()).unwrap()
    };
    let certificate = ServerCertificate::new(certified(&old));
    let config = rustls::ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(certificate.clone()));
    let pinned = |server: &Identity| client_config(server, None, &TLS13);
    W::block_on(async {
        let serving: Serving<W> = Serving::start(|server| server.tls(config));
        let mut before = serving.client(Some(&pinned(&old)));
        serving.in_time(before.list()).await.unwrap();
        certificate.replace(certified(&new));
        serving.in_time(before.list()).await.unwrap();
        let mut after = serving.client(Some(&pinned(&new)));
        serving.in_time(after.list()).await.unwrap();
        let refused = serving
            .in_time(serving.client(Some(&pinned(&old))).list())
            .await;
        assert!(matches!(refused, Err(Error::Tls { .. })), "{refused:?}");
    });
}

fn t8_clients_with_a_key_are_counted_by_it_and_not_by_their_address<W: World>() {
    let (alice, bob) = (Identity::new("a"), Identity::new("b"));
    let listed = Listed::new(&[("Alice", &alice), ("Bob", &bob)]);
    W::block_on(async {
        let serving: Serving<W> = Serving::start(|server| {
            let server = server.tls(listed.server_config());
            server
                .clients(listed.clients.clone())
                .max_connections_per_ip(1)
        });
        let configs = [&alice, &bob].map(|identity| listed.client_config(Some(identity), &TLS13));
        let mut open = configs
            .each_ref()
            .map(|config| serving.client(Some(config)));
        for client in &mut open {
            serving.in_time(client.list()).await.unwrap();
        }
        // Nothing counts for the address, so that the connection is admitted until its key is known.
        let refused = serving
            .in_time(serving.client(Some(&configs[0])).list())
            .await;
        let Err(Error::Refused(cause)) = refused else {
            panic!("not refused: {refused:?}");
        };
        assert!(cause.to_string().contains("RateLimited"), "{cause}");
        for client in &mut open {
            serving.in_time(client.list()).await.unwrap();
        }
    });
}

on_each_runtime!(
    t8_clients_with_a_key_are_counted_by_it_and_not_by_their_address,
    t7_exactly_the_listed_keys_are_admitted,
    t7_removing_a_client_ends_its_connections_and_its_sessions,
    t7_a_server_without_the_verifier_or_without_tls_admits_nobody,
    t7_a_replaced_certificate_is_used_for_new_connections_alone,
);

/// A stream whose TLS the caller did has the identity that the caller gives.
#[test]
fn t7_a_stream_is_admitted_by_the_certificate_of_its_peer() {
    let (alice, mallory) = (Identity::new("a"), Identity::new("m"));
    let listed = Listed::new(&[("Alice", &alice)]);
    jtp_tokio::Tokio::block_on(async {
        let serving: Serving<jtp_tokio::Tokio> = listed.serve();
        for (identity, admitted) in [(Some(&alice), true), (Some(&mallory), false), (None, false)] {
            let (near, far) = tokio::io::duplex(1024);
            let certificates = identity.map(|identity| vec![identity.certificate.clone()]);
            let peer = match certificates {
                Some(certificates) => Peer::new(None).with_tls(TlsPeer::new(certificates)),
                None => Peer::new(None),
            };
            let server = serving.server.clone();
            let served = tokio::spawn(async move { server.serve_stream(far, peer).await });
            let mut client = jtp_tokio::Client::from_stream(near, Default::default());
            let listed = serving.in_time(client.list()).await;
            assert_eq!(listed.is_ok(), admitted, "{listed:?}");
            drop(client);
            serving.in_time(served).await.unwrap().unwrap();
        }
    });
}
