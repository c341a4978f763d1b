//! Messages about TLS handshakes and the server's certificate.

use std::io;

use jtp_tokio::tls::{KeyFingerprint, UnexpectedKey};
use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};

use super::{Message, seconds};
use crate::client_args::ClientArgs;
use crate::endpoint::Endpoint;
use crate::escape::{escaped, escaped_chain, shortened};
use crate::exit::Exit;
use crate::tls::host_name::{HostName, listed};
use crate::tls::identity::Identity;
use crate::tls::trust::Trust;
use crate::tls::{certificate_error, is_version_1, is_webpki};

pub(super) fn message(source: &io::Error, args: &ClientArgs, at: &Endpoint) -> Message {
    let message = |what: String| Message::new(Exit::Tls, what);
    let inner = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => certificate_message(error, args, at),
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            message(format!("{at} speaks TLS but not JTP"))
                .with_hint(format!("check {}", args.servers.flag()))
        }
        Some(rustls::Error::AlertReceived(alert)) => alert_message(*alert, args, at),
        _ if source.kind() == io::ErrorKind::TimedOut => {
            let after = if args.connect_timeout.is_zero() {
                String::new()
            } else {
                format!(" after {}", seconds(args.connect_timeout))
            };
            message(format!("TLS handshake with {at} timed out{after}")).with_hint(format!(
                "if the server does not speak TLS, use {}",
                at.plain_flag()
            ))
        }
        _ if source.kind() == io::ErrorKind::UnexpectedEof => message(format!(
            "TLS handshake with {at} failed: the server closed the connection"
        ))
        .with_hint(format!("if it does not speak TLS, use {}", at.plain_flag())),
        _ => message(format!(
            "TLS handshake with {at} failed: {}",
            escaped_chain(source)
        )),
    }
}

/// The server ended the handshake, or a TLS 1.3 connection after the client's part of it.
fn alert_message(alert: AlertDescription, args: &ClientArgs, at: &Endpoint) -> Message {
    let failed = || {
        Message::new(
            Exit::Tls,
            format!("TLS handshake with {at} failed: the server sent the alert {alert:?}"),
        )
    };
    match (alert, &args.identity) {
        (AlertDescription::CertificateRequired, None) => {
            Message::new(Exit::Tls, format!("{at} requires a client certificate"))
                .with_hint("pass one with --identity")
        }
        // What a server with TLS 1.2 sends instead.
        (AlertDescription::HandshakeFailure, None) => {
            failed().with_hint("if it requires a client certificate, pass one with --identity")
        }
        (
            AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::CertificateRequired
            | AlertDescription::UnknownCA,
            Some(path),
        ) => Message::new(
            Exit::Tls,
            format!(
                "{at} rejected the certificate in {} with the alert {alert:?}",
                path.display()
            ),
        ),
        _ => failed(),
    }
}

/// The server does not admit the client's key. // T7
pub(super) fn not_admitted(args: &ClientArgs, at: &Endpoint) -> Message {
    let message = Message::new(Exit::Tls, format!("{at} does not admit this client"));
    let Some(path) = &args.identity else {
        return message.with_hint("it may require a client certificate: pass one with --identity");
    };
    match Identity::read(path) {
        Ok(identity) => message.with_hint(format!(
            "its --clients file needs the line: {}",
            identity.line()
        )),
        Err(_) => message,
    }
}

fn certificate_message(error: &CertificateError, args: &ClientArgs, at: &Endpoint) -> Message {
    let trust = Trust::of(args);
    let with = |what: &str| Message::new(Exit::Tls, format!("the certificate of {at} {what}"));
    let message = |what: &str| with(&format!("{what} (verified with {trust})"));
    let untrusted = || {
        with(&format!("is not trusted by {trust}"))
            .with_hint("pass the server's own certificate with --cert, or its key with --pin")
    };
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => untrusted(),
        // A self-signed one of `openssl req -x509` is that of a CA.
        error if is_webpki(error, &webpki::Error::CaUsedAsEndEntity) => untrusted(),
        CertificateError::NotValidForName => message("is for another name")
            .with_hint("pass a name of its subjectAltName with --server-name"),
        CertificateError::NotValidForNameContext {
            expected,
            presented,
        } => {
            let (what, hint) = name_mismatch(expected, presented);
            message(&what).with_hint(hint)
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            message("has expired").with_hint("the server needs a new one")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            message("is not valid yet").with_hint("check this machine's clock")
        }
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            message("is not for servers: its extendedKeyUsage lacks serverAuth")
                .with_hint("the server needs a new one")
        }
        error if is_version_1(error) => {
            message("is of X.509 version 1, which has no subjectAltName")
                .with_hint("the server needs a new one of version 3")
        }
        error => match (unexpected_key(error), &args.pin[..]) {
            (Some(presented), pins @ [_, ..]) => unexpected_key_message(presented, pins, at),
            _ => message(&format!(
                "was rejected: {}",
                shortened(&certificate_error(error), 1_000)
            )),
        },
    }
}

