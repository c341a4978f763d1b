//! How far a job has come: the text of the line at a terminal, and of the lines where there is none. It reads no clock.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use indicatif::{BinaryBytes, HumanBytes, HumanCount};
use jtp_core::ImageId;
use jtp_sync::{Count, SyncEvent};

use super::images;
use crate::escape::escaped;
use crate::json_log::{Object, event};

/// How often a job without a terminal prints a line.
pub(super) const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// How often `--json` reports progress.
const OBJECT_INTERVAL: Duration = Duration::from_secs(1);

/// Images from this length on are named while they arrive, in bytes.
const LARGE: u32 = 16 << 20;

/// The most characters of such a name.
const MAX_NAME: usize = 24;

/// What a job is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
enum Phase {
    /// The server has not sent its catalog.
    #[default]
    Waiting,
    /// The folder is compared with the catalog, or nothing is left to do.
    Comparing,
    Fetching,
}

#[derive(Debug)]
pub(super) struct Progress {
    server: String,
    folder: PathBuf,
    phase: Phase,
    /// Another client brings the folder in step.
    is_locked_out: bool,
    /// The files found by the scan in progress, and those read.
    scan: Option<(u64, u64)>,
    planned: Count,
    fetched: Count,
    /// Large images that are arriving.
    large: Vec<(ImageId, String)>,
    line_at: Instant,
    /// The bytes that had arrived by then.
    bytes_then: u64,
    object_at: Instant,
    last_object: Option<Object>,
}

impl Progress {
    pub(super) fn new(server: String, folder: PathBuf, now: Instant) -> Progress {
        Progress {
            server,
            folder,
            phase: Phase::Waiting,
            is_locked_out: false,
            scan: None,
            planned: Count::default(),
            fetched: Count::default(),
            large: Vec::new(),
            line_at: now,
            bytes_then: 0,
            object_at: now,
            last_object: None,
        }
    }

    pub(super) fn event(&mut self, event: &SyncEvent<'_>) {
        match event {
            SyncEvent::FolderInUse => self.is_locked_out = true,
            SyncEvent::Scanning { files, read } => {
                self.is_locked_out = false;
                self.scan = Some((*files, *read));
            }
            SyncEvent::Scanned { .. } => self.scan = None,
            SyncEvent::Listed { .. } => {
                self.scan = None;
                self.phase = self.phase.max(Phase::Comparing);
            }
            SyncEvent::Planned(totals) => {
                self.planned = totals.planned;
                if totals.planned.images > 0 {
                    self.phase = Phase::Fetching;
                }
            }
            SyncEvent::Started { id, length, name } if *length >= LARGE => {
                let name = name.map_or_else(|| id.to_string(), |name| shortened(name.as_str()));
                self.ended(*id);
                self.large.push((*id, name));
            }
            SyncEvent::Progress { bytes } => self.fetched.bytes = *bytes,
            SyncEvent::Placed { id, .. } => {
                self.fetched.images += 1;
                self.ended(*id);
            }
            SyncEvent::Broken { id, .. } | SyncEvent::Refused { id, .. } => self.ended(*id),
            // The images that were arriving begin again.
            SyncEvent::Retrying { .. } => self.large.clear(),
            _ => {}
        }
    }

    fn ended(&mut self, id: ImageId) {
        self.large.retain(|(other, _)| *other != id);
    }

    pub(super) fn planned(&self) -> Count {
        self.planned
    }

    pub(super) fn fetched(&self) -> Count {
        self.fetched
    }

    /// The large image that began to arrive last.
    pub(super) fn large_image(&self) -> &str {
        self.large.last().map_or("", |(_, name)| name)
    }

    /// Whether images are being fetched, or were.
    pub(super) fn is_fetching(&self) -> bool {
        self.phase == Phase::Fetching
    }

