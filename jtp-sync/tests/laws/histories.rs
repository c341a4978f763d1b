//! The laws on random folders, servers and histories.

use std::collections::BTreeSet;

use crate::executor::{Run, Trouble, disturb};
use crate::model::{Folder, Rng, Server, is_made};
use jtp_core::{ImageId, nfc};
use jtp_store::{FileName, fold_case};
use jtp_sync::{Fetch, FileKind, Names, Options};

fn for_each_seed(law: impl Fn(&mut Rng)) {
    jtp_kit::for_each_seed(8000, |seed| law(&mut Rng::new(seed)));
}

/// A history: a random folder and server, and runs in which much goes wrong.
struct History {
    folder: Folder,
    server: Server,
    options: Options,
    bad: BTreeSet<ImageId>,
    left_out: BTreeSet<ImageId>,
}

/// A history in which images are left out and selected again. `reselect`: how often, in percent.
fn history(rng: &mut Rng, trouble: Trouble, fetch: Fetch, reselect: usize) -> History {
    let mut folder = Folder {
        folding: rng.percent(50),
        ..Folder::default()
    };
    let mut server = Server::default();
    for _ in 0..rng.below(10) {
        server.change(rng);
    }
    if rng.percent(60) {
        for _ in 0..rng.below(8) {
            disturb(&mut folder, rng);
        }
    }
    folder.unread = rng.percent(70);
    folder.case_sensitive = !folder.folding && rng.percent(60);
    let mut options = Options::new().with_fetch(fetch);
    if rng.percent(60) {
        let names = *rng.pick(&[Names::Listed, Names::Any]);
        let keeps = rng.percent(30);
        options = options.with_names(names).with_keep_existing(keeps);
    }
    let mut bad = server.ids();
    let is_bad = rng.percent(30);
    bad.retain(|_| is_bad && rng.percent(30));
    let mut history = History {
        folder,
        server,
        options,
        bad,
        left_out: BTreeSet::new(),
    };
    for _ in 0..rng.below(4) {
        let mut run = history.run(rng, trouble);
        run.reselect = reselect;
        run.finish();
        let left_out = std::mem::take(&mut run.left_out);
        drop(run);
        history.left_out = left_out;
        if rng.percent(50) {
            history.server.change(rng);
        }
    }
    history
}

impl History {
    fn run<'a>(&'a mut self, rng: &'a mut Rng, trouble: Trouble) -> Run<'a> {
        let options = self.options.clone();
        let mut run = Run::new(rng, &mut self.folder, &mut self.server, options, trouble);
        run.bad.clone_from(&self.bad);
        run.left_out.clone_from(&self.left_out);
        run
    }

    /// A run in which nothing goes wrong. Returns the images that were fetched, and whether the folder changed.
    fn calm_run(&mut self, rng: &mut Rng) -> (BTreeSet<ImageId>, bool) {
        let before = self.folder.files.clone();
        let mut run = self.run(rng, Trouble::default());
        run.log.push(format!("the folder is {before:?}"));
        assert!(run.finish());
        let twice = run.fetched.iter().find(|(_, count)| **count > 1);
        assert_eq!(twice, None, "R8 (b): an image is fetched twice");
        let fetched = run.fetched.keys().copied().collect();
        drop(run);
        (fetched, self.folder.files != before)
    }

    /// The listed images that the folder contains.
    fn contained(&self) -> BTreeSet<ImageId> {
        let ids = self.server.ids().into_iter();
        ids.filter(|id| self.folder.contains(*id)).collect()
    }

    /// Whether a holder of the image has this name. Folders may be in another case if the planner does not know better.
    fn has_name(&self, name: &FileName, holders: &[&str]) -> bool {
        let parts = |name: &str| {
            let (folder, file) = name.rsplit_once('/').unwrap_or(("", name));
            let folder = match self.folder.case_sensitive {
                true => folder.to_owned(),
                false => fold_case(folder).into_owned(),
            };
            (folder, nfc(file).into_owned())
        };
        let wanted = parts(name.as_str());
        holders.iter().any(|holder| parts(holder) == wanted)
    }

    /// Whether a file cannot leave its name, whatever needs it.
    fn is_fixed(&self, name: &str) -> bool {
        self.folder.immutable.contains(name) || self.options.keep_existing()
    }

    /// Whether a file that `stays` has the name, a folder has it, or a file that stays is in place of a folder of it.
    fn is_taken(&self, name: &FileName, stays: impl Fn(&str, FileKind) -> bool) -> bool {
        let is_like = |other: &str, name: &str| fold_case(other) == fold_case(name);
        let is_unread = self.options.fetch() == Fetch::All && self.folder.unread;
        let is_moved = |file: &str, kind: &FileKind| {
            let is_any = self.options.names() == Names::Any;
            matches!(kind, FileKind::Image(_)) && !self.is_fixed(file) && !is_unread && !is_any
        };
        let mut folders = self.folder.folders().iter();
        folders.any(|folder| is_like(folder, name.as_str()))
            || self.folder.files.iter().any(|(file, kind)| {
                let is_above = name.folders().any(|folder| is_like(folder, file));
                is_above && !is_moved(file, kind)
                    || is_like(file, name.as_str()) && stays(file, *kind)
            })
    }

