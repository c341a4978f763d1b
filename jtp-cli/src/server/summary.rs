//! What the server leaves out, said at its start.

use std::path::Path;

use indicatif::HumanCount;
use jtp_store::{LeftOut, LeftOutReason};
use tracing::Level;

use crate::escape::shortened;
use crate::logging::LogFormat;

/// The examples of a reason without `--verbose`. With it, all that the store keeps are named.
const EXAMPLES: usize = 3;

/// The bytes of all examples of a reason, so that the line is not cut.
const MAX_NAMES: usize = 800;

/// The longest example in bytes.
const MAX_NAME: usize = 100;

/// Logs how many files are left out, and names the first of each reason: a line for each reason.
pub(super) fn log(left_out: &LeftOut, format: LogFormat) {
    let examples = match tracing::enabled!(Level::DEBUG) {
        true => LeftOut::MAX_EXAMPLES,
        false => EXAMPLES,
    };
    for reason in left_out.reasons() {
        let count = left_out.count(reason);
        let names = names(left_out, reason, examples);
        let line = line(reason, count, &names);
        match format {
            LogFormat::Text => tracing::info!("{line}"),
            LogFormat::Json => tracing::info!(reason = reason.as_str(), count, names, "{line}"),
        }
    }
}

fn line(reason: LeftOutReason, count: u64, names: &str) -> String {
    let (one, several, remedy) = words(reason);
    let what = if count == 1 { one } else { several };
    let names = match names {
        "" => String::new(),
        names => format!(" ({names})"),
    };
    format!("left out: {} {what}{names}{remedy}", HumanCount(count))
}

/// The first names, and `…` if there are more.
fn names(left_out: &LeftOut, reason: LeftOutReason, examples: usize) -> String {
    let names = left_out.examples(reason).take(examples);
    let limit = (MAX_NAMES / examples).min(MAX_NAME);
    let mut names: Vec<String> = names.map(|path| name(path, limit)).collect();
    let all = u64::try_from(names.len()).is_ok_and(|n| n >= left_out.count(reason));
    if !all && !names.is_empty() {
        names.push("…".to_owned());
    }
    names.join(", ")
}

fn name(path: &Path, limit: usize) -> String {
    let name = shortened(&path.to_string_lossy(), limit);
    match name.contains([' ', ',', '(', ')', '"']) {
        true => format!("\"{name}\""),
        false => name,
    }
}

/// What one file and what several are called, and what to do.
const fn words(reason: LeftOutReason) -> (&'static str, &'static str, &'static str) {
    match reason {
        LeftOutReason::Folder => ("sub-folder", "sub-folders", ": share them with --recursive"),
        LeftOutReason::NotAnImage => ("file that is no image", "files that are no images", ""),
        LeftOutReason::Hidden => ("hidden file or folder", "hidden files or folders", ""),
        LeftOutReason::Temporary => ("temporary file or backup", "temporary files or backups", ""),
        LeftOutReason::Excluded => (
            "file by --only, --include or --exclude",
            "files by --only, --include or --exclude",
            "",
        ),
        LeftOutReason::Duplicate => (
            "file with the same bytes as another one",
            "files with the same bytes as others",
            "",
        ),
        LeftOutReason::SameId => (
            "file with the ID of another one",
            "files with the IDs of others",
            "",
        ),
        LeftOutReason::Link => (
            "link that leads to no file that is shared",
            "links that lead to no file that is shared",
            "",
        ),
        LeftOutReason::Special => ("pipe, socket or device", "pipes, sockets or devices", ""),
        LeftOutReason::Unreadable => (
            "file or folder that cannot be read",
            "files or folders that cannot be read",
            ": check who may read them",
        ),
        LeftOutReason::TooLarge => ("file of 4 GiB or more", "files of 4 GiB or more", ""),
        LeftOutReason::NameTooLong => {
            ("file with too long a name", "files with too long names", "")
        }
        LeftOutReason::Changing => (
            "file that is being written",
            "files that are being written",
            ": shared once complete",
        ),
        LeftOutReason::NoRoom => (
            "file, because the index is full",
            "files, because the index is full",
            "",
        ),
        LeftOutReason::TooDeep => (
            "sub-folder at the 32nd level or deeper",
            "sub-folders at the 32nd level or deeper",
            "",
        ),
        LeftOutReason::Emptied => (
            "empty file that was an image",
            "empty files that were images",
            ": a copy or an editor may have failed",
        ),
        _ => ("other file", "other files", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_count_the_names_and_the_remedy() {
        assert_eq!(
            line(LeftOutReason::Folder, 12_000, "2021, 2022, …"),
            "left out: 12,000 sub-folders (2021, 2022, …): share them with --recursive"
        );
        assert_eq!(
            line(LeftOutReason::NoRoom, 1, ""),
            "left out: 1 file, because the index is full"
        );
    }

    #[test]
    fn every_reason_has_words() {
        for reason in LeftOutReason::ALL {
            assert_ne!(words(*reason).0, "other file", "{reason:?}");
        }
    }

    #[test]
    fn names_are_escaped_and_quoted_where_they_need_it() {
        let name = |path| name(Path::new(path), MAX_NAME);
        assert_eq!(name("2021"), "2021");
        assert_eq!(name("a b"), "\"a b\"");
        assert_eq!(name("a\nb"), "a\\nb");
    }
}
