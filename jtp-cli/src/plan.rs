//! The output of `--dry-run` and `--check`.

use std::collections::HashSet;
use std::io::{self, BufWriter, Stdout, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, HumanCount};
use jtp_core::ImageId;
use jtp_sync::{Change, Comparison, Difference, SyncEvent, Totals};
use jtp_tokio::ShutdownSignal;

use crate::client_args::ClientArgs;
use crate::connect::Connector;
use crate::escape::escaped;
use crate::exit::{Exit, Failure};
use crate::json_log::{JsonLog, Object, event};
use crate::report::{self, Reporter, Style, images};
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
    json: Option<&Arc<JsonLog>>,
) -> Result<Exit, Failure> {
    let reporter = Arc::new(Reporter::new(args, json));
    let printer = Arc::new(Printer::new(args.verbose > 0, json.is_some()));
    let observer = {
        let (reporter, printer) = (Arc::clone(&reporter), Arc::clone(&printer));
        move |event: &SyncEvent<'_>| {
            match event {
                SyncEvent::Change(change) => printer.change(change),
                SyncEvent::Difference(difference) => printer.difference(difference),
                _ => {}
            }
            reporter.event(event);
        }
    };
    let mut sync = build(args, connector, shutdown, observer)?;
    let mut exit = Exit::Success;
    for number in 1..=args.repeat {
        if let Some(json) = json {
            json.write(&report::json::job(number, args.repeat));
        }
        let started = Instant::now();
        reporter.begin(match args.quiet {
            true => Style::Quiet,
            false => Style::Plan,
        });
        printer.begin();
        let ended = if args.check {
            reporter
                .during(Box::pin(sync.check()))
                .await
                .map(|comparison| {
                    let exit = match comparison.is_equal() {
                        true => Exit::Success,
                        false => Exit::SomeFailed,
                    };
                    let object = report::json::comparison(&comparison, started.elapsed());
                    (exit, check_summary(&comparison), object)
                })
        } else {
            let planned = reporter.during(Box::pin(sync.dry_run())).await;
            planned.map(|totals| {
                let object = printer.plan_object(&totals, started.elapsed());
                (Exit::Success, printer.plan_summary(&totals), object)
            })
        };
        reporter.finish_plan();
        printer.finish()?;
        exit = exit.max(reporter.exit());
        let (found, summary, object) =
            ended.map_err(|error| failure(&error, args, 0).after(exit))?;
        exit = exit.max(found);
        if let Some(json) = json {
            json.write(&object);
        } else if !args.quiet {
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
    /// stdout has JSON instead.
    is_silent: bool,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    out: BufWriter<Stdout>,
    error: Option<io::Error>,
    fetched: (u64, u64),
    replaced: u64,
    /// Images whose files get their own names, and those whose files only get out of the way.
    renamed: HashSet<ImageId>,
    kept_aside: HashSet<ImageId>,
    deleted: u64,
    kept: u64,
}

impl Printer {
    fn new(verbose: bool, is_silent: bool) -> Printer {
        Printer {
            verbose,
            is_silent,
            state: Mutex::new(State::new()),
        }
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
        if let Some(line) = change_line(change, self.verbose).filter(|_| !self.is_silent) {
            state.write(&line);
        }
    }

    fn difference(&self, difference: &Difference) {
        if !self.is_silent {
            self.state().write(&difference_line(difference));
        }
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
            HumanCount(state.already_there()),
        );
        for (_, words, count) in state.rows(totals).iter().filter(|row| row.2 > 0) {
            line += &format!("; {} {words}", HumanCount(*count));
        }
        line
    }

    fn plan_object(&self, totals: &Totals, time: Duration) -> Object {
        let state = self.state();
        let plan = event("plan")
            .number("fetch", state.fetched.0)
            .number("bytes", state.fetched.1)
            .seconds("seconds", time)
            .number("already_there", state.already_there());
        let rows = state.rows(totals);
        rows.iter()
            .fold(plan, |plan, (key, _, count)| plan.number(key, *count))
    }
}

impl State {
    fn new() -> State {
        State {
            out: BufWriter::new(io::stdout()),
            error: None,
            fetched: (0, 0),
            replaced: 0,
            renamed: HashSet::new(),
            kept_aside: HashSet::new(),
            deleted: 0,
            kept: 0,
        }
    }

    /// What the summary names after the images to fetch: the member in JSON, the words after the number, the number.
    fn rows(&self, totals: &Totals) -> [(&'static str, &'static str, u64); 5] {
        [
            ("replace", "would replace a file", self.replaced),
            ("rename", "would be renamed", count(&self.renamed)),
            (
                "keep_aside",
                "would be kept under another name",
                count(&self.kept_aside),
            ),
            ("delete", "would be deleted", self.deleted),
            ("left_out", "left out by filter", totals.left_out.images),
        ]
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
            Change::Rename {
                id,
                aside,
                replaces,
                ..
            } => {
                // In a swap, a file has another name for a moment.
                if *aside {
                    self.kept_aside.insert(*id);
                } else {
                    self.kept_aside.remove(id);
                    self.renamed.insert(*id);
                }
                self.replaced += u64::from(*replaces);
            }
            Change::Delete { .. } => self.deleted += 1,
            Change::Keep { .. } => self.kept += 1,
            _ => {}
        }
    }

    /// Images that are in the folder, as far as they are selected.
    fn already_there(&self) -> u64 {
        self.kept + count(&self.renamed) + count(&self.kept_aside)
    }

    fn write(&mut self, line: &str) {
        if self.error.is_none() {
            self.error = writeln!(self.out, "{line}").err();
        }
    }
}

fn count(images: &HashSet<ImageId>) -> u64 {
    u64::try_from(images.len()).unwrap_or(u64::MAX)
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
        Change::Delete { name, .. } => format!("delete   {}", escaped(name)),
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
        Difference::Unreadable { name, .. } => format!("unread   {}", escaped(name.as_str())),
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
    for (count, words) in others.iter().filter(|row| row.0 > 0) {
        line += &format!("; {} {words}", HumanCount(*count));
    }
    if comparison.is_incomplete {
        line += "; the catalog is incomplete";
    }
    line
}
