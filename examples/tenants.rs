//! One TLS server, several tenants: each client sees the catalog that belongs to its certificate.
//!
//! The server requires a client certificate that a CA of your own has issued. The SHA-256 fingerprint of the certificate
//! names the tenant: `openssl x509 -noout -fingerprint -sha256 -in alice.pem` prints it. Every request of that client is
//! answered from the tenant's folder. A certificate that the CA has issued, but that belongs to no tenant, is refused
//! with a message; a client without a certificate of the CA does not get through the TLS handshake.
//!
//! ```console
//! $ cargo run --example tenants -- 127.0.0.1:8443 server.pem server.key ca.pem \
//!       3F:A0:…:17=photos/alice 9C:11:…:E2=photos/bob
//! ```

use std::collections::HashMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use aws_lc_rs::digest;
use jtp_examples::{Result, exit};
use jtp_store::DirStore;
use jtp_tokio::rustls::crypto::aws_lc_rs as provider;
use jtp_tokio::rustls::pki_types::pem::PemObject;
use jtp_tokio::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use jtp_tokio::rustls::server::WebPkiClientVerifier;
use jtp_tokio::rustls::{RootCertStore, ServerConfig};
use jtp_tokio::server::{ErrorCode, PlainPolicy};
use jtp_tokio::store::{ImageStore, MemoryStore};
use jtp_tokio::{Decision, Peer, Request, Server};
use tokio::net::TcpListener;

/// The SHA-256 of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u8; 32]);

impl Fingerprint {
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Fingerprint {
        let hash = digest::digest(&digest::SHA256, certificate);
        let bytes = hash.as_ref().try_into();
        Fingerprint(bytes.expect("SHA-256 has 32 bytes"))
    }

    /// Parses hexadecimal digits, with or without colons.
    pub(crate) fn parse(text: &str) -> Option<Fingerprint> {
        let digits = text.chars().filter(|&digit| digit != ':');
        let digits: Option<Vec<u8>> = digits.map(|c| u8::try_from(c.to_digit(16)?).ok()).collect();
        let digits = digits?;
        let mut bytes = [0; 32];
        if digits.len() != 2 * bytes.len() {
            return None;
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = pair[0] << 4 | pair[1];
        }
        Some(Fingerprint(bytes))
    }
}

/// Which store belongs to which certificate.
#[derive(Default)]
pub(crate) struct Tenants(HashMap<Fingerprint, Arc<dyn ImageStore>>);

impl Tenants {
    pub(crate) fn add(&mut self, fingerprint: Fingerprint, store: Arc<dyn ImageStore>) {
        self.0.insert(fingerprint, store);
    }

    /// The store of a client. Asynchronous, since a larger service would ask a database here.
    async fn store_of(&self, peer: &Peer) -> Option<Arc<dyn ImageStore>> {
        // rustls has verified the chain. The client's own certificate is the first one.
        let certificate = peer.tls.as_ref()?.certificates.first()?;
        self.0.get(&Fingerprint::of(certificate)).cloned()
    }

    async fn decide(&self, request: Request) -> Decision {
        match self.store_of(request.peer()).await {
            Some(store) => request.accept_with(store),
            // The code for a request that is denied: it is final, so no client tries again.
            None => request.refuse(
                ErrorCode::InvalidRequest,
                "this certificate has no access to images on this server",
            ),
        }
    }
}

/// A server that answers each request from the store of its tenant.
pub(crate) fn server(tls: ServerConfig, tenants: Tenants) -> Server {
    let tenants = Arc::new(tenants);
    // The server's own store is never used: no request is accepted without a tenant's store.
    Server::builder(MemoryStore::new())
        .tls(tls)
        .plain(PlainPolicy::Refuse)
        .on_request(move |request| {
            let tenants = Arc::clone(&tenants);
            async move { tenants.decide(request).await }
        })
        .build()
}

/// TLS that requires a client certificate issued by one of `client_cas`.
pub(crate) fn server_tls(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_cas: RootCertStore,
) -> Result<ServerConfig> {
    let provider = Arc::new(provider::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(client_cas), Arc::clone(&provider))
            .build()?;
    Ok(ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(Path::new(path));
    let read = read.and_then(Iterator::collect);
    read.map_err(|error| format!("{path}: {error}").into())
}

async fn run(args: &[String]) -> Result {
    let usage = "usage: tenants ADDRESS CERT.pem KEY.pem CLIENT-CA.pem FINGERPRINT=FOLDER…";
    let [address, chain, key, client_ca, tenant_args @ ..] = args else {
        return Err(usage.into());
    };
    let mut tenants = Tenants::default();
    for tenant in tenant_args {
        let (fingerprint, folder) = tenant.split_once('=').ok_or(usage)?;
        let fingerprint = Fingerprint::parse(fingerprint)
            .ok_or_else(|| format!("{fingerprint}: no SHA-256 fingerprint"))?;
        tenants.add(fingerprint, Arc::new(DirStore::open_folder(folder)?));
    }
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{key}: {error}"))?;
    let mut client_cas = RootCertStore::empty();
    for ca in certificates(client_ca)? {
        client_cas.add(ca)?;
    }
    let server = server(server_tls(certificates(chain)?, key, client_cas)?, tenants);

    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let interrupted = async { drop(tokio::signal::ctrl_c().await) };
    server.serve(listener, interrupted).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    exit(run(&args).await)
}
