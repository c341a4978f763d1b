//! Lines that a server, or a folder, can cause without end: the first of each kind are printed, the others are counted.

use std::time::{Duration, Instant};

use indicatif::HumanCount;
use jtp_driver::LogThrottle;

use crate::terminal::stderr_line;

/// How many lines of one kind are printed before they are only counted.
pub(super) const LINES_OF_A_KIND: u32 = 20;

/// The time in which a job prints one more line of a kind.
const JOB_INTERVAL: Duration = Duration::from_secs(3600);

/// The same with `--watch`, where no summary follows.
const WATCH_INTERVAL: Duration = Duration::from_secs(60);

/// A kind of line that a server, or a folder, can cause without end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LineKind {
    Failed,
    Retry,
    Server,
    Unreadable,
    Name,
}

impl LineKind {
    const ALL: [LineKind; 5] = [
        LineKind::Failed,
        LineKind::Retry,
        LineKind::Server,
        LineKind::Unreadable,
        LineKind::Name,
    ];
}

/// Prints how many lines of a kind were left out.
pub(super) fn print_more(kind: LineKind, count: u64) {
    if count == 0 {
        return;
    }
    let (one, more) = match kind {
        LineKind::Failed => ("image failed", "images failed"),
        LineKind::Retry => ("retry", "retries"),
        LineKind::Server => ("change of the server", "changes of the server"),
        LineKind::Unreadable => ("file cannot be read", "files cannot be read"),
        LineKind::Name => (
            "image does not have its name",
            "images do not have their names",
        ),
    };
    let what = if count == 1 { one } else { more };
    stderr_line(format_args!("... and {} more {what}", HumanCount(count)));
}

/// The lines of each kind.
#[derive(Debug)]
pub(super) struct Lines([LogThrottle; LineKind::ALL.len()]);

impl Lines {
    pub(super) fn new(is_watching: bool) -> Lines {
        let interval = match is_watching {
            true => WATCH_INTERVAL,
            false => JOB_INTERVAL,
        };
        Lines(LineKind::ALL.map(|_| LogThrottle::new(LINES_OF_A_KIND, interval)))
    }

    /// Counts a line. If it is to be printed, returns how many before it were not.
    pub(super) fn record(&mut self, kind: LineKind) -> Option<u64> {
        let count = self.0[kind as usize].record(Instant::now())?;
        Some(count - 1)
    }

    /// Prints how many lines were left out since.
    pub(super) fn print_rest(&mut self) {
        for kind in LineKind::ALL {
            print_more(kind, self.0[kind as usize].take_unlogged());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_of_each_kind_are_printed_and_the_others_counted() {
        let mut lines = Lines::new(false);
        for kind in LineKind::ALL {
            let printed = (0..1_000).filter(|_| lines.record(kind).is_some()).count();
            assert_eq!(printed, 20, "{kind:?}");
            assert_eq!(lines.0[kind as usize].take_unlogged(), 980);
        }
    }
}
