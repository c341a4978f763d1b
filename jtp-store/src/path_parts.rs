//! What the two walks along paths with links share: `inside` and `walk`.

use std::ffi::OsString;
use std::path::{Component, Path};

/// The most links in a path, as in the kernel.
pub(crate) const MAX_LINKS: usize = 40;

/// The parts of a path in reverse order, without its root.
pub(crate) fn reversed(path: &Path) -> Vec<OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts
}
