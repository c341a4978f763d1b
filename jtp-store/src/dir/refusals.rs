//! The files that are left out of the catalog, and why.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::Arc;

use jtp_core::ImageId;

use super::left_out::{LeftOut, LeftOutReason};
use super::record::Name;
use crate::fingerprint::Fingerprint;

/// Why a file is left out.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) fingerprint: Option<Fingerprint>,
    pub(super) kind: LeftOutReason,
    /// For the log.
    pub(super) reason: String,
    /// The ID of this file, if another file of other bytes has it. // S4
    pub(super) collides_with: Option<ImageId>,
}

/// The refused files, by name.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    files: HashMap<Name, Refusal>,
    /// The number of files that were refused for a collision.
    collisions: usize,
}

impl Refusals {
    pub(super) fn get(&self, name: &OsStr) -> Option<&Refusal> {
        self.files.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.files.keys()
    }

    /// Refuses a file. Returns whether it was not refused for the same reason before.
    pub(super) fn insert(&mut self, name: &Name, refusal: Refusal) -> bool {
        let before = self.remove(name);
        let is_news = before.is_none_or(|before| before.reason != refusal.reason);
        self.collisions += usize::from(refusal.collides_with.is_some());
        self.files.insert(Arc::clone(name), refusal);
        is_news
    }

    pub(super) fn remove(&mut self, name: &Name) -> Option<Refusal> {
        let refusal = self.files.remove(name)?;
        self.collisions -= usize::from(refusal.collides_with.is_some());
        Some(refusal)
    }

    pub(super) fn has_collisions(&self) -> bool {
        self.collisions > 0
    }

    /// The files that were refused because another file has this ID. // S4
    pub(super) fn colliding_with(&self, id: ImageId) -> Vec<Name> {
        let collides = |(name, refusal): (&Name, &Refusal)| {
            (refusal.collides_with == Some(id)).then(|| Arc::clone(name))
        };
        self.files.iter().filter_map(collides).collect()
    }

    pub(super) fn count_in(&self, left_out: &mut LeftOut) {
        for (name, refusal) in &self.files {
            left_out.add(refusal.kind, name);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Refusals::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_collisions_are_counted_and_the_same_reason_again_is_no_news() {
        let refusal = |reason: &str, collides_with| Refusal {
            fingerprint: None,
            kind: LeftOutReason::Unreadable,
            reason: reason.to_owned(),
            collides_with,
        };
        let names = ["a.png", "b.png"].map(|name| Name::from(OsStr::new(name)));
        let mut refusals = Refusals::default();
        assert!(refusals.insert(&names[0], refusal("one", None)));
        assert!(!refusals.insert(&names[0], refusal("one", None)));
        assert!(refusals.insert(&names[0], refusal("other", None)));
        assert!(!refusals.has_collisions());
        for name in &names {
            assert!(refusals.insert(name, refusal("collision", Some(ImageId(1)))));
        }
        assert_eq!(refusals.colliding_with(ImageId(1)).len(), 2);
        for name in &names {
            assert!(refusals.has_collisions());
            assert!(refusals.remove(name).is_some());
        }
        assert!(!refusals.has_collisions());
        refusals.insert(&names[0], refusal("collision", Some(ImageId(1))));
        refusals.clear();
        assert!(!refusals.has_collisions() && refusals.get(&names[0]).is_none());
    }
}
