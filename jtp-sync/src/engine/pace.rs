//! How much several connections have to request at once on a long line.

use std::time::Duration;

/// The pace of a response by one of several connections.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The bytes that arrive in the time from a request to its first image.
    bytes: u64,
}

impl Pace {
    /// `latency`: from the request to its first image, the time to connect included. `total`: to the end of its response,
    /// of this number of bytes.
    pub(super) fn measured(bytes: u64, latency: Duration, total: Duration) -> Pace {
        // Never more than the response had, however short the measured times.
        let (latency, total) = (latency.min(total).as_nanos(), total.as_nanos().max(1));
        let bytes = u128::from(bytes) * latency / total;
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        Pace { bytes }
    }

    /// What one of this number of connections requests at least: what all of them receive before its next response begins.
    /// With less, the line would be idle at times.
    pub(super) fn min_request(self, connections: usize) -> u64 {
        let connections = u64::try_from(connections).unwrap_or(u64::MAX);
        self.bytes.saturating_mul(connections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_lasts_as_long_as_the_next_one_takes_to_begin() {
        let ms = Duration::from_millis;
        // 1 MB in 320 ms, of which nothing arrived in 80 ms: all four connections receive 1 MB in that time.
        assert_eq!(
            Pace::measured(1_000_000, ms(80), ms(320)).min_request(4),
            1_000_000
        );
        // On loopback nearly nothing.
        assert!(Pace::measured(1_000_000, ms(0), ms(2)).min_request(4) < 1_000);
        // A response that arrived at once shows no rate.
        assert_eq!(Pace::measured(1_000, ms(80), ms(80)).min_request(4), 4_000);
        assert_eq!(Pace::measured(1_000, ms(0), ms(0)).min_request(4), 0);
    }
}
