//! Which seeds a test runs with.

/// A number in an environment variable.
///
/// # Panics
///
/// If the variable is set to something else: a test that ignored it would seem to have done more than it did.
#[must_use]
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|error| panic!("{variable}={text}: {error}")))
}

/// The only seed to use: `JTP_SEED`.
#[must_use]
pub fn seed() -> Option<u64> {
    number("JTP_SEED")
}

/// Prints the seed if the test panics.
struct Report(u64);

impl Drop for Report {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with JTP_SEED={}", self.0);
        }
    }
}

/// Runs a test with the seeds below `default`, or below `JTP_SEEDS` if that is set, or with `JTP_SEED` alone. Prints the
/// seed with which it fails. Returns whether it ran with more than that one.
pub fn for_each_seed(default: u64, mut test: impl FnMut(u64)) -> bool {
    let only = seed();
    let seeds = match only {
        Some(seed) => seed..seed + 1,
        None => 0..number("JTP_SEEDS").unwrap_or(default),
    };
    for seed in seeds {
        let _report = Report(seed);
        test(seed);
    }
    only.is_none()
}
