//! Logging to stderr, controlled by `-v` and `RUST_LOG`.

use std::error::Error;
use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use clap::ValueEnum;
use tracing::field::{Field, Visit};
use tracing_subscriber::Layer;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::Registry;
use tracing_subscriber::util::SubscriberInitExt;

use crate::escape::escaped_again;
use crate::exit::error_chain;
use crate::log_queue::LogQueue;
use crate::terminal::{Stderr, stderr_line};

/// How long the end of a program waits for a reader of stderr.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The longest value of a field in characters, as text.
const MAX_VALUE: usize = 1_000;

/// The crates of JTP.
const JTP_CRATES: [&str; 6] = [
    "jtp_cli",
    "jtp_core",
    "jtp_driver",
    "jtp_store",
    "jtp_sync",
    "jtp_tokio",
];

/// The format of the server's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// One JSON object in each line
    Json,
}

/// Starts the client's log. It prints its own messages, so the log has errors of the JTP crates only, without `-v`.
/// `RUST_LOG` overrides `verbose`.
pub fn start_client(verbose: u8) {
    let jtp = match verbose {
        0 => LevelFilter::ERROR,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let others = match verbose {
        0 => LevelFilter::OFF,
        1 => LevelFilter::ERROR,
        _ => LevelFilter::DEBUG,
    };
    init(text(verbose, || Stderr), jtp, others);
}

/// Starts the server's log, which never waits for a reader of stderr: lines that find no room are dropped and counted.
/// `RUST_LOG` overrides `verbose`. Returns the log, which has to be told how the program ended.
#[must_use]
pub fn start_server(format: LogFormat, verbose: u8) -> ServerLog {
    let dropped = move |count| match format {
        LogFormat::Text => format!("{count} log lines were dropped: stderr is read too slowly"),
        LogFormat::Json => format!(
            r#"{{"level":"WARN","message":"log lines were dropped: stderr is read too slowly","count":{count},"target":"jtp_cli::logging"}}"#
        ),
    };
    let log = ServerLog {
        format,
        queue: LogQueue::start(io::stderr(), dropped).ok(),
    };
    let jtp = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    // Warnings of rustls and others repeat what a peer sent, as often as it sends it.
    let others = match verbose {
        0 | 1 => LevelFilter::ERROR,
        _ => LevelFilter::DEBUG,
    };
    let queue = log.queue.clone();
    let writer = move || Line::new(queue.clone());
    match format {
        LogFormat::Text => init(text(verbose, writer), jtp, others),
        LogFormat::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_span_list(false)
                .log_internal_errors(false)
                .with_writer(writer);
            init(layer.boxed(), jtp, others);
        }
    }
    log
}

/// The server's log.
#[derive(Debug)]
pub struct ServerLog {
    format: LogFormat,
    /// `None` if its thread could not be started: then lines are written at once.
    queue: Option<LogQueue>,
}

impl ServerLog {
    /// Logs the error that ends the program.
    pub fn error(&self, error: &dyn fmt::Display) {
        match self.format {
            LogFormat::Json => tracing::error!("{error}"),
            LogFormat::Text => {
                let mut line = Line::new(self.queue.clone());
                let _ = writeln!(line, "error: {error}");
            }
        }
    }
}

impl Drop for ServerLog {
    /// Waits until the lines are written, if they are read.
    fn drop(&mut self) {
        if let Some(queue) = &self.queue {
            queue.flush(FLUSH_TIMEOUT);
        }
    }
}

/// A line of the server's log, which is complete when it is dropped.
struct Line {
    queue: Option<LogQueue>,
    bytes: Vec<u8>,
}

impl Line {
    fn new(queue: Option<LogQueue>) -> Line {
        Line {
            queue,
            bytes: Vec::new(),
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        match &self.queue {
            Some(queue) => queue.push(&self.bytes),
            None => drop(Stderr.write_all(&self.bytes)),
        }
    }
}

/// Text for people.
fn text<W>(verbose: u8, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty());
    tracing_subscriber::fmt::layer()
        .fmt_fields(EscapedFields)
        .with_ansi(colour)
        .with_target(verbose > 1)
        .log_internal_errors(false)
        .with_writer(writer)
        .boxed()
}

/// Writes values escaped: file names and peers can contain line feeds and escape sequences.
struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, out: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = FieldWriter {
            out,
            is_first: true,
            result: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct FieldWriter<'w> {
    out: Writer<'w>,
    is_first: bool,
    result: fmt::Result,
}

impl Visit for FieldWriter<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_ok() {
            self.result = self.write(field, format_args!("{value:?}"));
        }
    }

    fn record_error(&mut self, field: &Field, error: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{}", error_chain(error)));
    }
}

impl FieldWriter<'_> {
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.out.write_char(' ')?;
        }
        if field.name() != "message" {
            write!(self.out, "{}=", field.name())?;
        }
        let mut text = Limited::default();
        // Fails at the limit.
        let is_cut = text.write_fmt(value).is_err();
        write!(self.out, "{}", escaped_again(&text.text))?;
        if is_cut {
            self.out.write_str("… (cut)")?;
        }
        Ok(())
    }
}

/// Text up to [`MAX_VALUE`] characters.
#[derive(Default)]
struct Limited {
    text: String,
    characters: usize,
}

impl fmt::Write for Limited {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for character in text.chars() {
            if self.characters == MAX_VALUE {
                return Err(fmt::Error);
            }
            self.text.push(character);
            self.characters += 1;
        }
        Ok(())
    }
}

fn init(layer: impl Layer<Registry> + Send + Sync, jtp: LevelFilter, others: LevelFilter) {
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
    // Fails if logging was started before, as in tests.
    let _ = tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init();
    if let Some(error) = invalid {
        stderr_line(format_args!("warning: ignoring invalid RUST_LOG: {error}"));
    }
}
