//! Logs: to stderr, as much as `-v` or `RUST_LOG` asks for.

use std::io::{self, IsTerminal};

use tracing_subscriber::filter::{EnvFilter, LevelFilter};

use crate::terminal::{Stderr, note_line};

/// How much is logged without any `-v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// Our errors only: the client reports by itself.
    Quiet,
    /// What an operator wants to see.
    Operator,
}

/// The crates whose messages are ours.
const OURS: [&str; 5] = [
    "jtp_cli",
    "jtp_core",
    "jtp_driver",
    "jtp_store",
    "jtp_tokio",
];

/// Starts logging. `RUST_LOG` wins over `verbose`.
pub fn start(base: Base, verbose: u8) {
    let (ours, others) = match (base, verbose) {
        (Base::Quiet, 0) => (LevelFilter::ERROR, LevelFilter::OFF),
        (Base::Operator, 0) => (LevelFilter::INFO, LevelFilter::WARN),
        (_, 1) => (LevelFilter::DEBUG, LevelFilter::WARN),
        _ => (LevelFilter::TRACE, LevelFilter::DEBUG),
    };
    let usual = || {
        let all = EnvFilter::default().add_directive(others.into());
        let ours = OURS
            .iter()
            .filter_map(|name| format!("{name}={ours}").parse().ok());
        ours.fold(all, EnvFilter::add_directive)
    };
    let wanted = std::env::var("RUST_LOG")
        .ok()
        .filter(|wanted| !wanted.trim().is_empty());
    let (filter, wrong) = match wanted.map(|wanted| EnvFilter::builder().parse(wanted)) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (usual(), Some(error)),
        None => (usual(), None),
    };
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    // It fails when a test has started logging before: then there is nothing to do.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(colour)
        .with_target(verbose > 1)
        .log_internal_errors(false)
        .with_writer(|| Stderr)
        .try_init();
    if let Some(error) = wrong {
        note_line(format_args!("warning: RUST_LOG is not understood: {error}"));
    }
}
