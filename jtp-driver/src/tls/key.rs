//! The fingerprint that names a public key.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use rustls::server::ParsedCertificate;
use sha2::{Digest, Sha256};

/// What a fingerprint begins with in text.
const PREFIX: &str = "sha256:";

/// The SHA-256 of a key's SubjectPublicKeyInfo (DER). In text `sha256:` and 64 hex digits. // T7
///
/// ```
/// use jtp_driver::tls::KeyFingerprint;
///
/// let text = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
/// let key: KeyFingerprint = text.parse()?;
/// assert_eq!(key, KeyFingerprint::of_public_key(b""));
/// assert_eq!(key.to_string(), text);
/// # Ok::<(), jtp_driver::tls::InvalidFingerprint>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyFingerprint([u8; 32]);

impl KeyFingerprint {
    /// That of a public key, given as SubjectPublicKeyInfo (DER).
    #[must_use]
    pub fn of_public_key(spki: &[u8]) -> KeyFingerprint {
        KeyFingerprint(Sha256::digest(spki).into())
    }

    /// That of a certificate's key. Neither its signature nor its dates are checked.
    ///
    /// # Errors
    ///
    /// The certificate is malformed, of X.509 version 1, or has a critical extension that rustls does not know.
    pub fn of_certificate(
        certificate: &CertificateDer<'_>,
    ) -> Result<KeyFingerprint, rustls::Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        Ok(Self::of_public_key(&parsed.subject_public_key_info()))
    }

    /// The hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(PREFIX)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyFingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no [`KeyFingerprint`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
#[error("not a key fingerprint: expected sha256: and 64 hex digits")]
pub struct InvalidFingerprint;

impl FromStr for KeyFingerprint {
    type Err = InvalidFingerprint;

    /// Upper case digits are accepted.
    fn from_str(text: &str) -> Result<KeyFingerprint, InvalidFingerprint> {
        let digits = text.strip_prefix(PREFIX).ok_or(InvalidFingerprint)?;
        let mut hash = [0; 32];
        if digits.len() != 2 * hash.len() {
            return Err(InvalidFingerprint);
        }
        let mut digits = digits.bytes();
        for byte in &mut hash {
            let (high, low) = (digit(digits.next())?, digit(digits.next())?);
            *byte = (high << 4) | low;
        }
        Ok(KeyFingerprint(hash))
    }
}

fn digit(character: Option<u8>) -> Result<u8, InvalidFingerprint> {
    match character {
        Some(digit @ b'0'..=b'9') => Ok(digit - b'0'),
        Some(digit @ b'a'..=b'f') => Ok(digit - b'a' + 10),
        Some(digit @ b'A'..=b'F') => Ok(digit - b'A' + 10),
        _ => Err(InvalidFingerprint),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t7_a_fingerprint_is_the_hash_of_the_public_key() {
        // SHA-256 of "abc" (FIPS 180-2, appendix B.1).
        let key = KeyFingerprint::of_public_key(b"abc");
        let text = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key));
        assert_eq!(text.to_uppercase().replace("SHA", "sha").parse(), Ok(key));
    }

    #[test]
    fn other_texts_are_no_fingerprints() {
        let good = KeyFingerprint::of_public_key(b"").to_string();
        let long = format!("{good}0");
        let even_longer = format!("{good}00");
        let not_hex = good.replace('e', "g");
        let multi_byte = format!("sha256:{}", "é".repeat(32));
        for text in [
            "",
            "sha256:",
            &good[7..],
            &good[..70],
            &good[..69],
            &long,
            &even_longer,
            &not_hex,
            &multi_byte,
            &format!(" {good}"),
            &good.replace("256", "512"),
        ] {
            assert_eq!(
                text.parse::<KeyFingerprint>(),
                Err(InvalidFingerprint),
                "{text}"
            );
        }
    }
}
