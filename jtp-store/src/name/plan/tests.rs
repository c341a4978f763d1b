//! Tests of the name plan.

use super::*;
use crate::fold_case;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};

fn plan(entries: &[(u64, &str)]) -> Vec<String> {
    let mut plan = NamePlan::new();
    for (id, name) in entries {
        plan.add(ImageId(*id), name, FileType::Png);
    }
    let name = |(id, _): &(u64, &str)| plan.name(ImageId(*id), FileType::Png).to_string();
    entries.iter().map(name).collect()
}

#[test]
fn r5_a_name_equal_to_the_suffixed_name_of_another_image_gets_a_suffix() {
    let names = plan(&[(1, "a.png"), (2, "a.png"), (3, "A-0000000000000001.png")]);
    assert_eq!(names[0], "a-0000000000000001.png");
    assert_eq!(names[2], "A-0000000000000001-0000000000000003.png");
    // HFS+ ignores joiners.
    let joined = "a-000000000000000\u{200d}1.png";
    let names = plan(&[(1, "a.png"), (2, "a.png"), (3, joined)]);
    assert_eq!(names[2], format!("{}-0000000000000003.png", &joined[..21]));
    let alone = plan(&[(3, "a-0000000000000001.png"), (1, "x.png")]);
    assert_eq!(alone[0], "a-0000000000000001.png");
}

#[test]
fn r5_an_image_that_is_not_in_the_plan_is_named_by_its_id() {
    let mut plan = NamePlan::new();
    assert_eq!(
        plan.name(ImageId(1), FileType::Other).as_str(),
        "0000000000000001.img"
    );
    plan.add(ImageId(2), "0000000000000001.IMG", FileType::Other);
    let name = plan.name(ImageId(1), FileType::Other);
    assert_eq!(name.as_str(), "0000000000000001-0000000000000001.img");
}

/// Names are unique, no file has the name of a folder, and neither depends on the order.
fn check_unique(mut entries: Vec<(u64, String)>, turn: usize, empty: &NamePlan) {
    let build = |entries: &[(u64, String)]| {
        let mut plan = empty.clone();
        for (id, name) in entries {
            plan.add(ImageId(*id), name, FileType::Png);
        }
        plan
    };
    let first = build(&entries);
    let turn = turn.min(entries.len());
    entries.rotate_left(turn);
    let second = build(&entries);
    let (mut seen, mut folders) = (HashSet::new(), HashSet::new());
    for (id, _) in &entries {
        let name = first.name(ImageId(*id), FileType::Png);
        assert_eq!(name, second.name(ImageId(*id), FileType::Png));
        let is_new = seen.insert(name.folded().into_owned());
        assert!(is_new, "{name} twice in {entries:?}");
        folders.extend(name.folders().map(|folder| fold_case(folder).into_owned()));
        check_quick_answers(&first, ImageId(*id));
    }
    let both: Vec<_> = seen.intersection(&folders).collect();
    assert!(
        both.is_empty(),
        "files and folders in {entries:?}: {both:?}"
    );
    assert_eq!(first.folders(), folders.len());
}

proptest! {
    #[test]
    fn r5_names_are_unique_and_independent_of_the_order(
        entries in prop::collection::btree_map(
            0..8u64, "[aA./]{0,3}(-000000000000000\u{200d}?[0-7]){0,2}(.png)?|0{15}[0-7].png", 0..8),
        turn in 0..8usize,
    ) {
        check_unique(entries.into_iter().collect(), turn, &NamePlan::new());
    }

    #[test]
    fn w9_names_with_folders_are_unique_and_no_file_has_the_name_of_a_folder(
        entries in prop::collection::btree_map(
            0..8u64,
            "(([aA]|a.png|A.IMG|)(-000000000000000\u{200d}?[0-7](.png)?)?⧸){0,3}\
             [aA.]{0,2}(-000000000000000\u{200d}?[0-7]){0,2}(.png)?|(0{15}[0-7].png⧸?){1,2}",
            0..8),
        turn in 0..8usize,
    ) {
        check_unique(entries.into_iter().collect(), turn, &NamePlan::with_folders());
    }
}

