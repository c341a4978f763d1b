//! Who is at the other end of a TLS connection: keys, lists of clients, and verifiers for rustls. // T7
//!
//! A key is named by its [`KeyFingerprint`], the SHA-256 of the certificate's SubjectPublicKeyInfo. The rest of the
//! certificate (names, dates, issuer) says nothing about a client here, as with the keys of SSH.
//!
//! | side | type | what it accepts |
//! |---|---|---|
//! | server | [`AuthorizedClients`] | clients whose keys are in a list, which can be replaced at any time |
//! | client | [`ServerKeyVerifier`] | servers with one of the given keys |
//! | client | [`CertificateVerifier`] | servers that one of the given CA certificates vouches for, or that present one of the given certificates |
//!
//! A server that admits the clients of a list:
//!
//! ```
//! # #[cfg(feature = "server")]
//! # fn build(
//! #     chain: Vec<rustls::pki_types::CertificateDer<'static>>,
//! #     key: rustls::pki_types::PrivateKeyDer<'static>,
//! #     provider: std::sync::Arc<rustls::crypto::CryptoProvider>,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use jtp_driver::tls::{AuthorizedClients, ClientList};
//!
//! let list: ClientList = "\
//! ## gallery
//! sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 alice's laptop
//! "
//! .parse()?;
//! let clients = AuthorizedClients::new(list);
//! let config = rustls::ServerConfig::builder_with_provider(provider.clone())
//!     .with_safe_default_protocol_versions()?
//!     .with_client_cert_verifier(clients.verifier(&provider))
//!     .with_single_cert(chain, key)?;
//! // An adapter's builder: `builder.tls(config).clients(clients.clone())`.
//!
//! // Later: ends the connections of clients that are no longer listed.
//! let changes = clients.replace(ClientList::default());
//! assert_eq!(changes.removed[0].name(), "alice's laptop");
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "client")]
mod certificates;
mod client_stream;
#[cfg(feature = "server")]
mod clients;
mod key;
mod peer;
#[cfg(feature = "client")]
mod pin;
#[cfg(feature = "server")]
mod server_certificate;
#[cfg(any(feature = "client", feature = "server"))]
mod signatures;

#[cfg(feature = "client")]
pub use certificates::{CertificateVerifier, UnusableCertificate};
pub use client_stream::connect;
#[cfg(feature = "server")]
pub use clients::{AuthorizedClients, ClientChanges, ClientIdentity, ClientList, ClientListError};
pub use key::{InvalidFingerprint, KeyFingerprint};
pub use peer::TlsPeer;
#[cfg(feature = "client")]
pub use pin::{ServerKeyVerifier, UnexpectedKey};
#[cfg(feature = "server")]
pub use server_certificate::ServerCertificate;
