//! Who may connect, and to whom: keys and certificates, on every runtime. // T7

mod certificates;
mod clients;
mod runtimes;

use std::sync::Arc;

use jtp_driver::tls::KeyFingerprint;
use rcgen::{CertificateParams, KeyPair};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A key pair and a certificate of it.
struct Identity {
    key: KeyPair,
    certificate: CertificateDer<'static>,
}

fn params(name: &str) -> CertificateParams {
    CertificateParams::new(vec![name.to_owned()]).unwrap()
}

impl Identity {
    /// Self-signed, for this name, not a CA.
    fn new(name: &str) -> Identity {
        Identity::with(&params(name))
    }

    /// Self-signed.
    fn with(params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Identity { key, certificate }
    }

    /// With a certificate that `issuer` signed, who is described by `issuer_params`.
    fn signed_by(name: &str, issuer: &Identity, issuer_params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::from_params(issuer_params, &issuer.key);
        let certificate = params(name).signed_by(&key, &issuer).unwrap();
        Identity {
            key,
            certificate: certificate.der().clone(),
        }
    }

    fn fingerprint(&self) -> KeyFingerprint {
        KeyFingerprint::of_certificate(&self.certificate).unwrap()
    }

    fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.key.serialize_der().into())
    }
}