    /// What is done before the first image is fetched.
    pub(super) fn preparation(&self) -> String {
        match (self.scan, self.phase) {
            _ if self.is_locked_out => format!(
                "waiting for another client that is syncing {}",
                escaped(&self.folder.to_string_lossy())
            ),
            (Some((files, read)), _) => format!(
                "scanning {}: {} files, {} read",
                escaped(&self.folder.to_string_lossy()),
                HumanCount(files),
                HumanCount(read)
            ),
            (None, Phase::Waiting) => format!("waiting for the catalog of {}", self.server),
            (None, _) => format!(
                "comparing {} with the catalog",
                escaped(&self.folder.to_string_lossy())
            ),
        }
    }

    /// The line for a log, if it is time for one.
    pub(super) fn line(&mut self, now: Instant) -> Option<String> {
        let time = now.saturating_duration_since(self.line_at);
        if time < LINE_INTERVAL {
            return None;
        }
        let bytes = self.fetched.bytes.saturating_sub(self.bytes_then);
        self.line_at = now;
        self.bytes_then = self.fetched.bytes;
        if !self.is_fetching() {
            return Some(self.preparation());
        }
        let mut line = format!(
            "fetched {} of {} ({} of {}), {}/s",
            HumanCount(self.fetched.images),
            images(self.planned.images),
            HumanBytes(self.fetched.bytes),
            HumanBytes(self.planned.bytes),
            BinaryBytes(per_second(bytes, time)),
        );
        let name = self.large_image();
        if !name.is_empty() {
            line += "; fetching ";
            line += name;
        }
        Some(line)
    }

    /// The object for `--json`, if it is time for one and something has changed.
    pub(super) fn object(&mut self, now: Instant) -> Option<Object> {
        if now.saturating_duration_since(self.object_at) < OBJECT_INTERVAL {
            return None;
        }
        let object = match (self.scan, self.phase) {
            (Some((files, read)), _) => event("scanning")
                .number("files", files)
                .number("read", read),
            (None, Phase::Fetching) => event("progress")
                .number("images", self.fetched.images)
                .number("bytes", self.fetched.bytes)
                .number("planned_images", self.planned.images)
                .number("planned_bytes", self.planned.bytes),
            _ => return None,
        };
        if self.last_object.as_ref() == Some(&object) {
            return None;
        }
        self.object_at = now;
        self.last_object = Some(object.clone());
        Some(object)
    }
}

fn per_second(bytes: u64, time: Duration) -> u64 {
    let milliseconds = time.as_millis().max(1);
    u64::try_from(u128::from(bytes) * 1000 / milliseconds).unwrap_or(u64::MAX)
}

