//! The summary of a job: one table, of which both the last line and the object of `--json` are made.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use indicatif::{HumanBytes, HumanCount};
use jtp_core::ImageId;
use jtp_sync::Totals;

use super::failure::FailureKind;
use super::{format_time, images};
use crate::escape::escaped;
use crate::json_log::{Object, event};
use crate::sync::not_fetched;

/// What a job has done, as counted by its events.
#[derive(Debug, Default)]
pub(super) struct Counts {
    /// Images that were fetched and are stored.
    pub(super) fetched: u64,
    /// Their decoded bytes.
    pub(super) bytes: u64,
    pub(super) replaced: u64,
    pub(super) renamed: u64,
    /// Images whose files were kept under another name, and have it still.
    pub(super) kept_aside: HashSet<ImageId>,
    /// Images of the last LIST.
    pub(super) listed: u64,
    pub(super) gone: u64,
    /// Files that the server does not list and that were not deleted.
    pub(super) undeleted: u64,
    pub(super) failed: BTreeMap<FailureKind, u64>,
}

/// A row of the summary: its member in JSON, its words after the number, and the number. People are not shown 0.
struct Row(&'static str, &'static str, u64);

impl Counts {
    /// All rows but those that the line always begins with.
    fn rows(&self, totals: &Totals) -> Vec<Row> {
        let kept_aside = u64::try_from(self.kept_aside.len()).unwrap_or(u64::MAX);
        vec![
            Row("replaced", "replaced a file", self.replaced),
            Row("renamed", "renamed", self.renamed),
            Row("deleted", "deleted", totals.deleted),
            Row("undeleted", "not deleted", self.undeleted),
            Row("kept_aside", "kept under another name", kept_aside),
            Row("gone", "gone from the server meanwhile", self.gone),
            Row("not_fetched", "not fetched", not_fetched(totals)),
            Row("left_out", "left out by filter", totals.left_out.images),
            Row("backed_up", "moved to", totals.backed_up),
        ]
    }

    fn already_there(&self, totals: &Totals) -> u64 {
        let others = totals.planned.images + totals.left_out.images;
        self.listed.saturating_sub(others)
    }

    fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// The last line of a job.
    pub(super) fn line(&self, totals: &Totals, time: Duration, backup: Option<&Path>) -> String {
        let mut line = format!(
            "fetched {} ({}) in {}; {} already there; {} failed",
            images(self.fetched),
            HumanBytes(self.bytes),
            format_time(time),
            HumanCount(self.already_there(totals)),
            HumanCount(self.failures()),
        );
        for (n, (kind, count)) in self.failed.iter().enumerate() {
            line += if n == 0 { ": " } else { ", " };
            line += &format!("{} {}", HumanCount(*count), kind.words());
        }
        for Row(_, words, count) in self.rows(totals).iter().filter(|row| row.2 > 0) {
            line += &format!("; {} {words}", HumanCount(*count));
        }
        // The last row.
        if let Some(backup) = backup.filter(|_| totals.backed_up > 0) {
            line += &format!(" {}", escaped(&backup.to_string_lossy()));
        }
        line
    }

    /// The same for `--json`.
    pub(super) fn object(&self, totals: &Totals, time: Duration) -> Object {
        let failures = self.failed.iter().fold(Object::new(), |object, failed| {
            object.number(failed.0.key(), *failed.1)
        });
        let summary = event("summary")
            .number("fetched", self.fetched)
            .number("bytes", self.bytes)
            .seconds("seconds", time)
            .number("already_there", self.already_there(totals))
            .number("failed", self.failures())
            .object("failures", &failures);
        let rows = self.rows(totals);
        rows.iter().fold(summary, |object, Row(key, _, count)| {
            object.number(key, *count)
        })
    }
}