/// The key that the server has in place of a pinned one.
fn unexpected_key(error: &CertificateError) -> Option<KeyFingerprint> {
    let CertificateError::Other(other) = error else {
        return None;
    };
    let unexpected: &UnexpectedKey = other.0.downcast_ref()?;
    Some(unexpected.presented)
}

fn unexpected_key_message(
    presented: KeyFingerprint,
    pins: &[KeyFingerprint],
    at: &Endpoint,
) -> Message {
    let pins: Vec<String> = pins.iter().map(ToString::to_string).collect();
    Message::new(
        Exit::Tls,
        format!(
            "the key of {at} is {presented}, but --pin expects {}",
            pins.join(" or ")
        ),
    )
    .with_hint("it is another server, or has a new key: ask its operator before you pin that one")
}

/// Why the names of a certificate do not match, and what to do.
fn name_mismatch(expected: &ServerName<'_>, presented: &[String]) -> (String, String) {
    let names = HostName::all(presented);
    let (addresses, usable): (Vec<_>, Vec<_>) = names
        .into_iter()
        .partition(HostName::is_address_as_dns_name);
    let hint = match &usable[..] {
        [] => {
            let kind = match expected {
                ServerName::IpAddress(_) => "IP",
                _ => "DNS",
            };
            let what = if presented.is_empty() {
                "has no subjectAltName, and its common name (CN) alone is not accepted".to_owned()
            } else if addresses.is_empty() {
                "has no DNS name and no IP address in its subjectAltName".to_owned()
            } else {
                format!("has an IP address as a DNS name: {}", listed(&addresses))
            };
            let hint = format!(
                "the server needs a new one with subjectAltName={kind}:{}",
                expected.to_str()
            );
            return (what, hint);
        }
        [HostName::Dns(name)] if name.starts_with("*.") => format!(
            "pass a name that it covers with --server-name, such as www{}",
            escaped(&name[1..])
        ),
        [HostName::Dns(_)] => "pass that name with --server-name".to_owned(),
        [HostName::Ip(_)] => "pass that address with --server-name".to_owned(),
        _ => "pass one of them with --server-name".to_owned(),
    };
    (format!("is for {}", listed(&usable)), hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    fn alert(alert: AlertDescription, flags: &[&str]) -> String {
        let flags = [&["client", "--addr", "host:1", "--tls"], flags].concat();
        let args = ClientArgs::parse_from(flags);
        let source = io::Error::other(rustls::Error::AlertReceived(alert));
        let Message { exit, what, hint } = message(&source, &args, args.servers.first());
        assert_eq!(exit, Exit::Tls);
        hint.map_or(what.clone(), |hint| format!("{what}; {hint}"))
    }

    #[test]
    fn t7_alerts_name_the_identity_or_the_lack_of_it() {
        use AlertDescription::{
            BadCertificate, CertificateRequired, DecodeError, HandshakeFailure, UnknownCA,
        };

        let none = &[][..];
        let own = &["--identity", "me.pem"][..];
        for (description, flags, text) in [
            (
                CertificateRequired,
                none,
                "requires a client certificate; pass one with --identity",
            ),
            (
                HandshakeFailure,
                none,
                "HandshakeFailure; if it requires a client certificate, pass one with --identity",
            ),
            (
                HandshakeFailure,
                own,
                " failed: the server sent the alert HandshakeFailure",
            ),
            (
                DecodeError,
                own,
                " failed: the server sent the alert DecodeError",
            ),
            (
                BadCertificate,
                none,
                " failed: the server sent the alert BadCertificate",
            ),
            (
                BadCertificate,
                own,
                "host:1 rejected the certificate in me.pem with the alert BadCertificate",
            ),
            (
                UnknownCA,
                own,
                "host:1 rejected the certificate in me.pem with the alert UnknownCA",
            ),
        ] {
            let message = alert(description, flags);
            assert!(message.ends_with(text), "{message}");
        }
    }
}
