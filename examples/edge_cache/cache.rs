//! A folder of images as they travel, bounded in bytes.
//!
//! A file is named by the image's ID and flags. It is written under another name and renamed once it was verified, so a
//! file that has its name is whole, and never changes.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jtp_tokio::bytes::Bytes;
use jtp_tokio::jtp_core::{BodyReceiver, Flags, Image, ImageFault, ImageId, Verified};
use jtp_tokio::store::BoxFuture;
use jtp_tokio::store::{ImageBody, OpenImage, ReadPool, StoreError};

/// The bytes that are written at once, and kept in memory for whoever waits for the image.
const CHUNK: usize = 256 * 1024;

pub(crate) struct DiskCache {
    folder: PathBuf,
    max_bytes: u64,
    pool: ReadPool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    images: HashMap<ImageId, Entry>,
    /// The images in the order of their last use.
    by_use: BTreeMap<u64, ImageId>,
    /// The number of uses.
    uses: u64,
    /// The bytes of all images, and those reserved for images that are being written.
    bytes: u64,
}

#[derive(Clone, Copy)]
struct Entry {
    image: Image,
    last_use: u64,
    /// Tells it from an entry of the same ID that was removed.
    added: u64,
    /// Whether this process has verified it.
    verified: bool,
}

impl State {
    fn add(&mut self, image: Image, verified: bool) {
        self.uses += 1;
        self.by_use.insert(self.uses, image.id);
        let entry = Entry {
            image,
            last_use: self.uses,
            added: self.uses,
            verified,
        };
        self.images.insert(image.id, entry);
    }

    fn touch(&mut self, id: ImageId) -> Option<Entry> {
        let entry = self.images.get_mut(&id)?;
        self.by_use.remove(&entry.last_use);
        self.uses += 1;
        entry.last_use = self.uses;
        self.by_use.insert(self.uses, id);
        Some(*entry)
    }

    fn remove(&mut self, id: ImageId) -> Option<Image> {
        let entry = self.images.remove(&id)?;
        self.by_use.remove(&entry.last_use);
        self.bytes -= u64::from(entry.image.length);
        Some(entry.image)
    }

    /// Removes the least recently used images until `length` more bytes fit.
    fn make_room(&mut self, length: u64, max_bytes: u64) -> Vec<Image> {
        let mut evicted = Vec::new();
        while self.bytes + length > max_bytes {
            let Some((_, &id)) = self.by_use.first_key_value() else {
                break;
            };
            evicted.extend(self.remove(id));
        }
        evicted
    }
}

