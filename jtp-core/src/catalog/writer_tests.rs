use super::super::Cursor;
use super::*;
use crate::image::FileType;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::string::String;
use alloc::string::ToString;
use proptest::prelude::*;

fn image(id: u64) -> Image {
    Image::new(ImageId(id), Flags::new(FileType::Png, false), 1)
}

fn names(catalog: &Catalog) -> Vec<String> {
    catalog
        .entries()
        .map(|entry| entry.name.to_string())
        .collect()
}

/// The names in the events after a position.
fn events(from: &Cursor) -> Vec<String> {
    let mut names = Vec::new();
    let mut at = from.clone();
    while let Some(batch) = at.next() {
        let mut frames = batch.frames();
        while let Some(rest) = frames.strip_prefix(b"JTPW") {
            let Ok(crate::wire::Decoded::Complete { value, used }) = entry::decode(rest) else {
                panic!("not an entry");
            };
            names.push(value.name.to_string());
            frames = &rest[used..];
        }
        assert!(frames.is_empty());
        at = batch.end();
    }
    names
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// In order and not, with IDs and names that come several times, into an empty catalog and into another one.
    #[test]
    fn filling_a_catalog_is_the_same_as_inserting_each_image(
        before in prop::collection::vec((0..3u64, "[ab]{0,2}"), 0..3),
        images in prop::collection::vec((0..2000u64, 0..40u8), 0..1200),
        is_sorted: bool,
        is_distinct: bool,
        has_history: bool,
        is_emptied: bool,
    ) {
        let name_of = |n| match n {
            0 => String::new(),
            1 => "e\u{301}".to_string(),
            2 => "a⧸b".to_string(),
            n => format!("{n}"),
        };
        let images = images.into_iter().map(|(id, n)| (id, name_of(n)));
        let mut images: Vec<(u64, String)> = images.collect();
        if is_distinct {
            let mut ids = BTreeSet::new();
            images.retain(|(id, _)| ids.insert(*id));
        }
        if is_sorted {
            images.sort_by_key(|(id, name)| (crate::nfc(name).into_owned(), *id));
        }
        let [mut filled, mut inserted] = [CatalogWriter::new(), CatalogWriter::new()];
        for writer in [&mut filled, &mut inserted] {
            if !has_history {
                writer.set_history(0);
            }
            for (id, name) in &before {
                writer.insert(name, image(*id)).unwrap();
            }
            if is_emptied {
                writer.publish();
                writer.retain(|_| false);
            }
        }
        let start = filled.snapshot().latest().clone();
        filled.fill(images.iter().map(|(id, name)| (name, image(*id))), |_, _| panic!());
        for (id, name) in &images {
            inserted.insert(name, image(*id)).unwrap();
        }
        let [filled_now, inserted_now] = [filled.publish(), inserted.publish()];
        prop_assert!(filled_now.entries().eq(inserted_now.entries()));
        prop_assert_eq!(filled_now.list().collect::<Vec<_>>().concat(), inserted_now.list().collect::<Vec<_>>().concat());
        prop_assert_eq!(filled_now.latest().events(), inserted_now.latest().events());
        let new = filled_now.latest().events() - start.events();
        prop_assert_eq!(events(&start).len() as u64, if has_history { new } else { 0 });
        for id in (0..2000).step_by(7) {
            prop_assert_eq!(filled_now.get(ImageId(id)), inserted_now.get(ImageId(id)));
        }
        // Further changes find all parts of it in order.
        for writer in [&mut filled, &mut inserted] {
            for (id, name) in images.iter().step_by(3) {
                writer.insert(&(name.clone() + "x"), image(*id)).unwrap();
                writer.remove(ImageId(id / 2));
            }
        }
        prop_assert!(filled.publish().entries().eq(inserted.publish().entries()));
    }
}

#[test]
fn s14_names_that_are_too_long_are_refused_while_a_catalog_is_filled() {
    let long = "x".repeat(65_536);
    let mut writer = CatalogWriter::new();
    let mut refused = Vec::new();
    writer.set_history(0);
    writer.fill([].map(|name: &str| (name, image(0))), |_, _| panic!());
    assert_eq!(writer.publish().generation(), 0, "nothing was added");
    let images = [("a", image(1)), (&long, image(2)), ("z", image(3))];
    writer.fill(images, |name, error| refused.push((name.len(), error)));
    assert_eq!(refused, [(65_536, CatalogError::NameTooLong)]);
    let start = writer.snapshot().latest().clone();
    writer.set_history(2);
    assert_eq!(names(&writer.publish()), ["a", "z"]);
    assert_eq!(events(&start), ["a", "z"]);
}

