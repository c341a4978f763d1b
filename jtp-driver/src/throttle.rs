//! Throttles log lines about events that a peer, or whoever writes to a folder, can repeat.

use std::time::{Duration, Instant};

/// Throttles the log lines of one kind of event: after a burst, one line in each interval, with the number of events since
/// the line before.
#[derive(Debug, Clone)]
pub struct LogThrottle {
    burst: u32,
    interval: Duration,
    /// Events since the last line.
    count: u64,
    /// When a line is due that is not part of a burst.
    due: Option<Instant>,
}

impl Default for LogThrottle {
    /// Without bursts, one line in 10 s.
    fn default() -> LogThrottle {
        LogThrottle::new(1, LogThrottle::INTERVAL)
    }
}

impl LogThrottle {
    /// The interval for what a running server logs.
    pub const INTERVAL: Duration = Duration::from_secs(10);

    /// Allows `burst` lines at once, at least 1, and one more each `interval`.
    #[must_use]
    pub const fn new(burst: u32, interval: Duration) -> LogThrottle {
        LogThrottle {
            burst,
            interval,
            count: 0,
            due: None,
        }
    }

    /// Counts an event. Returns the number of events since the last line, this one included, if one is due now.
    pub fn record(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        let due = self.due.map_or(now, |due| due.max(now));
        let ahead = self.interval.saturating_mul(self.burst.saturating_sub(1));
        if due.saturating_duration_since(now) > ahead {
            return None;
        }
        // `None` only if the clock cannot express the time.
        self.due = due.checked_add(self.interval);
        Some(std::mem::take(&mut self.count))
    }

    /// Takes the number of events that no line has counted yet, at the end of a flood.
    pub fn take_unlogged(&mut self) -> u64 {
        std::mem::take(&mut self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logged(mut throttle: LogThrottle, tenths: std::ops::Range<u64>) -> Vec<(u64, u64)> {
        let begun = Instant::now();
        tenths
            .filter_map(|tenth| {
                let now = begun + Duration::from_millis(100 * tenth);
                Some((tenth, throttle.record(now)?))
            })
            .collect()
    }

    #[test]
    fn repeated_events_are_logged_every_ten_seconds_with_their_count() {
        let logged = logged(LogThrottle::default(), 0..250);
        assert_eq!(logged, [(0, 1), (100, 100), (200, 100)]);
    }

    #[test]
    fn a_burst_is_logged_before_events_are_throttled() {
        let logged = logged(LogThrottle::new(3, LogThrottle::INTERVAL), 0..250);
        assert_eq!(logged, [(0, 1), (1, 1), (2, 1), (100, 98), (200, 100)]);
    }

    #[test]
    fn a_quiet_time_makes_a_burst_available_again() {
        let mut throttle = LogThrottle::new(2, LogThrottle::INTERVAL);
        let begun = Instant::now();
        for (seconds, logged) in [
            (0, Some(1)),
            (0, Some(1)),
            (0, None),
            (30, Some(2)),
            (30, Some(1)),
            (30, None),
        ] {
            let now = begun + Duration::from_secs(seconds);
            assert_eq!(throttle.record(now), logged, "{seconds} s");
        }
        assert_eq!(throttle.take_unlogged(), 1);
        assert_eq!(throttle.take_unlogged(), 0);
    }
}
