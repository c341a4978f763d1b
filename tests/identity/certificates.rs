//! The verifiers of clients: trusted certificates, and pinned keys.

use std::sync::Arc;

use jtp_driver::tls::{
    AuthorizedClients, CertificateVerifier, ClientList, KeyFingerprint, ServerKeyVerifier,
    UnexpectedKey,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyUsagePurpose};
use rustls::client::danger::ServerCertVerifier;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{
    CertificateError, ClientConfig, ClientConnection, ConnectionCommon, Error, ServerConfig,
    ServerConnection, SideData,
};

use super::{Identity, params, provider};

fn verify(
    trusted: &[&Identity],
    chain: &[&CertificateDer<'static>],
    name: &str,
) -> Result<(), Error> {
    let trusted = trusted.iter().map(|identity| identity.certificate.clone());
    let verifier = CertificateVerifier::new(trusted, &provider()).unwrap();
    let name = ServerName::try_from(name).unwrap();
    let intermediates: Vec<_> = chain[1..].iter().map(|&issuer| issuer.clone()).collect();
    verifier
        .verify_server_cert(chain[0], &intermediates, &name, &[], UnixTime::now())
        .map(drop)
}

fn ca(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

/// The ways in which a certificate is not that of a CA.
fn no_authorities() -> [CertificateParams; 3] {
    let (absent, mut explicit, mut may_not_sign) =
        (params("a.example"), params("a.example"), ca("a.example"));
    explicit.is_ca = IsCa::ExplicitNoCa;
    may_not_sign.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    [absent, explicit, may_not_sign]
}

#[test]
fn t7_a_trusted_certificate_that_is_no_ca_vouches_for_itself_alone() {
    for issuer_params in no_authorities() {
        let server = Identity::with(&issuer_params);
        verify(&[&server], &[&server.certificate], "a.example").unwrap();

        let forged = Identity::signed_by("bank.example", &server, &issuer_params);
        for chain in [
            &[&forged.certificate][..],
            &[&forged.certificate, &server.certificate],
        ] {
            let error = verify(&[&server], chain, "bank.example").unwrap_err();
            let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
            assert_eq!(error, unknown, "{issuer_params:?}");
        }
        // Beside a CA of the list as well.
        let authority = Identity::with(&ca("ca.example"));
        verify(
            &[&server, &authority],
            &[&forged.certificate],
            "bank.example",
        )
        .unwrap_err();
    }
}

#[test]
fn t7_a_trusted_ca_vouches_for_what_it_signed_and_for_itself() {
    let authority_params = ca("ca.example");
    let authority = Identity::with(&authority_params);
    let server = Identity::signed_by("a.example", &authority, &authority_params);
    verify(&[&authority], &[&server.certificate], "a.example").unwrap();
    verify(&[&authority], &[&authority.certificate], "ca.example").unwrap();
    verify(&[&authority], &[&server.certificate], "b.example").unwrap_err();
    // A server's certificate that is no CA's does not extend the chain.
    let forged = Identity::signed_by("bank.example", &server, &params("a.example"));
    let chain = [&forged.certificate, &server.certificate];
    verify(&[&authority], &chain, "bank.example").unwrap_err();
    // A certificate in the list whose issuer is not in it.
    verify(&[&server], &[&server.certificate], "a.example").unwrap();
}

#[test]
fn t7_only_the_exact_bytes_match() {
    let server_params = params("a.example");
    let server = Identity::with(&server_params);
    // The same key and the same names, but another serial number.
    let again = server_params.self_signed(&server.key).unwrap();
    assert_ne!(*again.der(), server.certificate);
    verify(&[&server], &[again.der()], "a.example").unwrap_err();
    verify(&[], &[&server.certificate], "a.example").unwrap_err();
}

#[test]
fn t7_a_trusted_certificate_is_checked_for_dates_and_name() {
    let error = |params: &CertificateParams, name: &str| {
        let server = Identity::with(params);
        match verify(&[&server], &[&server.certificate], name) {
            Err(Error::InvalidCertificate(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    for mut params in [params("a.example"), ca("a.example")] {
        let wrong_name = CertificateError::NotValidForNameContext {
            expected: ServerName::try_from("b.example").unwrap(),
            presented: vec!["DnsName(\"a.example\")".to_owned()],
        };
        assert_eq!(error(&params, "b.example"), wrong_name);

        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let expired = error(&params, "a.example");
        assert!(
            matches!(expired, CertificateError::ExpiredContext { .. }),
            "{expired}"
        );

        params.not_before = rcgen::date_time_ymd(4000, 1, 1);
        params.not_after = rcgen::date_time_ymd(4001, 1, 1);
        let early = error(&params, "a.example");
        assert!(
            matches!(early, CertificateError::NotValidYetContext { .. }),
            "{early}"
        );
    }
}

#[test]
fn unusable_certificates_are_reported_by_their_position() {
    let good = Identity::new("a.example").certificate;
    let list = [good, CertificateDer::from(vec![0x30, 0])];
    let error = CertificateVerifier::new(list, &provider()).unwrap_err();
    assert_eq!(error.number, 2);
}

#[test]
fn t7_a_pinned_key_is_accepted_whatever_else_the_certificate_says() {
    let mut params = params("a.example");
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let server = Identity::with(&params);
    let other = Identity::new("a.example");
    let name = ServerName::try_from("b.example").unwrap();
    let verifier = ServerKeyVerifier::new([server.fingerprint()], &provider());
    let verify = |certificate| {
        verifier
            .verify_server_cert(certificate, &[], &name, &[], UnixTime::now())
            .map(drop)
    };
    verify(&server.certificate).unwrap();
    let Error::InvalidCertificate(CertificateError::Other(error)) =
        verify(&other.certificate).unwrap_err()
    else {
        panic!("another error");
    };
    let error: &UnexpectedKey = error.0.downcast_ref().unwrap();
    assert_eq!(error.presented, other.fingerprint());
    verify(&CertificateDer::from(vec![0x30])).unwrap_err();
}

#[test]
fn t7_a_fingerprint_is_that_of_the_public_key_alone() {
    let identity = Identity::new("a.example");
    let spki = rcgen::PublicKeyData::subject_public_key_info(&identity.key);
    assert_eq!(identity.fingerprint(), KeyFingerprint::of_public_key(&spki));
}

/// Passes what one side has to say to the other.
fn pass<A, B: SideData>(
    from: &mut ConnectionCommon<A>,
    to: &mut ConnectionCommon<B>,
) -> Result<(), Error> {
    let mut sent = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut sent).unwrap();
    }
    let mut rest = sent.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets()?;
    }
    Ok(())
}

/// A handshake in memory. The error is that of the first side that fails.
fn handshake(mut client: ClientConnection, mut server: ServerConnection) -> Result<(), Error> {
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server)?;
        pass(&mut server, &mut client)?;
    }
    Ok(())
}

#[test]
fn t7_a_certificate_is_of_no_use_without_its_key() {
    let [server, client, other] = ["localhost", "client", "other"].map(Identity::new);
    let presented = |identity: &Identity, key: &Identity| {
        let key = provider().key_provider.load_private_key(key.private_key());
        let chain = vec![identity.certificate.clone()];
        Arc::new(SingleCertAndKey::from(CertifiedKey::new(
            chain,
            key.unwrap(),
        )))
    };
    let clients = AuthorizedClients::new(ClientList::from_iter([(client.fingerprint(), "a")]));
    for version in [&TLS12, &TLS13] {
        let result = |server_key: &Identity, client_key: &Identity| {
            let config = ServerConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .with_client_cert_verifier(clients.verifier(&provider()))
                .with_cert_resolver(presented(&server, server_key));
            let at_server = ServerConnection::new(Arc::new(config)).unwrap();
            let verifier = ServerKeyVerifier::new([server.fingerprint()], &provider());
            let config = ClientConfig::builder_with_provider(provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(verifier))
                .with_client_cert_resolver(presented(&client, client_key));
            let name = ServerName::try_from("localhost").unwrap();
            let at_client = ClientConnection::new(Arc::new(config), name).unwrap();
            handshake(at_client, at_server)
        };
        result(&server, &client).unwrap();
        let forged = Err(CertificateError::BadSignature.into());
        assert_eq!(result(&other, &client), forged, "{version:?}");
        assert_eq!(result(&server, &other), forged, "{version:?}");
    }
}