#[test]
fn w6_names_become_nfc_and_s14_long_names_are_refused() {
    let mut writer = CatalogWriter::new();
    writer.insert("cafe\u{301}", image(1)).unwrap();
    assert_eq!(
        writer.insert(&"x".repeat(65_536), image(2)),
        Err(CatalogError::NameTooLong)
    );
    assert_eq!(names(&writer.publish()), ["café"]);
    writer.insert(&"x".repeat(65_535), image(2)).unwrap();
}

#[test]
fn s3_a_snapshot_does_not_change() {
    let mut writer = CatalogWriter::new();
    writer.insert("a", image(1)).unwrap();
    let first = writer.publish();
    writer.insert("b", image(2)).unwrap();
    writer.remove(ImageId(1));
    let second = writer.publish();
    assert_eq!(names(&first), ["a"]);
    assert_eq!(names(&second), ["b"]);
    assert_eq!((first.generation(), second.generation()), (1, 2));
    assert_eq!(
        writer.publish().generation(),
        2,
        "publishing without changes"
    );
}

#[test]
fn n1_an_event_is_an_id_that_becomes_present() {
    let mut writer = CatalogWriter::new();
    writer.insert("old", image(1)).unwrap();
    let first = writer.publish();
    writer.insert("renamed", image(1)).unwrap(); // A rename is no event.
    writer.insert("new", image(2)).unwrap();
    writer.insert("brief", image(3)).unwrap(); // Never published: no event.
    writer.remove(ImageId(3));
    writer.publish();
    writer.remove(ImageId(2)); // The event of a removed image stays,
    writer.publish();
    writer.insert("again", image(2)).unwrap(); // and adding it again is another event.
    let compressed = Image::new(ImageId(1), Flags::new(FileType::Bmp, true), 0);
    writer.insert("renamed", compressed).unwrap(); // S9: another variant is no event.
    writer.publish();
    writer.remove(ImageId(1)); // Present in both snapshots: no event.
    writer.insert("back", image(1)).unwrap();
    writer.publish();
    assert_eq!(events(first.latest()), ["new", "again"]);
    assert!(events(writer.snapshot().latest()).is_empty());
}

#[test]
fn w5_reserved_types_and_flags_are_not_kept() {
    let mut writer = CatalogWriter::new();
    let reserved = Image::new(ImageId(1), Flags::from_bits(0b1111_0101), 1);
    writer.insert("a", reserved).unwrap();
    assert_eq!(writer.publish().get(ImageId(1)).unwrap().flags.bits(), 7);
}

#[test]
fn many_images_are_found_by_id_and_listed_in_order() {
    let mut writer = CatalogWriter::new();
    let mut rng = jtp_kit::Rng::new(1);
    let count: usize = if cfg!(miri) { 200 } else { 5_000 };
    for _ in 0..count {
        let name = format!("{:016x}.png", rng.next());
        writer.insert(&name, image(rng.next())).unwrap();
    }
    let catalog = writer.publish();
    assert_eq!(catalog.len(), count);
    assert!(names(&catalog).is_sorted());
    assert!(catalog.chunks() <= count / 200, "{}", catalog.chunks());
    let ordinals: BTreeSet<_> = catalog
        .entries()
        .map(|entry| catalog.ordinal(entry.id).unwrap())
        .collect();
    assert_eq!(ordinals.len(), count);
    assert_eq!(ordinals.last(), Some(&(count - 1)));
    let mut at = super::super::Place::default();
    for entry in catalog.entries() {
        assert_eq!(catalog.next_image(&mut at), Some(entry.image()));
        assert_eq!(catalog.entry(entry.id), Some(entry));
    }
    assert_eq!(catalog.next_image(&mut at), None);
}

#[test]
fn entries_in_catalog_order_are_appended_without_a_search() {
    let mut bulk = Bulk::default();
    let pushed = ["b", "a", "c"].map(|name| {
        let image = image(u64::from(name.as_bytes()[0]));
        bulk.push(&valid_entry(name, image).unwrap())
    });
    assert_eq!((pushed, bulk.len()), ([true, false, true], 2));
}

