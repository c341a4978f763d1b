//! The laws on random folders, servers and histories.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::executor::{Run, Trouble, disturb};
use crate::model::{Folder, Rng, Server, is_made};
use jtp_core::{ImageId, nfc};
use jtp_store::{FileName, fold_case};
use jtp_sync::{Fetch, FileKind, Names, Options};

fn for_each_seed(law: impl Fn(&mut Rng)) {
    jtp_kit::for_each_seed(3000, |seed| law(&mut Rng::new(seed)));
}

/// A history: a random folder and server, and runs in which much goes wrong.
struct History {
    folder: Folder,
    server: Server,
    options: Options,
    bad: BTreeSet<ImageId>,
    left_out: BTreeSet<ImageId>,
}

fn history(rng: &mut Rng, trouble: Trouble, options: impl Fn(&mut Rng) -> Options) -> History {
    selective_history(rng, trouble, options, 0)
}

/// A history in which images are left out and selected again. `reselect`: how often, in percent.
fn selective_history(
    rng: &mut Rng,
    trouble: Trouble,
    options: impl Fn(&mut Rng) -> Options,
    reselect: usize,
) -> History {
    let mut folder = Folder {
        folding: rng.percent(50),
        ..Folder::default()
    };
    let mut server = Server::of(&[]);
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
    let options = options(rng);
    let bad = if rng.percent(30) {
        server
            .ids()
            .into_iter()
            .filter(|_| rng.percent(30))
            .collect()
    } else {
        BTreeSet::new()
    };
    let mut left_out = BTreeSet::new();
    for _ in 0..rng.below(4) {
        let mut run = Run::new(rng, &mut folder, &mut server, options.clone(), trouble);
        run.bad = bad.clone();
        run.left_out.clone_from(&left_out);
        run.reselect = reselect;
        let ended = catch_unwind(AssertUnwindSafe(|| {
            run.finish();
        }));
        left_out.clone_from(&run.left_out);
        if let Err(panic) = ended {
            print_log(&run);
            resume_unwind(panic);
        }
        if rng.percent(50) {
            server.change(rng);
        }
    }
    History {
        folder,
        server,
        options,
        bad,
        left_out,
    }
}

fn print_log(run: &Run<'_>) {
    if std::env::var_os("JTP_SEED").is_some() {
        eprintln!(
            "{}\n{:?}\n{:?}",
            run.log.join("\n"),
            run.folder,
            run.planner
        );
    }
}

impl History {
    /// A run in which nothing goes wrong. Returns the images that were fetched, and whether the folder changed.
    fn calm_run(&mut self, rng: &mut Rng) -> (BTreeSet<ImageId>, bool) {
        let before = self.folder.files.clone();
        let trouble = Trouble::default();
        let mut run = Run::new(
            rng,
            &mut self.folder,
            &mut self.server,
            self.options.clone(),
            trouble,
        );
        run.bad = self.bad.clone();
        run.left_out.clone_from(&self.left_out);
        run.log.push(format!("the folder is {before:?}"));
        let ended = catch_unwind(AssertUnwindSafe(|| {
            assert!(run.finish());
        }));
        if let Err(panic) = ended {
            print_log(&run);
            resume_unwind(panic);
        }
        if std::env::var_os("JTP_SEED").is_some() {
            print_log(&run);
        }
        let twice = run.fetched.iter().find(|(_, count)| **count > 1);
        assert_eq!(twice, None, "R8 (b): an image is fetched twice");
        let fetched = run.fetched.keys().copied().collect();
        (fetched, self.folder.files != before)
    }

    /// The listed images that the folder contains.
    fn contained(&self) -> BTreeSet<ImageId> {
        let ids = self.server.ids().into_iter();
        ids.filter(|id| self.folder.contains(*id)).collect()
    }

