//! For systems whose events are not used: the folder is scanned.

use std::io;
use std::path::Path;

use cap_std::fs::Dir;

use super::EventSink;
use crate::dir::record::Name;
use crate::dir::scope::Scope;
use crate::dir::select::Naming;

/// Never exists.
pub(super) enum NoEvents {}

impl NoEvents {
    pub(super) const IS_SUPPORTED: bool = false;

    pub(super) fn is_remote(_: &Dir, _: &Path) -> bool {
        false
    }

    pub(super) fn start(_: &Dir, _: &Path, _: Naming, _: EventSink) -> io::Result<NoEvents> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn watch(&self, _: &Dir, _: &Path, _: &Name) -> io::Result<()> {
        match *self {}
    }

    pub(super) fn begin_scan(&self) {
        match *self {}
    }

    pub(super) fn end_scan(&self, _: &Scope) {
        match *self {}
    }
}
