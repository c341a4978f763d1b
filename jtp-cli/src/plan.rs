//! The output of `--dry-run` and `--check`.

use std::io::{self, BufWriter, Stdout, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use indicatif::{HumanBytes, HumanCount};
use jtp_sync::{Change, Comparison, Difference, SyncEvent, Totals};
use jtp_tokio::ShutdownSignal;

use crate::client_args::ClientArgs;
use crate::connect::Connector;
use crate::escape::escaped;
use crate::exit::{Exit, Failure};
use crate::report::{Reporter, Style, images};
use crate::sync::{build, failure};
use crate::terminal::stderr_line;

/// Runs `--dry-run` or `--check`. Neither changes anything.
///
/// # Errors
///
/// The failure that ended the job early.
pub async fn run(
    args: &ClientArgs,
    connector: &Connector,
    shutdown: &ShutdownSignal,
) -> Result<Exit, Failure> {
    let reporter = Arc::new(Reporter::new(args));
    let printer = Arc::new(Printer::new(args.verbose > 0));
    let observer = {
        let (reporter, printer) = (Arc::clone(&reporter), Arc::clone(&printer));
        move |event: &SyncEvent<'_>| match event {
            SyncEvent::Change(change) => printer.change(change),
            SyncEvent::Difference(difference) => printer.difference(difference),
            event => reporter.event(event),
        }
    };
    let mut sync = build(args, connector, shutdown, observer)?;
    let mut exit = Exit::Success;
    for _ in 0..args.repeat {
        reporter.begin(match args.quiet {
            true => Style::Quiet,
            // Notes, and no summary of its own.
            false => Style::Lines,
        });
        printer.begin();
        let ended = if args.check {
            sync.check().await.map(|comparison| {
                let exit = match comparison.is_equal() {
                    true => Exit::Success,
                    false => Exit::SomeFailed,
                };
                (exit, check_summary(&comparison))
            })
        } else {
            let planned = sync.dry_run().await;
            planned.map(|totals| (Exit::Success, printer.plan_summary(&totals)))
        };
        printer.finish()?;
        exit = exit.max(reporter.exit());
        let (found, summary) = ended.map_err(|error| failure(&error, args).after(exit))?;
        exit = exit.max(found);
        if !args.quiet {
            stderr_line(format_args!("{summary}"));
        }
    }
    Ok(exit)
}

/// Prints a line for each change or difference. A closed pipe, as in `client --dry-run | head`, is not an error.
#[derive(Debug)]
struct Printer {
    /// Also prints what would stay as it is.
    verbose: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    out: BufWriter<Stdout>,
    error: Option<io::Error>,
    fetched: (u64, u64),
    replaced: u64,
    renamed: u64,
    kept: u64,
}

impl Printer {
    fn new(verbose: bool) -> Printer {
        let state = Mutex::new(State::new());
        Printer { verbose, state }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) {
        *self.state() = State::new();
    }

    fn change(&self, change: &Change) {
        let state = &mut *self.state();
        state.count(change);
        if let Some(line) = change_line(change, self.verbose) {
            state.write(&line);
        }
    }

    fn difference(&self, difference: &Difference) {
        self.state().write(&difference_line(difference));
    }

    /// Writes what is buffered.
    fn finish(&self) -> Result<(), Failure> {
        let state = &mut *self.state();
        let flushed = state.out.flush();
        match state.error.take().map_or(flushed, Err) {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::new(
                Exit::Disk,
                format!("cannot write to stdout: {error}"),
            )),
            _ => Ok(()),
        }
    }

    fn plan_summary(&self, totals: &Totals) -> String {
        let state = self.state();
        let (fetched, bytes) = state.fetched;
        let mut line = format!(
            "dry run: would fetch {} ({}); {} already there",
            images(fetched),
            HumanBytes(bytes),
            HumanCount(state.kept),
        );
        let others = [
            (state.replaced, "would replace a file"),
            (state.renamed, "would be renamed"),
            (totals.left_out.images, "left out by filter"),
        ];
        append(&mut line, &others);
        line
    }
}

impl State {
    fn new() -> State {
        State {
            out: BufWriter::new(io::stdout()),
            error: None,
            fetched: (0, 0),
            replaced: 0,
            renamed: 0,
            kept: 0,
        }
    }

    fn count(&mut self, change: &Change) {
        match change {
            Change::Fetch {
                length, replaces, ..
            } => {
                self.fetched.0 += 1;
                self.fetched.1 += u64::from(*length);
                self.replaced += u64::from(*replaces);
            }
            Change::Rename { replaces, .. } => {
                self.renamed += 1;
                self.replaced += u64::from(*replaces);
            }
            Change::Keep { .. } => self.kept += 1,
            _ => {}
        }
    }

    fn write(&mut self, line: &str) {
        if self.error.is_none() {
            self.error = writeln!(self.out, "{line}").err();
        }
    }
}

/// The line of `--dry-run`; `None` for what is printed with `-v` only. Each line whose content is lost begins with
/// `replace`.
fn change_line(change: &Change, verbose: bool) -> Option<String> {
    Some(match change {
        Change::Fetch {
            name,
            length,
            replaces,
            ..
        } => {
            let action = if *replaces { "replace" } else { "fetch" };
            format!("{action:<7}  {}  {length}", escaped(name.as_str()))
        }
        Change::Rename {
            from, to, replaces, ..
        } => {
            let action = if *replaces { "replace" } else { "rename" };
            format!("{action:<7}  {} -> {}", escaped(from), escaped(to.as_str()))
        }
        Change::Keep { name, .. } if verbose => format!("keep     {}", escaped(name)),
        Change::LeaveOut { name, .. } if verbose => format!("skip     {}", escaped(name)),
        _ => return None,
    })
}

/// The line of `--check`.
fn difference_line(difference: &Difference) -> String {
    match difference {
        Difference::Missing { name, .. } => format!("missing  {}", escaped(name.as_str())),
        Difference::Differs { name, .. } => format!("differs  {}", escaped(name.as_str())),
        Difference::Renamed { from, to, .. } => {
            format!("renamed  {} -> {}", escaped(from), escaped(to.as_str()))
        }
        Difference::Extra { name, .. } => format!("extra    {}", escaped(name)),
        other => format!("other    {}", escaped(&format!("{other:?}"))),
    }
}

fn check_summary(comparison: &Comparison) -> String {
    let mut line = format!(
        "check: {} the same; {} missing; {} differ; {} renamed; {} extra",
        images(comparison.same),
        HumanCount(comparison.missing),
        HumanCount(comparison.differs),
        HumanCount(comparison.renamed),
        HumanCount(comparison.extra),
    );
    let others = [
        (comparison.unreadable, "cannot be read"),
        (comparison.left_out, "left out by filter"),
    ];
    append(&mut line, &others);
    line
}

/// Appends the counts that are not 0.
fn append(line: &mut String, counts: &[(u64, &str)]) {
    for (count, what) in counts.iter().filter(|(count, _)| *count > 0) {
        *line += &format!("; {} {what}", HumanCount(*count));
    }
}
