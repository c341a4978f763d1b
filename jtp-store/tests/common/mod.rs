//! Helpers for tests of folders.
#![allow(dead_code, unreachable_pub, unused_imports)]

#[cfg(target_os = "linux")]
mod disk;

use std::collections::BTreeMap;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
#[cfg(target_os = "linux")]
pub use disk::Disk;
use jtp_core::{BodyReceiver, Catalog, FileType, Flags, Image, ImageId, Verified};
use jtp_driver::store::{ImageStore, OpenImage, StoreError};
use jtp_kit::Stopwatch;
pub use jtp_kit::{Folder, collision, noise, wait_until};
use jtp_store::{DirStore, DirStoreBuilder, FileContent, Follow, OutputFolder, ScanMode};

/// Far longer than any step takes: only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The time within which a store reflects a change.
pub const SOON: Duration = Duration::from_secs(2);

/// By scans alone. What scans find more often is postponed like repeated events.
pub const BY_SCANS: Follow = Follow::Interval(Duration::from_millis(100));

/// Runs a test by events and by scans, with trusted inodes and without, all at the same time.
pub fn each_way_to_follow(test: impl Fn(DirStoreBuilder, &Path) + Sync) {
    by_events_and_by_scans(&[false, true], test);
}

/// Runs a test by events and by scans, each distrusting inodes or not, all at the same time.
pub fn by_events_and_by_scans(distrust: &[bool], test: impl Fn(DirStoreBuilder, &Path) + Sync) {
    std::thread::scope(|scope| {
        for follow in [Follow::Events, BY_SCANS] {
            for distrust in distrust {
                let test = &test;
                scope.spawn(move || {
                    println!("{follow:?}, distrusting inodes: {distrust}");
                    let place = temp();
                    place.make_dir("images");
                    let folder = place.join("images");
                    let builder = DirStore::builder(&folder).follow(follow);
                    test(builder.distrust_inodes(*distrust), &folder);
                });
            }
        }
    });
}

/// Fails if `work` does not end.
pub fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, result) = std::sync::mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    result.recv_timeout(PATIENCE).expect("it does not wait")
}

/// Waits until the catalog passes `wanted`, and returns how long that took.
#[track_caller]
pub fn wait_for(store: &DirStore, wanted: impl Fn(&Catalog) -> bool) -> Duration {
    let (begun, stopwatch) = (Instant::now(), Stopwatch::start());
    let mut changes = store.catalog().subscribe();
    let mut catalog = store.catalog().snapshot();
    while !wanted(&catalog) {
        match changes.wait_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
            Some(next) => catalog = next,
            None => {
                let names = names(&catalog);
                let first = &names[..names.len().min(20)];
                panic!(
                    "timed out; the catalog lists {} images: {first:?}",
                    names.len()
                );
            }
        }
    }
    stopwatch.elapsed()
}

#[track_caller]
pub fn wait_for_names(store: &DirStore, wanted: &[&str]) -> Duration {
    wait_for(store, |catalog| names(catalog) == wanted)
}

pub fn names(catalog: &Catalog) -> Vec<String> {
    catalog
        .entries()
        .map(|entry| entry.name.to_owned())
        .collect()
}

pub fn listed(store: &DirStore) -> Vec<String> {
    names(&store.catalog().snapshot())
}