    /// All that the server lists is in the folder, under its name if that is free.
    fn check_complete(&self) {
        for (id, name) in self.server.expected_names() {
            let holders = self.folder.holders(id);
            let is_bad = self.bad.contains(&id);
            assert!(is_bad || !holders.is_empty(), "R8 (d): {id} is missing");
            // A bad one may be in a file that was not read.
            let is_unread = self.options.fetch() == Fetch::All && self.folder.unread;
            let is_stuck = holders
                .iter()
                .any(|name| self.folder.immutable.contains(*name));
            let is_excused = is_bad && (holders.is_empty() || is_unread) || is_stuck;
            if is_excused || self.has_name(&name, &holders) {
                continue;
            }
            if self.options.names() == Names::Any {
                let listed = self.server.ids();
                let stays = |other: &str, kind| match kind {
                    FileKind::Image(content) => self.is_fixed(other) || listed.contains(&content),
                    _ => true,
                };
                let is_made = holders.iter().all(|holder| is_made(holder, id));
                assert!(
                    !is_made || self.is_taken(&name, stays),
                    "R8 (c): {name} is free, and {id} under {holders:?}"
                );
                continue;
            }
            let stays =
                |other: &str, kind| !matches!(kind, FileKind::Image(_)) || self.is_fixed(other);
            assert!(
                self.is_taken(&name, stays),
                "R8 (c): {id} is not under {name}, but {holders:?}"
            );
            let suffixed = name.with_id(id);
            let is_other = |_: &str, kind| kind != FileKind::Image(id);
            assert!(
                self.has_name(&suffixed, &holders) || self.is_taken(&suffixed, is_other),
                "R8 (c): {id} is neither under {name} nor under {suffixed}, but {holders:?}"
            );
        }
    }
}

const ALL: Trouble = Trouble {
    changes: true,
    errors: true,
    kill: true,
};

#[test]
fn r5_r8_a_run_after_any_history_loses_nothing_and_completes_the_folder() {
    for_each_seed(|rng| {
        // The executor checks each step; without changes from outside, each fetch as well.
        let changes = rng.percent(75);
        let mut history = history(rng, Trouble { changes, ..ALL }, Fetch::Missing, 0);
        let are_fixed = rng.percent(40);
        for name in history.folder.files.keys() {
            if are_fixed && rng.percent(30) {
                history.folder.immutable.insert(name.clone());
            }
        }
        let (before, contained) = (history.folder.clone(), history.contained());
        let (fetched, _) = history.calm_run(rng);
        for id in contained {
            assert!(history.folder.contains(id), "R8 (a): {id} is lost");
            assert!(!fetched.contains(&id), "R8 (b): {id} is fetched again");
        }
        history.check_complete();
        for (name, kind) in &before.files {
            let stays = before.immutable.contains(name) || !matches!(kind, FileKind::Image(_));
            let is_there = history.folder.files.get(name) == Some(kind);
            assert!(is_there || !stays, "R5: {name} is moved or replaced");
        }
        let second = history.calm_run(rng);
        assert_eq!(second, (BTreeSet::new(), false), "R8 (b): a second run");
    });
}

#[test]
fn r8_images_that_are_left_out_are_neither_fetched_nor_moved_nor_replaced() {
    for_each_seed(|rng| {
        let fetch = *rng.pick(&[Fetch::Missing, Fetch::All]);
        // The executor checks each step and each request.
        let mut history = history(rng, ALL, fetch, 20);
        let listed = history.server.ids();
        let out = listed.iter().filter(|_| rng.percent(30));
        history.left_out.extend(out);
        let left_out = |history: &History| {
            let mut files = history.folder.files.clone();
            files.retain(|_, kind| match kind {
                FileKind::Image(id) => history.left_out.contains(id) && listed.contains(id),
                _ => false,
            });
            files
        };
        let before = left_out(&history);
        let (fetched, _) = history.calm_run(rng);
        assert!(fetched.is_disjoint(&history.left_out));
        assert_eq!(left_out(&history), before);
        for id in &listed {
            let is_wanted = !history.bad.contains(id) && !history.left_out.contains(id);
            assert!(!is_wanted || history.folder.contains(*id), "R8 (d): {id}");
        }
        if fetch == Fetch::Missing {
            let second = history.calm_run(rng);
            assert_eq!(second, (BTreeSet::new(), false));
        }
    });
}

#[test]
fn r8_fetching_all_anew_loses_nothing_either() {
    for_each_seed(|rng| {
        let mut history = history(rng, ALL, Fetch::All, 0);
        let contained = history.contained();
        let listed = history.server.ids();
        let (fetched, _) = history.calm_run(rng);
        assert!(fetched.iter().eq(listed.difference(&history.bad)));
        for id in contained {
            assert!(history.folder.contains(id), "R8 (a): {id} is lost");
        }
        history.check_complete();
    });
}
