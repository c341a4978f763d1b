//! What `client` prints: the progress bar, a line for each failure, and the summary in the last line; with `--json`, an
//! object for each event.

mod bar;
mod failure;
mod images;
pub mod json;
mod lines;
mod mirror;
mod names;
mod progress;
mod summary;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, HumanDuration};
use jtp_core::ImageId;
use jtp_sync::{ListReport, SyncEvent, Totals};
use jtp_tokio::client::ReplicaError;
use tokio::time::MissedTickBehavior;

use crate::client_args::ClientArgs;
use crate::connect;
use crate::escape::escaped;
use crate::exit::Exit;
use crate::json_log::JsonLog;
use crate::terminal::{stderr_line, stdout_line};
use bar::Bar;
use failure::FailureKind;
use lines::{LineKind, Lines, print_more};
use names::Misnamed;
use progress::Progress;
use summary::Counts;

/// How often progress is looked at.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(250);

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Errors only.
    Quiet,
    /// Progress and a summary.
    Job,
    /// Progress. The summary comes from elsewhere.
    Plan,
    /// One line per image.
    Watch,
}

/// Prints what the engine reports.
#[derive(Debug)]
pub struct Reporter {
    args: ClientArgs,
    json: Option<Arc<JsonLog>>,
    /// The server in use.
    server: Mutex<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    style: Style,
    progress: Progress,
    bar: Bar,
    started: Instant,
    lists: u64,
    /// The last LIST ended early.
    is_incomplete: bool,
    counts: Counts,
    /// Renames, those of a swap included.
    renames: u64,
    /// Files that a mirror has deleted.
    deleted: u64,
    has_reported_watch: bool,
    /// A line has said that the connection was lost.
    has_reported_loss: bool,
    /// A line has said that nothing was deleted because the disk is full.
    has_reported_undeleted: bool,
    /// A file cannot be moved to the backup folder.
    has_no_backup: bool,
    lines: Lines,
    misnamed: Misnamed,
    /// What the last retry was about.
    retried: String,
    /// The fewest connections that the server left, if it refused some.
    connections: Option<usize>,
}

impl Reporter {
    /// A reporter that prints nothing yet.
    #[must_use]
    pub fn new(args: &ClientArgs, json: Option<&Arc<JsonLog>>) -> Reporter {
        Reporter {
            args: args.clone(),
            json: json.cloned(),
            server: Mutex::new(args.servers.first().to_string()),
            state: Mutex::new(State::new(Style::Quiet, args)),
        }
    }

    /// A job begins.
    pub fn begin(&self, style: Style) {
        *self.state() = State::new(style, &self.args);
    }

    /// Runs a job, and shows its progress meanwhile.
    pub async fn during<T>(&self, job: impl Future<Output = T>) -> T {
        let mut interval = tokio::time::interval(PROGRESS_INTERVAL);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first one is at once: short jobs have no progress.
        interval.tick().await;
        let progress = async {
            loop {
                interval.tick().await;
                self.show_progress(Instant::now());
            }
        };
        tokio::select! {
            biased;
            result = job => result,
            never = progress => match never {},
        }
    }

