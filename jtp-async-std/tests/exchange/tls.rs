//! TLS, and plain TCP and TLS on one port.

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as provider;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as provider;

use futures_rustls::TlsConnector;
use rustls::pki_types::ServerName;

use super::super::adapter::ServerBuilder;
use super::super::adapter::server::PlainPolicy;
use super::*;

struct Tls {
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
}

fn tls() -> Tls {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(provider::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Tls {
        server: Arc::new(server),
        client: Arc::new(client),
    }
}

fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

fn with_tls(tls: &Tls, count: u32) -> ServerBuilder {
    Server::builder(store(count)).tls(Arc::clone(&tls.server))
}

#[test]
fn t1_t2_one_port_serves_tls_and_plain_loopback() -> Result {
    block_on(async {
        let tls = tls();
        let running = RunningServer::start(with_tls(&tls, 100).build()).await;
        let mut secure = running
            .client()
            .tls(Arc::clone(&tls.client), localhost())
            .build();
        assert_eq!(collect(&mut secure.list_and_get()).await?.len(), 100);
        let mut plain = running.client().build();
        assert_eq!(collect(&mut plain.list_and_get()).await?.len(), 100);
        let mut untrusting = {
            let roots = rustls::RootCertStore::empty();
            let provider = Arc::new(provider::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(roots)
                .with_no_client_auth();
            running.client().tls(config, localhost()).build()
        };
        let refused = untrusting.list().await.unwrap_err();
        assert!(matches!(refused, Error::Tls { .. }), "{refused}");
        drop((secure, plain, untrusting));
        running.stop().await;
        Ok(())
    })
}

#[test]
fn t2_plain_and_tls_mismatch_is_a_specific_error() -> Result {
    block_on(async {
        let tls = tls();
        let running =
            RunningServer::start(with_tls(&tls, 1).plain(PlainPolicy::Refuse).build()).await;
        let refused = running.client().build().list().await.unwrap_err();
        assert!(matches!(refused, Error::TlsServer { .. }), "{refused}");
        running.stop().await;

        let running = RunningServer::start(Server::builder(store(1)).build()).await;
        let mut client = running
            .client()
            .tls(Arc::clone(&tls.client), localhost())
            .build();
        let refused = client.list().await.unwrap_err();
        assert!(matches!(refused, Error::PlainServer { .. }), "{refused}");
        drop(client);
        running.stop().await;
        Ok(())
    })
}

#[test]
fn t4_tls_handshake_timeouts() -> Result {
    block_on(async {
        let tls = tls();
        let running = RunningServer::start(
            with_tls(&tls, 1)
                .handshake_timeout(SHORT)
                .first_byte_timeout(SHORT)
                .build(),
        )
        .await;
        for sent in [&[][..], &[0x16, 3, 1]] {
            let mut stream = TcpStream::connect(&running.address).await?;
            stream.write_all(sent).await?;
            let mut got = Vec::new();
            let _ = stream.read_to_end(&mut got).await;
            assert!(got.is_empty());
        }
        running.stop().await;
        Ok(())
    })
}

#[test]
fn s11_tls_peer_receives_close_notify_while_the_server_lingers() -> Result {
    let tls = tls();
    let hour = Duration::from_secs(3600);
    let config = ServerConfig::new()
        .with_linger_timeout(hour)
        .with_linger_bytes(u64::MAX);
    block_on(async {
        let running = RunningServer::start(with_tls(&tls, 1).config(config).build()).await;
        let stream = TcpStream::connect(&running.address).await?;
        let mut stream = TlsConnector::from(tls.client)
            .connect(localhost(), stream)
            .await?;
        stream.write_all(&[255, 0]).await?;
        let mut got = Vec::new();
        // Fails without close_notify.
        stream.read_to_end(&mut got).await?;
        assert_eq!(got[..5], *b"JTPE\x04");
        drop(stream);
        running.stop().await;
        Ok(())
    })
}
