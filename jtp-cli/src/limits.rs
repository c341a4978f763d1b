//! The limit of open files: raised as far as it goes, and kept within.

/// What the server has open beside its connections: streams, the folder, what it reads, what it is told by.
#[cfg(unix)]
const OTHERS: u64 = 40;

/// A connection needs a descriptor, and another while an image is sent.
#[cfg(unix)]
const EACH: u64 = 2;

/// Raises the limit of open files to what the system allows, and says how many there may be then.
#[must_use]
pub fn raise_open_files() -> Option<u64> {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, getrlimit, setrlimit};
        /// Beyond this some systems refuse the whole request.
        const ENOUGH: u64 = 1 << 20;
        let mut limit = getrlimit(Resource::Nofile);
        let before = limit.current;
        let wanted = limit.maximum.unwrap_or(ENOUGH).min(ENOUGH);
        if before.is_some_and(|current| current < wanted) {
            limit.current = Some(wanted);
            match setrlimit(Resource::Nofile, limit) {
                Ok(()) => return Some(wanted),
                Err(error) => {
                    tracing::debug!(%error, "the limit of open files stays as it is");
                }
            }
        }
        before
    }
    #[cfg(not(unix))]
    None
}

/// As many of the wanted connections as there can be files for; at least one. Says so if it is fewer.
#[must_use]
pub fn connections(wanted: usize, files: Option<u64>) -> usize {
    let possible = possible_connections(files).min(wanted);
    if possible < wanted {
        tracing::warn!(
            "at most {possible} connections at a time, not {wanted}: this process may have {} files open (raise that with ulimit -n)",
            files.unwrap_or(0)
        );
    }
    possible
}

#[cfg(unix)]
fn possible_connections(files: Option<u64>) -> usize {
    let possible = files.map(|files| (files.saturating_sub(OTHERS) / EACH).max(1));
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
    fn there_are_no_more_connections_than_files_for_them() {
        assert_eq!(connections(4096, None), 4096);
        assert_eq!(connections(4096, Some(1 << 20)), 4096);
        assert_eq!(connections(4096, Some(64)), 12);
        assert_eq!(connections(4096, Some(0)), 1);
    }
}
