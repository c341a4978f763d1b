//! The fields of a log line as text, escaped and cut.

use std::error::Error;
use std::fmt::{self, Write};

use tracing::Level;
use tracing::field::{Field, Visit};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::FormatFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};

use super::{MAX_MESSAGE, MAX_VALUE};
use crate::escape::{BoundedWriter, Escaping};
use crate::exit::error_chain;

/// A line as that of an event.
pub(super) fn event_line(level: Level, text: &str) -> String {
    let mut line = String::new();
    let _ = SystemTime.format_time(&mut Writer::new(&mut line));
    format!("{line} {level:>5} {text}\n")
}

/// Formats fields as `tracing-subscriber` does, but so that text in them neither begins a line nor reaches a terminal
/// unescaped, whoever it is from.
#[derive(Debug, Clone, Copy)]
pub(super) struct EscapedFields;

impl<'w> FormatFields<'w> for EscapedFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> fmt::Result {
        let mut visitor = TextVisitor {
            writer,
            is_empty: true,
            result: Ok(()),
        };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct TextVisitor<'w> {
    writer: Writer<'w>,
    is_empty: bool,
    result: fmt::Result,
}

impl TextVisitor<'_> {
    fn write(&mut self, field: &Field, value: fmt::Arguments<'_>) -> fmt::Result {
        if !std::mem::replace(&mut self.is_empty, false) {
            self.writer.write_char(' ')?;
        }
        let name = field.name();
        let limit = if name == "message" {
            MAX_MESSAGE
        } else {
            let name = name.strip_prefix("r#").unwrap_or(name);
            match self.writer.has_ansi_escapes() {
                true => write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
                false => write!(self.writer, "{name}=")?,
            }
            MAX_VALUE
        };
        let mut bounded = BoundedWriter::new(&mut self.writer, Escaping::Log, limit);
        bounded.write_fmt(value)?;
        bounded.finish()
    }
}

impl Visit for TextVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.record_debug(field, &format_args!("{value}")),
            _ => self.record_debug(field, &value),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.record_debug(field, &format_args!("{}", error_chain(value)));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // The metadata of records of the crate `log` is shown elsewhere.
        if self.result.is_ok() && !field.name().starts_with("log.") {
            self.result = self.write(field, format_args!("{value:?}"));
        }
    }
}
