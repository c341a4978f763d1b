//! TLS, and plain TCP and TLS on one port.

use std::sync::{Arc, Mutex};

use futures_rustls::TlsConnector;
use jtp_async_std::smol::Server;
#[cfg(feature = "aws-lc-rs")]
use rustls::crypto::aws_lc_rs as provider;
#[cfg(not(feature = "aws-lc-rs"))]
use rustls::crypto::ring as provider;
use rustls::pki_types::{PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use smol::io::{AsyncReadExt, AsyncWriteExt};
use smol::net::TcpStream;

use crate::Result;
use crate::sockets::{RunningServer, fetch_all, large, lingering};

fn configs() -> Result<(ServerConfig, Arc<ClientConfig>)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let provider = Arc::new(provider::default_provider());
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())?;
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone())?;
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((server, Arc::new(client)))
}

#[test]
fn s11_t1_t2_one_port_serves_tls_and_plain_loopback_and_lingers_after_close_notify() -> Result {
    let (server, client) = configs()?;
    let localhost = ServerName::try_from("localhost")?;
    smol::block_on(async {
        let names = Arc::new(Mutex::new(Vec::new()));
        let requested = Arc::clone(&names);
        let server = Server::builder(large())
            .tls(server)
            .config(lingering())
            .on_request(move |request| {
                let tls = request.peer().tls.as_ref();
                let name = tls.map(|tls| (tls.server_name.clone(), tls.certificates.len()));
                requested.lock().unwrap().push(name);
                async { request.accept() }
            });
        let running = RunningServer::start(server.build()).await?;
        let secure = running.client().tls(Arc::clone(&client), localhost.clone());
        assert_eq!(fetch_all(secure).await?, 1);
        assert_eq!(fetch_all(running.client()).await?, 1);
        let expected = [Some((Some("localhost".to_owned()), 0)), None];
        assert_eq!(*names.lock().unwrap(), expected);
        let stream = TcpStream::connect(&running.address).await?;
        let connecting = TlsConnector::from(client).connect(localhost, stream);
        let mut stream = connecting.await?;
        stream.write_all(&[255, 0]).await?;
        let mut got = Vec::new();
        // Fails without close_notify.
        stream.read_to_end(&mut got).await?;
        assert_eq!(got[..5], *b"JTPE\x04");
        drop(stream);
        running.stop().await
    })
}
