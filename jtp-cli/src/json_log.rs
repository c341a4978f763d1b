//! The output of `client --json`: one JSON object on each line of stdout. docs/json.md describes the objects.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jtp_tokio::ShutdownSignal;

use crate::client_args::ClientArgs;
use crate::exit::Exit;
pub use crate::json::Object;
use crate::terminal::stderr_line;

/// The version of the objects. It changes when a program that reads them must: when an event or a member is removed,
/// renamed, or means something else. New events and members do not change it.
pub const SCHEMA: u8 = 1;

/// An object that reports an event.
pub(crate) fn event(name: &str) -> Object {
    Object::new().string("event", name)
}

/// Writes objects to stdout.
#[derive(Debug)]
pub struct JsonLog {
    state: Mutex<State>,
    /// What a failed write ends.
    at_error: Mutex<Option<ShutdownSignal>>,
}

#[derive(Debug)]
struct State {
    out: BufWriter<Stdout>,
    /// The first error. Nothing is written after it.
    error: Option<io::Error>,
    /// The last object was written. A thread that still reports something is too late.
    has_ended: bool,
}

impl JsonLog {
    /// Begins the output.
    #[must_use]
    pub fn start(args: &ClientArgs) -> JsonLog {
        let log = JsonLog::new();
        let start = start_object()
            .string("command", command(args))
            .string("server", &args.servers);
        log.write(&start.string("out", args.out.display()));
        log
    }

    fn new() -> JsonLog {
        JsonLog {
            state: Mutex::new(State {
                out: BufWriter::new(io::stdout()),
                error: None,
                has_ended: false,
            }),
            at_error: Mutex::default(),
        }
    }

    /// Ends a program that would go on without end when its output cannot be written any more.
    pub(crate) fn end_at_error(&self, shutdown: &ShutdownSignal) {
        *lock(&self.at_error) = Some(shutdown.clone());
        self.check();
    }

    fn check(&self) {
        if self.has_failed() {
            if let Some(shutdown) = &*lock(&self.at_error) {
                shutdown.begin();
            }
        }
    }

    /// Whether the output cannot be written any more: the reader has closed the pipe, or the disk is full.
    pub(crate) fn has_failed(&self) -> bool {
        lock(&self.state).error.is_some()
    }

    /// Writes an object that is read at once.
    pub(crate) fn write(&self, object: &Object) {
        {
            let state = &mut *lock(&self.state);
            state.write(object);
            state.flush();
        }
        self.check();
    }

    /// Writes one of many objects.
    pub(crate) fn write_buffered(&self, object: &Object) {
        lock(&self.state).write(object);
    }

    /// Writes the last object, and returns the program's exit code: that of a local disk error if stdout could not be
    /// written. `message` is that of the error that ended the program early.
    #[must_use]
    pub fn end(&self, exit: Exit, message: Option<&str>) -> Exit {
        let object = match message {
            None => event("end").number("exit_code", exit.code()),
            Some("") => error_object(exit.code(), exit.name(), "interrupted by a signal"),
            Some(message) => error_object(exit.code(), exit.name(), message),
        };
        let state = &mut *lock(&self.state);
        state.write(&object);
        state.flush();
        state.has_ended = true;
        match state.error.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                stderr_line(format_args!("error: cannot write to stdout: {error}"));
                exit.max(Exit::Disk)
            }
            _ => exit,
        }
    }
}

impl State {
    fn write(&mut self, object: &Object) {
        if self.error.is_none() && !self.has_ended {
            self.error = writeln!(self.out, "{object}").err();
        }
    }

    fn flush(&mut self) {
        if self.error.is_none() {
            self.error = self.out.flush().err();
        }
    }
}

fn start_object() -> Object {
    event("start")
        .number("schema", SCHEMA)
        .string("version", env!("CARGO_PKG_VERSION"))
}

fn error_object(exit_code: u8, kind: &str, message: &str) -> Object {
    event("error")
        .number("exit_code", exit_code)
        .string("kind", kind)
        .string("message", message)
}

/// Writes the whole output of a command line that is invalid.
pub fn usage_error(message: &str) {
    let log = JsonLog::new();
    log.write(&start_object());
    log.write(&error_object(2, "usage", message));
}

fn command(args: &ClientArgs) -> &'static str {
    match args {
        ClientArgs { list: true, .. } => "list",
        ClientArgs { check: true, .. } => "check",
        ClientArgs { dry_run: true, .. } => "dry_run",
        ClientArgs { watch: true, .. } => "watch",
        _ => "fetch",
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
