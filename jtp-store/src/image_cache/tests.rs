use std::fs;
use std::thread;

use super::*;

const BLOCK: usize = 32 * 1024;

fn image(number: u64, length: usize) -> (ImageId, Vec<u8>) {
    let mut bytes: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
    for (byte, of) in bytes.iter_mut().zip(number.to_le_bytes()) {
        *byte = of;
    }
    (ImageId::of(&bytes), bytes)
}

fn open(folder: &tempfile::TempDir, size: u64) -> ImageCache {
    ImageCache::open(folder.path().join("images"), size).unwrap()
}

fn path(cache: &ImageCache, id: ImageId) -> PathBuf {
    cache.folder().join(name(id))
}

/// All bytes of an image, if the cache has it.
fn read(cache: &ImageCache, id: ImageId, length: usize) -> Option<Vec<u8>> {
    let cached = cache.get(id, u32::try_from(length).unwrap())?;
    cached.read(0, length)
}

/// The bytes that all files take, the temporary ones too.
fn on_disk_now(cache: &ImageCache) -> u64 {
    let files = fs::read_dir(cache.folder()).unwrap();
    // Another thread may have removed it.
    let lengths = files.filter_map(|file| Some(file.unwrap().metadata().ok()?.len()));
    lengths.map(on_disk).sum()
}

#[test]
fn images_are_read_in_any_range_also_by_another_program() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 100 << 20);
    for length in [1, 14, BLOCK - 1, BLOCK, BLOCK + 1, 10 * BLOCK + 7] {
        let (id, bytes) = image(9, length);
        assert!(cache.get(id, u32::try_from(length).unwrap()).is_none());
        assert!(cache.insert(id, &bytes));
        let other = open(&folder, 100 << 20);
        let cached = other.get(id, u32::try_from(length).unwrap()).unwrap();
        for (begin, end) in [
            (0, length),
            (length / 2, length),
            (length / 3, length / 2),
            (0, 1),
        ] {
            let found = cached.read(begin as u64, end - begin).unwrap();
            assert_eq!(found, bytes[begin..end], "{length}: {begin} to {end}");
        }
        assert!(
            other.get(id, 77).is_none(),
            "another length is another image"
        );
    }
}

#[test]
fn ranges_are_written_in_any_order_and_the_image_appears_with_the_last_one() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 100 << 20);
    let (id, bytes) = image(1, 3 * BLOCK + 5);
    let length = u32::try_from(bytes.len()).unwrap();
    let mut new = cache.begin(id, length).unwrap();
    for (begin, end) in [
        (3 * BLOCK, bytes.len()),
        (0, BLOCK),
        (0, BLOCK),
        (7, 9),
        (BLOCK, 3 * BLOCK),
    ] {
        assert!(cache.get(id, length).is_none());
        assert!(cache.begin(id, length).is_none(), "it is being written");
        assert!(new.write(begin as u64, &bytes[begin..end]));
    }
    assert!(new.is_kept());
    drop(new);
    assert_eq!(read(&cache, id, bytes.len()), Some(bytes));
    assert_eq!(fs::read_dir(cache.folder()).unwrap().count(), 1);
    assert_eq!(cache.used(), on_disk_now(&cache));
}

#[test]
fn s13_bytes_that_do_not_have_the_id_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 100 << 20);
    let (id, mut bytes) = image(1, 2 * BLOCK);
    bytes[BLOCK + 3] ^= 1;
    assert!(!cache.insert(id, &bytes));
    let mut new = cache.begin(id, 2 * 32 * 1024).unwrap();
    assert!(new.write(0, &bytes[..BLOCK]));
    assert!(!new.write(BLOCK as u64, &bytes[BLOCK..]));
    drop(new);
    assert_eq!(fs::read_dir(cache.folder()).unwrap().count(), 0);
    assert_eq!(cache.used(), 0);
}

