//! One port for TLS and plain TCP. // T2

/// The first byte of the TLS record that begins a connection; no request type. // T2
const TLS_HANDSHAKE: u8 = 0x16;

/// What a server with TLS says to plain TCP that is not welcome. // T2
pub const TLS_NEEDED: &str = "plain TCP is not served here: use TLS";

/// Who may speak plain TCP to a server that has TLS. // T2
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum PlainPolicy {
    /// Nobody.
    Refuse,
    /// Peers on loopback addresses: the default.
    #[default]
    Loopback,
    /// Everybody.
    Allow,
}

/// How a new connection is to be spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Opening {
    /// A TLS handshake has begun.
    Tls,
    /// A plain connection that is welcome.
    Plain,
    /// A plain connection that gets `UnsupportedFeature` with [`TLS_NEEDED`].
    RefusePlain,
}

impl PlainPolicy {
    /// Judges a connection to a server that has TLS by its first byte. // T2
    #[must_use]
    pub const fn judge(self, first_byte: u8, peer_is_loopback: bool) -> Opening {
        if first_byte == TLS_HANDSHAKE {
            return Opening::Tls;
        }
        match (self, peer_is_loopback) {
            (PlainPolicy::Allow, _) | (PlainPolicy::Loopback, true) => Opening::Plain,
            _ => Opening::RefusePlain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t2_the_first_byte_and_the_policy_decide() {
        for policy in [
            PlainPolicy::Refuse,
            PlainPolicy::Loopback,
            PlainPolicy::Allow,
        ] {
            assert_eq!(policy.judge(0x16, false), Opening::Tls);
            for first in (0..=255).filter(|first| *first != 0x16) {
                let welcome = |yes| {
                    if yes {
                        Opening::Plain
                    } else {
                        Opening::RefusePlain
                    }
                };
                assert_eq!(
                    policy.judge(first, false),
                    welcome(policy == PlainPolicy::Allow)
                );
                assert_eq!(
                    policy.judge(first, true),
                    welcome(policy != PlainPolicy::Refuse)
                );
            }
        }
    }
}