#[test]
fn w9_a_file_with_the_name_of_a_folder_has_a_suffix_while_the_folder_has_files() {
    let mut plan = NamePlan::with_folders();
    let png = FileType::Png;
    plan.add(ImageId(1), "d⧸A.png", png);
    let name = |plan: &NamePlan, id: u64| plan.name(ImageId(id), png).to_string();
    assert_eq!(plan.only_with_fold("d/a.png"), Some(ImageId(1)));
    assert_eq!(name(&plan, 1), "d/A.png");
    plan.add(ImageId(2), "d⧸a.png⧸b⧸c.png", png);
    plan.add(ImageId(3), "d⧸a.PNG⧸b⧸d.png", png);
    assert!(plan.is_folder("d/a.png") && plan.is_folder("d") && !plan.is_folder("d/a.png/b/c.png"));
    assert_eq!(plan.only_with_fold("d/a.png"), None);
    assert_eq!(name(&plan, 1), "d/A-0000000000000001.png");
    assert_eq!(name(&plan, 2), "d/a.png/b/c.png");
    assert!(plan.supersede(ImageId(2)) && plan.remove(ImageId(3)));
    assert_eq!(name(&plan, 1), "d/A-0000000000000001.png");
    plan.add(ImageId(2), "d⧸b.png", png);
    assert_eq!((&*name(&plan, 1), plan.folders()), ("d/A.png", 1));
    assert!(plan.announce(ImageId(4), "d⧸b.png", png) == [ImageId(2)] && plan.remove(ImageId(4)));
    assert!(plan.remove(ImageId(1)) && plan.folders() == 0);
}

thread_local! {
    /// The number of accesses to images of a plan.
    pub(super) static ACCESSES: Cell<u64> = const { Cell::new(0) };
}

/// Plans with many names that meet, and what is done with them.
#[derive(Default)]
struct Work {
    plan: NamePlan,
    /// Accesses for each kind of work, by image.
    costs: Vec<(&'static str, u64)>,
}

impl Work {
    fn each(&mut self, what: &'static str, ids: &[u64], mut work: impl FnMut(&mut NamePlan, u64)) {
        let before = ACCESSES.get();
        for id in ids {
            work(&mut self.plan, *id);
        }
        let images = u64::try_from(ids.len()).unwrap();
        self.costs.push((what, (ACCESSES.get() - before) / images));
    }

