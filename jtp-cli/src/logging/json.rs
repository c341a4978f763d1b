//! Log lines as JSON: one object a line, without nested objects.
//!
//! `timestamp`, `level`, `target` and `message` come first, then the event's fields. `spans` has the names of the spans
//! around the event, outermost first, as in `connection:request`; their fields follow. Of two fields of one name, that of
//! the event or of the inner span is given. A field whose name is one of those above gets a `_` at its end.

use std::error::Error;
use std::fmt::{self, Write};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, SpanRef};

use super::queue::MAX_LINE;
use super::{MAX_MESSAGE, MAX_VALUE};
use crate::exit::error_chain;
use crate::json::bounded_string as string;

const RESERVED: [&str; 5] = ["timestamp", "level", "target", "spans", "truncated"];

/// What a line needs beside its members, to be ended.
const END: &str = ",\"truncated\":true}\n";

/// Formats events and gives them to `write`.
pub(super) struct JsonLayer<F>(pub(super) F);

impl<S, F> Layer<S> for JsonLayer<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    F: Fn(&[u8]) + 'static,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            let mut fields = Fields::default();
            attributes.record(&mut fields);
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            if let Some(fields) = span.extensions_mut().get_mut::<Fields>() {
                values.record(fields);
            }
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        let target = fields.log_target.take();
        let target = target.as_deref().unwrap_or(metadata.target());
        let mut line = Line::begin(*metadata.level(), target, &fields.message);
        line.fields(&fields);
        let spans: Vec<_> = context.event_scope(event).into_iter().flatten().collect();
        if !spans.is_empty() {
            let names: Vec<_> = spans.iter().rev().map(SpanRef::name).collect();
            line.member("spans", &string(names.join(":"), MAX_VALUE));
        }
        for span in spans {
            if let Some(fields) = span.extensions().get::<Fields>() {
                line.fields(fields);
            }
        }
        (self.0)(line.end().as_bytes());
    }
}

/// A line that is no event.
pub(super) fn message_line(level: Level, target: &str, message: &str) -> String {
    Line::begin(level, target, &string(message, MAX_MESSAGE)).end()
}

struct Line {
    text: String,
    names: Vec<&'static str>,
    is_truncated: bool,
}

impl Line {
    fn begin(level: Level, target: &str, message: &str) -> Line {
        let mut text = String::from("{\"timestamp\":\"");
        let _ = SystemTime.format_time(&mut Writer::new(&mut text));
        let target = string(target, MAX_VALUE);
        let _ = write!(text, "\",\"level\":\"{level}\",\"target\":{target}");
        if !message.is_empty() {
            let _ = write!(text, ",\"message\":{message}");
        }
        Line {
            text,
            names: Vec::new(),
            is_truncated: false,
        }
    }

    fn fields(&mut self, fields: &Fields) {
        for (name, value) in &fields.values {
            if !self.names.contains(name) {
                self.names.push(name);
                match RESERVED.contains(name) {
                    true => self.member(&format!("{name}_"), value),
                    false => self.member(name, value),
                }
            }
        }
    }

    fn member(&mut self, name: &str, value: &str) {
        let name = string(name, MAX_VALUE);
        if self.text.len() + name.len() + value.len() + ",:".len() + END.len() > MAX_LINE {
            self.is_truncated = true;
            return;
        }
        let _ = write!(self.text, ",{name}:{value}");
    }

    fn end(mut self) -> String {
        self.text += if self.is_truncated { END } else { "}\n" };
        self.text
    }
}

/// The fields of an event or a span: names, and values as JSON.
#[derive(Debug, Default)]
struct Fields {
    message: String,
    values: Vec<(&'static str, String)>,
    /// The target of a record of the crate `log`.
    log_target: Option<String>,
}

impl Fields {
    fn set(&mut self, field: &Field, value: String) {
        let name = field.name();
        let name = name.strip_prefix("r#").unwrap_or(name);
        match self.values.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.values.push((name, value)),
        }
    }

    fn set_text(&mut self, field: &Field, value: impl fmt::Display) {
        match field.name() {
            "message" => self.message = string(value, MAX_MESSAGE),
            // The other metadata of records of the crate `log`.
            name if name.starts_with("log.") => {}
            _ => self.set(field, string(value, MAX_VALUE)),
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        match value.is_finite() {
            true => self.set(field, value.to_string()),
            false => self.set_text(field, value),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value.to_string());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        if !field.name().starts_with("log.") {
            self.set(field, value.to_string());
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value.to_string());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "log.target" => self.log_target = Some(value.to_owned()),
            _ => self.set_text(field, value),
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set_text(field, error_chain(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set_text(field, format_args!("{value:?}"));
    }
}
