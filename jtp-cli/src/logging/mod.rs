//! Logging to stderr, controlled by `-v`, `RUST_LOG` and the server's `--log-format`.
//!
//! Text in a log line, from whomever, is escaped and cut: a value to 512 bytes, a message to 1,000, a line to 4 KiB. The
//! server's lines are written by a thread of their own: while nobody reads them, up to 1 MiB waits, and what is over that
//! is dropped and counted. The client's lines are written at once.

mod json;
mod queue;
#[cfg(test)]
mod tests;
mod text;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal, Write};
use std::sync::{Once, OnceLock};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use tracing::Level;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

use crate::escape::{Escaping, bounded};
use crate::terminal::{Stderr, stderr_line};
use json::JsonLayer;
use queue::LogQueue;
use text::EscapedFields;

/// The most bytes of a field's value.
const MAX_VALUE: usize = 512;

/// The most bytes of a message.
const MAX_MESSAGE: usize = 1_000;

/// How long the program waits at its end for whoever reads the log.
const FLUSH_TIME: Duration = Duration::from_secs(1);

/// The pause before another attempt at a stderr that does not block.
const NONBLOCKING_PAUSE: Duration = Duration::from_millis(20);

/// The log level without `-v`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DefaultLevel {
    /// Errors of the JTP crates only: the client prints its own messages.
    Error,
    /// `info` for the JTP crates, `error` for others.
    Info,
}

/// The format of the server's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// One line of text for each event
    #[default]
    Text,
    /// One JSON object on a line for each event
    Json,
}

/// The crates of JTP.
const JTP_CRATES: [&str; 7] = [
    "jtp_cli",
    "jtp_core",
    "jtp_driver",
    "jtp_object_store",
    "jtp_store",
    "jtp_sync",
    "jtp_tokio",
];

/// Where the server's lines go. It is set once, and never in the client.
static SERVER_LOG: OnceLock<ServerLog> = OnceLock::new();

#[derive(Debug)]
struct ServerLog {
    queue: LogQueue,
    format: LogFormat,
    thread: Once,
}

/// A line that is no event of tracing.
fn line(format: LogFormat, level: Level, text: &str) -> String {
    match format {
        LogFormat::Text => format!("{}\n", bounded(text, Escaping::Log, usize::MAX)),
        LogFormat::Json => json::message_line(level, "jtp_cli", text),
    }
}

/// The line in place of those that did not fit into the queue.
fn dropped_line(format: LogFormat, count: u64) -> String {
    let text = format!("{count} log lines were dropped");
    match format {
        LogFormat::Text => text::event_line(Level::WARN, &text),
        LogFormat::Json => line(format, Level::WARN, &text),
    }
}

/// Waits at the end of the server for its log, for a second at most.
#[derive(Debug)]
#[must_use]
pub struct LogGuard(());

impl Drop for LogGuard {
    fn drop(&mut self) {
        start_server_thread();
        flush(FLUSH_TIME);
    }
}

/// Waits until the server's log is written, at most `patience`.
pub(crate) fn flush(patience: Duration) {
    if let Some(log) = SERVER_LOG.get() {
        log.queue.flush(patience);
    }
}

/// Starts the client's logging. `RUST_LOG` overrides `verbose`.
pub fn start_client(verbose: u8) {
    let (filter, invalid) = filter(DefaultLevel::Error, verbose);
    init(text_layer(verbose, || LogWriter(None)), filter);
    if let Some(error) = invalid {
        stderr_line(format_args!("warning: {error}"));
    }
}

/// Starts the server's logging. `RUST_LOG` overrides `verbose`.
///
/// From now on, [`stderr_line`] and panics write to the same queue. Its lines wait for [`start_server_thread`].
pub fn start_server(verbose: u8, format: LogFormat) -> LogGuard {
    let (filter, invalid) = filter(DefaultLevel::Info, verbose);
    let queue = LogQueue::new();
    let writer = Some(queue.clone());
    match format {
        LogFormat::Text => init(
            text_layer(verbose, move || LogWriter(writer.clone())),
            filter,
        ),
        LogFormat::Json => init(
            JsonLayer(move |line: &[u8]| {
                let _ = LogWriter(writer.clone()).write(line);
            }),
            filter,
        ),
    }
    // Fails if it was set before, as in tests.
    let _ = SERVER_LOG.set(ServerLog {
        queue,
        format,
        thread: Once::new(),
    });
    std::panic::set_hook(Box::new(|panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("<unnamed>");
        print_queued(Level::ERROR, &format!("thread '{name}' {panic}"), false);
        // Only with RUST_BACKTRACE.
        let backtrace = Backtrace::capture();
        if backtrace.status() == BacktraceStatus::Captured {
            for line in backtrace.to_string().lines() {
                print_queued(Level::ERROR, line, false);
            }
        }
    }));
    if let Some(error) = invalid {
        warn_line(&error);
    }
    LogGuard(())
}

