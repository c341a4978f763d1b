//! Writes to stdout and stderr without panicking and without corrupting the progress bar.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Mutex, PoisonError};

use indicatif::ProgressBar;

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

/// The longest line on stderr in bytes. A peer's message can be 64 KiB long, and ten times as long when it is escaped.
const MAX_LINE: usize = 4096;

/// Writes a line to stderr, cut at 4 KiB. Write errors are ignored, because there is nowhere to report them.
pub fn stderr_line(line: fmt::Arguments<'_>) {
    let mut line = line.to_string();
    if line.len() > MAX_LINE {
        let end = (0..=MAX_LINE).rfind(|&at| line.is_char_boundary(at));
        let end = end.unwrap_or(0);
        let more = line.len() - end;
        line.truncate(end);
        line += &format!("… ({more} more bytes)");
    }
    suspending_bar(|| {
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
