//! TLS and plain TCP on one port. // T2

/// The first byte of the TLS record that begins a connection. No request type has this value. // T2
const TLS_HANDSHAKE: u8 = 0x16;

/// Which peers may use plain TCP on a server that has TLS. // T2
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PlainPolicy {
    /// None.
    Refuse,
    /// Peers on loopback addresses. The default.
    #[default]
    Loopback,
    /// All.
    Allow,
}

/// The protocol of a new connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opening {
    /// A TLS handshake.
    Tls,
    /// Plain TCP, allowed.
    Plain,
    /// Plain TCP, refused with `UnsupportedFeature` and [`TLS_REQUIRED`](crate::TLS_REQUIRED).
    RefusePlain,
}

impl PlainPolicy {
    /// Classifies a connection to a server that has TLS by its first byte. // T2
    pub(super) const fn classify(self, first_byte: u8, peer_is_loopback: bool) -> Opening {
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
            assert_eq!(policy.classify(0x16, false), Opening::Tls);
            for first in (0..=255).filter(|first| *first != 0x16) {
                let expected = |allowed| {
                    if allowed {
                        Opening::Plain
                    } else {
                        Opening::RefusePlain
                    }
                };
                assert_eq!(
                    policy.classify(first, false),
                    expected(policy == PlainPolicy::Allow)
                );
                assert_eq!(
                    policy.classify(first, true),
                    expected(policy != PlainPolicy::Refuse)
                );
            }
        }
    }
}
