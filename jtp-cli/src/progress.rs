//! Progress of a job: the progress bar, and the summary in the last line.

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
use crate::terminal::{set_bar, stderr_line, stdout_line};

const BAR: &str =
    "{images} images {wide_bar:.cyan/blue} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta} left";

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

/// The progress of a job, shared by its connections.
#[derive(Debug)]
pub struct Progress {
    style: Style,
    bar: ProgressBar,
    images: Arc<AtomicU64>,
    bytes: AtomicU64,
    failed: Mutex<BTreeMap<&'static str, u64>>,
    /// Number of failures caused by the local disk.
    disk_failures: AtomicU64,
    started: Instant,
}

impl Progress {
    /// Starts a job.
    #[must_use]
    pub fn new(style: Style) -> Progress {
        Progress {
            style,
            bar: ProgressBar::hidden(),
            images: Arc::default(),
            bytes: AtomicU64::new(0),
            failed: Mutex::default(),
            disk_failures: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    /// Shows a spinner with a message before the transfer starts.
    pub fn show_spinner(&mut self, message: &str) {
        if self.has_bar() {
            let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
            let bar = ProgressBar::new_spinner().with_message(message.to_owned());
            self.show(
                bar,
                style.unwrap_or_else(|_| ProgressStyle::default_spinner()),
            );
        }
    }

    /// Shows a bar for a transfer of this number of images and bytes.
    pub fn show_bar(&mut self, images: u64, bytes: u64) {
        if self.has_bar() {
            let done = Arc::clone(&self.images);
            let count = move |_: &ProgressState, out: &mut dyn Write| {
                // indicatif offers no way to report an error.
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
        set_bar(Some(self.bar.clone()));
    }

    /// Removes the bar.
    pub fn hide(&self) {
        set_bar(None);
        self.bar.finish_and_clear();
    }

    /// Adds received bytes to the bar.
    pub fn add_bytes(&self, bytes: u64) {
        self.bar.inc(bytes);
    }

    /// Subtracts bytes of an image that was not completed.
    pub fn subtract_bytes(&self, bytes: u64) {
        self.bar.dec(bytes);
    }

    /// Records an image of `bytes` bytes that was stored.
    pub fn image_stored(&self, name: &FileName, bytes: u64) {
        self.images.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        if self.style == Style::Lines {
            // The reader of stdout may have closed the pipe.
            let _ = stdout_line(format_args!(
                "fetched {} ({})",
                escaped(name.as_str()),
                HumanBytes(bytes)
            ));
        }
    }

    /// Records an image that failed: prints a line, and counts it by kind for the summary.
    pub fn image_failed(
        &self,
        id: ImageId,
        name: &FileName,
        kind: &'static str,
        cause: &dyn fmt::Display,
    ) {
        if kind == LOCAL_DISK {
            self.disk_failures.fetch_add(1, Ordering::Relaxed);
        }
        *self
            .failed
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .entry(kind)
            .or_default() += 1;
        stderr_line(format_args!(
            "failed: {} ({id}): {cause}",
            escaped(name.as_str())
        ));
    }

    /// The exit code determined by the images alone.
    #[must_use]
    pub fn exit(&self) -> Exit {
        if self.disk_failures.load(Ordering::Relaxed) > 0 {
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

    /// Ends the job: removes the bar and prints the summary.
    pub fn finish(&self, counts: OtherCounts) {
        self.hide();
        if self.style == Style::Bar {
            let _ = stdout_line(format_args!(
                "{}",
                self.summary(counts, self.started.elapsed())
            ));
        }
    }

    fn summary(&self, counts: OtherCounts, time: Duration) -> String {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let images = self.images.load(Ordering::Relaxed);
        let plural = if images == 1 { "" } else { "s" };
        let mut line = format!(
            "fetched {} image{plural} ({}) in {}; {} already there; {} failed",
            HumanCount(images),
            HumanBytes(self.bytes.load(Ordering::Relaxed)),
            format_time(time),
            HumanCount(counts.already),
            HumanCount(failed.values().sum()),
        );
        for (n, (kind, count)) in failed.iter().enumerate() {
            line += if n == 0 { ": " } else { ", " };
            line += &format!("{} {kind}", HumanCount(*count));
        }
        if counts.gone > 0 {
            line += &format!(
                "; {} gone from the server meanwhile",
                HumanCount(counts.gone)
            );
        }
        if counts.unfetched > 0 {
            line += &format!("; {} not fetched", HumanCount(counts.unfetched));
        }
        line
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

/// The failure kind for errors of the local disk.
pub const LOCAL_DISK: &str = "local disk";

/// Images in the summary that were neither fetched nor failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OtherCounts {
    /// Images that the output folder had before the job.
    pub already: u64,
    /// Images that the server removed during the job.
    pub gone: u64,
    /// Images that were not fetched because the job ended early.
    pub unfetched: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use jtp_core::FileType;

    #[test]
    fn summary_counts_all_outcomes() {
        let progress = Progress::new(Style::Bar);
        let name = FileName::of_id(ImageId(1), FileType::Png);
        assert_eq!(
            progress.summary(
                OtherCounts {
                    already: 12,
                    ..OtherCounts::default()
                },
                Duration::from_millis(50)
            ),
            "fetched 0 images (0 B) in 50 ms; 12 already there; 0 failed"
        );
        assert_eq!(progress.exit(), Exit::Success);
        progress.image_stored(&name, 1 << 20);
        progress.image_failed(ImageId(1), &name, "too large", &"x");
        progress.image_failed(ImageId(2), &name, "not sent", &"x");
        progress.image_failed(ImageId(3), &name, "not sent", &"x");
        assert_eq!(progress.exit(), Exit::SomeFailed);
        assert_eq!(
            progress.summary(
                OtherCounts {
                    already: 0,
                    gone: 1,
                    unfetched: 1234
                },
                Duration::from_secs(2)
            ),
            "fetched 1 image (1.00 MiB) in 2.0 s; 0 already there; 3 failed: 2 not sent, 1 too large; \
             1 gone from the server meanwhile; 1,234 not fetched"
        );
        progress.image_failed(ImageId(4), &name, LOCAL_DISK, &"x");
        assert_eq!(progress.exit(), Exit::Disk);
    }
}
