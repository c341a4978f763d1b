//! Compressed forms on disk. // S9 S13
#![cfg(all(target_os = "linux", feature = "zstd"))]

mod common;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use common::*;
use jtp_core::{Catalog, ImageId};
use jtp_store::{DirStore, ImageStore, OpenError, ReadError, VariantCache};

const MIB: u64 = 1024 * 1024;

fn open(folder: &Path, cache: &VariantCache) -> DirStore {
    // Not from memory: this is about the files.
    let builder = DirStore::builder(folder)
        .variant_cache(cache.clone())
        .small_image_memory(0);
    builder.open().unwrap()
}

/// A picture of which little is left.
fn plain(seed: u8) -> Vec<u8> {
    (0..100_000u32).map(|n| (n / 1000) as u8 ^ seed).collect()
}

fn compressed(catalog: &Catalog, id: ImageId) -> bool {
    catalog
        .get(id)
        .is_some_and(|image| image.flags.is_compressed())
}

fn wait_compressed(store: &DirStore, id: ImageId) {
    wait_for(store, |catalog| compressed(catalog, id));
}

fn decoded(store: &DirStore, id: ImageId) -> Vec<u8> {
    let image = image(store, id);
    assert!(image.flags.is_compressed());
    let form = body(store, image).unwrap();
    assert_eq!(form.len(), image.length as usize);
    zstd::decode_all(form.as_slice()).unwrap()
}

/// Waits for what no snapshot tells of.
#[track_caller]
fn eventually(store: &DirStore, mut is_so: impl FnMut() -> bool) {
    let mut watch = store.catalog().watch();
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "not in time");
        watch.wait_timeout(Duration::from_millis(10));
    }
}

fn form_files(cache: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut forms: Vec<_> = entries
        .filter(|path| {
            path.extension()
                .is_some_and(|e| e == "form1" || e == "part")
        })
        .collect();
    forms.sort();
    forms
}

fn bytes_in(cache: &Path) -> u64 {
    form_files(cache)
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum()
}

fn form_of(cache: &Path, id: ImageId) -> PathBuf {
    let forms = form_files(cache);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let of_id = |path: &&PathBuf| name(path).starts_with(&id.to_string());
    forms
        .iter()
        .find(of_id)
        .expect("it is in the cache")
        .clone()
}

#[test]
fn a_form_is_made_once_and_taken_over_by_the_next_run_and_by_other_stores() {
    let (folder, other_folder, cache) = (temp(), temp(), temp());
    let forms = VariantCache::open(cache.path().join("made/forms"), MIB).unwrap();
    let id = write(folder.path(), "a.bmp", plain(1));
    write(other_folder.path(), "b.bmp", plain(1));
    let store = open(folder.path(), &forms);
    wait_compressed(&store, id);
    assert_eq!(decoded(&store, id), plain(1));
    let file = form_of(forms.folder(), id);
    let made = fs::metadata(&file).unwrap();
    assert_eq!(made.len(), forms.used().unwrap());
    drop(store);
    for folder in [folder.path(), other_folder.path()] {
        // Another program's view of the same folder.
        let forms = VariantCache::open(forms.folder(), MIB).unwrap();
        let store = open(folder, &forms);
        wait_compressed(&store, id);
        assert_eq!(decoded(&store, id), plain(1));
    }
    let now = fs::metadata(&file).unwrap();
    assert_eq!(
        (now.ino(), now.mtime_nsec()),
        (made.ino(), made.mtime_nsec())
    );
}

#[test]
fn a_form_that_was_damaged_between_two_runs_is_made_anew() {
    let (folder, cache) = (temp(), temp());
    let id = write(folder.path(), "a.bmp", plain(1));
    let forms = VariantCache::open(cache.path(), MIB).unwrap();
    drop({
        let store = open(folder.path(), &forms);
        wait_compressed(&store, id);
        store
    });
    let whole = fs::read(form_of(cache.path(), id)).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut bad = whole.clone();
        bad[at] ^= 4;
        fs::write(form_of(cache.path(), id), &bad).unwrap();
        let store = open(folder.path(), &forms);
        wait_compressed(&store, id);
        assert_eq!(decoded(&store, id), plain(1), "byte {at}");
    }
    for length in [0, 10, whole.len() - 1] {
        fs::write(form_of(cache.path(), id), &whole[..length]).unwrap();
        let store = open(folder.path(), &forms);
        wait_compressed(&store, id);
        assert_eq!(decoded(&store, id), plain(1), "cut to {length}");
    }
    assert_eq!(bytes_in(cache.path()), whole.len() as u64);
}

