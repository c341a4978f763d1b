//! Parses times and sizes on the command line.

use std::time::Duration;

use jtp_driver::client::MIN_RATE;

/// The longest accepted time, about 30 years, so that adding it to a clock cannot overflow.
const MAX_SECONDS: f64 = 1e9;

/// Parses `30`, `2.5`, `500ms`, `30s`, `5m` or `2h`.
///
/// # Errors
///
/// An error message for the user.
pub fn parse_seconds(text: &str) -> Result<Duration, String> {
    const HELP: &str = "expected seconds, such as 30, 2.5, 500ms, 30s, 5m or 2h";
    let (number, unit) = split(text);
    let factor = match unit {
        "ms" => 0.001,
        "" | "s" | "sec" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3600.0,
        _ => return Err(HELP.to_owned()),
    };
    let seconds = number.parse::<f64>().map_err(|_| HELP.to_owned())? * factor;
    if seconds > MAX_SECONDS {
        return Err("longer than 30 years; use 0 for no limit".to_owned());
    }
    Duration::try_from_secs_f64(seconds).map_err(|_| HELP.to_owned())
}

/// Returns `None` for 0, which stands for no limit on the command line.
#[must_use]
pub fn none_if_zero(time: Duration) -> Option<Duration> {
    (!time.is_zero()).then_some(time)
}

/// Parses the maximum time of a job like [`parse_seconds`]. 0 is `None`, no limit.
///
/// # Errors
///
/// An error message for the user.
pub fn parse_max_time(text: &str) -> Result<Option<Duration>, String> {
    parse_seconds(text).map(none_if_zero)
}

/// Parses a maximum size like [`parse_size`]. 0 is `None`, no limit.
///
/// # Errors
///
/// An error message for the user.
pub fn parse_max_size(text: &str) -> Result<Option<u64>, String> {
    parse_size(text).map(|size| (size > 0).then_some(size))
}

/// Parses a rate in bytes per second like [`parse_size`]; 0 is `None`.
///
/// # Errors
///
/// An error message for the user.
pub fn parse_rate(text: &str) -> Result<Option<u64>, String> {
    match parse_max_size(text)? {
        Some(rate) if rate < MIN_RATE => {
            Err("a rate is in bytes per second, at least 16KiB".to_owned())
        }
        rate => Ok(rate),
    }
}

/// Parses a size that an image can have like [`parse_size`]. A scan of the output folder does not read longer files, so
/// each run would fetch them. // R4 S14
///
/// # Errors
///
/// An error message for the user.
pub fn parse_image_size(text: &str) -> Result<u64, String> {
    let size = parse_size(text)?;
    match u32::try_from(size) {
        Ok(_) => Ok(size),
        Err(_) => Err("an image has at most 4294967295 bytes (4GiB less one byte)".to_owned()),
    }
}

/// Parses `1048576`, `64KiB`, `64K`, `1.5GiB` (powers of 1024) or `10MB` (powers of 1000).
///
/// # Errors
///
/// An error message for the user.
pub fn parse_size(text: &str) -> Result<u64, String> {
    const HELP: &str = "expected a size, such as 1048576, 64KiB, 1.5GiB or 10MB";
    let (number, unit) = split(text);
    let factor: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1000,
        "mb" => 1000 * 1000,
        "gb" => 1000 * 1000 * 1000,
        "tb" => 1000 * 1000 * 1000 * 1000,
        _ => return Err(HELP.to_owned()),
    };
    // Integer arithmetic keeps whole numbers exact; a fraction is rounded down to a byte.
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || fraction.len() > 6 {
        return Err(HELP.to_owned());
    }
    let too_large = || "the size is too large".to_owned();
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let parts = 10_u64.pow(u32::try_from(fraction.len()).unwrap_or(0));
    let fraction: u64 = fraction.parse().unwrap_or(0);
    let of_fraction = u128::from(factor) * u128::from(fraction) / u128::from(parts);
    u64::try_from(u128::from(whole) * u128::from(factor) + of_fraction).map_err(|_| too_large())
}

fn split(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    (number, unit.trim_start())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_with_and_without_units_are_parsed() {
        for (text, millis) in [
            ("0", 0),
            ("30", 30_000),
            ("0.5", 500),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1.5 h", 5_400_000),
        ] {
            assert_eq!(
                parse_seconds(text),
                Ok(Duration::from_millis(millis)),
                "{text}"
            );
        }
        for bad in [
            "",
            "s",
            "-1",
            "1x",
            "1 0",
            "1e3",
            "inf",
            "nan",
            "1.2.3",
            "99999999999",
            ".",
        ] {
            assert!(parse_seconds(bad).is_err(), "{bad}");
        }
        assert_eq!(none_if_zero(Duration::ZERO), None);
    }

    #[test]
    fn sizes_with_and_without_units_are_parsed() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("64KiB", 65_536),
            ("64k", 65_536),
            ("10GiB", 10 << 30),
            ("1.5 MiB", 1_572_864),
            ("10MB", 10_000_000),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for bad in [
            "",
            "KiB",
            "-1",
            "1x",
            "1e3",
            "1.2.3",
            ".5",
            "18446744073709551616",
            "17179869184GiB",
        ] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}
