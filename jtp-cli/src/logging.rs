//! Logging to stderr, controlled by `-v` and `RUST_LOG`.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use crate::terminal::{Stderr, stderr_line};

/// The log level without `-v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DefaultLevel {
    /// Errors of the JTP crates only: the client prints its own messages.
    Error,
    /// `info` for the JTP crates, `warn` for others.
    Info,
}

/// The crates of JTP.
const JTP_CRATES: [&str; 5] = [
    "jtp_cli",
    "jtp_core",
    "jtp_driver",
    "jtp_store",
    "jtp_tokio",
];

/// Starts logging. `RUST_LOG` overrides `verbose`.
pub fn start(default: DefaultLevel, verbose: u8) {
    let (jtp, others) = match (default, verbose) {
        (DefaultLevel::Error, 0) => (LevelFilter::ERROR, LevelFilter::OFF),
        (DefaultLevel::Info, 0) => (LevelFilter::INFO, LevelFilter::WARN),
        (_, 1) => (LevelFilter::DEBUG, LevelFilter::WARN),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    let default_filter = || {
        let others = EnvFilter::default().add_directive(others.into());
        let jtp = JTP_CRATES
            .iter()
            .filter_map(|name| format!("{name}={jtp}").parse().ok());
        jtp.fold(others, EnvFilter::add_directive)
    };
    let rust_log = std::env::var("RUST_LOG")
        .ok()
        .filter(|directives| !directives.trim().is_empty());
    let (filter, invalid) = match rust_log.map(|text| EnvFilter::builder().parse(text)) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (default_filter(), Some(error)),
        None => (default_filter(), None),
    };
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    // Fails if logging was started before, as in tests.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_target(verbose > 1)
        .log_internal_errors(false)
        .with_writer(|| Stderr)
        .try_init();
    if let Some(error) = invalid {
        stderr_line(format_args!("warning: ignoring invalid RUST_LOG: {error}"));
    }
}
