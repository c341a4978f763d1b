//! The names of files that a server may share, whatever their extension.

use super::extension::is_hidden;

/// What programs add to the name of a file that they download, receive or copy, in lower case.
const PARTIAL: &[&str] = &[
    "part",        // Firefox, KDE, yt-dlp, Transmission
    "partial",     // rclone, Internet Explorer
    "crdownload",  // Chrome, Edge
    "opdownload",  // Opera
    "fdmdownload", // Free Download Manager
    "dtapart",     // DownThemAll
    "download",    // Safari
    "filepart",    // WinSCP
    "aria2",       // aria2
    "ytdl",        // yt-dlp
    "incomplete",  // several
    "inprogress",  // several
    "unfinished",  // several
    "uploading",   // several
    "!qb",         // qBittorrent
    "!ut",         // µTorrent
    "!sync",       // Resilio Sync
    "syncpart",    // Resilio Sync
    "synctemp",    // Resilio Sync
    "ffs_tmp",     // FreeFileSync
    "tmp",
    "temp",
    "~tmp",
    "$$$",
];

/// What programs add to the name of an earlier version of a file, in lower case.
const BACKUP: &[&str] = &[
    "bak", "backup", "old", "orig", "syncold", "swp", "swo", "swx",
];

/// Whether a name is that of a file that is being written, of a backup or of a lock: it is not shared, even if its first
/// bytes are those of an image.
///
/// A name with an image extension is temporary only by its beginning.
pub(crate) fn is_temporary(name: &str) -> bool {
    // Locks of office programs; Syncthing on Windows.
    if name.starts_with("~$") || name.starts_with("~syncthing~") {
        return true;
    }
    // Emacs and Vim; automatic copies of Emacs.
    if name.ends_with('~') || (name.len() > 2 && name.starts_with('#') && name.ends_with('#')) {
        return true;
    }
    // ExifTool.
    let original = name.strip_suffix("_original");
    if original.is_some_and(super::has_image_extension) {
        return true;
    }
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    extension.is_some_and(|extension| {
        let is = |known: &&str| extension.eq_ignore_ascii_case(known);
        PARTIAL.iter().chain(BACKUP).any(is)
    })
}

/// Whether a [`DirStore`](crate::DirStore) leaves out the file with this path because of its name: it is being written
/// (`a.png.part`), a backup (`a.png~`) or a lock (`~$a.png`). A client does not delete such a file because no server lists
/// it. // R8
///
/// ```
/// use jtp_store::is_temporary_name;
///
/// assert!(is_temporary_name("2024/a.png.crdownload"));
/// assert!(!is_temporary_name("2024/a.png"));
/// ```
#[must_use]
pub fn is_temporary_name(path: &str) -> bool {
    is_temporary(path.rsplit('/').next().unwrap_or(path))
}

/// Whether a file of this name is shared if it is an image: it is neither hidden nor temporary.
pub(crate) fn is_candidate(name: &str) -> bool {
    !is_hidden(name.as_ref()) && !is_temporary(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_progress_backups_and_locks_are_temporary() {
        for name in [
            "a.png.part",
            "a.png.PART",
            "Unconfirmed 1.crdownload",
            "a.jpg.1a2b3c4d.partial",
            "a.jpg.filepart",
            "a.jpg.tmp",
            "WRL01.TMP",
            "a.jpg.!qB",
            "a.jpg~",
            "#a.jpg#",
            "~$a.png",
            "~syncthing~a.jpg.tmp",
            "a.jpg.bak",
            "a.jpg.orig",
            "a.jpg_original",
            "A.JPG_original",
            "a.jpg.old",
        ] {
            assert!(is_temporary(name) && !is_candidate(name), "{name}");
            assert!(is_temporary_name(&format!("a/{name}")), "{name}");
        }
        for name in [
            "IMG_0001",
            "photo.bin",
            "download",
            "part",
            "tmp",
            "a.part.png",
            "a.tmp.jpg",
            "~a.png",
            "#1",
            "#",
            "##",
            "the_original",
            "original",
            "a.img",
            "a.1",
            "",
        ] {
            assert!(!is_temporary(name) && is_candidate(name), "{name}");
            assert!(!is_temporary_name(&format!("a.tmp/{name}")), "{name}");
        }
        assert!(!is_temporary(".png_original"), "not that of an image");
        assert!(!is_candidate(".a.png") && !is_candidate(".hidden"));
    }
}