impl DiskCache {
    /// Opens a folder, with the images that an earlier run has left in it. They are verified when they are first used.
    pub(crate) fn open(folder: PathBuf, max_bytes: u64) -> io::Result<DiskCache> {
        fs::create_dir_all(&folder)?;
        let mut found = Vec::new();
        for file in fs::read_dir(&folder)? {
            let file = file?;
            let (name, metadata) = (file.file_name(), file.metadata()?);
            let name = name.to_string_lossy();
            if name.ends_with(".tmp") {
                fs::remove_file(file.path())?;
            } else if let Some(image) = parse_name(&name, metadata.len()) {
                found.push((metadata.modified()?, image));
            }
        }
        found.sort_by_key(|&(modified, _)| modified);
        let mut state = State::default();
        for (_, image) in found {
            state.bytes += u64::from(image.length);
            state.add(image, false);
        }
        for image in state.make_room(0, max_bytes) {
            fs::remove_file(folder.join(name_of(image)))?;
        }
        Ok(DiskCache {
            folder,
            max_bytes,
            pool: ReadPool::default(),
            state: Mutex::new(state),
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn contains(&self, id: ImageId) -> bool {
        self.state().images.contains_key(&id)
    }

    /// An image, with at most `max_first` of its first bytes.
    pub(crate) async fn get(
        &self,
        id: ImageId,
        max_first: usize,
    ) -> io::Result<Option<CachedImage>> {
        let Some(entry) = self.state().touch(id) else {
            return Ok(None);
        };
        let path = self.folder.join(name_of(entry.image));
        let pool = self.pool.clone();
        let read = move || read_file(&path, entry, max_first, pool);
        let cached = self.run(read).await?;
        let mut state = self.state();
        // Not one that was added meanwhile, after this one was evicted.
        let current = state.images.get_mut(&id);
        if let Some(current) = current.filter(|current| current.added == entry.added) {
            current.verified = true;
            if cached.is_none() {
                state.remove(id); // The file is not there, or not the image: it is fetched again.
            }
        }
        Ok(cached)
    }

    /// Begins to write an image: evicts others to make room for it.
    pub(crate) async fn begin(self: &Arc<Self>, image: Image) -> io::Result<PendingImage> {
        let length = u64::from(image.length);
        let (evicted, number) = {
            let mut state = self.state();
            let evicted = state.make_room(length, self.max_bytes);
            state.bytes += length;
            state.uses += 1;
            (evicted, state.uses)
        };
        let mut verifier = BodyReceiver::default();
        verifier.begin(image);
        // Dropping it returns the reserved bytes.
        let pending = PendingImage {
            cache: Arc::clone(self),
            image,
            temporary: self.folder.join(format!("{}-{number}.tmp", image.id)),
            file: None,
            buffer: Vec::with_capacity(CHUNK.min(usize::try_from(image.length).unwrap_or(CHUNK))),
            first: Bytes::new(),
            verifier,
            committed: false,
        };
        if !evicted.is_empty() {
            let folder = self.folder.clone();
            let remove = move || {
                for image in evicted {
                    remove_file(&folder.join(name_of(image)))?;
                }
                Ok(())
            };
            self.run(remove).await?;
        }
        Ok(pending)
    }

    /// Runs what blocks on the pool's threads.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.pool.run(work).await.map_err(io::Error::other)?
    }
}

/// An image that is being written.
pub(crate) struct PendingImage {
    cache: Arc<DiskCache>,
    image: Image,
    temporary: PathBuf,
    file: Option<File>,
    /// Bytes that were not written yet.
    buffer: Vec<u8>,
    first: Bytes,
    verifier: BodyReceiver,
    committed: bool,
}

impl PendingImage {
    /// Appends bytes.
    pub(crate) async fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        let mut rest = chunk;
        while !rest.is_empty() && self.verifier.verdict().is_none() {
            let used = self.verifier.receive(rest).used;
            rest = &rest[used..];
        }
        self.buffer.extend_from_slice(chunk);
        if self.buffer.len() >= CHUNK {
            let (file, bytes, path) = self.take_buffer();
            let written = self.cache.run(move || append(file, &path, &bytes)).await;
            self.file = Some(written?);
        }
        Ok(())
    }

    fn take_buffer(&mut self) -> (Option<File>, Bytes, PathBuf) {
        let bytes = Bytes::from(std::mem::take(&mut self.buffer));
        if self.first.is_empty() {
            self.first = bytes.clone();
        }
        (self.file.take(), bytes, self.temporary.clone())
    }

    /// Whether what was written is the image.
    pub(crate) fn verify(&self) -> Result<Verified, ImageFault> {
        let verdict = self.verifier.verdict();
        verdict.expect("a packet's end is reported after all of its bytes")
    }

    /// Gives the file its name.
    pub(crate) async fn commit(mut self, verified: Verified) -> io::Result<CachedImage> {
        let image = verified.image();
        let (file, bytes, temporary) = self.take_buffer();
        let path = self.cache.folder.join(name_of(image));
        let is_whole = self.first.len() == usize::try_from(image.length).unwrap_or(usize::MAX);
        let write = move || {
            drop(append(file, &temporary, &bytes)?);
            fs::rename(&temporary, &path)?;
            (!is_whole).then(|| File::open(&path)).transpose()
        };
        let file = self.cache.run(write).await?;
        self.committed = true;
        let mut state = self.cache.state();
        state.remove(image.id); // Another variant of it.
        state.add(image, true);
        drop(state);
        let (first, pool) = (std::mem::take(&mut self.first), self.cache.pool.clone());
        Ok(CachedImage::new(image, first, file, pool))
    }
}

impl Drop for PendingImage {
    fn drop(&mut self) {
        if !self.committed {
            // One short call on a path that is rare.
            let _ = remove_file(&self.temporary);
            self.cache.state().bytes -= u64::from(self.image.length);
        }
    }
}

/// An image of the cache that is open: it stays readable if it is evicted.
#[derive(Debug, Clone)]
pub(crate) struct CachedImage {
    image: Image,
    first: Bytes,
    /// `None` if `first` is all of it.
    body: Option<Arc<FileBody>>,
}

impl CachedImage {
    /// `file` is `None` if `first` is all of the image.
    fn new(image: Image, first: Bytes, file: Option<File>, pool: ReadPool) -> CachedImage {
        let body = file.map(|file| FileBody {
            id: image.id,
            file: Mutex::new(file),
            pool,
        });
        CachedImage {
            image,
            first,
            body: body.map(Arc::new),
        }
    }