#[test]
fn s13_a_damaged_image_is_not_returned_and_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 100 << 20);
    let (id, bytes) = image(1, 3 * BLOCK + 5);
    let file_len = usize::try_from(entry::file_len(u32::try_from(bytes.len()).unwrap())).unwrap();
    let at = [
        0,
        BLOCK + 1,
        bytes.len() - 1,
        bytes.len(),
        bytes.len() + 40,
        file_len - 1,
    ];
    let flips = at.map(|at| move |file: &mut Vec<u8>| file[at] ^= 1);
    type Damage = Box<dyn Fn(&mut Vec<u8>)>;
    let mut damages: Vec<Damage> = Vec::new();
    damages.extend(flips.into_iter().map(|flip| Box::new(flip) as Box<_>));
    damages.push(Box::new(|file| file.truncate(file.len() - 1)));
    damages.push(Box::new(|file| file.truncate(0)));
    damages.push(Box::new(|file| file.push(0)));
    // What a crash of the system may leave: a whole length, and zeros.
    damages.push(Box::new(|file| file.fill(0)));
    damages.push(Box::new(move |file| file[BLOCK..2 * BLOCK].fill(0)));
    // A file of another image under this one's name.
    let (other, other_bytes) = image(2, bytes.len());
    assert!(cache.insert(other, &other_bytes));
    let file = fs::read(path(&cache, other)).unwrap();
    damages.push(Box::new(move |found| found.clone_from(&file)));
    for (number, damage) in damages.iter().enumerate() {
        assert!(cache.insert(id, &bytes), "{number}");
        let path = path(&cache, id);
        let mut file = fs::read(&path).unwrap();
        assert_eq!(file.len(), file_len);
        damage(&mut file);
        fs::write(&path, file).unwrap();
        assert_eq!(read(&cache, id, bytes.len()), None, "{number}");
        assert!(!path.exists(), "{number}");
    }
    assert_eq!(read(&cache, other, bytes.len()), Some(other_bytes));
}

#[test]
#[cfg(unix)]
fn links_and_folders_in_the_place_of_an_image_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 100 << 20);
    let (id, bytes) = image(1, 100);
    assert!(cache.insert(id, &bytes));
    let (path, outside) = (path(&cache, id), folder.path().join("outside"));
    fs::rename(&path, &outside).unwrap();
    std::os::unix::fs::symlink(&outside, &path).unwrap();
    assert_eq!(read(&cache, id, 100), None);
    _ = fs::remove_file(&path);
    fs::create_dir(&path).unwrap();
    assert_eq!(read(&cache, id, 100), None);
    assert!(!cache.insert(id, &bytes), "a folder has the name");
    fs::remove_dir(&path).unwrap();
    assert!(outside.exists());
}

// Elsewhere a file that is open for reading keeps its times.
#[cfg(unix)]
#[test]
fn the_images_used_least_recently_are_evicted() {
    let folder = tempfile::tempdir().unwrap();
    let length = 60 * 1024;
    // Each takes 60 KiB and a trailer: 64 KiB.
    let cache = open(&folder, 640 * 1024);
    let images: Vec<_> = (0..10).map(|n| image(n, length)).collect();
    for (age, (id, bytes)) in images.iter().enumerate() {
        assert!(cache.insert(*id, bytes));
        let file = File::open(path(&cache, *id)).unwrap();
        let used = SystemTime::now() - Duration::from_secs(100 - age as u64);
        file.set_modified(used).unwrap();
    }
    assert_eq!(cache.used(), 640 * 1024);
    // The oldest one is used, and one has a time in the future.
    assert!(read(&cache, images[0].0, length).is_some());
    let future = SystemTime::now() + Duration::from_secs(1_000_000);
    let file = File::open(path(&cache, images[9].0)).unwrap();
    file.set_modified(future).unwrap();
    let (id, bytes) = image(77, length);
    assert!(cache.insert(id, &bytes));
    // A sixteenth more than needed: two are evicted.
    let left = |n: usize| path(&cache, images[n].0).exists();
    let left: Vec<usize> = (0..10).filter(|n| left(*n)).collect();
    assert_eq!(left, [0, 2, 3, 4, 5, 6, 7, 8]);
    assert!(path(&cache, id).exists());
    // A smaller size at the next start.
    let smaller = open(&folder, 128 * 1024);
    assert!(on_disk_now(&smaller) <= 128 * 1024);
    assert!(path(&cache, id).exists(), "it was used last");
    let (id, bytes) = image(78, 200 * 1024);
    assert!(!smaller.insert(id, &bytes), "it is larger than the cache");
    assert!(on_disk_now(&smaller) > 0, "nothing was evicted for it");
}

