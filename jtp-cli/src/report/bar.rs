//! The progress at a terminal: a line until the first image is fetched, then a bar.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::progress::Progress;
use crate::terminal::set_bar;

const BAR: &str = "{prefix} images {wide_bar:.cyan/blue} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left{msg}";

const LINE: &str = "{spinner} {wide_msg} {elapsed}";

/// The progress at a terminal.
#[derive(Debug)]
pub(super) struct Bar {
    is_terminal: bool,
    is_closed: bool,
    line: Option<ProgressBar>,
    bar: Option<ProgressBar>,
}

impl Bar {
    /// A bar if stderr is a terminal.
    pub(super) fn new() -> Bar {
        Bar {
            is_terminal: io::stderr().is_terminal(),
            is_closed: false,
            line: None,
            bar: None,
        }
    }

    pub(super) fn is_terminal(&self) -> bool {
        self.is_terminal
    }

    /// Shows the state.
    pub(super) fn show(&mut self, progress: &Progress) {
        if !self.is_terminal || self.is_closed {
            return;
        }
        if !progress.is_fetching() {
            let line = self.line.get_or_insert_with(|| start(LINE));
            line.set_message(progress.preparation());
            return;
        }
        if self.bar.is_none() {
            self.clear();
        }
        let bar = self.bar.get_or_insert_with(|| start(BAR));
        let (planned, fetched) = (progress.planned(), progress.fetched());
        bar.set_length(planned.bytes);
        bar.set_position(fetched.bytes);
        let (done, all) = (HumanCount(fetched.images), HumanCount(planned.images));
        bar.set_prefix(format!("{done}/{all}"));
        bar.set_message(match progress.large_image() {
            "" => String::new(),
            name => format!(" {name}"),
        });
    }

    /// Removes it for good.
    pub(super) fn close(&mut self) {
        self.is_closed = true;
        self.clear();
    }

    fn clear(&mut self) {
        if self.line.is_some() || self.bar.is_some() {
            set_bar(None);
        }
        for bar in [self.line.take(), self.bar.take()].into_iter().flatten() {
            bar.finish_and_clear();
        }
    }
}

fn start(template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("━╸─");
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
    bar.enable_steady_tick(Duration::from_millis(200));
    set_bar(Some(bar.clone()));
    bar
}