    pub(crate) fn open(self, max_first: usize) -> OpenImage {
        match self.body {
            Some(body) => {
                let first = self.first.slice(..self.first.len().min(max_first));
                OpenImage::streamed(self.image, first, body)
            }
            None => OpenImage::whole(self.image, self.first),
        }
    }
}

/// The file of an image. No one writes to it, so what was verified is what is read. // S13
#[derive(Debug)]
struct FileBody {
    id: ImageId,
    file: Mutex<File>,
    pool: ReadPool,
}

impl ImageBody for FileBody {
    fn read(self: Arc<Self>, offset: u64, length: usize) -> BoxFuture<Result<Bytes, StoreError>> {
        let (id, pool) = (self.id, self.pool.clone());
        let read = pool.run(move || -> io::Result<Bytes> {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            let mut bytes = vec![0; length];
            file.seek(SeekFrom::Start(offset))?;
            file.read_exact(&mut bytes)?;
            Ok(bytes.into())
        });
        Box::pin(async move {
            let read = read
                .await
                .map_err(|error| StoreError::unavailable(id, error))?;
            read.map_err(|error| StoreError::unavailable(id, error))
        })
    }
}

/// Opens a file; `None` if it is not there, or not the image.
fn read_file(
    path: &Path,
    entry: Entry,
    max_first: usize,
    pool: ReadPool,
) -> io::Result<Option<CachedImage>> {
    let image = entry.image;
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !entry.verified {
        if !is_image(&mut file, image)? {
            remove_file(path)?;
            return Ok(None);
        }
        file.rewind()?;
    }
    let length = usize::try_from(image.length).unwrap_or(usize::MAX);
    let mut first = vec![0; length.min(max_first)];
    file.read_exact(&mut first)?;
    let rest = (first.len() < length).then_some(file);
    Ok(Some(CachedImage::new(image, first.into(), rest, pool)))
}

/// Whether a file holds the bytes of this image. // W3
fn is_image(file: &mut File, image: Image) -> io::Result<bool> {
    let mut verifier = BodyReceiver::default();
    verifier.begin(image);
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(matches!(verifier.verdict(), Some(Ok(_))));
        }
        let mut rest = &buffer[..count];
        while !rest.is_empty() && verifier.verdict().is_none() {
            let used = verifier.receive(rest).used;
            rest = &rest[used..];
        }
    }
}

fn append(file: Option<File>, path: &Path, bytes: &[u8]) -> io::Result<File> {
    let mut file = match file {
        Some(file) => file,
        None => File::create_new(path)?,
    };
    file.write_all(bytes)?;
    Ok(file)
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn name_of(image: Image) -> String {
    format!("{}-{:02x}", image.id, image.flags.bits())
}

fn parse_name(name: &str, length: u64) -> Option<Image> {
    let (id, flags) = name.split_once('-')?;
    let flags = Flags::from_bits(u8::from_str_radix(flags, 16).ok()?);
    let image = Image::new(id.parse().ok()?, flags, u32::try_from(length).ok()?);
    (name_of(image) == name).then_some(image)
}
