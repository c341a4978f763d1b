//! What `client` prints: the progress bar, a line for each failure, and the summary in the last line.

mod lines;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{
    HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState,
    ProgressStyle,
};
use jtp_core::{ImageFault, ImageId};
use jtp_store::FileName;
use jtp_sync::{Cause, ListReport, Reason, SyncEvent, Totals};
use jtp_tokio::client::ReplicaError;

use crate::client_args::ClientArgs;
use crate::connect;
use crate::escape::escaped;
use crate::exit::{Exit, error_chain};
use crate::sync::not_fetched;
use crate::terminal::{set_bar, stderr_line, stdout_line};
use lines::{LINES_OF_A_KIND, LineKind, Lines, print_more};

const BAR: &str =
    "{images} images {wide_bar:.cyan/blue} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left";

/// The failure kind for errors of the local disk.
const LOCAL_DISK: &str = "local disk";

/// The failure kind for IDs of `--get` that the server does not list.
const NOT_LISTED: &str = "not on the server";

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Errors only.
    Quiet,
    /// A progress bar if stderr is a terminal, and a summary.
    Bar,
    /// One line per image.
    Lines,
}

/// Prints what the engine reports.
#[derive(Debug)]
pub struct Reporter {
    args: ClientArgs,
    /// The server in use.
    server: Mutex<String>,
    state: Mutex<State>,
    /// For the bar.
    images: Arc<AtomicU64>,
    planned: Arc<AtomicU64>,
}

#[derive(Debug)]
struct State {
    style: Style,
    bar: ProgressBar,
    started: Instant,
    lists: u64,
    listed: u64,
    gone: u64,
    bytes: u64,
    renamed: u64,
    replaced: u64,
    failed: BTreeMap<&'static str, u64>,
    has_reported_watch: bool,
    lines: Lines,
    /// What the last retry was about.
    retried: String,
    /// The fewest connections that the server left, if it refused some.
    connections: Option<usize>,
}

impl Reporter {
    /// A reporter that prints nothing yet.
    #[must_use]
    pub fn new(args: &ClientArgs) -> Reporter {
        Reporter {
            args: args.clone(),
            server: Mutex::new(args.servers.first().to_string()),
            state: Mutex::new(State::new(Style::Quiet)),
            images: Arc::default(),
            planned: Arc::default(),
        }
    }

