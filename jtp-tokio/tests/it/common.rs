//! Servers over TCP, and a certificate.

use std::sync::Arc;

use jtp_tokio::Server;
use rustls::ServerConfig;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::net::TcpListener;

use crate::Result;

/// Serves on a free port, until the end of the test's runtime.
pub(crate) async fn start(server: &Server) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let server = server.clone();
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    Ok(address)
}

/// A server's configuration with a new certificate, which is returned too.
pub(crate) fn certified() -> Result<(ServerConfig, CertificateDer<'static>)> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let certificate = made.cert.der().clone();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.into())?;
    Ok((config, certificate))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