// Elsewhere a file that is open for reading keeps its times.
#[cfg(unix)]
#[test]
fn what_a_killed_program_left_is_not_served_and_is_removed_a_day_later() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 1 << 20);
    let (id, bytes) = image(1, 3 * BLOCK);
    let mut new = cache.begin(id, 3 * 32 * 1024).unwrap();
    assert!(new.write(0, &bytes[..BLOCK]));
    std::mem::forget(new);
    let next = open(&folder, 1 << 20);
    assert!(next.get(id, 3 * 32 * 1024).is_none());
    assert_eq!(next.used(), on_disk_now(&next), "it counts");
    assert!(
        next.insert(id, &bytes),
        "another program can write the image"
    );
    let files = fs::read_dir(next.folder()).unwrap();
    for file in files.map(|file| file.unwrap().path()) {
        let day = SystemTime::now() - STALE - Duration::from_secs(1);
        File::open(file).unwrap().set_modified(day).unwrap();
    }
    let last = open(&folder, 1 << 20);
    assert_eq!(fs::read_dir(last.folder()).unwrap().count(), 1);
    assert_eq!(read(&last, id, bytes.len()), Some(bytes));
}

#[test]
fn caches_of_one_folder_keep_within_the_size_and_return_no_other_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let size = 512 * 1024;
    let caches = [(); 2].map(|()| open(&folder, size));
    thread::scope(|scope| {
        for (number, cache) in (0..).zip(&caches) {
            scope.spawn(move || {
                for step in 0..150 {
                    // The same images in both, at other times.
                    let (id, bytes) = image((step * (7 + number)) % 40, 20_000);
                    match read(cache, id, bytes.len()) {
                        Some(found) => assert_eq!(found, bytes),
                        None => drop(cache.insert(id, &bytes)),
                    }
                    // A sixteenth for the other one, and its image under way.
                    assert!(on_disk_now(cache) <= size + size / 16 + 24 * 1024);
                }
            });
        }
    });
    let last = open(&folder, size);
    assert!(on_disk_now(&last) <= size);
    assert!(on_disk_now(&last) > size / 2, "images stay");
}

// Elsewhere an open folder cannot be deleted.
#[cfg(unix)]
#[test]
fn a_folder_that_is_deleted_is_made_again_and_one_that_cannot_be_is_done_without() {
    let folder = tempfile::tempdir().unwrap();
    let cache = open(&folder, 1 << 20);
    let (id, bytes) = image(1, 100);
    fs::remove_dir_all(cache.folder()).unwrap();
    assert!(cache.insert(id, &bytes));
    assert_eq!(read(&cache, id, 100), Some(bytes.clone()));
    fs::remove_dir_all(cache.folder()).unwrap();
    fs::write(cache.folder(), b"a file has its name").unwrap();
    for n in 0..3 {
        let (other, other_bytes) = image(2 + n, 100);
        assert!(!cache.insert(other, &other_bytes));
        assert!(cache.get(id, 100).is_none());
    }
    assert!(
        lock(&cache.0.failed).is_some(),
        "nothing is tried for a while"
    );
    assert!(cache.0.was_logged.load(Ordering::Relaxed));
    assert_eq!(lock(&cache.0.usage).reserved, 0);
    assert!(ImageCache::open(cache.folder(), 1 << 20).is_err());
}

/// Set for the process whose files have a limit, to the folder of the test.
#[cfg(target_os = "linux")]
const LIMITED_IN: &str = "JTP_TEST_LIMITED_IN";

#[test]
#[cfg(target_os = "linux")]
fn an_image_that_the_disk_has_no_room_for_leaves_nothing() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // A limit of the size of files is for a whole process: this test alone, run again.
    if let Some(folder) = std::env::var_os(LIMITED_IN) {
        let cache = ImageCache::open(folder, 1 << 20).unwrap();
        let (id, bytes) = image(1, 3 * BLOCK);
        let limit = Rlimit {
            current: Some(50_000),
            maximum: None,
        };
        setrlimit(Resource::Fsize, limit).unwrap();
        assert!(!cache.insert(id, &bytes));
        assert_eq!(fs::read_dir(cache.folder()).unwrap().count(), 0);
        assert_eq!(cache.used(), 0);
        assert!(cache.0.was_logged.load(Ordering::Relaxed));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let program = std::env::current_exe().unwrap();
    let test = "image_cache::tests::an_image_that_the_disk_has_no_room_for_leaves_nothing";
    // SIGXFSZ would end the process. It stays ignored in what a shell starts.
    let output = std::process::Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
        .args([program.as_os_str(), OsStr::new(test)])
        .env(LIMITED_IN, folder.path().join("images"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}