fn shortened(name: &str) -> String {
    let mut short: String = name.chars().take(MAX_NAME).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    escaped(&short).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use jtp_core::FileType;
    use jtp_store::FileName;
    use jtp_sync::{ListReport, Totals};

    const SECOND: Duration = Duration::from_secs(1);

    fn listed(progress: &mut Progress) {
        let report = ListReport::default();
        progress.event(&SyncEvent::Listed {
            report: &report,
            announced: 0,
        });
    }

    fn planned(progress: &mut Progress, images: u64, bytes: u64) {
        let mut totals = Totals::default();
        totals.planned.images = images;
        totals.planned.bytes = bytes;
        progress.event(&SyncEvent::Planned(&totals));
    }

    #[test]
    fn a_log_gets_a_line_every_30_s_and_a_short_job_none() {
        let start = Instant::now();
        let mut progress = Progress::new("host:1".to_owned(), "a\u{1b}b".into(), start);
        assert_eq!(progress.line(start + 29 * SECOND), None);
        let line = progress.line(start + 31 * SECOND);
        assert_eq!(line.as_deref(), Some("waiting for the catalog of host:1"));
        assert_eq!(progress.line(start + 60 * SECOND), None);
        progress.event(&SyncEvent::Scanning {
            files: 12_345,
            read: 1_200,
        });
        let line = progress.line(start + 61 * SECOND).unwrap();
        assert_eq!(line, r"scanning a\u{1b}b: 12,345 files, 1,200 read");
        progress.event(&SyncEvent::Scanned {
            files: 12_345,
            read: 1_200,
        });
        listed(&mut progress);
        assert_eq!(
            progress.line(start + 91 * SECOND).unwrap(),
            r"comparing a\u{1b}b with the catalog"
        );
        planned(&mut progress, 4_000, 8 << 30);
        progress.event(&SyncEvent::Progress { bytes: 3 << 30 });
        let lines: Vec<_> = (92..=151)
            .filter_map(|second| progress.line(start + second * SECOND))
            .collect();
        assert_eq!(
            lines,
            [
                "fetched 0 of 4,000 images (3.00 GiB of 8.00 GiB), 102.40 MiB/s",
                "fetched 0 of 4,000 images (3.00 GiB of 8.00 GiB), 0 B/s",
            ]
        );
        // A clock that goes back, and bytes that turned out to be useless.
        progress.event(&SyncEvent::Progress { bytes: 0 });
        assert_eq!(progress.line(start), None);
        let line = progress.line(start + 200 * SECOND).unwrap();
        assert!(line.ends_with("(0 B of 8.00 GiB), 0 B/s"), "{line}");
    }

    #[test]
    fn a_large_image_is_named_while_it_arrives() {
        let mut progress = Progress::new("host:1".to_owned(), "out".into(), Instant::now());
        let (one, two, small) = (ImageId(1), ImageId(2), ImageId(3));
        let name = FileName::of_id(one, FileType::Png);
        let start = |progress: &mut Progress, id, length, name| {
            progress.event(&SyncEvent::Started { id, length, name });
        };
        start(&mut progress, small, LARGE - 1, Some(&name));
        assert_eq!(progress.large_image(), "");
        start(&mut progress, one, LARGE, Some(&name));
        start(&mut progress, two, u32::MAX, None);
        assert_eq!(progress.large_image(), "0000000000000002");
        // It begins again after a lost connection.
        start(&mut progress, two, u32::MAX, None);
        progress.event(&SyncEvent::Placed {
            id: two,
            name: &name,
            bytes: 1,
            replaced: false,
        });
        assert_eq!(progress.large_image(), "0000000000000001.png");
        planned(&mut progress, 2, 100);
        let line = progress.line(Instant::now() + LINE_INTERVAL).unwrap();
        assert!(line.ends_with("; fetching 0000000000000001.png"), "{line}");
        let error = jtp_driver::client::Error::Failed;
        progress.event(&SyncEvent::Retrying {
            error: &error,
            pause: SECOND,
            address: None,
        });
        assert_eq!(progress.large_image(), "");
        assert_eq!(shortened("a\u{202e}"), r"a\u{202e}");
        assert_eq!(shortened(&"写".repeat(300)), "写".repeat(MAX_NAME) + "…");
    }

    #[test]
    fn json_reports_progress_every_second_if_there_is_any() {
        let start = Instant::now();
        let mut progress = Progress::new("host:1".to_owned(), "out".into(), start);
        assert_eq!(progress.object(start + 10 * SECOND), None);
        progress.event(&SyncEvent::Scanning { files: 5, read: 2 });
        let object = progress.object(start + 10 * SECOND).unwrap();
        let scanning = r#"{"event":"scanning","files":5,"read":2}"#;
        assert_eq!(object.to_string(), scanning);
        assert_eq!(progress.object(start + 20 * SECOND), None);
        listed(&mut progress);
        planned(&mut progress, 3, 100);
        progress.event(&SyncEvent::Progress { bytes: 7 });
        let object = progress.object(start + 20 * SECOND).unwrap();
        let fetching =
            r#"{"event":"progress","images":0,"bytes":7,"planned_images":3,"planned_bytes":100}"#;
        assert_eq!(object.to_string(), fetching);
        progress.event(&SyncEvent::Progress { bytes: 8 });
        assert_eq!(progress.object(start + 20 * SECOND + SECOND / 2), None);
        assert!(progress.object(start + 21 * SECOND).is_some());
    }
}
