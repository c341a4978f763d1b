//! Carries out the planner's steps in the model, and checks each of them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jtp_core::ImageId;
use jtp_store::{fold_case, has_image_extension};
use jtp_sync::{Expect, Fetch, FileKind, Inventory, Names, Options, Outcome, Planner, Step};

use crate::model::{Folder, Rng, Server, is_made, random_name};

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
    /// Images that are left out. What the planner knows about each of them is what its last entry said.
    pub(crate) left_out: BTreeSet<ImageId>,
    /// How often an entry changes that, in percent.
    pub(crate) reselect: usize,
    /// What LISTs and events have named.
    pub(super) known: BTreeSet<ImageId>,
    /// What the last LIST and later events have named.
    pub(super) named: BTreeSet<ImageId>,
    /// Whether the last LIST was complete.
    pub(super) complete: bool,
    pub(super) requested: Vec<ImageId>,
    /// What is still to come of a request for everything.
    pub(super) bulk: Option<VecDeque<ImageId>>,
    pub(super) in_hand: BTreeSet<ImageId>,
    pub(super) pending: Vec<Step>,
    pub(crate) log: Vec<String>,
    pub(crate) fetched: BTreeMap<ImageId, usize>,
    /// Renamed, kept aside, placed, replaced.
    pub(crate) done: [u64; 4],
    pub(crate) lists: usize,
    pub(super) options: Options,
    /// Whether the folder may have changed without the planner's knowledge.
    pub(super) disturbed: bool,
    /// Whether the folder was scanned.
    scanned: bool,
    /// Whether scans read the files, which is not necessary to fetch all images.
    reads: bool,
    /// Whether a bound ends the job instead of a second LIST.
    pub(super) bounded: bool,
}

