//! The prefix of an object store that has the images and the catalog, with a deadline for each request.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use jtp_core::ImageId;
use jtp_driver::store::BoxFuture;
use jtp_store::ImageCache;
use object_store::path::Path;
use object_store::{
    Error as Backend, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    UpdateVersion,
};

use crate::cache::DiskCache;
use crate::clock::{Clock, timeout};
use crate::error::{Error, ErrorKind};
use crate::format::{FormatError, Identity};
use crate::health::{Attempt, Health};
use crate::spawner::Spawner;

/// The folder of the catalog below the prefix.
const FOLDER: &str = ".jtp/v1";
/// The folder of the variants below it.
const VARIANTS: &str = "variant";
/// The contents of the object that shows whether puts are conditional.
const PROBE: &str = "JTP";

/// A prefix of an object store. A handle: clones are the same.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    clock: Arc<dyn Clock>,
    deadline: Duration,
    cache: Option<DiskCache>,
    health: Arc<Health>,
    spawner: Spawner,
}

/// Whether a conditional put was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Put {
    /// The object has this version now.
    Made(UpdateVersion),
    /// There is another object.
    Refused,
}

/// An object of the catalog, and the version to replace.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) bytes: Bytes,
    pub(crate) version: UpdateVersion,
}

impl Bucket {
    /// The deadline of a request by default.
    pub const DEADLINE: Duration = Duration::from_secs(10);

