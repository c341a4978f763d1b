//! Images in the folder that the server does not list any more, and whether they are deleted.

use std::fmt;
use std::str::FromStr;

/// The most files that a mirror deletes at once. If there are more to delete, it deletes none.
///
/// As with the options of the same name of rsync and rclone, files that are replaced do not count: the server has another
/// image under their names.
///
/// ```
/// use jtp_sync::MaxDelete;
///
/// assert_eq!("10%".parse(), Ok(MaxDelete::Percent(10)));
/// assert_eq!("500".parse(), Ok(MaxDelete::Files(500)));
/// assert_eq!(MaxDelete::Percent(10).files(25), 3);
/// assert!("110%".parse::<MaxDelete>().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum MaxDelete {
    /// This number.
    Files(u64),
    /// This share of the selected images that the folder contained when the server was asked for its catalog, rounded up: at
    /// least 1 unless it is 0 %. With 100 %, all images are deleted if the server lists none.
    Percent(u8),
}

impl MaxDelete {
    /// The number of files in a folder with `present` images.
    #[must_use]
    pub fn files(self, present: u64) -> u64 {
        match self {
            MaxDelete::Files(files) => files,
            MaxDelete::Percent(percent) => {
                let share = u128::from(present) * u128::from(percent);
                let share = u64::try_from(share.div_ceil(100)).unwrap_or(u64::MAX);
                share.max(u64::from(percent > 0))
            }
        }
    }

    /// Whether a folder may be emptied because the server lists no images.
    pub(crate) fn allows_all(self) -> bool {
        matches!(self, MaxDelete::Percent(100..))
    }
}

impl Default for MaxDelete {
    /// 10 %.
    fn default() -> MaxDelete {
        MaxDelete::Percent(10)
    }
}

impl fmt::Display for MaxDelete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxDelete::Files(files) => write!(f, "{files}"),
            MaxDelete::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// A text that is no [`MaxDelete`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of files, or a percentage from 0% to 100%")]
pub struct ParseMaxDeleteError(());

impl FromStr for MaxDelete {
    type Err = ParseMaxDeleteError;

    fn from_str(text: &str) -> Result<MaxDelete, ParseMaxDeleteError> {
        let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
        let parsed = match text.strip_suffix('%') {
            Some(percent) if is_number(percent) => {
                let percent = percent.parse().ok().filter(|percent| *percent <= 100);
                percent.map(MaxDelete::Percent)
            }
            None if is_number(text) => text.parse().ok().map(MaxDelete::Files),
            _ => None,
        };
        parsed.ok_or(ParseMaxDeleteError(()))
    }
}

/// Why a mirror deleted nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotDeleted {
    /// The server lists no image, or none that is selected: its folder may be missing.
    #[error("the server lists no images")]
    EmptyCatalog,
    /// The server announced more entries than it sent.
    #[error("the server's catalog is incomplete")]
    IncompleteCatalog,
    /// Images have failed.
    #[error("images failed")]
    Failed,
    /// Another server took over during the run: it may lag behind.
    #[error("another server took over")]
    ServerChanged,
    /// The disk is full, so the run ended before. They take this space.
    #[error("the disk is full")]
    DiskFull {
        /// The lengths of the files in bytes.
        bytes: u64,
    },
    /// There are more to delete than [`MaxDelete`] permits.
    #[error("more than the limit of {limit} of {present} images")]
    OverLimit {
        /// The limit in files.
        limit: u64,
        /// The selected images in the folder when the server was asked for its catalog.
        present: u64,
    },
}

/// A file of the folder that a mirror deletes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unlisted {
    /// Its name.
    pub name: String,
    /// The image in it.
    pub id: jtp_core::ImageId,
    /// The server lists the image: this other file has it, under the image's own name. It is to be looked at before this
    /// file is deleted. // R8
    pub copy: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_a_number_or_a_share_rounded_up() {
        for (text, present, files) in [
            ("0", 9, 0),
            ("500", 9, 500),
            ("0%", 9, 0),
            ("1%", 0, 1),
            ("10%", 30, 3),
            ("10%", 31, 4),
            ("100%", u64::MAX, u64::MAX),
        ] {
            let limit: MaxDelete = text.parse().unwrap();
            assert_eq!(limit.files(present), files, "{text} of {present}");
            assert_eq!(limit.to_string(), text);
            assert_eq!(limit.allows_all(), text == "100%");
        }
        for bad in ["", "%", "-1", "+1", "+1%", "1.5%", "101%", "256%"] {
            assert_eq!(
                bad.parse::<MaxDelete>(),
                Err(ParseMaxDeleteError(())),
                "{bad}"
            );
        }
    }
}
