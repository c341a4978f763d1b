//! Raises the limit of open files, and derives the connection limit from it.

/// Descriptors for everything except connections: standard streams, the folder, image files, inotify.
#[cfg(unix)]
const RESERVED: u64 = 40;

/// A connection needs one descriptor, and another one while it sends an image.
#[cfg(unix)]
const PER_CONNECTION: u64 = 2;

/// Raises the limit of open files as far as the system allows, and returns the new limit.
#[must_use]
pub fn raise_open_files() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        /// Some systems reject a higher limit altogether.
        const MAX_FILES: u64 = 1 << 20;
        let mut limit = getrlimit(Resource::Nofile);
        let before = limit.current;
        let wanted = limit.maximum.unwrap_or(MAX_FILES).min(MAX_FILES);
        if before.is_some_and(|current| current < wanted) {
            limit.current = Some(wanted);
            match setrlimit(Resource::Nofile, limit) {
                Ok(()) => return Some(wanted),
                Err(error) => {
                    tracing::debug!(%error, "cannot raise the limit of open files");
                }
            }
        }
        before
    }
    #[cfg(not(unix))]
    None
}

/// Returns the number of connections that the limit of open files allows: at least 1, at most `wanted`. Logs a warning
/// if it is less than `wanted`.
#[must_use]
pub fn connections(wanted: usize, files: Option<u64>) -> usize {
    let possible = possible_connections(files).min(wanted);
    if possible < wanted {
        tracing::warn!(
            "limiting connections to {possible} instead of {wanted}: this process may open only {} files; raise the limit with ulimit -n",
            files.unwrap_or(0)
        );
    }
    possible
}

#[cfg(unix)]
fn possible_connections(files: Option<u64>) -> usize {
    let possible = files.map(|files| (files.saturating_sub(RESERVED) / PER_CONNECTION).max(1));
    possible.map_or(usize::MAX, |n| usize::try_from(n).unwrap_or(usize::MAX))
}

#[cfg(not(unix))]
fn possible_connections(_: Option<u64>) -> usize {
    usize::MAX
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn connections_are_limited_by_open_files() {
        assert_eq!(connections(4096, None), 4096);
        assert_eq!(connections(4096, Some(1 << 20)), 4096);
        assert_eq!(connections(4096, Some(64)), 12);
        assert_eq!(connections(4096, Some(0)), 1);
    }
}