/// Starts the thread that writes the server's log, unless it runs. If it cannot be started, lines are written at once.
pub fn start_server_thread() {
    let Some(log) = SERVER_LOG.get() else {
        return;
    };
    let format = log.format;
    log.thread.call_once(|| {
        let line = move |count| dropped_line(format, count).into_bytes();
        let started = log.queue.start(write_stderr, line);
        if started.is_err() {
            log.queue.write_without_thread(write_stderr);
        }
    });
}

/// Prints a warning about the command line or the environment.
fn warn_line(text: &str) {
    print(Level::WARN, "warning", text);
}

/// Prints the error that ends the server.
pub fn error_line(text: &str) {
    print(Level::ERROR, "error", text);
}

/// Prefix and text, or the text alone if its level is a field of the line.
fn print(level: Level, prefix: &str, text: &str) {
    let is_json = SERVER_LOG
        .get()
        .is_some_and(|log| log.format == LogFormat::Json);
    if is_json {
        print_queued(level, text, true);
    } else {
        stderr_line(format_args!("{prefix}: {text}"));
    }
}

/// Queues a line for the server's stderr. Returns whether there is a queue.
pub(crate) fn print_queued(level: Level, text: &str, is_last: bool) -> bool {
    let Some(log) = SERVER_LOG.get() else {
        return false;
    };
    let line = line(log.format, level, text);
    match is_last {
        true => log.queue.push_last(line.as_bytes()),
        false => log.queue.push(line.as_bytes()),
    }
    true
}

fn init<L>(layer: L, filter: EnvFilter)
where
    L: Layer<tracing_subscriber::Registry> + Send + Sync,
{
    // Fails if logging was started before, as in tests.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
}

fn text_layer<S, F>(verbose: u8, writer: F) -> impl Layer<S> + Send + Sync
where
    S: tracing::Subscriber + for<'a> LookupSpan<'a>,
    F: Fn() -> LogWriter + Send + Sync + 'static,
{
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    tracing_subscriber::fmt::layer()
        .fmt_fields(EscapedFields)
        .with_ansi(colour)
        .with_target(verbose > 1)
        .log_internal_errors(false)
        .with_writer(writer)
}

/// The filter, and what is wrong with `RUST_LOG`.
fn filter(default: DefaultLevel, verbose: u8) -> (EnvFilter, Option<String>) {
    // Other crates warn of what a peer sends, as often as it does.
    let (jtp, others) = match (default, verbose) {
        (DefaultLevel::Error, 0) => (LevelFilter::ERROR, LevelFilter::OFF),
        (DefaultLevel::Info, 0) => (LevelFilter::INFO, LevelFilter::ERROR),
        (_, 1) => (LevelFilter::DEBUG, LevelFilter::ERROR),
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
    match rust_log.map(|text| EnvFilter::builder().parse(text)) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (
            default_filter(),
            Some(format!("ignoring invalid RUST_LOG: {error}")),
        ),
        None => (default_filter(), None),
    }
}

/// Queues lines, or writes them at once.
struct LogWriter(Option<LogQueue>);

impl Write for LogWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.0 {
            Some(queue) => queue.push(line),
            None => Stderr.write_all(&queue::cut(line))?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes a line to stderr, on the thread that may wait for its reader. Other errors are ignored, because there is
/// nowhere to report them.
fn write_stderr(mut line: &[u8]) {
    while !line.is_empty() {
        match io::stderr().write(line) {
            Ok(0) => return,
            Ok(count) => line = &line[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                thread::sleep(NONBLOCKING_PAUSE);
            }
            Err(_) => return,
        }
    }
}