    /// The objects below `prefix`, which may be empty.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, clock: Arc<dyn Clock>) -> Bucket {
        Bucket {
            store,
            prefix,
            clock,
            deadline: Bucket::DEADLINE,
            cache: None,
            health: Arc::default(),
            spawner: Spawner::default(),
        }
    }

    /// Opens each image in a task of its own, which `spawn` starts: the images of one connection are then received by all
    /// threads of the runtime. Default: by the connection's task. A task whose image is no longer wanted ends.
    #[must_use]
    pub fn with_spawner(mut self, spawn: impl Fn(BoxFuture<()>) + Send + Sync + 'static) -> Bucket {
        self.spawner = Spawner::new(spawn);
        self
    }

    pub(crate) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Keeps images that are served from this bucket in a cache on disk. Default: none. Bytes of the cache are verified
    /// when they are read; images that it does not have, or has damaged, are read from the bucket.
    #[must_use]
    pub fn with_cache(mut self, cache: ImageCache) -> Bucket {
        self.cache = Some(DiskCache::new(cache));
        self
    }

    /// Sets how long a request to the store may take, retries of the backend included: [`Bucket::DEADLINE`] by default.
    #[must_use]
    pub fn with_deadline(mut self, deadline: Duration) -> Bucket {
        self.deadline = deadline;
        self
    }

    /// The clock.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The backend.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn ObjectStore> {
        &self.store
    }

    /// The path of an object below the prefix. `None` if the backends' paths cannot express it.
    pub(crate) fn path(&self, key: &str) -> Option<Path> {
        let path = match self.prefix.as_ref() {
            "" => Path::parse(key),
            prefix => Path::parse(format!("{prefix}/{key}")),
        };
        path.ok()
    }

    /// The path of an object of the catalog; `name` consists of letters, digits, `-` and `/`.
    pub(crate) fn own(&self, name: &str) -> Path {
        let key = format!("{FOLDER}/{name}");
        self.path(&key).unwrap_or_default()
    }

    /// The path of an image's encoded variant.
    pub(crate) fn variant_path(&self, id: ImageId) -> Path {
        self.own(&format!("{VARIANTS}/{id}"))
    }

    /// The image whose variant is listed under this key.
    pub(crate) fn variant_of(key: &str) -> Option<ImageId> {
        let name = key.strip_prefix(FOLDER)?.strip_prefix('/')?;
        name.strip_prefix(VARIANTS)?.strip_prefix('/')?.parse().ok()
    }

    /// The key of a listed object.
    pub(crate) fn key<'a>(&self, path: &'a Path) -> Option<&'a str> {
        let key = path.as_ref().strip_prefix(self.prefix.as_ref())?;
        let key = match self.prefix.as_ref().is_empty() {
            true => key,
            false => key.strip_prefix('/')?,
        };
        (!key.is_empty()).then_some(key)
    }

    /// All objects below the prefix.
    pub(crate) fn list_all(&self) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        let prefix = Some(&self.prefix).filter(|prefix| !prefix.as_ref().is_empty());
        self.list(prefix, self.prefix.to_string())
    }

    /// The objects of a folder of the catalog.
    pub(crate) fn list_own(&self, folder: &str) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        let path = self.own(folder);
        self.list(Some(&path), path.to_string())
    }

    fn list(
        &self,
        prefix: Option<&Path>,
        path: String,
    ) -> BoxStream<'static, Result<ObjectMeta, Error>> {
        let listing = self.store.list(prefix);
        let bucket = self.clone();
        stream::unfold(Some(listing), move |listing| {
            let (bucket, path) = (bucket.clone(), path.clone());
            async move {
                let mut listing = listing?;
                let next = async { listing.next().await.transpose() };
                let item = bucket.limited("list", &path, next).await.transpose()?;
                // After an error nothing more is read.
                let rest = item.is_ok().then_some(listing);
                Some((item, rest))
            }
        })
        .boxed()
    }

    /// Reads an object of the catalog that has at most `max_len` bytes; `None` if there is none.
    pub(crate) async fn get(&self, path: &Path, max_len: u64) -> Result<Option<Stored>, Error> {
        let read = async {
            let result = self.store.get_opts(path, GetOptions::default()).await?;
            let (size, limit) = (result.meta.size, max_len);
            let version = UpdateVersion {
                e_tag: result.meta.e_tag.clone(),
                version: result.meta.version.clone(),
            };
            if size > limit {
                return Ok(Err((size, limit)));
            }
            let bytes = result.bytes().await?;
            Ok(Ok(Stored { bytes, version }))
        };
        match self.limited("read", path.as_ref(), read).await {
            Ok(Ok(stored)) => Ok(Some(stored)),
            Ok(Err((size, limit))) => Err(Error::TooLarge {
                path: path.to_string(),
                size,
                limit,
            }),
            Err(Error::Backend {
                source: Backend::NotFound { .. },
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Creates an object if there is none. If the result is not known, the object is read.
    pub(crate) async fn create(
        &self,
        path: &Path,
        max_len: u64,
        bytes: Bytes,
    ) -> Result<Put, Error> {
        self.put(path, max_len, bytes, PutMode::Create).await
    }

    /// Replaces the object of that version. If the result is not known, the object is read.
    pub(crate) async fn update(
        &self,
        path: &Path,
        max_len: u64,
        bytes: Bytes,
        version: UpdateVersion,
    ) -> Result<Put, Error> {
        self.put(path, max_len, bytes, PutMode::Update(version))
            .await
    }

    async fn put(
        &self,
        path: &Path,
        max_len: u64,
        bytes: Bytes,
        mode: PutMode,
    ) -> Result<Put, Error> {
        let put = self.store.put_opts(path, bytes.clone().into(), mode.into());
        let error = match self.limited("write", path.as_ref(), put).await {
            Ok(result) => return Ok(Put::Made(result.into())),
            Err(error) if error.is_unsupported() => return Err(error),
            Err(error) => error,
        };
        let is_refused = error.is_refused();
        // Also after a refusal: the backend's client may have repeated a put whose answer was lost.
        match self.get(path, max_len).await {
            Ok(Some(stored)) if stored.bytes == bytes => Ok(Put::Made(stored.version)),
            Ok(_) | Err(Error::TooLarge { .. }) if is_refused => Ok(Put::Refused),
            Ok(None) => Err(error),
            Ok(Some(_)) => Ok(Put::Refused),
            Err(_) => Err(error),
        }
    }

    /// Whether a put with the condition that there is no object is refused if there is one. The object stays, and is the same
    /// for all who ask.
    pub(crate) async fn refuses_second(&self, path: &Path) -> Result<bool, Error> {
        for _ in 0..2 {
            let put = self
                .store
                .put_opts(path, PROBE.into(), PutMode::Create.into());
            match self.limited("write", path.as_ref(), put).await {
                Ok(_) => {}
                Err(error) if error.is_refused() => return Ok(true),
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Writes an object under a name that no one else uses.
    pub(crate) async fn write(&self, path: &Path, bytes: Bytes) -> Result<(), Error> {
        let put = self.store.put(path, bytes.into());
        self.limited("write", path.as_ref(), put).await.map(drop)
    }

    /// Deletes an object of the catalog; one that is not there is no error.
    pub(crate) async fn delete(&self, path: &Path) -> Result<(), Error> {
        let result = self
            .limited("delete", path.as_ref(), self.store.delete(path))
            .await;
        match result {
            Err(error) if !error.is_other_object() => Err(error),
            _ => Ok(()),
        }
    }

    /// The current identity of an object; `None` if there is none.
    pub(crate) async fn head(&self, path: &Path) -> Result<Option<ObjectMeta>, Error> {
        let head = self.store.head(path);
        match self.limited("read", path.as_ref(), head).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if error.is_other_object() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a range of the object with this identity.
    ///
    /// # Errors
    ///
    /// [`Error::is_other_object`] if there is another object or none.
    pub(crate) async fn read_range(
        &self,
        path: &Path,
        identity: &Identity,
        range: Range<u64>,
    ) -> Result<Bytes, Error> {
        let length = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let read = async {
            let mut object = self.open(path, identity, range).await?;
            object.read(length).await
        };
        self.limited("read", path.as_ref(), read).await
    }

    /// Requests a range of the object with this identity. Has no deadline.
    pub(crate) async fn open_range(
        &self,
        path: &Path,
        identity: &Identity,
        range: Range<u64>,
    ) -> Result<OpenRange, Error> {
        let open = self.open(path, identity, range).await;
        open.map_err(|source| read_failed(path, source))
    }

    /// Reads a range of the object with this identity in pieces, each within the deadline.
    pub(crate) async fn read_pieces(
        &self,
        path: &Path,
        identity: &Identity,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let open = self.open(path, identity, range);
        let pieces = self.limited("read", path.as_ref(), open).await?.pieces;
        let (bucket, path) = (self.clone(), path.to_string());
        Ok(stream::unfold(Some(pieces), move |pieces| {
            let (bucket, path) = (bucket.clone(), path.clone());
            async move {
                let mut pieces = pieces?;
                let next = async { pieces.next().await.transpose() };
                let item = bucket.limited("read", &path, next).await.transpose()?;
                let rest = item.is_ok().then_some(pieces);
                Some((item, rest))
            }
        })
        .boxed())
    }

    async fn open(
        &self,
        path: &Path,
        identity: &Identity,
        range: Range<u64>,
    ) -> Result<OpenRange, Backend> {
        let is_comparable = identity.is_comparable();
        let options = GetOptions {
            if_match: identity.e_tag.to_text().filter(|_| is_comparable),
            range: Some(GetRange::Bounded(range.clone())),
            ..GetOptions::default()
        };
        let result = self.store.get_opts(path, options).await?;
        let found = identity_of(&result.meta);
        // A backend that ignores If-Match names what it returns.
        if found.size != identity.size || (is_comparable && found != *identity) {
            return Err(other_object(path, "the object was replaced"));
        }
        if result.range != range {
            return Err(other_object(path, "the range has another length"));
        }
        Ok(OpenRange {
            path: path.clone(),
            left: range.end - range.start,
            piece: Bytes::new(),
            pieces: result.into_stream(),
        })
    }

    /// The future's output within the deadline.
    async fn limited<T>(
        &self,
        action: &'static str,
        path: &str,
        future: impl Future<Output = Result<T, Backend>>,
    ) -> Result<T, Error> {
        let future = async {
            future.await.map_err(|source| Error::Backend {
                action,
                path: path.to_owned(),
                source,
            })
        };
        self.watched(action, path, future).await
    }

    /// The future's output within the deadline. What it says about the store's health is recorded.
    pub(crate) async fn watched<T>(
        &self,
        action: &'static str,
        path: &str,
        future: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let began = self.clock.now();
        let result = match timeout(&*self.clock, self.deadline, future).await {
            Some(result) => result,
            None => Err(Error::TimedOut {
                action,
                path: path.to_owned(),
                after: self.deadline,
            }),
        };
        let now = self.clock.now();
        match &result {
            Err(Error::Down { .. }) => {}
            Err(error) if error.kind() == ErrorKind::Unreachable => self.health.failed(began, now),
            _ => self.health.answered(now),
        }
        result
    }

    /// Begins a request for an image. Fails while the store does not answer.
    pub(crate) fn attempt(&self, path: &Path) -> Result<Attempt<'_>, Error> {
        let attempt = self.health.attempt(self.clock.now());
        attempt.map_err(|after| Error::Down {
            path: path.to_string(),
            after,
        })
    }

    pub(crate) fn cache(&self) -> Option<&DiskCache> {
        self.cache.as_ref()
    }
}

/// A range of an object whose bytes come as they are asked for: the backend waits with the others.
pub(crate) struct OpenRange {
    path: Path,
    /// Bytes that are still to be read.
    left: u64,
    /// Bytes that came with the last piece.
    piece: Bytes,
    pieces: BoxStream<'static, Result<Bytes, Backend>>,
}

impl OpenRange {
    pub(crate) fn is_at_end(&self) -> bool {
        self.left == 0
    }

    /// The next `length` bytes. Has no deadline. After an error, or if the future is dropped, the position is not known.
    pub(crate) async fn next(&mut self, length: usize) -> Result<Bytes, Error> {
        let read = self.read(length).await;
        read.map_err(|source| read_failed(&self.path, source))
    }

    async fn read(&mut self, length: usize) -> Result<Bytes, Backend> {
        let mut all = BytesMut::new();
        while self.piece.len() < length - all.len() {
            let piece = std::mem::take(&mut self.piece);
            if !piece.is_empty() {
                if all.is_empty() {
                    all.reserve(length);
                }
                all.extend_from_slice(&piece);
            }
            let next = self.pieces.next().await.transpose()?;
            self.piece = next.ok_or_else(|| other_object(&self.path, "it ends early"))?;
        }
        let last = self.piece.split_to(length - all.len());
        let count = u64::try_from(length).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(count);
        // At its end the backend's connection is free for another request.
        if self.left == 0 && (!self.piece.is_empty() || self.pieces.next().await.is_some()) {
            return Err(other_object(&self.path, "the range has another length"));
        }
        if all.is_empty() {
            return Ok(last);
        }
        all.extend_from_slice(&last);
        Ok(all.freeze())
    }
}

fn read_failed(path: &Path, source: Backend) -> Error {
    Error::Backend {
        action: "read",
        path: path.to_string(),
        source,
    }
}

/// The identity of an object that a backend described. Without an ETag and a version it is the time of the last change.
pub(crate) fn identity_of(meta: &ObjectMeta) -> Identity {
    let (e_tag, version) = (meta.e_tag.as_deref(), meta.version.as_deref());
    if e_tag.is_none() && version.is_none() {
        let modified = format!(
            "{}{}",
            Identity::MODIFIED,
            meta.last_modified.timestamp_millis()
        );
        return Identity::new(Some(&modified), None, meta.size);
    }
    Identity::new(e_tag, version, meta.size)
}

fn other_object(path: &Path, why: &str) -> Backend {
    Backend::Precondition {
        path: path.to_string(),
        source: why.into(),
    }
}

/// An error of decoding the object at a path.
pub(crate) fn damaged(path: &Path) -> impl FnOnce(FormatError) -> Error {
    let path = path.to_string();
    move |source| Error::Damaged { path, source }
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("store", &format_args!("{}", self.store))
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
