//! Messages about TLS handshakes and the server's certificate.

use std::io;

use rustls::pki_types::ServerName;
use rustls::{AlertDescription, CertificateError};

use super::{Message, seconds};
use crate::certificates::is_version_1;
use crate::client_args::ClientArgs;
use crate::connect::trusted_file;
use crate::escape::{escaped, escaped_chain, shortened};
use crate::exit::Exit;
use crate::host_name::{HostName, listed};

pub(super) fn message(source: &io::Error, args: &ClientArgs) -> Message {
    let at = &args.addr;
    let message = |what: String| Message::new(Exit::Tls, what);
    let inner = source
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match inner {
        Some(rustls::Error::InvalidCertificate(error)) => certificate_message(error, args),
        Some(rustls::Error::AlertReceived(AlertDescription::NoApplicationProtocol)) => {
            message(format!("{at} speaks TLS but not JTP")).with_hint("check --addr")
        }
        Some(rustls::Error::AlertReceived(AlertDescription::CertificateRequired)) => message(
            format!("{at} requires a client certificate, which this program cannot present"),
        ),
        _ if source.kind() == io::ErrorKind::TimedOut => {
            let after = if args.connect_timeout.is_zero() {
                String::new()
            } else {
                format!(" after {}", seconds(args.connect_timeout))
            };
            message(format!("TLS handshake with {at} timed out{after}"))
                .with_hint("if the server does not speak TLS, use --plain")
        }
        _ if source.kind() == io::ErrorKind::UnexpectedEof => message(format!(
            "TLS handshake with {at} failed: the server closed the connection"
        ))
        .with_hint("if it does not speak TLS, use --plain"),
        _ => message(format!(
            "TLS handshake with {at} failed: {}",
            escaped_chain(source)
        )),
    }
}

fn certificate_message(error: &CertificateError, args: &ClientArgs) -> Message {
    let message = |what: &str| {
        Message::new(
            Exit::Tls,
            format!("the certificate of {} {what}", args.addr),
        )
    };
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            let by = match trusted_file(args) {
                Some(path) => path.display().to_string(),
                None => "this system".to_owned(),
            };
            message(&format!("is not trusted by {by}"))
                .with_hint("pass the server's own certificate with --cert")
        }
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
        error => message(&format!(
            "was rejected: {}",
            shortened(&error.to_string(), 1_000)
        )),
    }
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