    /// Everything that can be done with the images 0 to `count`, in this order.
    fn run(ids: &[u64], name: &dyn Fn(u64) -> String) -> Work {
        let count = u64::try_from(ids.len()).unwrap();
        let png = FileType::Png;
        let mut work = Work::default();
        work.each("add", ids, |plan, id| plan.add(ImageId(id), &name(id), png));
        work.each("name", ids, |plan, id| drop(plan.name(ImageId(id), png)));
        work.each("add again", ids, |plan, id| {
            plan.add(ImageId(id), &name(id), png);
        });
        work.each("announce the same", ids, |plan, id| {
            drop(plan.announce(ImageId(id), &name(id), png));
        });
        work.each("announce another", ids, |plan, id| {
            drop(plan.announce(ImageId(count + id), &name(id), png));
        });
        work.each("add older", ids, |plan, id| {
            plan.add(ImageId(id), &name(id), png);
        });
        work.each("supersede", ids, |plan, id| {
            assert!(plan.supersede(ImageId(id)));
        });
        work.each("find", ids, |plan, id| {
            let _ = plan.listed_as(&name(id));
        });
        work.each("remove superseded", ids, |plan, id| {
            assert!(plan.remove(ImageId(id)));
        });
        work.each("add", ids, |plan, id| plan.add(ImageId(id), &name(id), png));
        work.each("remove", ids, |plan, id| {
            assert!(plan.remove(ImageId(id)));
        });
        work
    }
}

/// All names with 17 letters that differ in case.
fn variant(n: u64) -> String {
    let letter = |bit: u32| if (n >> bit) & 1 == 1 { 'A' } else { 'a' };
    (0..17).map(letter).collect::<String>() + ".png"
}

#[test]
fn r5_work_per_image_does_not_grow_with_the_number_of_equal_names() {
    let names: [&dyn Fn(u64) -> String; 3] =
        [&variant, &|_| "a.png".to_owned(), &|n| variant(n / 2)];
    let orders: [fn(u64) -> Vec<u64>; 3] = [
        |count| (0..count).collect(),
        |count| (0..count).rev().collect(),
        |count| (0..count).map(|n| n * 7919 % count).collect(),
    ];
    for name in names {
        for order in orders {
            let few = Work::run(&order(200), name);
            let many = Work::run(&order(3000), name);
            for ((what, few), (_, many)) in few.costs.into_iter().zip(many.costs) {
                assert!(
                    many <= 2 * few + 16,
                    "{what}: {many} accesses, of few {few}"
                );
            }
        }
    }
}

#[test]
fn names_of_removed_images_do_not_use_memory_forever() {
    let mut plan = NamePlan::new();
    plan.add(ImageId(77), "stays.png", FileType::Png);
    for n in 0..20_000 {
        plan.add(
            ImageId(n % 10),
            &format!("{n}-{}.png", "x".repeat(100)),
            FileType::Png,
        );
    }
    assert_eq!(plan.len(), 11);
    assert_eq!(plan.listed(ImageId(77)), Some("stays.png"));
    assert!(plan.arena.bytes() < 1 << 20);
    for n in 0..10 {
        let name = format!("{}-{}.png", 19_990 + n, "x".repeat(100));
        assert_eq!(plan.listed(ImageId(n)), Some(&*name));
    }
}

/// What the plan says of an image by its slot is what it says of it by its names.
fn check_quick_answers(plan: &NamePlan, id: ImageId) {
    let slot = plan.slot(id).unwrap();
    let safe = plan.safe(id).unwrap();
    assert!(plan.is_safe_form(slot, safe.as_str()));
    assert!(!plan.is_safe_form(slot, &format!("{safe}x")));
    let is_only = plan.only_with_fold(&safe.folded()) == Some(id);
    assert_eq!(plan.is_only_with_its_fold(slot), is_only, "{safe}");
    let is_named_so = plan.name(id, FileType::Png) == safe;
    assert_eq!(plan.has_safe_form(slot), is_named_so, "{safe}");
}

#[test]
fn no_image_has_a_slot_that_is_free_or_too_large() {
    let mut plan = NamePlan::new();
    plan.add(ImageId(1), "a.png", FileType::Png);
    plan.remove(ImageId(1));
    for slot in [0, 1, usize::MAX] {
        assert!(!plan.is_safe_form(slot, "a.png") && !plan.is_safe_form(slot, ""));
        assert!(!plan.is_only_with_its_fold(slot) && !plan.has_safe_form(slot));
    }
}

/// The names that RFC.md describes, found by comparing each image with all others.
fn expected(images: &BTreeMap<u64, (String, bool)>) -> BTreeMap<u64, String> {
    let safe = |id: u64| FileName::new(&images[&id].0, ImageId(id), FileType::Png);
    let name = |(&id, (_, superseded)): (&u64, &(String, bool))| {
        let mine = safe(id);
        let meets = images.iter().any(|(&other, (_, superseded))| {
            let suffixed = safe(other).with_id(ImageId(other));
            let is_its_suffixed = mine.suffix_id() == Some(ImageId(other));
            other != id
                && (!superseded && safe(other).folded() == mine.folded()
                    || is_its_suffixed && suffixed.folded() == mine.folded())
        });
        let name = if *superseded || meets {
            mine.with_id(ImageId(id))
        } else {
            mine.clone()
        };
        (id, name.to_string())
    };
    images.iter().map(name).collect()
}

proptest! {
    #[test]
    fn r5_n1_names_follow_each_change_of_the_plan(
        changes in prop::collection::vec((0..6u64, "[aA]{1,2}(-000000000000000[0-5])?.png", 0..6u8), 0..40),
    ) {
        let (mut plan, mut images) = (NamePlan::new(), BTreeMap::new());
        for (id, name, change) in changes {
            match change {
                0 => prop_assert_eq!(plan.remove(ImageId(id)), images.remove(&id).is_some()),
                1 => {
                    prop_assert_eq!(plan.supersede(ImageId(id)), images.contains_key(&id));
                    images.entry(id).and_modify(|(_, superseded)| *superseded = true);
                }
                2 => {
                    let mut replaced: Vec<u64> = plan
                        .announce(ImageId(id), &name, FileType::Png)
                        .iter()
                        .map(|id| id.0)
                        .collect();
                    replaced.sort_unstable();
                    images.remove(&id);
                    let same = |(other, superseded): &(String, bool)| *other == name && !superseded;
                    let gone: Vec<u64> =
                        images.iter().filter(|(_, image)| same(image)).map(|(id, _)| *id).collect();
                    images.retain(|_, image| !same(image));
                    prop_assert_eq!(replaced, gone);
                    images.insert(id, (name, false));
                }
                3 => {
                    match plan.add_unrelated(ImageId(id), &name, FileType::Png) {
                        Some(slot) => {
                            prop_assert!(!images.contains_key(&id));
                            prop_assert_eq!(plan.slot(ImageId(id)), Some(slot));
                        }
                        None => plan.add(ImageId(id), &name, FileType::Png),
                    }
                    images.insert(id, (name, false));
                }
                _ => {
                    plan.add(ImageId(id), &name, FileType::Png);
                    images.insert(id, (name, false));
                }
            }
            prop_assert_eq!(plan.len(), images.len());
            for (id, name) in expected(&images) {
                let found = plan.name(ImageId(id), FileType::Png);
                prop_assert_eq!(found.as_str(), name);
                let slot = plan.slot(ImageId(id)).unwrap();
                prop_assert_eq!(plan.at(slot), Some(ImageId(id)));
                let (name, is_superseded) = &images[&id];
                prop_assert_eq!(plan.is_superseded(ImageId(id)), *is_superseded);
                let listed = plan.listed_as(name).map(|other| images[&other.0].clone());
                prop_assert!(*is_superseded || listed == Some((name.clone(), false)));
                check_quick_answers(&plan, ImageId(id));
            }
        }
    }
}
