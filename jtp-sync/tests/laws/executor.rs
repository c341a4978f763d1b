//! Carries out the planner's steps in the model, and checks each of them.

use std::collections::{BTreeMap, BTreeSet};

use jtp_core::{FileType, ImageId};
use jtp_store::has_image_extension;
use jtp_sync::{
    Expect, FetchFailure, FileKind, Inventory, Options, Outcome, Planner, Reason, Received, Step,
};

use crate::model::{Folder, Rng, Server, random_name};

/// How much goes wrong.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Trouble {
    /// The user and other programs change the folder, and the server changes.
    pub(crate) changes: bool,
    /// Steps and requests fail at random, and LISTs are incomplete.
    pub(crate) errors: bool,
    /// The program may be killed.
    pub(crate) kill: bool,
}

/// A client that runs once.
#[derive(Debug)]
pub(crate) struct Run<'a> {
    pub(crate) rng: &'a mut Rng,
    pub(crate) folder: &'a mut Folder,
    pub(crate) server: &'a mut Server,
    pub(crate) planner: Planner,
    pub(crate) trouble: Trouble,
    /// Images that can never be fetched.
    pub(crate) bad: BTreeSet<ImageId>,
    /// What LISTs and events have named.
    known: BTreeSet<ImageId>,
    requested: Vec<ImageId>,
    in_hand: BTreeSet<ImageId>,
    pending: Vec<Step>,
    pub(crate) log: Vec<String>,
    pub(crate) fetched: BTreeMap<ImageId, usize>,
    /// Renamed, kept aside, placed, replaced.
    pub(crate) done: [u64; 4],
    pub(crate) lists: usize,
    pub(crate) refused: Vec<(ImageId, Reason)>,
    options: Options,
    /// Whether the folder may have changed without the planner's knowledge.
    disturbed: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        rng: &'a mut Rng,
        folder: &'a mut Folder,
        server: &'a mut Server,
        options: Options,
        trouble: Trouble,
    ) -> Run<'a> {
        let mut inventory = Inventory::new();
        for (name, kind) in &folder.files {
            assert!(inventory.add(name, *kind));
        }
        Run {
            planner: Planner::new(options.clone(), inventory),
            rng,
            folder,
            server,
            trouble,
            bad: BTreeSet::new(),
            known: BTreeSet::new(),
            requested: Vec::new(),
            in_hand: BTreeSet::new(),
            pending: Vec::new(),
            log: Vec::new(),
            fetched: BTreeMap::new(),
            done: [0; 4],
            lists: 0,
            refused: Vec::new(),
            options,
            disturbed: trouble.changes,
        }
    }

    /// Sends a LIST. In a troubled run it may lack entries or have some twice.
    pub(crate) fn list(&mut self) {
        let mut entries = self.server.entries.clone();
        let mut complete = true;
        if self.trouble.errors && self.rng.percent(25) && !entries.is_empty() {
            entries.remove(self.rng.below(entries.len()));
            complete = false;
        }
        if self.trouble.errors && self.rng.percent(10) && !entries.is_empty() {
            let doubled = self.rng.pick(&entries).clone();
            entries.push(doubled);
        }
        self.list_of(&entries, complete);
    }

    pub(crate) fn list_of(&mut self, entries: &[(String, ImageId)], complete: bool) {
        self.lists += 1;
        self.log.push(format!("LIST {complete} {entries:?}"));
        self.planner.begin_list();
        for (name, id) in entries {
            self.planner.entry(*id, name, FileType::Png, length(*id));
        }
        let report = self.planner.end_list(complete);
        assert_eq!(report.entries, entries.len() as u64);
        if complete {
            self.known.clear();
        }
        self.known.extend(entries.iter().map(|(_, id)| *id));
        assert!(!self.planner.wants_list());
    }

    pub(crate) fn announce(&mut self, name: &str, id: ImageId) {
        self.log.push(format!("event {name} {id}"));
        self.planner.announce(id, name, FileType::Png, length(id));
        self.known.insert(id);
    }

    /// Runs until nothing is left to do. `false` if the run was killed.
    pub(crate) fn finish(&mut self) -> bool {
        if self.lists == 0 {
            self.list();
        }
        for round in 0.. {
            assert!(round < 20_000, "the run does not end");
            if round > 200 {
                // The user gets tired.
                self.trouble = Trouble::default();
            }
            if self.trouble.kill && self.rng.percent(2) {
                self.log.push("killed".to_owned());
                return false;
            }
            if self.trouble.changes && self.rng.percent(5) {
                self.change_something();
            }
            match self.rng.below(4) {
                0 | 1 => self.take_step(),
                2 if !self.pending.is_empty() => {
                    let step = self.pending.swap_remove(self.rng.below(self.pending.len()));
                    self.execute(step);
                }
                _ if !self.requested.is_empty() => {
                    let id = self
                        .requested
                        .swap_remove(self.rng.below(self.requested.len()));
                    self.answer(id);
                }
                _ => {}
            }
            let idle = self.pending.is_empty() && self.requested.is_empty();
            if idle && self.planner.wants_list() {
                self.list();
            }
            if idle && self.planner.is_finished() {
                assert_eq!(self.planner.next_step(), None);
                self.check_totals();
                return true;
            }
        }
        unreachable!()
    }

    fn check_totals(&self) {
        let totals = self.planner.totals();
        let counted = [
            totals.renamed,
            totals.kept_aside,
            totals.placed,
            totals.replaced,
        ];
        assert_eq!(counted.map(|count| count.images), self.done, "{totals:?}");
        assert_eq!(
            totals.planned.bytes,
            totals.fetched.bytes + totals.unfetched.bytes
        );
        assert!(totals.placed.images + totals.unstored.images <= totals.fetched.images);
        assert!(self.in_hand.is_empty(), "{:?} are forgotten", self.in_hand);
    }

    fn take_step(&mut self) {
        let Some(step) = self.planner.next_step() else {
            return;
        };
        self.log.push(format!("{step:?}"));
        match step {
            Step::Fetch { id, .. } => {
                let calm = !self.disturbed;
                let is_missing =
                    !self.folder.contains(id) || self.options.fetch() == jtp_sync::Fetch::All;
                assert!(
                    !calm || is_missing,
                    "R8 (b): {id} is in the folder and fetched again"
                );
                self.requested.push(id);
            }
            Step::Discard { id } => assert!(self.in_hand.remove(&id), "{id} did not arrive"),
            Step::Refuse { id, reason } => self.refused.push((id, reason)),
            step => self.pending.push(step),
        }
    }

    fn answer(&mut self, id: ImageId) {
        if self.trouble.errors && self.rng.percent(10) {
            // It comes again under another ID of the same request, or not at all.
            let failure = *self.rng.pick(&[
                FetchFailure::Broken,
                FetchFailure::NotSent,
                FetchFailure::Interrupted,
            ]);
            return self.planner.fetch_failed(id, failure);
        }
        if self.trouble.errors && self.rng.percent(5) {
            let stranger = ImageId(500 + self.rng.next() % 3);
            self.receive(stranger);
        }
        if self.bad.contains(&id) {
            return self.planner.fetch_failed(id, FetchFailure::Final);
        }
        if !self.server.ids().contains(&id) {
            return self.planner.fetch_failed(id, FetchFailure::NotSent);
        }
        self.receive(id);
    }

    pub(crate) fn receive(&mut self, id: ImageId) {
        self.log.push(format!("received {id}"));
        if self.planner.fetched(id) == Received::Keep {
            *self.fetched.entry(id).or_default() += 1;
            assert!(self.in_hand.insert(id), "{id} is kept twice");
        }
    }

    fn change_something(&mut self) {
        if self.rng.percent(50) {
            for (name, id) in self.server.change(self.rng) {
                // Some servers lose events.
                if self.rng.percent(80) {
                    self.announce(&name, id);
                }
            }
            return;
        }
        disturb(self.folder, self.rng);
        self.log
            .push(format!("the folder is {:?}", self.folder.files));
        if self.rng.percent(30) {
            // The program notices, in part.
            let names: Vec<String> = self.folder.files.keys().cloned().collect();
            for name in names {
                if self.rng.percent(50) {
                    self.look_at(&name);
                }
            }
        }
    }

    /// Tells the planner what the folder has under a name.
    fn look_at(&mut self, name: &str) {
        match self.folder.files.get(name) {
            Some(kind) => self.planner.file_found(name, *kind),
            None => self.planner.file_gone(name),
        }
    }

    pub(crate) fn execute(&mut self, step: Step) {
        let (kind, id, from, to, expect) = match step {
            Step::Rename {
                id,
                from,
                to,
                expect,
            } => (0, id, Some(from), to, expect),
            Step::KeepAside { id, from, to } => (1, id, Some(from), to, Expect::Nothing),
            Step::Place { id, to } => (2, id, None, to, Expect::Nothing),
            Step::Replace { id, to, expect } => (2, id, None, to, expect),
            step => panic!("{step:?}"),
        };
        let to = to.as_str();
        assert!(
            !to.contains(['/', '\\']) && !to.starts_with('.') && has_image_extension(to),
            "R5: {to}"
        );
        let there = self
            .folder
            .find(to)
            .filter(|there| Some(there) != from.as_ref());
        let content = there.as_ref().map(|there| self.folder.files[there]);
        let is_expected = match (&expect, content) {
            (_, None) => true,
            (Expect::Image(id), Some(kind)) => kind == FileKind::Image(*id),
            (Expect::Copy { id, other }, Some(kind)) => {
                kind == FileKind::Image(*id)
                    && self.folder.files.get(other) == Some(&FileKind::Image(*id))
                    && there.as_ref() != Some(other)
            }
            (Expect::Unread, Some(kind)) => kind == FileKind::Unread,
            _ => false,
        };
        let has_source = match &from {
            Some(from) => self.folder.files.get(from) == Some(&FileKind::Image(id)),
            None => self.in_hand.contains(&id),
        };
        if !is_expected || !has_source || !self.planner.is_current(id) {
            assert!(has_source || from.is_some(), "{id} did not arrive");
            let other = match &expect {
                Expect::Copy { other, .. } => Some(other.clone()),
                _ => None,
            };
            for name in [from, other, there, Some(to.to_owned())]
                .into_iter()
                .flatten()
            {
                self.look_at(&name);
            }
            self.log.push(format!("stale: {id} to {to}"));
            return self.planner.report(id, Outcome::Stale);
        }
        let is_immutable = |name: &Option<String>| {
            name.as_ref()
                .is_some_and(|name| self.folder.immutable.contains(name))
        };
        let fails = is_immutable(&from) || is_immutable(&there);
        if fails || (self.trouble.errors && self.rng.percent(8)) {
            self.log.push(format!("failed: {id} to {to}"));
            return self.planner.report(id, Outcome::Failed);
        }
        // The laws, at the moment of the change.
        if let Some(kind) = content {
            let replaced = match kind {
                FileKind::Image(replaced) => replaced,
                kind => {
                    assert_eq!(kind, FileKind::Unread, "R5: no image, and replaced");
                    assert_eq!(self.options.fetch(), jtp_sync::Fetch::All);
                    id
                }
            };
            let all =
                self.options.fetch() == jtp_sync::Fetch::All && self.in_hand.contains(&replaced);
            let is_kept = replaced == id || self.folder.holders(replaced).len() > 1 || all;
            assert!(
                is_kept || !self.known.contains(&replaced),
                "R8 (a): {replaced} is listed, and its only file replaced"
            );
            self.done[3] += 1;
        } else if expect != Expect::Nothing {
            // The planner counts what it expects.
            self.done[3] += 1;
        }
        assert!(
            self.known.contains(&id) || from.is_some(),
            "R8 (c): {id} is in no LIST, and placed"
        );
        if let Some(from) = &from {
            self.folder.files.remove(from);
        } else {
            self.in_hand.remove(&id);
        }
        if let Some(there) = &there {
            self.folder.files.remove(there);
        }
        self.folder.files.insert(to.to_owned(), FileKind::Image(id));
        self.done[kind] += 1;
        self.planner.report(id, Outcome::Done);
    }
}

/// Someone else changes the folder.
pub(crate) fn disturb(folder: &mut Folder, rng: &mut Rng) {
    let names: Vec<String> = folder.files.keys().cloned().collect();
    let name = random_name(rng).replace('/', "_");
    match rng.below(5) {
        0 | 1 => folder.put(&name, FileKind::Image(ImageId(rng.next() % 12))),
        2 if !names.is_empty() => {
            folder.files.remove(rng.pick(&names));
        }
        3 if !names.is_empty() => {
            let from = rng.pick(&names).clone();
            if let Some(kind) = folder.files.remove(&from) {
                folder.put(&name, kind);
            }
        }
        _ => {
            let kind = *rng.pick(&[FileKind::Other, FileKind::Reserved, FileKind::Unread]);
            folder.put(&name, kind);
        }
    }
}

pub(crate) fn length(id: ImageId) -> u32 {
    100 + (id.0 % 7) as u32
}
