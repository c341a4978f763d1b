//! What a sync would do, and how a folder differs from a server.

use jtp_core::ImageId;
use jtp_store::FileName;

/// What a [dry run](crate::FolderSync::dry_run) would do with an image or with one of the folder's files.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The image would be fetched.
    Fetch {
        /// The image.
        id: ImageId,
        /// The name of its file.
        name: FileName,
        /// The length of its encoded form in bytes, as listed. // S6
        length: u32,
        /// Whether it would replace a file with other content.
        replaces: bool,
    },
    /// A file would be renamed.
    Rename {
        /// The image in it.
        id: ImageId,
        /// The name that it has.
        from: String,
        /// The name that it would get.
        to: FileName,
        /// Whether it would be renamed because another image needs its name: otherwise the new name is its image's own.
        aside: bool,
        /// Whether it would replace a file with other content.
        replaces: bool,
    },
    /// A file would be deleted because the server does not list it.
    Delete {
        /// The image in it.
        id: ImageId,
        /// The name of the file.
        name: String,
    },
    /// The image is in the folder, and nothing would be done.
    Keep {
        /// The image.
        id: ImageId,
        /// The name of its file.
        name: String,
    },
    /// The server lists the image, and the selection leaves it out.
    LeaveOut {
        /// The image.
        id: ImageId,
        /// The name that it would get.
        name: String,
    },
}

/// How a folder differs from what a server lists: see [`FolderSync::check`](crate::FolderSync::check).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Difference {
    /// No file contains the image, and no file has its name.
    Missing {
        /// The image.
        id: ImageId,
        /// Its name.
        name: FileName,
    },
    /// No file contains the image, and something else has its name: a file with other content, a folder, a link.
    Differs {
        /// The image.
        id: ImageId,
        /// Its name.
        name: FileName,
    },
    /// No other file contains the image, and the file with its name cannot be read: nobody knows whether they differ.
    Unreadable {
        /// The image.
        id: ImageId,
        /// Its name.
        name: FileName,
    },
    /// The folder contains the image under another name.
    Renamed {
        /// The image.
        id: ImageId,
        /// The name of its file.
        from: String,
        /// Its name.
        to: FileName,
    },
    /// The folder contains an image that the server does not list, and not under the name of one that differs.
    Extra {
        /// The image.
        id: ImageId,
        /// The name of its file.
        name: String,
    },
}

/// The result of a [check](crate::FolderSync::check), in images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Comparison {
    /// In the folder under their own names.
    pub same: u64,
    /// [`Difference::Missing`].
    pub missing: u64,
    /// [`Difference::Differs`].
    pub differs: u64,
    /// [`Difference::Renamed`].
    pub renamed: u64,
    /// [`Difference::Extra`].
    pub extra: u64,
    /// Listed, and left out by the selection.
    pub left_out: u64,
    /// Files of the folder that cannot be read: nobody knows whether they are what the server lists.
    pub unreadable: u64,
    /// The LIST was incomplete. No file is [`Difference::Extra`] then: the server may have its image.
    pub is_incomplete: bool,
}

impl Comparison {
    /// Whether the folder contains what the server lists, under the same names, and no other image. `false` if the LIST
    /// was incomplete.
    #[must_use]
    pub fn is_equal(&self) -> bool {
        !self.is_incomplete
            && self.missing + self.differs + self.renamed + self.extra + self.unreadable == 0
    }
}