impl<'a> Run<'a> {
    pub(crate) fn new(
        rng: &'a mut Rng,
        folder: &'a mut Folder,
        server: &'a mut Server,
        options: Options,
        trouble: Trouble,
    ) -> Run<'a> {
        let reads = options.fetch() == Fetch::Missing || !folder.unread;
        let bounded = trouble.errors && rng.percent(20);
        Run {
            planner: Planner::new(options.clone()),
            rng,
            folder,
            server,
            trouble,
            bad: BTreeSet::new(),
            left_out: BTreeSet::new(),
            reselect: 0,
            known: BTreeSet::new(),
            named: BTreeSet::new(),
            complete: false,
            requested: Vec::new(),
            bulk: None,
            in_hand: BTreeSet::new(),
            pending: Vec::new(),
            log: Vec::new(),
            fetched: BTreeMap::new(),
            done: [0; 4],
            lists: 0,
            options,
            disturbed: trouble.changes,
            scanned: false,
            reads,
            bounded,
        }
    }

    /// Scans the folder.
    pub(crate) fn scan(&mut self) {
        let mut inventory = Inventory::new();
        inventory.set_case_sensitive(self.folder.case_sensitive);
        for (name, kind) in &self.folder.files {
            let is_read = self.reads || self.rng.percent(30);
            let kind = match kind {
                FileKind::Image(_) if !is_read => FileKind::Unread,
                kind => *kind,
            };
            assert!(inventory.add(name, kind));
        }
        for folder in self.folder.folders() {
            assert!(inventory.add(folder, FileKind::Folder));
        }
        self.log.push(format!("scan: {inventory:?}"));
        self.planner.set_folder(inventory);
        self.scanned = true;
    }

    /// Runs until nothing is left to do. `false` if the run was killed.
    pub(crate) fn finish(&mut self) -> bool {
        if !self.scanned && self.rng.percent(50) {
            self.scan();
        }
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
            if self.rng.percent(if self.scanned { 1 } else { 30 }) {
                self.scan();
            }
            match self.rng.below(6) {
                0 | 1 => self.take_step(),
                2 => self.request(),
                3 if !self.pending.is_empty() => {
                    let step = self.pending.swap_remove(self.rng.below(self.pending.len()));
                    self.execute(step);
                }
                _ => self.receive_something(),
            }
            self.check_counts();
            if self.trouble.changes && self.rng.percent(2) {
                // By the clock.
                self.list();
            }
            if self.trouble.errors && self.rng.percent(1) {
                self.log.push("retry".to_owned());
                self.planner.retry_failed();
            }
            let idle = self.pending.is_empty() && self.requested.is_empty() && self.bulk.is_none();
            if idle && self.planner.wants_list() {
                self.list_or_end();
            }
            if idle && self.planner.is_finished() {
                let step = self.planner.next_move();
                let Some(step) = step else {
                    assert_eq!(self.planner.next_fetch(), None);
                    self.check_totals();
                    return true;
                };
                self.begin(step);
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
        if let Some(step) = self.planner.next_move() {
            assert!(self.scanned);
            self.begin(step);
        }
    }

    fn begin(&mut self, step: Step) {
        self.log.push(format!("{step:?}"));
        if let Step::Rename { id, from, .. } | Step::KeepAside { id, from, .. } = &step {
            self.check_rename(*id, from);
        }
        match step {
            Step::Discard { id } => assert!(self.in_hand.remove(&id), "{id} did not arrive"),
            Step::Refuse { .. } => {}
            step => self.pending.push(step),
        }
    }

    /// With `Names::Any` a file is renamed only if its name was made from its image's ID or is needed.
    fn check_rename(&self, id: ImageId, from: &str) {
        let needs = |other: &ImageId| {
            let name = self.planner.name(*other);
            name.is_some_and(|name| {
                let own = Some(name.as_str()).filter(|_| *other != id);
                let mut needed = name.folders().chain(own);
                needed.any(|name| fold_case(name) == fold_case(from))
            })
        };
        let may_stay = self.options.names() == Names::Any && !is_made(from, id);
        assert!(
            !may_stay || self.known.iter().any(needs),
            "{from} is renamed, and no other image needs its name"
        );
    }

    pub(super) fn change_something(&mut self) {
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
            None if self.folder.is_folder(name) => {
                self.planner.file_found(name, FileKind::Folder);
            }
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
            to.split('/')
                .all(|part| !part.starts_with('.') && !part.is_empty())
                && !to.contains('\\')
                && has_image_extension(to),
            "R5: {to}"
        );
        let there = self
            .folder
            .find(to)
            .filter(|there| Some(there) != from.as_ref());
        let content = there.as_ref().map(|there| self.folder.files[there]);
        let is_expected = match (&expect, content) {
            (_, None) => !self.folder.is_folder(to),
            (Expect::Image(id), Some(kind)) => kind == FileKind::Image(*id),
            (Expect::Copy { id, other }, Some(kind)) => {
                kind == FileKind::Image(*id)
                    && self.folder.files.get(other) == Some(&FileKind::Image(*id))
                    && there.as_ref() != Some(other)
            }
            (Expect::Unread, Some(kind)) => {
                assert_eq!(self.options.fetch(), Fetch::All);
                // The file is read now.
                let content = match kind {
                    FileKind::Image(content) => Some(Some(content)),
                    FileKind::Unread => Some(None),
                    _ => None,
                };
                content.is_some_and(|content| self.planner.may_replace_unread(id, content))
            }
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
            for name in [from, other, there.clone(), Some(to.to_owned())]
                .into_iter()
                .flatten()
            {
                self.look_at(&name);
            }
            if let (Some(FileKind::Unread), Some(there)) = (content, &there) {
                if self.options.keep_existing() {
                    self.planner.file_found(there, FileKind::Other);
                }
            }
            self.log.push(format!("stale: {id} to {to}"));
            return self.planner.report(id, Outcome::Stale);
        }
        let mut touched = from.iter().chain(&there);
        let is_immutable = touched.any(|name| self.folder.immutable.contains(name));
        // A file is in place of a folder.
        let has_no_folder = !self.folder.in_place_of_folders(to).is_empty();
        let fails = is_immutable || has_no_folder;
        if fails || (self.trouble.errors && self.rng.percent(8)) {
            self.log.push(format!("failed: {id} to {to}"));
            return self.planner.report(id, Outcome::Failed);
        }
        // The laws, at the moment of the change.
        let is_left_out = |id: &ImageId| self.known.contains(id) && self.left_out.contains(id);
        assert!(
            !is_left_out(&id),
            "R8: {id} is left out, and moved or placed"
        );
        if let Some(kind) = content {
            let replaced = match kind {
                FileKind::Image(replaced) => replaced,
                kind => {
                    assert_eq!(kind, FileKind::Unread, "R5: no image, and replaced");
                    assert_eq!(self.options.fetch(), Fetch::All);
                    assert!(
                        !self.options.keep_existing(),
                        "a file that stays is replaced"
                    );
                    id
                }
            };
            assert!(
                replaced == id || !is_left_out(&replaced),
                "R8: {replaced} is left out, and replaced"
            );
            let all = self.options.fetch() == Fetch::All && self.in_hand.contains(&replaced);
            let is_kept = replaced == id || self.folder.holders(replaced).len() > 1 || all;
            assert!(
                is_kept || !self.known.contains(&replaced),
                "R8 (a): {replaced} is listed, and its only file replaced"
            );
            assert!(
                is_kept || self.complete,
                "R8 (a): {replaced} may be on the server, and its only file is replaced"
            );
            let stays = self.options.keep_existing() && replaced != id;
            assert!(
                !stays || self.folder.holders(replaced).len() > 1,
                "{replaced} stays, and is replaced"
            );
        }
        // The planner counts what it expects.
        self.done[3] += u64::from(content.is_some() || expect != Expect::Nothing);
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
        self.folder.insert(to, FileKind::Image(id));
        self.done[kind] += 1;
        self.planner.report(id, Outcome::Done);
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if std::env::var_os("JTP_SEED").is_some() {
            let log = self.log.join("\n");
            eprintln!("{log}\n{:?}\n{:?}", self.folder, self.planner);
        }
    }
}

/// Someone else changes the folder.
pub(crate) fn disturb(folder: &mut Folder, rng: &mut Rng) {
    let names: Vec<String> = folder.files.keys().cloned().collect();
    let name = random_name(rng).replace('/', "_").replace('⧸', "/");
    match rng.below(6) {
        5 => {
            // A name made from an ID, most often from that of the image in it.
            let id = ImageId(rng.next() % 12);
            let name = match rng.below(4) {
                0 => format!("{id}.png"),
                1 => format!("a-{id}.png"),
                2 => format!("b-{id}-{}.png", rng.below(3)),
                _ => format!("{id}.jpg"),
            };
            let content = if rng.percent(80) {
                id
            } else {
                ImageId(rng.next() % 12)
            };
            folder.put(&name, FileKind::Image(content));
        }
        0 | 1 => folder.put(&name, FileKind::Image(ImageId(rng.next() % 12))),
        2 if !names.is_empty() => {
            folder.files.remove(rng.pick(&names));
        }
        3 if !names.is_empty() => {
            let from = rng.pick(&names).clone();
            if let Some(kind) = folder.files.remove(&from) {
                folder.put(&name, kind);
                if folder.find(&name).is_none() {
                    folder.files.insert(from, kind);
                }
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
