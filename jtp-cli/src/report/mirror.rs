//! What `--mirror` deletes, and why it does not.

use indicatif::{HumanBytes, HumanCount};
use jtp_sync::{Cause, NotDeleted, Totals};

use super::failure::cause_text;
use super::lines::{LINES_OF_A_KIND, LineKind};
use super::{Reporter, Style, images};
use crate::client_args::ClientArgs;
use crate::escape::escaped;
use crate::terminal::stderr_line;

impl Reporter {
    pub(super) fn deleted(&self, name: &str) {
        let (style, count) = {
            let state = &mut *self.state();
            state.deleted += 1;
            (state.style, state.deleted)
        };
        let name = escaped(name);
        if style == Style::Watch {
            self.print(format_args!("deleted {name}"));
        } else if count <= u64::from(LINES_OF_A_KIND) {
            tracing::info!(%name, "deleted");
        } else {
            tracing::trace!(%name, "deleted");
        }
    }

    pub(super) fn delete_failed(&self, name: &str, cause: &Cause) {
        {
            let state = &mut *self.state();
            state.counts.undeleted += 1;
            state.has_no_backup |= matches!(cause, Cause::Backup(_));
        }
        self.limited(
            LineKind::Failed,
            format_args!(
                "failed: {}: not deleted: {}",
                escaped(name),
                cause_text(cause, &self.args)
            ),
        );
    }

    pub(super) fn not_deleted(&self, files: u64, reason: NotDeleted) {
        {
            let state = &mut *self.state();
            match reason {
                // The run has ended by an error, which has an exit code of its own.
                NotDeleted::DiskFull { .. } => state.has_reported_undeleted = true,
                _ => state.counts.undeleted += files,
            }
        }
        stderr_line(format_args!(
            "warning: {}",
            not_deleted_text(files, reason, &self.args)
        ));
    }

    /// A job has ended by an error, a limit or a signal, before what the server does not list was deleted.
    pub fn ended_early(&self, totals: &Totals) {
        let is_due = {
            let state = self.state();
            state.lists > 0 && !state.has_reported_undeleted
        };
        if self.args.mirror && is_due && totals.deleted == 0 {
            stderr_line(format_args!(
                "warning: nothing was deleted: the run ended early"
            ));
        }
    }
}

/// Why nothing was deleted, and what to do.
pub(super) fn not_deleted_text(files: u64, reason: NotDeleted, args: &ClientArgs) -> String {
    let begin = if args.dry_run {
        "nothing would be deleted"
    } else {
        "nothing was deleted"
    };
    let files = images(files);
    match reason {
        NotDeleted::EmptyCatalog => format!(
            "{begin}: the server lists no images, and the folder has {files}; if that is right, use --max-delete 100%"
        ),
        NotDeleted::IncompleteCatalog => format!(
            "{begin}: the server sent only a part of its catalog, which does not list {files} of the folder; run the command again"
        ),
        NotDeleted::Failed => format!(
            "{begin}: some images failed; {files} that the server does not list can go when all are there"
        ),
        NotDeleted::ServerChanged => format!(
            "{begin}: another server took over, which does not list {files} of the folder; run the command again"
        ),
        NotDeleted::OverLimit { limit, present } => format!(
            "{begin}: the server does not list {files} of the folder's {}, more than the {} of --max-delete {}; to see them, use --dry-run --max-delete 100%",
            HumanCount(present),
            HumanCount(limit),
            args.max_delete
        ),
        NotDeleted::DiskFull { bytes } => format!(
            "{begin}: the disk is full, and files are deleted only when all images are there; {files} of the folder ({}) that the server does not list can be deleted to make room: --dry-run names them",
            HumanBytes(bytes)
        ),
        reason => format!("{begin}: {reason}; the server does not list {files} of the folder"),
    }
}
