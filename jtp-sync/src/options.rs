//! What a sync does, chosen by the caller.

/// Which of the selected images are fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Fetch {
    /// Those that the folder does not contain. // R8
    #[default]
    Missing,
    /// All that the server lists, even if the folder contains them.
    All,
}

/// Which names the images in the folder have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Names {
    /// Those that R5 derives from the server's names: an image with another name is renamed. // R8
    #[default]
    Listed,
    /// An image that the folder contains keeps its name, whatever that is, with two exceptions. If another image needs
    /// the name, the file is renamed. If the name was made from the image's ID (`<id>.<ext>`, or a name that ends in
    /// `-<id>` or `-<id>-<number>`), the file gets its image's own name once that is free. // R8
    Any,
}

/// Options of a [`Planner`](crate::Planner).
///
/// ```
/// use jtp_sync::{Fetch, Options};
///
/// let options = Options::new().with_fetch(Fetch::All).with_keep_existing(true);
/// assert_eq!(options.fetch(), Fetch::All);
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    fetch: Fetch,
    names: Names,
    keep_existing: bool,
    attempts: u8,
    folders: bool,
}

impl Options {
    /// The most attempts for an image that can be set.
    pub const MAX_ATTEMPTS: u8 = 7;

    /// [`Fetch::Missing`], [`Names::Listed`], files are replaced, a broken image is requested twice, and images are put into
    /// the folders that their names contain.
    #[must_use]
    pub const fn new() -> Options {
        Options {
            fetch: Fetch::Missing,
            names: Names::Listed,
            keep_existing: false,
            attempts: 2,
            folders: true,
        }
    }

    /// Sets which images are fetched.
    #[must_use]
    pub const fn with_fetch(mut self, fetch: Fetch) -> Options {
        self.fetch = fetch;
        self
    }

    /// Sets which names the images in the folder have.
    #[must_use]
    pub const fn with_names(mut self, names: Names) -> Options {
        self.names = names;
        self
    }

    /// Sets whether a file stays if an image with its name arrives. The image then has its ID as a suffix.
    #[must_use]
    pub const fn with_keep_existing(mut self, keep: bool) -> Options {
        self.keep_existing = keep;
        self
    }

    /// Sets how often an image is requested before it has failed, from 1 to [`Options::MAX_ATTEMPTS`]. // R2
    #[must_use]
    pub const fn with_attempts(mut self, attempts: u8) -> Options {
        self.attempts = match attempts {
            0 => 1,
            Options::MAX_ATTEMPTS.. => Options::MAX_ATTEMPTS,
            attempts => attempts,
        };
        self
    }

    /// Sets whether the folders in the server's names become folders
    /// ([`FileName::in_folders`](jtp_store::FileName::in_folders)), and images in sub-folders count as fetched. If not, each
    /// image is in the folder itself, and sub-folders are not looked at. // W9
    #[must_use]
    pub const fn with_folders(mut self, folders: bool) -> Options {
        self.folders = folders;
        self
    }

    /// Which images are fetched.
    #[must_use]
    pub const fn fetch(&self) -> Fetch {
        self.fetch
    }

    /// Which names the images in the folder have.
    #[must_use]
    pub const fn names(&self) -> Names {
        self.names
    }

    /// Whether files stay if an image with their name arrives.
    #[must_use]
    pub const fn keep_existing(&self) -> bool {
        self.keep_existing
    }

    /// Whether the folders in the server's names become folders.
    #[must_use]
    pub const fn folders(&self) -> bool {
        self.folders
    }

    /// How often an image is requested before it has failed.
    #[must_use]
    pub const fn attempts(&self) -> u8 {
        self.attempts
    }
}

impl Default for Options {
    fn default() -> Options {
        Options::new()
    }
}