    fn show_progress(&self, now: Instant) {
        let state = &mut *self.state();
        if let Some(json) = &self.json {
            if let Some(object) = state.progress.object(now) {
                json.write(&object);
            }
            return;
        }
        match state.style {
            Style::Quiet | Style::Watch => {}
            Style::Job | Style::Plan if state.bar.is_terminal() => state.bar.show(&state.progress),
            Style::Job | Style::Plan => {
                if let Some(line) = state.progress.line(now) {
                    stderr_line(format_args!("{line}"));
                }
            }
        }
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
        if let Some(json) = &self.json {
            if let Some(object) = json::object(event, &self.args) {
                match event {
                    SyncEvent::Change(_) | SyncEvent::Difference(_) => json.write_buffered(&object),
                    _ => json.write(&object),
                }
            }
        }
        self.state().progress.event(event);
        match event {
            // Results follow on stdout.
            SyncEvent::Change(_) | SyncEvent::Difference(_) => self.state().bar.close(),
            SyncEvent::FolderInUse => self.note(format_args!(
                "waiting for another client that is syncing {}",
                escaped(&self.args.out.to_string_lossy())
            )),
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
            SyncEvent::Renamed {
                id,
                from,
                to,
                aside,
            } => self.renamed(*id, from, to, *aside),
            SyncEvent::Broken { id, cause } => {
                tracing::debug!(%id, ?cause, "image is broken; requesting it again");
            }
            SyncEvent::Refused {
                id,
                name,
                reason,
                blocker,
                cause,
                stored_as,
            } => self.refused(*id, (*name, *stored_as), (*reason, *blocker), *cause),
            SyncEvent::NotListed { id } => self.not_listed(*id),
            SyncEvent::Deleted { name, .. } => self.deleted(name),
            SyncEvent::DeleteFailed { name, cause } => self.delete_failed(name, cause),
            SyncEvent::NotDeleted { files, reason } => self.not_deleted(*files, *reason),
            SyncEvent::Retrying {
                error,
                pause,
                address,
            } => {
                if let Some(address) = address {
                    (*address).clone_into(&mut lock(&self.server));
                }
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
                let was_lost = std::mem::take(&mut self.state().has_reported_loss);
                if first {
                    self.note(format_args!(
                        "watching {} for new images; press Ctrl-C to stop",
                        self.server()
                    ));
                } else if was_lost {
                    self.note(format_args!("connected to {} again", self.server()));
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
            self.state().has_reported_loss |= kind == LineKind::Retry;
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
            state.is_incomplete = report.entries < announced;
            state.retried.clear();
            state.counts.listed = report.entries - report.doubled;
            // The files to delete are chosen again.
            state.counts.undeleted = 0;
            // Before the first LIST the client knows of no image.
            state.counts.gone += report.gone;
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

    /// Prints a result to stdout, unless that has JSON.
    fn print(&self, line: fmt::Arguments<'_>) {
        if self.json.is_none() {
            // The reader of stdout may have closed the pipe.
            let _ = stdout_line(line);
        }
    }

    /// The exit code determined by the images alone.
    #[must_use]
    pub fn exit(&self) -> Exit {
        let state = self.state();
        let (failed, undeleted) = (&state.counts.failed, state.counts.undeleted);
        if failed.contains_key(&FailureKind::LocalDisk) || state.has_no_backup {
            Exit::Disk
        } else if failed.is_empty() && undeleted == 0 && !state.is_incomplete {
            Exit::Success
        } else {
            Exit::SomeFailed
        }
    }

    /// Ends what has no summary of its own: removes the bar.
    pub fn finish_plan(&self) {
        self.end(&mut self.state());
    }

    fn end(&self, state: &mut State) {
        state.bar.close();
        state.lines.print_rest();
        match state.style {
            Style::Quiet => {}
            Style::Job | Style::Plan | Style::Watch => state.misnamed.print(),
        }
        let fewer = state.connections.take();
        if let Some(connections) = fewer.filter(|_| state.style != Style::Quiet) {
            stderr_line(format_args!(
                "{} admitted only {connections} of {} connections",
                self.server(),
                self.args.parallel
            ));
        }
    }

    /// Ends a job: removes the bar and prints the summary, if there was a catalog.
    pub fn finish(&self, totals: &Totals) {
        let state = &mut *self.state();
        self.end(state);
        if state.lists == 0 {
            return;
        }
        let time = state.started.elapsed();
        if let Some(json) = &self.json {
            json.write(&state.counts.object(totals, time));
        } else if state.style == Style::Job {
            let backup = self.args.backup_dir.as_deref();
            let line = state.counts.line(totals, time, backup);
            let _ = stdout_line(format_args!("{line}"));
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn new(style: Style, args: &ClientArgs) -> State {
        let now = Instant::now();
        State {
            style,
            progress: Progress::new(args.servers.first().to_string(), args.out.clone(), now),
            bar: Bar::new(),
            started: now,
            lists: 0,
            is_incomplete: false,
            counts: Counts::default(),
            renames: 0,
            deleted: 0,
            has_reported_watch: false,
            has_reported_loss: false,
            has_reported_undeleted: false,
            has_no_backup: false,
            lines: Lines::new(style == Style::Watch),
            misnamed: Misnamed::default(),
            retried: String::new(),
            connections: None,
        }
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

/// Formats a time with about three digits.
fn format_time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => HumanDuration(Duration::from_secs(seconds)).to_string(),
    }
}