#[test]
fn s13_a_form_that_is_damaged_while_it_is_listed_is_never_completed_and_made_again() {
    let (folder, cache) = (temp(), temp());
    let forms = VariantCache::open(cache.path(), 10 * MIB).unwrap();
    // Half of it is noise, so that the form is longer than what is read at once.
    let bytes = [noise(200_000, 5), vec![1; 200_000]].concat();
    let id = write(folder.path(), "a.bmp", &bytes);
    let store = open(folder.path(), &forms);
    wait_compressed(&store, id);
    let listed = image(&store, id);
    let mut open = store.open(&listed).unwrap();
    let mut buf = vec![0; 50_000];
    assert_eq!(open.read_at(0, &mut buf).unwrap(), 50_000);
    let path = form_of(cache.path(), id);
    let file = File::options().write(true).open(&path).unwrap();
    // Behind the reader and before it.
    file.write_all_at(b"!?", 10).unwrap();
    file.write_all_at(b"!?", 100_000).unwrap();
    let mut at = 50_000;
    let error = loop {
        match open.read_at(at, &mut buf) {
            Ok(n) => at += n as u64,
            Err(e) => break e,
        }
        assert!(at < u64::from(listed.length), "the last byte was given");
    };
    assert!(matches!(error, ReadError::Changed(_)), "{error}");
    // Until it is made again it is listed raw, or it was so quick that nobody saw it.
    eventually(&store, || {
        fs::read(&path).is_ok_and(|form| form[10..12] != *b"!?")
    });
    wait_compressed(&store, id);
    assert_eq!(decoded(&store, id), bytes);
    assert_eq!(events(&store), 1, "S9: a change of form is no event");
}

#[test]
fn a_form_that_another_program_let_go_is_made_again_when_it_is_needed() {
    let (folder, cache) = (temp(), temp());
    let forms = VariantCache::open(cache.path(), MIB).unwrap();
    let ids: Vec<_> = (0..3)
        .map(|n| write(folder.path(), &format!("{n}.bmp"), plain(n)))
        .collect();
    let store = open(folder.path(), &forms);
    for id in &ids {
        wait_compressed(&store, *id);
    }
    let mut held = store.open(&image(&store, ids[0])).unwrap();
    for path in form_files(cache.path()) {
        fs::remove_file(path).unwrap();
    }
    // Who has it open keeps it.
    let length = image(&store, ids[0]).length as usize;
    let mut form = vec![0; length];
    assert_eq!(held.read_at(0, &mut form).unwrap(), length);
    assert_eq!(zstd::decode_all(form.as_slice()).unwrap(), plain(0));
    // What a snapshot promised is kept.
    assert_eq!(decoded(&store, ids[0]), plain(0));
    // The others are found to be gone as well, and made again; if that was quick, no snapshot tells of it.
    eventually(&store, || form_files(cache.path()).len() == 3);
    for id in &ids {
        wait_compressed(&store, *id);
    }
    // A form whose image is gone too cannot be had.
    let lost = image(&store, ids[1]);
    fs::remove_file(form_of(cache.path(), ids[1])).unwrap();
    fs::remove_file(folder.path().join("1.bmp")).unwrap();
    let error = store.open(&lost).map(|_| ()).unwrap_err();
    assert!(
        matches!(error, OpenError::Changed(_) | OpenError::Gone(_)),
        "{error}"
    );
}

#[test]
fn a_cache_that_is_deleted_while_it_is_used_is_done_without() {
    let (folder, parent) = (temp(), temp());
    let cache = parent.path().join("forms");
    let forms = VariantCache::open(&cache, MIB).unwrap();
    let ids: Vec<_> = (0..3)
        .map(|n| write(folder.path(), &format!("{n}.bmp"), plain(n)))
        .collect();
    let store = open(folder.path(), &forms);
    for id in &ids {
        wait_compressed(&store, *id);
    }
    let listed = image(&store, ids[0]);
    fs::remove_dir_all(&cache).unwrap();
    // There is nowhere to keep the promise; then the form is made in memory.
    let error = store.open(&listed).map(|_| ()).unwrap_err();
    assert!(matches!(error, OpenError::Changed(_)), "{error}");
    for (n, id) in (0..).zip(&ids) {
        eventually(&store, || {
            let catalog = store.catalog().snapshot();
            compressed(&catalog, *id) && body(&store, image(&store, *id)).is_ok()
        });
        assert_eq!(decoded(&store, *id), plain(n));
    }
    assert_eq!(events(&store), 3);
}

