//! What a PEM section or a DER file contains.

use std::borrow::Cow;
use std::fmt;

/// The kind of a PEM section or a DER file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Certificate,
    PrivateKey,
    EncryptedPrivateKey,
    OpenSshPrivateKey,
    PublicKey,
    EcParameters,
    CertificateRequest,
    Pkcs12,
    Other,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Certificate => "a certificate",
            Kind::PrivateKey => "a private key",
            Kind::EncryptedPrivateKey => "an encrypted private key",
            Kind::OpenSshPrivateKey => "a private key in OpenSSH format",
            Kind::PublicKey => "a public key",
            Kind::EcParameters => "only EC parameters",
            Kind::CertificateRequest => "a certificate request",
            Kind::Pkcs12 => "a PKCS#12 archive",
            Kind::Other => "something else",
        })
    }
}

/// A section of a PEM file: its label, and its bytes from the BEGIN line to the END line, or to the end of the file.
#[derive(Debug)]
pub(super) struct Section<'a> {
    pub(super) label: Cow<'a, str>,
    pub(super) bytes: &'a [u8],
}

impl Section<'_> {
    pub(super) fn kind(&self) -> Kind {
        match &*self.label {
            "CERTIFICATE" => Kind::Certificate,
            "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" if !self.is_encrypted() => {
                Kind::PrivateKey
            }
            "ENCRYPTED PRIVATE KEY" | "PRIVATE KEY" | "RSA PRIVATE KEY" | "EC PRIVATE KEY" => {
                Kind::EncryptedPrivateKey
            }
            "OPENSSH PRIVATE KEY" => Kind::OpenSshPrivateKey,
            "PUBLIC KEY" | "RSA PUBLIC KEY" => Kind::PublicKey,
            "EC PARAMETERS" => Kind::EcParameters,
            "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Kind::CertificateRequest,
            _ => Kind::Other,
        }
    }

    /// Whether the section has the header of traditional encrypted keys (RFC 1421).
    fn is_encrypted(&self) -> bool {
        self.bytes
            .split(|b| matches!(b, b'\n' | b'\r'))
            .any(|line| line.starts_with(b"Proc-Type:") && line.ends_with(b"ENCRYPTED"))
    }
}

/// The sections of a PEM file, in order. Text outside of them is skipped.
pub(super) fn sections(file: &[u8]) -> Vec<Section<'_>> {
    let mut sections = Vec::new();
    let mut at = 0;
    let mut open: Option<(&[u8], usize)> = None;
    for line in file.split_inclusive(|b| matches!(b, b'\n' | b'\r')) {
        let start = at;
        at += line.len();
        let text = line.trim_ascii_end();
        // Editors on Windows write a byte order mark.
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        let start = start + (line.trim_ascii_end().len() - text.len());
        if let Some(label) = text
            .strip_prefix(b"-----BEGIN ")
            .and_then(|rest| rest.strip_suffix(b"-----"))
        {
            if let Some((label, from)) = open.replace((label, start)) {
                sections.push(section(label, &file[from..start]));
            }
        } else if text.starts_with(b"-----END ") {
            if let Some((label, from)) = open.take() {
                sections.push(section(label, &file[from..at]));
            }
        }
    }
    if let Some((label, from)) = open {
        sections.push(section(label, &file[from..]));
    }
    sections
}

fn section<'a>(label: &'a [u8], bytes: &'a [u8]) -> Section<'a> {
    Section {
        label: String::from_utf8_lossy(label),
        bytes,
    }
}

/// What a DER file contains, by the tags of its first elements. `None` if it is not DER.
pub(super) fn of_der(file: &[u8]) -> Option<Kind> {
    const INTEGER: u8 = 0x02;
    const BIT_STRING: u8 = 0x03;
    const OCTET_STRING: u8 = 0x04;
    const OBJECT_IDENTIFIER: u8 = 0x06;
    const SEQUENCE: u8 = 0x30;
    /// The version of a certificate; version 1 is omitted, and a serial number follows.
    const VERSION: u8 = 0xa0;

    let (SEQUENCE, outer, _) = element(file)? else {
        return None;
    };
    let (first, inner, rest) = element(outer)?;
    let kind = match first {
        INTEGER if inner == [3] => Kind::Pkcs12,
        INTEGER => Kind::PrivateKey,
        SEQUENCE => match (element(inner)?.0, rest.first()) {
            (VERSION | INTEGER, _) => Kind::Certificate,
            (OBJECT_IDENTIFIER, Some(&OCTET_STRING)) => Kind::EncryptedPrivateKey,
            (OBJECT_IDENTIFIER, Some(&BIT_STRING)) => Kind::PublicKey,
            _ => Kind::Other,
        },
        _ => Kind::Other,
    };
    Some(kind)
}

/// Splits off the first DER element: its tag, its content, and what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
            let length = length.iter().fold(0, |sum, b| sum << 8 | u64::from(*b));
            (usize::try_from(length).ok()?, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::pki_types::SubjectPublicKeyInfoDer;
    use rustls::pki_types::pem::PemObject;

    #[test]
    fn sections_are_split_at_their_lines() {
        let file = b"\xef\xbb\xbf-----BEGIN A-----\r\nAA==\r\n-----END A-----\r\nnote\n-----BEGIN B-----\nx\n-----BEGIN C-----\ny";
        let sections = sections(file);
        let found: Vec<(&str, &[u8])> = sections.iter().map(|s| (&*s.label, s.bytes)).collect();
        assert_eq!(
            found,
            [
                ("A", &b"-----BEGIN A-----\r\nAA==\r\n-----END A-----\r"[..]),
                ("B", b"-----BEGIN B-----\nx\n"),
                ("C", b"-----BEGIN C-----\ny"),
            ]
        );
    }

    #[test]
    fn der_of_any_length_is_recognized_or_rejected() {
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let public =
            SubjectPublicKeyInfoDer::from_pem_slice(key.public_key_pem().as_bytes()).unwrap();
        let files = [
            (key.serialize_der(), Kind::PrivateKey),
            (certificate.der().to_vec(), Kind::Certificate),
            (public.to_vec(), Kind::PublicKey),
        ];
        for (file, kind) in files {
            assert_eq!(of_der(&file), Some(kind));
            for length in 0..file.len() {
                assert_eq!(of_der(&file[..length]), None, "{kind}, {length} bytes");
            }
        }
    }
}