    /// A job begins.
    pub fn begin(&self, style: Style) {
        *self.state() = State::new(style);
        self.images.store(0, Ordering::Relaxed);
        self.planned.store(0, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// The address of the server in use.
    fn server(&self) -> String {
        lock(&self.server).clone()
    }

    /// A server failed, and another one is used.
    fn server_changed(&self, failed: &ReplicaError, address: &str) {
        address.clone_into(&mut lock(&self.server));
        if let Some(line) = connect::server_changed(failed, &self.args, address) {
            self.limited(LineKind::Server, format_args!("{line}"));
        }
    }

    /// Prints an event.
    pub fn event(&self, event: &SyncEvent<'_>) {
        match event {
            SyncEvent::Progress { bytes } => self.state().bar.set_position(*bytes),
            SyncEvent::Planned(totals) => self.planned(totals),
            SyncEvent::Listed { report, announced } => self.listed(report, *announced),
            SyncEvent::Unreadable { name, error } => self.limited(
                LineKind::Unreadable,
                format_args!(
                    "warning: cannot read {}: {error}; leaving it as it is",
                    escaped(&name.to_string_lossy())
                ),
            ),
            SyncEvent::Placed {
                id,
                name,
                bytes,
                replaced,
            } => self.placed(*id, name, *bytes, *replaced),
            SyncEvent::Renamed { from, to, .. } => self.renamed(from, to),
            SyncEvent::Broken { id, cause } => {
                tracing::debug!(%id, ?cause, "image is broken; requesting it again");
            }
            SyncEvent::Refused {
                id,
                name,
                reason,
                cause,
            } => self.refused(*id, *name, *reason, *cause),
            SyncEvent::NotListed { id } => self.not_listed(*id),
            SyncEvent::Retrying { error, pause } => {
                self.retrying(&connect::retry_message(error, &self.args), *pause);
            }
            SyncEvent::ServerChanged { failed, address } => self.server_changed(failed, address),
            SyncEvent::FewerConnections { connections } => {
                let state = &mut *self.state();
                let fewest = state.connections.unwrap_or(usize::MAX);
                state.connections = Some(fewest.min(*connections));
            }
            SyncEvent::Watching => {
                let first = !std::mem::replace(&mut self.state().has_reported_watch, true);
                if first {
                    self.note(format_args!(
                        "watching {} for new images; press Ctrl-C to stop",
                        self.server()
                    ));
                }
            }
            _ => {}
        }
    }

    /// Prints a line unless `--quiet` was given.
    fn note(&self, line: fmt::Arguments<'_>) {
        if self.state().style != Style::Quiet {
            stderr_line(line);
        }
    }

    /// Prints a line of a kind that can be repeated without end.
    fn limited(&self, kind: LineKind, line: fmt::Arguments<'_>) {
        let due = self.state().lines.record(kind);
        if let Some(unprinted) = due {
            print_more(kind, unprinted);
            stderr_line(line);
        }
    }

    /// Prints a line for a retry, unless the last one since the LIST said the same: each image that the server cannot
    /// send costs several.
    fn retrying(&self, message: &str, pause: Duration) {
        let is_new = {
            let last = &mut self.state().retried;
            let is_new = last != message;
            if is_new {
                message.clone_into(last);
            }
            is_new
        };
        if is_new && self.state().style != Style::Quiet {
            self.limited(
                LineKind::Retry,
                format_args!("{message} (retrying in {})", format_time(pause)),
            );
        }
    }

    fn listed(&self, report: &ListReport, announced: u64) {
        tracing::debug!(images = report.entries, "received the catalog");
        {
            let state = &mut *self.state();
            state.lists += 1;
            state.retried.clear();
            state.listed = report.entries - report.doubled;
            // Before the first LIST the client knows of no image.
            state.gone += report.gone;
        }
        if report.entries < announced {
            self.note(format_args!(
                "warning: {} announced {} images and listed {}; continuing with those",
                self.server(),
                HumanCount(announced),
                HumanCount(report.entries)
            ));
        }
        if report.same_name > 0 {
            self.note(format_args!(
                "warning: {} lists {} under the name of another image; the last one of each name gets it, the others get their ID as a suffix",
                self.server(),
                images(report.same_name)
            ));
            for (earlier, later) in &report.examples {
                tracing::info!(%earlier, %later, "two images have one name");
            }
        }
    }

    fn planned(&self, totals: &Totals) {
        self.planned.store(totals.planned.images, Ordering::Relaxed);
        let state = &mut *self.state();
        if state.bar.is_hidden() && state.has_bar() && totals.planned.images > 0 {
            state.show_bar(&self.images, &self.planned);
        }
        state.bar.set_length(totals.planned.bytes);
    }

    fn placed(&self, id: ImageId, name: &FileName, bytes: u64, replaced: bool) {
        self.images.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%id, name = %escaped(name.as_str()), bytes, "stored");
        let style = {
            let state = &mut *self.state();
            state.bytes += bytes;
            state.replaced += u64::from(replaced);
            state.style
        };
        if style == Style::Lines {
            // The reader of stdout may have closed the pipe.
            let _ = stdout_line(format_args!(
                "fetched {} ({}){}",
                escaped(name.as_str()),
                HumanBytes(bytes),
                if replaced { ", replacing a file" } else { "" }
            ));
        }
    }

    fn renamed(&self, from: &str, to: &FileName) {
        let (style, count) = {
            let state = &mut *self.state();
            state.renamed += 1;
            (state.style, state.renamed)
        };
        let (from, to) = (escaped(from), escaped(to.as_str()));
        if style == Style::Lines {
            let _ = stdout_line(format_args!("renamed {from} to {to}"));
        } else if count <= u64::from(LINES_OF_A_KIND) {
            tracing::info!(%from, %to, "renamed");
        } else {
            tracing::trace!(%from, %to, "renamed");
        }
    }

    fn refused(&self, id: ImageId, name: Option<&FileName>, reason: Reason, cause: Option<&Cause>) {
        let name = name.map_or_else(|| id.to_string(), |name| escaped(name.as_str()).to_string());
        // The image is there, under another name.
        let is_stored = matches!(reason, Reason::NameTaken | Reason::CannotRename);
        if is_stored && cause.is_none() {
            if self.state().style != Style::Quiet {
                self.limited(
                    LineKind::Name,
                    format_args!("warning: {name} ({id}): {reason}"),
                );
            }
            return;
        }
        let kind = failure_kind(reason, cause);
        *self.state().failed.entry(kind).or_default() += 1;
        let text = match cause {
            None | Some(Cause::NotSent) => {
                "the server lists this image but did not send it".to_owned()
            }
            Some(Cause::Fault(fault)) => error_chain(fault),
            Some(Cause::Connection(error)) => format!(
                "the server did not send it: {}",
                connect::retry_message(error, &self.args)
            ),
            Some(Cause::Folder(error)) if is_stored => format!("{reason}: {}", error_chain(error)),
            Some(Cause::Folder(error)) => error_chain(error),
            Some(_) => reason.to_string(),
        };
        self.limited(
            LineKind::Failed,
            format_args!("failed: {name} ({id}): {text}"),
        );
    }

    fn not_listed(&self, id: ImageId) {
        *self.state().failed.entry(NOT_LISTED).or_default() += 1;
        not_listed_line(id);
    }

    /// The exit code determined by the images alone.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let failed = &self.state().failed;
        if failed.contains_key(LOCAL_DISK) {
            Exit::Disk
        } else if failed.is_empty() {
            Exit::Success
        } else {
            Exit::SomeFailed
        }
    }

