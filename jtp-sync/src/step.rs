//! What the planner asks for, and what it learns.

use jtp_core::ImageId;
use jtp_store::FileName;

/// What the planner expects under a name before a step.
///
/// Its knowledge of the folder is a hint: the caller looks at the folder before it carries out the step, and reports
/// [`Outcome::Stale`] if it finds something else. Finding no file is never stale. // R8
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expect {
    /// No file.
    Nothing,
    /// This image, which may be replaced.
    Image(ImageId),
    /// This image, which the server still has. It may be replaced if the file `other` contains it too.
    Copy {
        /// The image.
        id: ImageId,
        /// The name of another file with it.
        other: String,
    },
    /// An image that was not read. Only with [`Fetch::All`](crate::Fetch::All). The caller reads it directly before the
    /// step, and asks [`Planner::may_replace_unread`](crate::Planner::may_replace_unread) whether it may be replaced.
    Unread,
}

/// The next thing to do with the files of the folder, or with an image that has arrived. All names are paths below the
/// folder, joined by `/`. Folders that a new name needs and that are missing are created.
///
/// [`Rename`](Step::Rename), [`KeepAside`](Step::KeepAside), [`Place`](Step::Place) and [`Replace`](Step::Replace) are
/// reported to [`Planner::report`](crate::Planner::report) when they are done. Steps that were returned and not yet
/// reported do not depend on each other: they may run at the same time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// Give a file its image's own name.
    Rename {
        /// The image that is in the file.
        id: ImageId,
        /// The file's name.
        from: String,
        /// The new name.
        to: FileName,
        /// What has that name now.
        expect: Expect,
    },
    /// Give a file another name, because another image needs its name and its own name is not free yet. // R8
    KeepAside {
        /// The image that is in the file.
        id: ImageId,
        /// The file's name.
        from: String,
        /// The new name, which no file has.
        to: FileName,
    },
    /// Make a fetched image visible under a name that no file has.
    Place {
        /// The image.
        id: ImageId,
        /// Its name.
        to: FileName,
    },
    /// Make a fetched image visible under the name of a file, which it replaces.
    Replace {
        /// The image.
        id: ImageId,
        /// Its name.
        to: FileName,
        /// What has that name now.
        expect: Expect,
    },
    /// Delete the received bytes of an image: no LIST names it, or it cannot be stored. Not reported. // R8
    Discard {
        /// The image.
        id: ImageId,
    },
    /// Nothing to do: the image is not stored, or not under its name, for this reason. Not reported.
    Refuse {
        /// The image.
        id: ImageId,
        /// Why.
        reason: Reason,
    },
}

/// Why an image is not stored, or not under its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It was requested as often as [`Options::attempts`](crate::Options::attempts) permits, and was broken or not
    /// sent. // R2
    #[error("the image was requested several times and never arrived intact")]
    NotReceived,
    /// Fetching it has failed finally.
    #[error("the image cannot be fetched")]
    CannotFetch,
    /// Its file cannot be written under its name, nor under a name with its ID.
    #[error("the image cannot be written")]
    CannotWrite,
    /// A name with its ID is in use, too.
    #[error("the names that the image may have are in use")]
    NamesTaken,
    /// The image is in the folder, and its file cannot be renamed.
    #[error("the image is in the folder under another name, and cannot be renamed")]
    CannotRename,
    /// The image is in the folder with its ID in its name, because what has its own name, or the name of one of its folders,
    /// cannot be replaced.
    #[error("the name of the image is in use, so the image has its ID in its name")]
    NameTaken,
}

/// The result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It is done.
    Done,
    /// The folder has changed: the files are not what the planner [expects](Expect), and nothing was done. Report
    /// what the folder has under these names, by [`Planner::file_found`](crate::Planner::file_found) or
    /// [`Planner::file_gone`](crate::Planner::file_gone), before this.
    Stale,
    /// The file system refused this step. Nothing has changed. // R8
    Failed,
}

