//! Files that are created atomically, and files that other users must not control.

use std::fs::{self, Metadata};
use std::io::{self, Read, Write};
use std::path::Path;

use tempfile::NamedTempFile;

#[cfg(unix)]
use crate::exit::Exit;
use crate::exit::Failure;

/// The mode of private keys.
pub(super) const PRIVATE: u32 = 0o600;

/// The mode of certificates.
pub(super) const PUBLIC: u32 = 0o644;

/// The longest file that is read. A system's bundle of root certificates has some 250 KB.
const MAX_LENGTH: u64 = 16 << 20;

/// Reads a regular file of at most 16 MiB. Others are refused without waiting: opening a pipe would wait for a
/// program that writes to it.
pub(super) fn read_regular(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let mut options = fs::File::options();
    options.read(true);
    #[cfg(unix)]
    {
        let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits());
        let flags = nonblocking.map_err(io::Error::other)?;
        std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, flags);
    }
    let file = options.open(path)?;
    // Of the open file, so that it is the one that is read.
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::other("it is a folder"));
    }
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    let length = file.take(MAX_LENGTH + 1).read_to_end(&mut bytes)?;
    match u64::try_from(length) {
        Ok(length) if length <= MAX_LENGTH => Ok((bytes, metadata)),
        _ => Err(io::Error::other("the file is larger than 16 MiB")),
    }
}

/// Creates a file atomically. Fails if it exists.
pub(super) fn write_new(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    let file = write_beside(path, content, mode)?;
    file.persist_noclobber(path).map_err(|error| error.error)?;
    Ok(())
}

/// Replaces a file atomically: a reader sees the old content or the new one.
pub(super) fn replace(path: &Path, content: &str, mode: u32) -> io::Result<()> {
    // A link stays a link.
    let path = fs::canonicalize(path)?;
    let file = write_beside(&path, content, mode)?;
    persist(file, &path)
}

#[cfg(not(windows))]
fn persist(file: NamedTempFile, path: &Path) -> io::Result<()> {
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Windows does not replace a file that another program is reading. That takes a moment.
#[cfg(windows)]
fn persist(mut file: NamedTempFile, path: &Path) -> io::Result<()> {
    use std::time::Duration;

    const ATTEMPTS: u32 = 100;
    const PAUSE: Duration = Duration::from_millis(10);
    for attempt in 1.. {
        match file.persist(path) {
            Ok(_) => break,
            Err(failed) => {
                let is_open = failed.error.kind() == io::ErrorKind::PermissionDenied;
                if !is_open || attempt == ATTEMPTS {
                    return Err(failed.error);
                }
                file = failed.file;
                std::thread::sleep(PAUSE);
            }
        }
    }
    Ok(())
}

/// Writes a temporary file into the folder of `path`.
fn write_beside(path: &Path, content: &str, mode: u32) -> io::Result<NamedTempFile> {
    let folder = match path.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    // `tempfile` would hide the system's message.
    fs::metadata(folder)?;
    let mut builder = tempfile::Builder::new();
    builder.prefix(".jtp-").suffix(".tmp");
    #[cfg(unix)]
    builder.permissions(<fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(mode));
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = builder
        .tempfile_in(folder)
        .map_err(|error| without_path(&error))?;
    file.write_all(content.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

/// Removes the temporary file's path that `tempfile` adds, because the user does not know that file.
fn without_path(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::from(error.kind()),
    }
}

/// Refuses a file of another user than this one and root: its owner can change what it says.
pub(super) fn check_owner(path: &Path, metadata: &Metadata) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
        if owner != own && owner != 0 {
            return Err(Failure::new(
                Exit::Tls,
                format!(
                    "cannot use {}: it belongs to another user (ID {owner}), who can read and change it; make it your own with: chown {own} {}",
                    path.display(),
                    path.display()
                ),
            ));
        }
    }
    #[cfg(not(unix))]
    let _ = (path, metadata);
    Ok(())
}

/// Refuses a file that other users can write.
pub(super) fn check_not_writable(path: &Path, metadata: &Metadata) -> Result<(), Failure> {
    #[cfg(unix)]
    if mode(metadata) & 0o022 != 0 {
        return Err(Failure::new(
            Exit::Tls,
            format!(
                "cannot use {}: other users can write it (mode {:04o}); run: chmod go-w {}",
                path.display(),
                mode(metadata),
                path.display()
            ),
        ));
    }
    check_owner(path, metadata)
}

/// Refuses a file that was found rather than named, if another user put it there or everyone can change it.
pub(super) fn check_found(path: &Path, metadata: &Metadata) -> Result<(), Failure> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let (owner, own) = (metadata.uid(), rustix::process::geteuid().as_raw());
        let cause = if owner != own && owner != 0 {
            format!("it belongs to another user (ID {owner})")
        } else if mode(metadata) & 0o002 != 0 {
            format!("every user can write it (mode {:04o})", mode(metadata))
        } else {
            return Ok(());
        };
        Err(Failure::new(
            Exit::Tls,
            format!(
                "{} in the current folder is not trusted: {cause}; name the certificate to trust with --cert",
                path.display()
            ),
        ))
    }
    #[cfg(not(unix))]
    {
        let _ = (path, metadata);
        Ok(())
    }
}

/// Says that other users can read or write a private key; `None` if they cannot.
///
/// A key that belongs to root may be readable by a group: that is how a server without root's rights reads it.
pub(super) fn exposure(path: &Path, metadata: &Metadata) -> Option<String> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;

        let for_group = metadata.uid() == 0 && !rustix::process::geteuid().is_root();
        let unwanted = if for_group { 0o027 } else { 0o077 };
        let can = match mode(metadata) & unwanted {
            0 => return None,
            bits if bits & 0o022 != 0 => "write",
            bits if bits & 0o044 != 0 => "read",
            _ => return None,
        };
        let remedy = if for_group { "o=,g-w" } else { "600" };
        Some(format!(
            "other users can {can} the private key in {} (mode {:04o}); run: chmod {remedy} {}",
            path.display(),
            mode(metadata),
            path.display()
        ))
    }
    #[cfg(not(unix))]
    {
        let _ = (path, metadata);
        None
    }
}

#[cfg(unix)]
fn mode(metadata: &Metadata) -> u32 {
    use std::os::unix::fs::MetadataExt;

    metadata.mode() & 0o777
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn exposure_depends_on_the_mode() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        fs::write(&path, "").unwrap();
        for (mode, can) in [
            (0o600, None),
            (0o400, None),
            (0o700, None),
            (0o611, None),
            (0o640, Some("read")),
            (0o604, Some("read")),
            (0o644, Some("read")),
            (0o620, Some("write")),
            (0o602, Some("write")),
            (0o666, Some("write")),
        ] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let metadata = fs::metadata(&path).unwrap();
            let warning = exposure(&path, &metadata);
            let expected = can.map(|can| {
                format!(
                    "other users can {can} the private key in {} (mode {mode:04o}); run: chmod 600 {}",
                    path.display(),
                    path.display()
                )
            });
            assert_eq!(warning, expected);
            assert_eq!(
                check_not_writable(&path, &metadata).is_err(),
                can == Some("write")
            );
        }
    }

    #[test]
    fn replacing_a_link_replaces_its_target() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("target"), folder.path().join("link"));
        fs::write(&target, "old").unwrap();
        symlink("target", &link).unwrap();
        replace(&link, "new", PUBLIC).unwrap();
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