    /// Ends a job: removes the bar and prints the summary, if there was a catalog.
    pub fn finish(&self, totals: &Totals) {
        let state = &mut *self.state();
        set_bar(None);
        state.bar.finish_and_clear();
        state.lines.print_rest();
        let fewer = state.connections.take();
        if let Some(connections) = fewer.filter(|_| state.style != Style::Quiet) {
            stderr_line(format_args!(
                "{} admitted only {connections} of {} connections",
                self.server(),
                self.args.parallel
            ));
        }
        if state.style == Style::Bar && state.lists > 0 {
            let fetched = self.images.load(Ordering::Relaxed);
            let line = state.summary(fetched, totals, state.started.elapsed());
            let _ = stdout_line(format_args!("{line}"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn new(style: Style) -> State {
        State {
            style,
            bar: ProgressBar::hidden(),
            started: Instant::now(),
            lists: 0,
            listed: 0,
            gone: 0,
            bytes: 0,
            renamed: 0,
            replaced: 0,
            failed: BTreeMap::new(),
            has_reported_watch: false,
            lines: Lines::new(style == Style::Lines),
            retried: String::new(),
            connections: None,
        }
    }

    fn has_bar(&self) -> bool {
        self.style == Style::Bar && io::stderr().is_terminal()
    }

    fn show_bar(&mut self, done: &Arc<AtomicU64>, planned: &Arc<AtomicU64>) {
        let (done, planned) = (Arc::clone(done), Arc::clone(planned));
        let count = move |_: &ProgressState, out: &mut dyn Write| {
            // indicatif offers no way to report an error.
            let _ = write!(
                out,
                "{}/{}",
                HumanCount(done.load(Ordering::Relaxed)),
                HumanCount(planned.load(Ordering::Relaxed))
            );
        };
        let style = ProgressStyle::with_template(BAR)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─")
            .with_key("images", count);
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        self.bar = bar.with_style(style);
        self.bar.enable_steady_tick(Duration::from_millis(200));
        set_bar(Some(self.bar.clone()));
    }

    fn summary(&self, fetched: u64, totals: &Totals, time: Duration) -> String {
        let left_out = totals.left_out.images;
        let already = self.listed.saturating_sub(totals.planned.images + left_out);
        let mut line = format!(
            "fetched {} ({}) in {}; {} already there; {} failed",
            images(fetched),
            HumanBytes(self.bytes),
            format_time(time),
            HumanCount(already),
            HumanCount(self.failed.values().sum()),
        );
        for (n, (kind, count)) in self.failed.iter().enumerate() {
            line += if n == 0 { ": " } else { ", " };
            line += &format!("{} {kind}", HumanCount(*count));
        }
        let others = [
            (self.replaced, "replaced a file"),
            (self.renamed, "renamed"),
            (self.gone, "gone from the server meanwhile"),
            (not_fetched(totals), "not fetched"),
            (left_out, "left out by filter"),
        ];
        for (count, what) in others.into_iter().filter(|(count, _)| *count > 0) {
            line += &format!("; {} {what}", HumanCount(count));
        }
        line
    }
}

/// Prints that the server does not list an image of `--get`.
pub(crate) fn not_listed_line(id: ImageId) {
    stderr_line(format_args!("failed: {id}: the server does not list it"));
}

pub(crate) fn images(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{} image{plural}", HumanCount(count))
}

/// The kind of a failure, as counted in the last line.
fn failure_kind(reason: Reason, cause: Option<&Cause>) -> &'static str {
    match (reason, cause) {
        (Reason::CannotWrite | Reason::NamesTaken, _) | (_, Some(Cause::Folder(_))) => LOCAL_DISK,
        (_, Some(Cause::Fault(fault))) => match fault {
            ImageFault::WrongId { .. } => "with wrong content",
            ImageFault::Broken(_) => "damaged",
            ImageFault::TooLarge { .. } => "too large",
            ImageFault::Encrypted => "encrypted",
            _ => "of an unsupported kind",
        },
        _ => "not sent",
    }
}

/// Formats a time with about three digits.
fn format_time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => HumanDuration(Duration::from_secs(seconds)).to_string(),
    }
}
