//! What becomes of each image.

use indicatif::HumanBytes;
use jtp_core::ImageId;
use jtp_store::FileName;
use jtp_sync::{Blocker, Cause, Reason};

use super::failure::{FailureKind, failure_text, is_failure};
use super::lines::{LINES_OF_A_KIND, LineKind};
use super::{Reporter, State, Style, names, not_listed_line};
use crate::escape::escaped;

impl Reporter {
    pub(super) fn placed(&self, id: ImageId, name: &FileName, bytes: u64, replaced: bool) {
        tracing::debug!(%id, name = %escaped(name.as_str()), bytes, "stored");
        let style = {
            let state = &mut *self.state();
            state.counts.fetched += 1;
            state.counts.bytes += bytes;
            state.counts.replaced += u64::from(replaced);
            state.style
        };
        if style == Style::Watch {
            self.print(format_args!(
                "fetched {} ({}){}",
                escaped(name.as_str()),
                HumanBytes(bytes),
                if replaced { ", replacing a file" } else { "" }
            ));
        }
    }

    pub(super) fn renamed(&self, id: ImageId, from: &str, to: &FileName, aside: bool) {
        let (style, count) = {
            let State {
                misnamed,
                counts,
                style,
                renames,
                ..
            } = &mut *self.state();
            *renames += 1;
            // In a swap, a file has another name for a moment.
            if aside {
                counts.kept_aside.insert(id);
            } else {
                counts.kept_aside.remove(&id);
                counts.renamed += 1;
                if !to.as_str().contains(&id.to_string()) {
                    misnamed.remove(id);
                }
            }
            (*style, *renames)
        };
        let (from, to) = (escaped(from), escaped(to.as_str()));
        if style == Style::Watch {
            self.print(format_args!("renamed {from} to {to}"));
        } else if count <= u64::from(LINES_OF_A_KIND) {
            tracing::info!(%from, %to, "renamed");
        } else {
            tracing::trace!(%from, %to, "renamed");
        }
    }

    pub(super) fn refused(
        &self,
        id: ImageId,
        (name, stored_as): (Option<&FileName>, Option<&FileName>),
        (reason, blocker): (Reason, Option<&Blocker>),
        cause: Option<&Cause>,
    ) {
        let name = name.map_or_else(|| id.to_string(), |name| escaped(name.as_str()).to_string());
        let text = failure_text(reason, (blocker, cause), stored_as, &self.args);
        if !is_failure(reason, cause) {
            if self.args.keep_existing && reason == Reason::NameTaken {
                // As the user has asked for.
                tracing::info!(%name, %id, "stored with its ID in its name");
            } else {
                self.misnamed(id, blocker);
            }
            return;
        }
        self.failed(FailureKind::of(reason, cause));
        self.limited(
            LineKind::Failed,
            format_args!("failed: {name} ({id}): {text}"),
        );
    }

    /// An image has its ID in its name. A later step of the job may give it its own name, so the line comes at the end.
    fn misnamed(&self, id: ImageId, blocker: Option<&Blocker>) {
        let (is_new, style) = {
            let state = &mut *self.state();
            (state.misnamed.add(id, blocker), state.style)
        };
        if let (true, Style::Watch, Some(blocker)) = (is_new, style, blocker) {
            let line = names::line(blocker, 1);
            self.limited(LineKind::Name, format_args!("warning: {line}"));
        }
    }

    fn failed(&self, kind: FailureKind) {
        *self.state().counts.failed.entry(kind).or_default() += 1;
    }

    pub(super) fn not_listed(&self, id: ImageId) {
        self.failed(FailureKind::NotListed);
        not_listed_line(id);
    }
}