    fn check_kept(&self, before: &BTreeSet<ImageId>) {
        for id in before {
            assert!(self.folder.contains(*id), "R8 (a): {id} is lost");
        }
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

    /// Whether a folder has the name, or a file that stays is in place of a folder of it.
    fn is_obstructed(&self, name: &FileName) -> bool {
        let stays = |(file, kind): (&String, &FileKind)| match kind {
            FileKind::Image(_) => {
                let is_unread = self.options.fetch() == Fetch::All && self.folder.unread;
                let is_any = self.options.names() == Names::Any;
                let is_immutable = self.folder.immutable.contains(file);
                is_immutable || self.options.keep_existing() || is_unread || is_any
            }
            _ => true,
        };
        let is_above = |file: &str| {
            let mut folders = name.folders();
            folders.any(|folder| fold_case(folder) == fold_case(file))
        };
        let folders = self.folder.folders();
        folders
            .iter()
            .any(|folder| fold_case(folder) == fold_case(name.as_str()))
            || self
                .folder
                .files
                .iter()
                .any(|file| is_above(file.0) && stays(file))
    }

    /// With `Names::Any`: an image whose files all have names made from its ID has its own name if that is free.
    fn check_own_name(&self, id: ImageId, name: &FileName, holders: &[&str]) {
        let is_kept = |(other, kind): (&String, &FileKind)| {
            let FileKind::Image(content) = kind else {
                return true;
            };
            let stays = self.folder.immutable.contains(other) || self.options.keep_existing();
            stays || self.server.ids().contains(content)
        };
        let similar =
            |(other, _): &(&String, &FileKind)| fold_case(other) == fold_case(name.as_str());
        let has_name = self.has_name(name, holders);
        let is_stuck = holders
            .iter()
            .any(|holder| self.folder.immutable.contains(*holder));
        let is_taken =
            self.folder.files.iter().filter(similar).any(is_kept) || self.is_obstructed(name);
        assert!(
            has_name || is_stuck || is_taken || !holders.iter().all(|name| is_made(name, id)),
            "R8 (c): {name} is free, and {id} under {holders:?}"
        );
    }

    /// All that the server lists is in the folder, under its name if that is free.
    fn check_complete(&self) {
        for (id, name) in self.server.expected_names() {
            let holders = self.folder.holders(id);
            if self.bad.contains(&id) && holders.is_empty() {
                continue;
            }
            assert!(!holders.is_empty(), "R8 (d): {id} is not in the folder");
            if self.bad.contains(&id) && self.options.fetch() == Fetch::All && self.folder.unread {
                // It is in a file that was not read.
                continue;
            }
            if self.options.names() == Names::Any {
                self.check_own_name(id, &name, &holders);
                continue;
            }
            let suffixed = name.with_id(id);
            let has = |name: &FileName| self.has_name(name, &holders);
            let is_taken = self.folder.files.iter().any(|(other, kind)| {
                let stays = self.folder.immutable.contains(other) || self.options.keep_existing();
                let is_similar = fold_case(other) == fold_case(name.as_str());
                is_similar && (!matches!(kind, FileKind::Image(_)) || stays)
            }) || self.is_obstructed(&name);
            let is_stuck = holders
                .iter()
                .any(|holder| self.folder.immutable.contains(*holder));
            let is_free = !is_taken && !is_stuck;
            assert!(
                has(&name) || !is_free,
                "R8 (c): {id} is not under {name}, but {holders:?}"
            );
            let suffix_taken = self.folder.files.iter().any(|(other, kind)| {
                fold_case(other) == fold_case(suffixed.as_str()) && *kind != FileKind::Image(id)
            }) || self.is_obstructed(&suffixed);
            assert!(
                has(&name) || has(&suffixed) || is_stuck || suffix_taken,
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

fn plain(_: &mut Rng) -> Options {
    Options::new()
}

fn any_options(rng: &mut Rng) -> Options {
    let names = *rng.pick(&[Names::Listed, Names::Any]);
    Options::new()
        .with_names(names)
        .with_keep_existing(rng.percent(30))
}

#[test]
fn r8_an_image_that_the_server_lists_is_never_lost_in_any_history() {
    // The executor checks each step; disturbed runs are all that is needed.
    for_each_seed(|rng| {
        let mut history = history(rng, ALL, any_options);
        let contained = history.contained();
        history.calm_run(rng);
        history.check_kept(&contained);
    });
}

#[test]
fn r8_images_that_are_left_out_are_neither_fetched_nor_moved_nor_replaced() {
    for_each_seed(|rng| {
        let fetch = *rng.pick(&[Fetch::Missing, Fetch::All]);
        let options = |rng: &mut Rng| any_options(rng).with_fetch(fetch);
        // The executor checks each step and each request.
        let mut history = selective_history(rng, ALL, options, 20);
        for id in history.server.ids() {
            if rng.percent(30) {
                history.left_out.insert(id);
            }
        }
        let left_out = |history: &History| -> Vec<(String, FileKind)> {
            let is_out = |(_, kind): &(&String, &FileKind)| match kind {
                FileKind::Image(id) => {
                    history.left_out.contains(id) && history.server.ids().contains(id)
                }
                _ => false,
            };
            let files = history.folder.files.iter().filter(is_out);
            files.map(|(name, kind)| (name.clone(), *kind)).collect()
        };
        let before = left_out(&history);
        let (fetched, _) = history.calm_run(rng);
        assert!(fetched.is_disjoint(&history.left_out));
        assert_eq!(left_out(&history), before);
        for id in history.server.ids() {
            let is_wanted = !history.bad.contains(&id) && !history.left_out.contains(&id);
            assert!(!is_wanted || history.folder.contains(id), "R8 (d): {id}");
        }
        if fetch == Fetch::Missing {
            let (fetched, changed) = history.calm_run(rng);
            assert_eq!((fetched, changed), (BTreeSet::new(), false));
        }
    });
}

#[test]
fn r8_a_second_run_does_nothing() {
    for_each_seed(|rng| {
        let mut history = history(rng, ALL, any_options);
        history.calm_run(rng);
        let (fetched, changed) = history.calm_run(rng);
        assert_eq!(fetched, BTreeSet::new(), "R8 (b): fetched again");
        assert!(!changed, "R8 (b): a second run changes the folder");
    });
}

#[test]
fn r8_an_image_in_the_folder_is_not_fetched_again() {
    for_each_seed(|rng| {
        // Without changes from outside, the executor checks each fetch.
        let trouble = Trouble {
            changes: false,
            ..ALL
        };
        let mut history = history(rng, trouble, any_options);
        let before = history.folder.clone();
        let (fetched, _) = history.calm_run(rng);
        assert!(fetched.iter().all(|id| !before.contains(*id)));
    });
}

#[test]
fn r8_in_the_end_all_listed_images_have_their_names() {
    for_each_seed(|rng| {
        let mut history = history(rng, ALL, plain);
        history.calm_run(rng);
        history.check_complete();
    });
}

#[test]
fn r8_one_image_that_cannot_be_stored_keeps_no_other_from_coming() {
    for_each_seed(|rng| {
        let mut history = history(rng, ALL, any_options);
        for name in history.folder.files.keys() {
            if rng.percent(30) {
                history.folder.immutable.insert(name.clone());
            }
        }
        let fixed: Vec<(String, FileKind)> = history
            .folder
            .immutable
            .iter()
            .map(|name| (name.clone(), history.folder.files[name]))
            .collect();
        history.calm_run(rng);
        history.check_complete();
        for (name, kind) in fixed {
            assert_eq!(history.folder.files.get(&name), Some(&kind));
        }
        let (fetched, changed) = history.calm_run(rng);
        assert_eq!((fetched, changed), (BTreeSet::new(), false));
    });
}

#[test]
fn r5_no_file_that_is_not_an_image_is_moved_or_replaced() {
    for_each_seed(|rng| {
        let mut history = history(rng, ALL, any_options);
        let others = |folder: &Folder| -> Vec<(String, FileKind)> {
            let is_other = |(_, kind): &(&String, &FileKind)| !matches!(kind, FileKind::Image(_));
            let listed = folder.files.iter().filter(is_other);
            listed.map(|(name, kind)| (name.clone(), *kind)).collect()
        };
        let before = others(&history.folder);
        history.calm_run(rng);
        assert_eq!(others(&history.folder), before);
    });
}

#[test]
fn r8_fetching_all_anew_loses_nothing_either() {
    for_each_seed(|rng| {
        let options = |rng: &mut Rng| any_options(rng).with_fetch(Fetch::All);
        let mut history = history(rng, ALL, options);
        let contained = history.contained();
        let wanted: BTreeSet<ImageId> = history
            .server
            .ids()
            .difference(&history.bad)
            .copied()
            .collect();
        let (fetched, _) = history.calm_run(rng);
        assert_eq!(fetched, wanted);
        history.check_kept(&contained);
        history.check_complete();
    });
}
