//! A certificate, and clients that trust it.

use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName};

/// A server's configuration and its certificate.
pub(crate) struct Tls {
    pub(crate) server: Arc<rustls::ServerConfig>,
    certificate: CertificateDer<'static>,
}

/// Created once per run.
pub(crate) fn tls() -> &'static Tls {
    static TLS: OnceLock<Tls> = OnceLock::new();
    TLS.get_or_init(|| Tls::of(vec!["localhost".to_owned()]))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

impl Tls {
    /// A server with these names.
    pub(crate) fn of(names: Vec<String>) -> Tls {
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let certificate = made.cert.der().clone();
        let server = rustls::ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .unwrap();
        Tls {
            server: Arc::new(server),
            certificate,
        }
    }

    /// A client configuration that trusts the certificate and offers these protocols, with this version of TLS.
    pub(crate) fn client_with(
        &self,
        alpn: &[&[u8]],
        version: &'static rustls::SupportedProtocolVersion,
    ) -> Arc<rustls::ClientConfig> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let mut config = rustls::ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        Arc::new(config)
    }

    /// The default client configuration.
    pub(crate) fn client(&self) -> Arc<rustls::ClientConfig> {
        self.client_with(&[b"jtp/1"], &rustls::version::TLS13)
    }
}

pub(crate) fn localhost() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}
