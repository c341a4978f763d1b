//! The dates between which a certificate is valid.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_parser::parse_x509_certificate;
use x509_parser::prelude::ASN1Time;

/// One day.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A certificate that ends sooner causes a warning.
const WARNING: Duration = Duration::from_secs(14 * DAY.as_secs());

/// The dates between which a certificate is valid, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Validity {
    from: i64,
    until: i64,
}

impl Validity {
    /// The dates of a certificate; `None` if it is malformed.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Validity> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        Some(Validity {
            from: parsed.validity().not_before.timestamp(),
            until: parsed.validity().not_after.timestamp(),
        })
    }

    /// Whether less than `time` remains.
    pub(super) fn ends_within(&self, time: Duration, now: SystemTime) -> bool {
        let time = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
        self.until.saturating_sub(seconds(now)) < time
    }

    /// What clients will reject, now or soon; `None` if the dates are good.
    pub(super) fn problem(&self, now: SystemTime) -> Option<String> {
        let at = seconds(now);
        if self.until < at {
            Some(format!("expired on {}", date(self.until)))
        } else if self.from > at {
            Some(format!("is not valid before {}", date(self.from)))
        } else if self.ends_within(WARNING, now) {
            Some(format!("expires on {}", date(self.until)))
        } else {
            None
        }
    }

    /// The last day, such as `2028-11-30`.
    pub(super) fn last_day(&self) -> String {
        date(self.until)
    }
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| {
        i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
    })
}

fn date(seconds: i64) -> String {
    match ASN1Time::from_timestamp(seconds) {
        Ok(time) => time.to_datetime().date().to_string(),
        Err(_) => "an invalid date".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_judged_at_their_limits() {
        let day = i64::try_from(DAY.as_secs()).unwrap();
        let validity = Validity {
            from: 10 * day,
            until: 100 * day,
        };
        let at = |seconds: i64| UNIX_EPOCH + Duration::from_secs(seconds.try_into().unwrap());
        for (now, problem) in [
            (0, Some("is not valid before 1970-01-11")),
            (10 * day - 1, Some("is not valid before 1970-01-11")),
            (10 * day, None),
            (86 * day, None),
            (86 * day + 1, Some("expires on 1970-04-11")),
            (100 * day, Some("expires on 1970-04-11")),
            (100 * day + 1, Some("expired on 1970-04-11")),
            (1000 * day, Some("expired on 1970-04-11")),
        ] {
            assert_eq!(validity.problem(at(now)).as_deref(), problem, "{now}");
        }
        assert_eq!(validity.last_day(), "1970-04-11");
    }
}
