//! Writes to stdout and stderr without panicking and without corrupting the progress bar.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};
use std::thread;

use indicatif::ProgressBar;
use tracing::Level;

use crate::escape::{Escaping, bounded};
use crate::logging;

/// The visible progress bar.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Sets or clears the progress bar that is suspended during writes.
pub fn set_bar(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

fn suspending_bar<T>(write: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner);
    match bar.as_ref() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Writes a line to stdout.
///
/// # Errors
///
/// The write failed, for example because the pipe is closed.
pub fn stdout_line(line: fmt::Arguments<'_>) -> io::Result<()> {
    suspending_bar(|| {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    })
}

/// Writes a line to stdout from a thread of its own, for a program that must not wait for whoever reads it. Errors are
/// ignored: the reader may be gone.
pub fn stdout_line_detached(line: String) {
    let write = move || drop(stdout_line(format_args!("{line}")));
    // Without threads there is not much to go on with.
    let _ = thread::Builder::new()
        .name("stdout".to_owned())
        .spawn(write);
}

/// The most bytes of a line on stderr.
const MAX_LINE: usize = 4096;

/// Writes a line to stderr; in the server, to its log. What could begin another line or control a terminal is escaped,
/// and what is over 4 KiB is left out.
/// Write errors are ignored, because there is nowhere to report them.
pub fn stderr_line(line: fmt::Arguments<'_>) {
    let line = line.to_string();
    if logging::print_queued(Level::WARN, &line, true) {
        return;
    }
    suspending_bar(|| {
        let line = bounded(&line, Escaping::Log, MAX_LINE);
        let _ = writeln!(io::stderr().lock(), "{line}");
    });
}

/// A [`Write`] implementation for stderr, for logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        suspending_bar(|| io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