/// Why an image did not arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FetchFailure {
    /// The image was broken. It is requested again as often as [`Options::attempts`](crate::Options::attempts)
    /// permits. // R2
    Broken,
    /// The response was complete, and the image was not in it. Once a new LIST still names it, it is requested again,
    /// like a broken one. If there is [no other LIST](crate::Planner::no_more_lists), it has failed.
    NotSent,
    /// The request did not get that far: the connection was refused or lost. It is requested again after all other
    /// wanted images, without limit: the caller limits connections. // R6
    Interrupted,
    /// It will not arrive: it is over a limit, or encrypted. // R2 R4
    Final,
}

/// What to do with the received and verified bytes of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
#[non_exhaustive]
pub enum Received {
    /// Keep them until a [`Step::Place`], [`Step::Replace`] or [`Step::Discard`] of the image.
    Keep,
    /// Delete them: the folder contains the image, or too many arrived that no LIST names, or the image has arrived
    /// twice. In that case the bytes that arrived first are kept.
    Discard,
}

/// A number of images, and of bytes of their encoded form as listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Count {
    /// Images.
    pub images: u64,
    /// Bytes.
    pub bytes: u64,
}

impl Count {
    pub(crate) fn add(&mut self, length: u32) {
        self.images += 1;
        self.bytes += u64::from(length);
    }

    pub(crate) fn subtract(&mut self, length: u32) {
        self.images = self.images.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(u64::from(length));
    }
}

/// What was done so far.
///
/// An image is counted once in `planned` for each time that the folder turned out not to contain it. `planned` is the
/// sum of `fetched`, `unfetched`, and the images that have yet to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Totals {
    /// Images to fetch. One that the server removes before it has arrived is not counted any more.
    pub planned: Count,
    /// Images that have arrived intact, of those planned.
    pub fetched: Count,
    /// Images that will not arrive.
    pub unfetched: Count,
    /// Fetched images that are visible now, under whatever name.
    pub placed: Count,
    /// Images that were in the folder when they were first looked at, and needed nothing.
    pub kept: Count,
    /// Files that got their image's own name.
    pub renamed: Count,
    /// Files that were kept under another name.
    pub kept_aside: Count,
    /// Images or files that were replaced. The bytes are those of the new image.
    pub replaced: Count,
    /// Images that arrived and could not be stored.
    pub unstored: Count,
    /// Images that are in the folder under another name than theirs, because that was not free.
    pub misnamed: Count,
    /// Listed images that are not selected: they are neither fetched, nor renamed, nor replaced.
    pub left_out: Count,
    /// Files that were deleted because the server does not list them
    /// ([`FolderSyncBuilder::mirror`](crate::FolderSyncBuilder::mirror)).
    pub deleted: u64,
    /// Files that were not deleted, although the last LIST does not name them.
    pub undeleted: u64,
    /// Files that were moved to the backup folder instead of being replaced or deleted
    /// ([`FolderSyncBuilder::backup`](crate::FolderSyncBuilder::backup)).
    pub backed_up: u64,
}

impl Totals {
    /// Listed images that did not arrive or could not be stored. With [`Fetch::All`](crate::Fetch::All), the folder may
    /// contain an earlier copy.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.unfetched.images + self.unstored.images
    }
}

/// What a LIST contained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ListReport {
    /// Entries, doubled ones included.
    pub entries: u64,
    /// Entries of an ID that an earlier entry had. The first entry of an ID stands. // S4
    pub doubled: u64,
    /// Entries with the name of an earlier one and another ID. The later image has the name; the earlier one has its
    /// ID as a suffix.
    pub same_name: u64,
    /// Up to [`ListReport::MAX_EXAMPLES`] of them: the earlier and the later ID.
    pub examples: Vec<(ImageId, ImageId)>,
    /// Images that earlier LISTs or WATCH named, and this complete LIST does not.
    pub gone: u64,
}

impl ListReport {
    /// The most pairs in `examples`.
    pub const MAX_EXAMPLES: usize = 100;
}
