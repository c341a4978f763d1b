//! The progress bar at a terminal.

use std::fmt::Write;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{HumanCount, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};
use jtp_sync::Count;

use crate::terminal::set_bar;

const TEMPLATE: &str =
    "{images} images {wide_bar:.cyan/blue} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left";

/// The bar. It is hidden where stderr is no terminal.
#[derive(Debug, Default)]
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    images: Arc<AtomicU64>,
    planned: Arc<AtomicU64>,
}

impl Bar {
    /// Shows the bar, if there is something to fetch.
    pub(super) fn show(&mut self, planned: Count) {
        self.planned.store(planned.images, Ordering::Relaxed);
        if self.bar.is_none() && planned.images > 0 && io::stderr().is_terminal() {
            self.bar = Some(self.start());
        }
        if let Some(bar) = &self.bar {
            bar.set_length(planned.bytes);
        }
    }

    pub(super) fn set_position(&self, bytes: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(bytes);
        }
    }

    pub(super) fn set_images(&self, images: u64) {
        self.images.store(images, Ordering::Relaxed);
    }

    pub(super) fn finish(&mut self) {
        set_bar(None);
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn start(&self) -> ProgressBar {
        let (done, planned) = (Arc::clone(&self.images), Arc::clone(&self.planned));
        let count = move |_: &ProgressState, out: &mut dyn Write| {
            // indicatif offers no way to report an error.
            let _ = write!(
                out,
                "{}/{}",
                HumanCount(done.load(Ordering::Relaxed)),
                HumanCount(planned.load(Ordering::Relaxed))
            );
        };
        let style = ProgressStyle::with_template(TEMPLATE)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("━╸─")
            .with_key("images", count);
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        let bar = bar.with_style(style);
        bar.enable_steady_tick(Duration::from_millis(200));
        set_bar(Some(bar.clone()));
        bar
    }
}
