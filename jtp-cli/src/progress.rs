//! How far a job is: the bar at a terminal, and the last line.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{
    HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState,
    ProgressStyle,
};
use jtp_core::ImageId;
use jtp_store::FileName;

use crate::escape::escaped;
use crate::exit::Exit;
use crate::terminal::{note_line, result_line, show_bar};

const BAR: &str =
    "{images} images {wide_bar:.cyan/blue} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left";

/// How images are told while they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Errors only.
    Quiet,
    /// A bar, at a terminal.
    Bar,
    /// A line for each image.
    Lines,
}

/// What has happened in a job so far. Shared by its connections.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    bar: ProgressBar,
    images: Arc<AtomicU64>,
    bytes: AtomicU64,
    failed: Mutex<BTreeMap<&'static str, u64>>,
    /// What failed on account of the local disk.
    failed_here: AtomicU64,
    began: Instant,
}

impl Progress {
    /// The beginning of a job.
    #[must_use]
    pub fn new(style: Style) -> Progress {
        Progress {
            style,
            bar: ProgressBar::hidden(),
            images: Arc::default(),
            bytes: AtomicU64::new(0),
            failed: Mutex::default(),
            failed_here: AtomicU64::new(0),
            began: Instant::now(),
        }
    }

    /// Shows what goes on before anything is fetched.
    pub fn preparing(&mut self, what: &str) {
        if self.has_bar() {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            let bar = ProgressBar::new_spinner().with_message(what.to_owned());
            self.show(
                bar,
                style.unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
        }
    }

    /// Shows a bar for so many images and bytes.
    pub fn fetching(&mut self, images: u64, bytes: u64) {
        if self.has_bar() {
            let done = Arc::clone(&self.images);
            let count = move |_: &ProgressState, out: &mut dyn Write| {
                // Indicatif has nowhere to report an error to.
                let _ = write!(
                    out,
                    "{}/{}",
                    HumanCount(done.load(Ordering::Relaxed)),
                    HumanCount(images)
                );
            };
            let style = ProgressStyle::with_template(BAR)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("━╸─")
                .with_key("images", count);
            self.show(ProgressBar::new(bytes), style);
        }
    }

    fn has_bar(&self) -> bool {
        self.style == Style::Bar && io::stderr().is_terminal()
    }

    fn show(&mut self, bar: ProgressBar, style: ProgressStyle) {
        self.hide();
        bar.set_draw_target(ProgressDrawTarget::stderr());
        self.bar = bar.with_style(style);
        self.bar.enable_steady_tick(Duration::from_millis(200));
        show_bar(Some(self.bar.clone()));
    }

    /// Takes the bar away.
    pub fn hide(&self) {
        show_bar(None);
        self.bar.finish_and_clear();
    }

    /// Bytes of the image in hand came; of its size, at most that.
    pub fn moved(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// What was told by [`Progress::moved`] is to be taken back: it will come again, or not at all.
    pub fn moved_back(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    /// An image of so many bytes is in place.
    pub fn placed(&self, name: &FileName, bytes: u64) {
        self.images.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.style == Style::Lines {
            // Whoever started this may have stopped to read.
            let _ = result_line(format_args!(
                "fetched {} ({})",
                escaped(name.as_str()),
                HumanBytes(bytes)
            ));
        }
    }

    /// An image failed: a line of its own, and counted by kind for the last line.
    pub fn failed(&self, id: ImageId, name: &FileName, kind: &'static str, why: &dyn fmt::Display) {
        if kind == LOCAL_DISK {
            self.failed_here.fetch_add(1, Ordering::Relaxed);
        }
        *self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(kind)
            .or_default() += 1;
        note_line(format_args!(
            "failed: {} ({id}): {why}",
            escaped(name.as_str())
        ));
    }

    /// The code that the images alone would lead to.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.failed_here.load(Ordering::Relaxed) > 0 {
            Exit::Disk
        } else if self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_empty()
        {
            Exit::Success
        } else {
            Exit::SomeFailed
        }
    }

    /// Ends the job: takes the bar away and prints the last line.
    pub fn finish(&self, rest: Rest) {
        self.hide();
        if self.style == Style::Bar {
            let _ = result_line(format_args!("{}", self.summary(rest, self.began.elapsed())));
        }
    }

    fn summary(&self, rest: Rest, time: Duration) -> String {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let images = self.images.load(Ordering::Relaxed);
        let plural = if images == 1 { "" } else { "s" };
        let mut line = format!(
            "fetched {} image{plural} ({}) in {}; {} already there; {} failed",
            HumanCount(images),
            HumanBytes(self.bytes.load(Ordering::Relaxed)),
            shown(time),
            HumanCount(rest.already),
            HumanCount(failed.values().sum()),
        );
        for (n, (kind, count)) in failed.iter().enumerate() {
            line += if n == 0 { ": " } else { ", " };
            line += &format!("{} {kind}", HumanCount(*count));
        }
        if rest.gone > 0 {
            line += &format!("; {} gone from the server meanwhile", HumanCount(rest.gone));
        }
        if rest.unfetched > 0 {
            line += &format!("; {} not fetched", HumanCount(rest.unfetched));
        }
        line
    }
}

/// A time to three digits or so.
fn shown(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..60 => format!("{:.1} s", time.as_secs_f64()),
        seconds => HumanDuration(Duration::from_secs(seconds)).to_string(),
    }
}

/// The kind of failure that is the local disk's.
pub const LOCAL_DISK: &str = "local disk";

/// What the last line says beside what was fetched and what failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rest {
    /// Images that were there before.
    pub already: u64,
    /// Images that the server had at first and has no more.
    pub gone: u64,
    /// Images that were not got to.
    pub unfetched: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use jtp_core::FileType;

    #[test]
    fn the_last_line_counts_everything() {
        let progress = Progress::new(Style::Bar);
        let name = FileName::of_id(ImageId(1), FileType::Png);
        assert_eq!(
            progress.summary(
                Rest {
                    already: 12,
                    ..Rest::default()
                },
                Duration::from_millis(50)
            ),
            "fetched 0 images (0 B) in 50 ms; 12 already there; 0 failed"
        );
        assert_eq!(progress.exit(), Exit::Success);
        progress.placed(&name, 1 << 20);
        progress.failed(ImageId(1), &name, "too large", &"x");
        progress.failed(ImageId(2), &name, "not sent", &"x");
        progress.failed(ImageId(3), &name, "not sent", &"x");
        assert_eq!(progress.exit(), Exit::SomeFailed);
        assert_eq!(
            progress.summary(
                Rest {
                    already: 0,
                    gone: 1,
                    unfetched: 1234
                },
                Duration::from_secs(2)
            ),
            "fetched 1 image (1.00 MiB) in 2.0 s; 0 already there; 3 failed: 2 not sent, 1 too large; \
             1 gone from the server meanwhile; 1,234 not fetched"
        );
        progress.failed(ImageId(4), &name, LOCAL_DISK, &"x");
        assert_eq!(progress.exit(), Exit::Disk);
    }
}