#[test]
fn chunks_have_up_to_512_entries_and_64_kib_and_are_full_in_order() {
    // An entry has 12 bytes beside its name.
    for (name_len, count, chunks) in [
        (10, 1024, 2),
        (1012, 128, 2),
        (1012, 129, 3),
        (65_000, 3, 3),
    ] {
        let named: Vec<_> = (0..count)
            .map(|n| (format!("{n:0name_len$}"), image(n)))
            .collect();
        let [mut filled, mut inserted] = [CatalogWriter::new(), CatalogWriter::new()];
        filled.fill(
            named.iter().map(|(name, image)| (name, *image)),
            |_, _| panic!(),
        );
        for (name, image) in &named {
            inserted.insert(name, *image).unwrap();
        }
        assert_eq!(filled.publish().chunks(), chunks, "{name_len}");
        assert_eq!(inserted.publish().chunks(), chunks, "{name_len}");
    }
}

#[test]
fn retain_keeps_unchanged_chunks_shared() {
    let count: u64 = if cfg!(miri) { 1_500 } else { 5_000 };
    let mut writer = CatalogWriter::new();
    for n in 0..count {
        writer.insert(&format!("{n:06}"), image(n)).unwrap();
    }
    let all = writer.publish();
    writer.retain(|_| true);
    writer.insert("000000", image(0)).unwrap();
    assert_eq!(writer.publish().generation(), 1, "nothing was changed");
    // The first chunk stays, the second loses some entries, the others become empty.
    writer.retain(|entry| entry.id.0 < 600);
    for n in 0..1_000 {
        writer
            .insert(&format!("again{n:03}"), image(count + n))
            .unwrap();
    }
    let kept = writer.publish();
    let ids: Vec<_> = kept.entries().map(|entry| entry.id.0).collect();
    assert!(ids.into_iter().eq((0..600).chain(count..count + 1_000)));
    for id in 0..count + 1_000 {
        let expected = id < 600 || id >= count;
        assert_eq!(kept.get(ImageId(id)).is_some(), expected, "{id}");
    }
    let first = |catalog: &Catalog| catalog.contents.spine.first().map(Arc::as_ptr);
    assert_eq!(first(&all), first(&kept));
    writer.retain(|_| false);
    let none = writer.publish();
    assert!(writer.is_empty() && none.is_empty() && !kept.is_empty());
    assert!(none.entries().next().is_none());
}

proptest! {
    #[test]
    fn s5_a_writer_behaves_like_a_map_from_id_to_name(
        steps in prop::collection::vec((0..60u64, 0..4u8, "[Zabé]{0,3}"), 0..200)
    ) {
        let mut writer = CatalogWriter::new();
        let mut model = BTreeMap::new();
        let mut events = Vec::new();
        let start = writer.snapshot().latest().clone();
        let mut before: BTreeMap<u64, String> = BTreeMap::new();
        let mut inserted: Vec<u64> = Vec::new();
        for (id, step, name) in steps {
            // Spread the IDs over all shards.
            let id = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            match step {
                0 => {
                    writer.insert(&name, image(id)).unwrap();
                    inserted.push(id);
                    model.insert(id, name);
                }
                1 => prop_assert_eq!(writer.remove(ImageId(id)), model.remove(&id).is_some()),
                2 => {
                    writer.retain(|entry| entry.name >= name.as_str());
                    model.retain(|_, kept| *kept >= name);
                }
                _ => {
                    let unpublished: Vec<_> = writer.entries().map(|e| e.id).collect();
                    let catalog = writer.publish();
                    prop_assert!(catalog.entries().map(|e| e.id).eq(unpublished));
                    let mut seen = BTreeSet::new();
                    // In the order of first insertion.
                    for id in inserted.drain(..) {
                        if model.contains_key(&id) && !before.contains_key(&id) && seen.insert(id) {
                            events.push(id);
                        }
                    }
                    before.clone_from(&model);
                    let mut expected: Vec<_> =
                        model.iter().map(|(id, name)| (name.clone(), *id)).collect();
                    expected.sort();
                    let listed: Vec<_> =
                        catalog.entries().map(|e| (e.name.to_string(), e.id.0)).collect();
                    prop_assert_eq!(listed, expected);
                    let list: Vec<u8> = catalog.list().flatten().copied().collect();
                    prop_assert!(list.starts_with(b"JTPL"));
                }
            }
        }
        prop_assert_eq!(start.behind(writer.snapshot().latest()), Some(events.len() as u64));
    }
}
