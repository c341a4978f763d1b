//! What prevents an image from having its name.

use std::fmt;

/// What is in the folder in place of an image's file, or of a folder on the way to it, and has to stay.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Blocker {
    /// Its path below the folder: the name of the image, or of one of the folders in that name. // W9
    pub path: String,
    /// What it is.
    pub kind: BlockerKind,
    /// Whether it is in place of a folder, and may be in the way of several images.
    pub is_folder_of_name: bool,
}

impl Blocker {
    /// What has this path.
    #[must_use]
    pub fn new(path: impl Into<String>, kind: BlockerKind, is_folder_of_name: bool) -> Blocker {
        Blocker {
            path: path.into(),
            kind,
            is_folder_of_name,
        }
    }
}

/// What has a name that an image needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BlockerKind {
    /// A file that is not an image, that cannot be read, that the selection leaves out, or that is to be kept.
    File,
    /// A folder.
    Folder,
    /// A symbolic link. It is neither followed nor replaced. // R5
    Link,
    /// A device, a pipe or a socket.
    Device,
}

impl fmt::Display for BlockerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BlockerKind::File => "file",
            BlockerKind::Folder => "folder",
            BlockerKind::Link => "link",
            BlockerKind::Device => "device",
        })
    }
}
