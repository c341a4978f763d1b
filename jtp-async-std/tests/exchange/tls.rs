//! TLS, and plain TCP and TLS on one port.

#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as provider;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as provider;

use futures_rustls::TlsConnector;
use rustls::pki_types::ServerName;

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

#[test]
fn t1_t2_one_port_serves_tls_and_plain_loopback() -> Result {
    let tls = tls();
    let store = store(40);
    block_on(async {
        let server = Server::builder(Arc::clone(&store)).tls(tls.server).build();
        let running = RunningServer::start(server).await;
        let secure = running.client().tls(tls.client, localhost());
        requests(secure.build(), &store).await?;
        requests(running.client().build(), &store).await?;
        running.stop().await;
        Ok(())
    })
}

#[test]
fn s11_tls_peer_receives_close_notify_while_the_server_lingers() -> Result {
    let tls = tls();
    block_on(async {
        let server = Server::builder(store(1))
            .tls(tls.server)
            .config(lingering());
        let running = RunningServer::start(server.build()).await;
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