pub fn write(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> ImageId {
    fs::write(folder.join(name), bytes.as_ref()).unwrap();
    ImageId::of(bytes.as_ref())
}

pub fn open_store(folder: &Path) -> Arc<DirStore> {
    build(DirStore::builder(folder))
}

pub fn build(builder: DirStoreBuilder) -> Arc<DirStore> {
    Arc::new(builder.open().unwrap())
}

pub fn image(store: &DirStore, id: ImageId) -> Image {
    store
        .catalog()
        .snapshot()
        .get(id)
        .expect("the image is listed")
}

/// Opens an image without any of its first bytes, unless it is in memory.
pub fn open(store: &Arc<DirStore>, image: Image) -> Result<OpenImage, StoreError> {
    smol::future::block_on(Arc::clone(store).open(image, 0))
}

/// Reads `length` bytes of an open image from `offset` on.
pub fn read(open: &OpenImage, offset: usize, length: usize) -> Result<Bytes, StoreError> {
    match open.body() {
        Some(body) => {
            assert!(open.first().is_empty());
            let read = smol::future::block_on(Arc::clone(body).read(offset as u64, length))?;
            assert_eq!(read.len(), length);
            Ok(read)
        }
        None => Ok(open.first().slice(offset..offset + length)),
    }
}

/// Reads an open image from `offset` on, at most `length` bytes at a time.
pub fn read_rest(
    open: &OpenImage,
    mut offset: usize,
    length: usize,
) -> Result<Vec<u8>, StoreError> {
    let end = open.image().length as usize;
    let mut all = Vec::new();
    while offset < end {
        let bytes = read(open, offset, length.min(end - offset))?;
        offset += bytes.len();
        all.extend_from_slice(&bytes);
    }
    Ok(all)
}

/// The variant that is sent for an image, and its bytes.
pub fn sent(store: &Arc<DirStore>, image: Image) -> Result<(Image, Bytes), StoreError> {
    smol::future::block_on(async {
        let open = Arc::clone(store).open(image, usize::MAX).await?;
        let sent = open.image();
        assert_eq!(sent.id, image.id);
        assert_eq!(sent.flags.file_type(), image.flags.file_type());
        let bytes = open.bytes(usize::MAX).await?;
        assert_eq!(bytes.len(), sent.length as usize);
        Ok((sent, bytes))
    })
}

/// The bytes that are sent for an image, in the variant that was asked for.
pub fn body(store: &Arc<DirStore>, image: Image) -> Result<Vec<u8>, StoreError> {
    let (sent, bytes) = sent(store, image)?;
    assert_eq!(sent, image);
    Ok(bytes.into())
}

/// The number of images that entered the catalog since it was created.
pub fn events(store: &DirStore) -> u64 {
    store.catalog().snapshot().latest().events()
}

/// Receives the bytes as an image, as a client does before it commits them.
pub fn verified(bytes: &[u8]) -> Verified {
    let flags = Flags::new(FileType::Png, false);
    let mut receiver = BodyReceiver::new(1 << 30, 8 << 20);
    receiver.begin(Image::new(ImageId::of(bytes), flags, bytes.len() as u32));
    let mut rest = bytes;
    while !rest.is_empty() {
        let used = receiver.receive(rest).used;
        rest = &rest[used..];
    }
    receiver.verdict().unwrap().unwrap()
}

/// A temporary folder on a file system whose inodes are trusted, if there is one. In a container `/tmp` is often on
/// overlayfs, which is not.
pub fn temp() -> Temp {
    const OVERLAY: u64 = 0x794c_7630;
    let place = std::env::temp_dir();
    let is_overlay = rustix::fs::statfs(&place)
        .is_ok_and(|there| u64::try_from(there.f_type).is_ok_and(|kind| kind == OVERLAY));
    Temp::in_folder(if is_overlay {
        Path::new("/dev/shm")
    } else {
        &place
    })
}

/// A temporary folder.
#[derive(Debug)]
pub struct Temp(tempfile::TempDir);

impl Temp {
    pub fn in_folder(place: impl AsRef<Path>) -> Temp {
        Temp(tempfile::tempdir_in(place).unwrap())
    }
}

impl Deref for Temp {
    type Target = Path;

    fn deref(&self) -> &Path {
        self.0.path()
    }
}

impl From<&Temp> for PathBuf {
    fn from(temp: &Temp) -> PathBuf {
        temp.to_path_buf()
    }
}

impl AsRef<Path> for Temp {
    fn as_ref(&self) -> &Path {
        self.0.path()
    }
}

/// What a scan of an output folder found.
#[derive(Debug, Default)]
pub struct Found {
    pub images: BTreeMap<String, ImageId>,
}

impl Found {
    pub fn contains(&self, id: ImageId) -> bool {
        self.images.values().any(|found| *found == id)
    }
}

pub fn scan(folder: &OutputFolder, mode: ScanMode) -> Found {
    let mut found = Found::default();
    let stop = AtomicBool::new(false);
    let summary = folder.scan(mode, &stop, &mut |file| {
        if let FileContent::Image(id) | FileContent::Unrecognised(id) = file.content {
            let name = file.name.to_string_lossy().into_owned();
            found.images.insert(name, id);
        }
    });
    summary.unwrap();
    found
}

/// Makes a pipe.
#[cfg(target_os = "linux")]
pub fn pipe(path: &Path) {
    use rustix::fs::{CWD, Mode, mkfifoat};
    mkfifoat(CWD, path, Mode::RUSR | Mode::WUSR).unwrap();
}

/// Exchanges two files or folders in one step.
#[cfg(target_os = "linux")]
pub fn exchange(one: &Path, other: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

/// Puts something in the place of a file. The first path is that of a file of the victim.
pub type Obstacle = fn(&Path, &Path);

/// What another user can put in the place of a file.
#[cfg(target_os = "linux")]
pub const OBSTACLES: [(&str, Obstacle); 6] = [
    ("a link", |victim, path| {
        std::os::unix::fs::symlink(victim, path).unwrap();
    }),
    ("a dangling link", |victim, path| {
        std::os::unix::fs::symlink(victim.with_file_name("made"), path).unwrap();
    }),
    ("a hard link", |victim, path| {
        fs::hard_link(victim, path).unwrap();
    }),
    ("a pipe", |_, path| pipe(path)),
    ("a socket", |_, path| {
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    }),
    ("a folder", |_, path| fs::create_dir(path).unwrap()),
];

/// A file system that is mounted until this is dropped.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub struct Mounted(PathBuf);

#[cfg(target_os = "linux")]
impl Mounted {
    /// One without a device. `None`, with the reason on stderr, where mounting is not allowed.
    pub fn new(kind: &str, at: &Path, options: &std::ffi::CStr) -> Option<Mounted> {
        use rustix::mount::{MountFlags, mount};
        Mounted::at(at, mount(kind, at, kind, MountFlags::empty(), options))
    }

    /// A folder at another place.
    pub fn bind(folder: &Path, at: &Path) -> Option<Mounted> {
        Mounted::at(at, rustix::mount::mount_bind(folder, at))
    }

    fn at(at: &Path, mounted: rustix::io::Result<()>) -> Option<Mounted> {
        let skipped = |error| eprintln!("skipped: nothing can be mounted here: {error}");
        mounted.map_err(skipped).ok()?;
        Some(Mounted(at.to_owned()))
    }
}

#[cfg(target_os = "linux")]
impl Drop for Mounted {
    fn drop(&mut self) {
        use rustix::mount::{UnmountFlags, unmount};
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}

/// Changes the ID in an index of one file, and its checksum.
pub fn make_index_lie(index: &Path, id: ImageId) {
    let mut bytes = fs::read(index).unwrap();
    assert_eq!(bytes.len(), 71, "one record");
    bytes[60..68].copy_from_slice(&id.to_be_bytes());
    let checksum = ImageId::of(&bytes[20..]).to_be_bytes();
    bytes[12..20].copy_from_slice(&checksum);
    fs::write(index, &bytes).unwrap();
}

/// Waits until the file system's clock has moved on, so that existing files count as settled.
pub fn settle(folder: &Path) {
    let probe = folder.join(".probe");
    let time = |path: &Path| {
        fs::write(path, b"").unwrap();
        fs::metadata(path).unwrap().modified().unwrap()
    };
    let begun = time(&probe);
    while time(&probe).duration_since(begun).unwrap() < Duration::from_millis(60) {
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::remove_file(probe).unwrap();
}

/// Sets the mtime of a file to a whole second, `seconds` ago, without opening it: FUSE may set it again when a file is
/// closed.
pub fn set_age(file: &Path, seconds: u64) {
    use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let time = Timespec {
        tv_sec: i64::try_from(since.as_secs() - seconds).unwrap(),
        tv_nsec: 0,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    utimensat(CWD, file, &times, AtFlags::empty()).unwrap();
}

/// Changes the contents of a file, but not its mtime.
pub fn rewrite(folder: &Path, name: &str, bytes: impl AsRef<[u8]>) -> ImageId {
    let path = folder.join(name);
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    let id = write(folder, name, bytes);
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(before).unwrap();
    id
}

/// Runs `work` on a thread that may read only files whose mode allows it, even as root. Threads that it starts inherit
/// this.
#[cfg(target_os = "linux")]
pub fn without_privileges<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    use rustix::thread::CapabilitySet;
    let reading = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
    without(reading, work)
}

/// Runs `work` on a thread without these rights of root. Threads that it starts inherit this.
#[cfg(target_os = "linux")]
pub fn without<T: Send>(
    rights: rustix::thread::CapabilitySet,
    work: impl FnOnce() -> T + Send,
) -> T {
    use rustix::thread::{capabilities, set_capabilities};
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let mut sets = capabilities(None).unwrap();
            sets.effective -= rights;
            sets.permitted -= rights;
            set_capabilities(None, sets).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// A store, and the number of bytes that its initial index has read.
pub fn open_and_count(builder: DirStoreBuilder) -> (Arc<DirStore>, u64) {
    let bytes = Arc::new(AtomicU64::new(0));
    let sink = Arc::clone(&bytes);
    let builder = builder.progress(move |progress| sink.store(progress.bytes, Ordering::Relaxed));
    let store = build(builder);
    let bytes = bytes.load(Ordering::Relaxed);
    (store, bytes)
}

/// Five files of one size and time, which is not that of the test, so that no file counts as just written.
pub fn five_files(folder: &Path) -> Vec<(String, ImageId)> {
    let files = (1..=5).map(|n| {
        let name = format!("f{n}.png");
        let id = write(folder, &name, format!("file {n}"));
        set_age(&folder.join(&name), 3600);
        (name, id)
    });
    files.collect()
}

/// The names and IDs that the store lists.
pub fn entries(store: &DirStore) -> Vec<(String, ImageId)> {
    let catalog = store.catalog().snapshot();
    let entries = catalog.entries();
    entries
        .map(|entry| (entry.name.to_owned(), entry.id))
        .collect()
}
