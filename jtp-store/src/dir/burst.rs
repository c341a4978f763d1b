//! Limits log lines about single files: a folder can have a million files of which each deserves one.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The most lines of one kind in each [`WINDOW`].
const MAX_LINES: u64 = 20;

const WINDOW: Duration = Duration::from_secs(60);

/// Limits the lines of one kind, in all stores of the process.
pub(super) struct LineLimit(Mutex<State>);

struct State {
    begun: Option<Instant>,
    /// In the current window.
    count: u64,
}

/// What to log about an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// The event. Before it, this many had no line.
    Full(u64),
    /// Only that more events like the ones before have no line for a while.
    More,
    /// Nothing.
    None,
}

impl LineLimit {
    pub(super) const fn new() -> LineLimit {
        LineLimit(Mutex::new(State {
            begun: None,
            count: 0,
        }))
    }

    pub(super) fn record(&self, now: Instant) -> Line {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |begun| now.saturating_duration_since(begun) >= WINDOW;
        let mut unlogged = 0;
        if state.begun.is_none_or(is_over) {
            unlogged = state.count.saturating_sub(MAX_LINES);
            *state = State {
                begun: Some(now),
                count: 0,
            };
        }
        state.count += 1;
        match state.count {
            1..=MAX_LINES => Line::Full(unlogged),
            count if count == MAX_LINES + 1 => Line::More,
            _ => Line::None,
        }
    }
}

/// Logs an event about a file within the limit of a static [`LineLimit`]: `limited!(LIMIT, level, fields…, "message")`.
macro_rules! limited {
    ($limit:ident, $level:ident, $($event:tt)+) => {
        match $limit.record(::std::time::Instant::now()) {
            $crate::dir::burst::Line::Full(0) => ::tracing::$level!($($event)+),
            $crate::dir::burst::Line::Full(unlogged) => ::tracing::$level!(unlogged, $($event)+),
            $crate::dir::burst::Line::More => {
                ::tracing::$level!("more lines like the one before are left out for a minute");
            }
            $crate::dir::burst::Line::None => {}
        }
    };
}

pub(super) use limited;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twenty_lines_in_each_minute_then_a_count() {
        let (limit, begun) = (LineLimit::new(), Instant::now());
        let record = |seconds| limit.record(begun + Duration::from_secs(seconds));
        for _ in 0..20 {
            assert_eq!(record(0), Line::Full(0));
        }
        assert_eq!(record(30), Line::More);
        for _ in 0..1_000 {
            assert_eq!(record(59), Line::None);
        }
        assert_eq!(record(60), Line::Full(1_001));
        assert_eq!(record(60), Line::Full(0));
        assert_eq!(record(200), Line::Full(0));
    }
}