#[test]
fn forms_used_least_recently_go_first_and_none_that_is_listed() {
    let (folder, cache) = (temp(), temp());
    let size = 4500;
    let forms = VariantCache::open(cache.path(), size).unwrap();
    let old_ids: Vec<_> = (0..6)
        .map(|n| write(folder.path(), &format!("{n}.bmp"), plain(n)))
        .collect();
    {
        let store = open(
            folder.path(),
            &VariantCache::open(cache.path(), MIB).unwrap(),
        );
        for id in &old_ids {
            wait_compressed(&store, *id);
        }
    }
    let each = bytes_in(cache.path()) / 6;
    assert!(
        (200..600).contains(&each),
        "the figures below need that: {each}"
    );
    // Used in the order 3, 4, 5, 0, 1, 2, an hour apart.
    for (hours, n) in [3, 4, 5, 0, 1, 2].into_iter().enumerate() {
        let used = SystemTime::now() - Duration::from_secs(3600 * (20 - hours as u64));
        let file = File::options()
            .write(true)
            .open(form_of(cache.path(), old_ids[n]))
            .unwrap();
        file.set_modified(used).unwrap();
    }
    // Two of them are listed, and used by that.
    let listed_folder = temp();
    write(listed_folder.path(), "3.bmp", plain(3));
    write(listed_folder.path(), "0.bmp", plain(0));
    let store = open(listed_folder.path(), &forms);
    wait_compressed(&store, old_ids[0]);
    wait_compressed(&store, old_ids[3]);
    // Forms without end.
    for n in 10..60 {
        let id = write(listed_folder.path(), "next.bmp", plain(n));
        wait_compressed(&store, id);
        assert!(bytes_in(cache.path()) <= size);
        assert_eq!(bytes_in(cache.path()), forms.used().unwrap());
        if n == 12 {
            let left: Vec<bool> = old_ids
                .iter()
                .map(|id| {
                    form_files(cache.path())
                        .iter()
                        .any(|form| form.to_str().unwrap().contains(&id.to_string()))
                })
                .collect();
            assert!(left[0] && left[3], "listed: {left:?}");
        }
    }
    for n in [1, 2, 4, 5] {
        let name = old_ids[n].to_string();
        let is_it = |form: &PathBuf| form.to_str().unwrap().contains(&name);
        assert!(
            !form_files(cache.path()).iter().any(is_it),
            "{n} is used by nobody"
        );
    }
    assert_eq!(decoded(&store, old_ids[0]), plain(0));
    assert_eq!(decoded(&store, old_ids[3]), plain(3));
}

#[test]
fn what_does_not_fit_beside_listed_forms_travels_raw() {
    let (folder, cache) = (temp(), temp());
    let forms = VariantCache::open(cache.path(), 1000).unwrap();
    let first = write(folder.path(), "a.bmp", plain(1));
    let large = write(folder.path(), "b.bmp", [noise(5000, 1), plain(2)].concat());
    let store = open(folder.path(), &forms);
    wait_compressed(&store, first);
    let marker = write(folder.path(), "m.png", b"marker");
    wait_for(&store, |catalog| catalog.contains(marker));
    assert!(!image(&store, large).flags.is_compressed());
    assert_eq!(bytes_in(cache.path()), forms.used().unwrap());
    assert_eq!(form_files(cache.path()).len(), 1, "nothing half made stays");
}

#[test]
fn a_form_of_more_than_16_mib_is_made_and_served() {
    let (folder, cache) = (temp(), temp());
    let forms = VariantCache::open(cache.path(), 100 * MIB).unwrap();
    let bytes = [noise(17 << 20, 1), vec![0; 30 << 20], noise(1 << 20, 2)].concat();
    let id = write(folder.path(), "large.tif", &bytes);
    let store = open(folder.path(), &forms);
    wait_compressed(&store, id);
    assert!(u64::from(image(&store, id).length) > 18 * MIB);
    assert!(decoded(&store, id) == bytes);
    assert_eq!(bytes_in(cache.path()), forms.used().unwrap());
}

#[test]
fn what_is_used_is_counted_anew_when_the_count_is_lost_and_leftovers_go() {
    let (folder, cache) = (temp(), temp());
    let id = write(folder.path(), "a.bmp", plain(1));
    let forms = VariantCache::open(cache.path(), MIB).unwrap();
    wait_compressed(&open(folder.path(), &forms), id);
    let used = forms.used().unwrap();
    let leftover = File::create(cache.path().join("1-2.part")).unwrap();
    leftover
        .set_modified(SystemTime::now() - Duration::from_secs(100_000))
        .unwrap();
    for broken in [&b""[..], b"garbage", &[0xff; 100]] {
        fs::write(cache.path().join("used1"), broken).unwrap();
        assert_eq!(
            VariantCache::open(cache.path(), MIB)
                .unwrap()
                .used()
                .unwrap(),
            used
        );
    }
    assert_eq!(form_files(cache.path()).len(), 1);
    // A smaller cache makes room at once.
    assert_eq!(
        VariantCache::open(cache.path(), 10)
            .unwrap()
            .used()
            .unwrap(),
        0
    );
    assert!(form_files(cache.path()).is_empty());
    fs::write(cache.path().join("file"), "").unwrap();
    assert!(VariantCache::open(cache.path().join("file"), MIB).is_err());
}

