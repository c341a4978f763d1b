//! Writing to stdout and stderr: never a panic, and never through the middle of a progress bar.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

/// The bar that is on the terminal now.
static BAR: Mutex<Option<ProgressBar>> = Mutex::new(None);

/// Makes room for `bar` at the foot of the terminal, or for none.
pub fn show_bar(bar: Option<ProgressBar>) {
    *BAR.lock().unwrap_or_else(PoisonError::into_inner) = bar;
}

fn beside_bar<T>(write: impl FnOnce() -> T) -> T {
    let bar = BAR.lock().unwrap_or_else(PoisonError::into_inner);
    match bar.as_ref() {
        Some(bar) => bar.suspend(write),
        None => write(),
    }
}

/// Writes a line of results to stdout.
///
/// # Errors
///
/// What the system says, such as that nobody reads any more.
pub fn result_line(line: fmt::Arguments<'_>) -> io::Result<()> {
    beside_bar(|| {
        let mut out = io::stdout().lock();
        writeln!(out, "{line}")?;
        out.flush()
    })
}

/// Writes a line to stderr. If nobody can read it, nothing can be done about that.
pub fn note_line(line: fmt::Arguments<'_>) {
    beside_bar(|| {
        let _ = writeln!(io::stderr().lock(), "{line}");
    });
}

/// Stderr as something to write to, for logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        beside_bar(|| io::stderr().lock().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
