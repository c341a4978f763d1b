//! Helpers shared by the test targets.

pub(crate) mod bytes;
pub(crate) mod files;
pub(crate) mod peer;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod secure;
pub(crate) mod serve;
pub(crate) mod stub;
pub(crate) mod tls;

use std::time::Duration;

pub(crate) type Result<T = (), E = Box<dyn std::error::Error>> = std::result::Result<T, E>;

/// Far longer than any test takes: only a failing test waits until it elapses.
pub(crate) const TEST_TIMEOUT: Duration = Duration::from_secs(30);
