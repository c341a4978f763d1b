//! The file of `--clients`. // T7

use std::path::Path;
use std::str;

use jtp_tokio::tls::ClientList;

use super::files::{check_not_writable, read_regular};
use crate::exit::Failure;

/// Reads the clients that may connect.
///
/// # Errors
///
/// The file cannot be read, others can write it, or a line is malformed.
pub fn read(path: &Path) -> Result<ClientList, Failure> {
    let cannot_use =
        |what: String| Failure::other(format!("cannot use {}: {what}", path.display()));
    let (bytes, metadata) = read_regular(path)
        .map_err(|error| Failure::other(format!("cannot read {}: {error}", path.display())))?;
    check_not_writable(path, &metadata)?;
    let text = str::from_utf8(&bytes).map_err(|error| {
        let before = &bytes[..error.valid_up_to()];
        let line = 1 + before.iter().filter(|byte| **byte == b'\n').count();
        cannot_use(format!("line {line}: the text is not UTF-8"))
    })?;
    // Each error names the line; its cause only repeats what is expected.
    text.parse()
        .map_err(|error: jtp_tokio::tls::ClientListError| cannot_use(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn t7_lines_that_are_wrong_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("clients");
        let key = format!("sha256:{}", "0a".repeat(32));
        fs::write(&path, "").unwrap();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        }
        for (text, error) in [
            (
                format!("# all\n{key} a\nkey b\n"),
                "line 3: expected sha256: and 64 hex digits",
            ),
            (
                format!("{key} a\n\n{key} b\n"),
                "line 3: this key is already in line 1",
            ),
            (format!("{key} a\x1b[2J\n"), "line 1: a name has at most"),
        ] {
            fs::write(&path, text).unwrap();
            let failure = read(&path).unwrap_err().to_string();
            let start = format!("cannot use {}: {error}", path.display());
            assert!(failure.starts_with(&start), "{failure}");
        }
        fs::write(&path, [key.as_bytes(), b" a\n#\n\xff\n"].concat()).unwrap();
        let failure = read(&path).unwrap_err().to_string();
        assert!(
            failure.ends_with("line 3: the text is not UTF-8"),
            "{failure}"
        );
        fs::write(&path, format!("\u{feff}# all\r\n{key} a b\r\n")).unwrap();
        assert_eq!(read(&path).unwrap().len(), 1);
    }
}