#[test]
fn where_the_disk_is_full_forms_are_kept_in_memory() {
    use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
    let (folder, cache) = (temp(), temp());
    let options = Some(c"size=64k");
    if mount("tmpfs", cache.path(), "tmpfs", MountFlags::empty(), options).is_err() {
        eprintln!("skipped: mounting is not allowed here");
        return;
    }
    let forms = VariantCache::open(cache.path(), 100 * MIB).unwrap();
    let large = [noise(200_000, 1), plain(2)].concat();
    let large = write(folder.path(), "a.bmp", large);
    let small = write(folder.path(), "b.bmp", plain(1));
    let store = open(folder.path(), &forms);
    wait_compressed(&store, small);
    assert!(!image(&store, large).flags.is_compressed());
    assert_eq!(decoded(&store, small), plain(1));
    assert!(form_files(cache.path()).is_empty());
    drop(store);
    drop(forms);
    unmount(cache.path(), UnmountFlags::DETACH).unwrap();
}

#[test]
fn stores_that_share_a_cache_and_evict_from_each_other_serve_on() {
    let (one, other, cache) = (temp(), temp(), temp());
    for n in 0..20 {
        write(one.path(), &format!("{n}.bmp"), plain(n));
        write(other.path(), &format!("{n}.bmp"), plain(100 + n));
    }
    // Room for some 15 of 40, and each program protects only what it lists itself.
    let stores = [(&one, 0), (&other, 100)].map(|(folder, base)| {
        let forms = VariantCache::open(cache.path(), 6000).unwrap();
        (open(folder.path(), &forms), base)
    });
    std::thread::scope(|scope| {
        for (store, base) in &stores {
            scope.spawn(move || {
                for _ in 0..20 {
                    for n in 0..20u8 {
                        let bytes = plain(base + n);
                        let image = image(store, ImageId::of(&bytes));
                        // No room to keep the promise: the response ends, and the next one is right. // S12
                        let Ok(sent) = body(store, image) else {
                            continue;
                        };
                        let sent = match image.flags.is_compressed() {
                            true => zstd::decode_all(sent.as_slice()).unwrap(),
                            false => sent,
                        };
                        assert!(sent == bytes);
                    }
                }
            });
        }
    });
    assert!(bytes_in(cache.path()) <= 6000);
}

/// Two long images of one ID: what a difference in the first 32 bytes does to the first of the hash's four sums, one
/// in the next 32 takes back.
fn long_collision() -> (Vec<u8>, Vec<u8>) {
    const P1: u64 = 0x9e37_79b1_85eb_ca87;
    const P2: u64 = 0xc2b2_ae3d_27d4_eb4f;
    let inverse = (0..6).fold(P2, |x, _| {
        x.wrapping_mul(2u64.wrapping_sub(P2.wrapping_mul(x)))
    });
    let after = |lane: u64| {
        let sum = P1.wrapping_add(P2).wrapping_add(lane.wrapping_mul(P2));
        sum.rotate_left(31).wrapping_mul(P1)
    };
    let (a1, a2, b1) = (1u64, 2u64, 3u64);
    let b2 = a2.wrapping_add(after(a1).wrapping_sub(after(b1)).wrapping_mul(inverse));
    let join = |x: u64, y: u64| {
        let stripes = [x, 0, 0, 0, y, 0, 0, 0].map(u64::to_le_bytes);
        [stripes.concat(), plain(1)].concat()
    };
    let pair = (join(a1, a2), join(b1, b2));
    assert_eq!(ImageId::of(&pair.0), ImageId::of(&pair.1));
    assert_ne!(pair.0, pair.1);
    pair
}

#[test]
fn s4_the_form_of_another_file_with_the_same_id_is_not_taken_for_ones_own() {
    let (one, other, cache) = (temp(), temp(), temp());
    let (left, right) = long_collision();
    let forms = VariantCache::open(cache.path(), MIB).unwrap();
    let id = write(one.path(), "a.bmp", &left);
    write(other.path(), "b.bmp", &right);
    let store = open(one.path(), &forms);
    wait_compressed(&store, id);
    let store = open(other.path(), &forms);
    // The queue is worked off in order.
    let marker = write(other.path(), "z.bmp", plain(9));
    wait_compressed(&store, marker);
    assert_eq!(body(&store, image(&store, id)).unwrap(), right);
}
