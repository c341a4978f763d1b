//! A simulated store. The script decides when a body can be read, and where reading fails.
//!
//! It is an asynchronous store, whose reads wait for their gate without a thread, and a blocking one, for
//! [`Blocking`](jtp_tokio::store::Blocking).

use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_tokio::bytes::Bytes;
use jtp_tokio::store::{
    BlockingBody, BlockingStore, BoxFuture, ImageBody, ImageStore, LiveCatalog, OpenImage,
    ReadAhead, StoreError,
};

use super::script::{ScriptImage, Setup};

/// The probe image, part of no script: it is added and removed until a watcher receives its event. This shows that
/// the server has accepted the watch.
pub(crate) const PROBE: &str = "probe.png";

#[derive(Clone)]
pub(crate) struct SimulatedStore(Arc<Inner>);

struct Inner {
    live: LiveCatalog,
    images: HashMap<&'static str, StoredImage>,
    by_id: HashMap<ImageId, &'static str>,
    state: Mutex<State>,
    changed: Condvar,
    holds_back: bool,
}

struct StoredImage {
    image: Image,
    /// The body as sent.
    bytes: Bytes,
}

#[derive(Default)]
struct State {
    gates: HashMap<ImageId, u64>,
    broken: HashMap<ImageId, Option<u64>>,
    /// The run is over: all gates are open.
    finished: bool,
    /// Reads that wait for a gate.
    waiting: Vec<Waker>,
}

impl StoredImage {
    fn new(image: &ScriptImage) -> StoredImage {
        let bytes = if image.compressed {
            zstd::encode_all(&image.bytes[..], 3).unwrap()
        } else {
            image.bytes.clone()
        };
        let kind = if image.compressed {
            FileType::Bmp
        } else {
            FileType::Png
        };
        StoredImage {
            image: Image::new(
                match image.wrong_id {
                    true => ImageId::of(image.name.as_bytes()),
                    false => ImageId::of(&image.bytes),
                },
                Flags::new(kind, image.compressed),
                u32::try_from(bytes.len()).unwrap(),
            ),
            bytes: bytes.into(),
        }
    }
}

impl SimulatedStore {
    pub(crate) fn new(setup: &Setup) -> SimulatedStore {
        let mut images: HashMap<_, _> = setup
            .images
            .iter()
            .map(|image| (image.name, StoredImage::new(image)))
            .collect();
        let probe = super::script::png(PROBE, 3);
        images.insert(PROBE, StoredImage::new(&probe));
        let by_id = images.iter().map(|(name, stored)| (stored.image.id, *name));
        let id = |name: &str| images[name].image.id;
        let state = State {
            gates: setup.gates.iter().map(|(n, at)| (id(n), *at)).collect(),
            broken: setup.broken.iter().map(|(n, at)| (id(n), *at)).collect(),
            ..State::default()
        };
        let store = SimulatedStore(Arc::new(Inner {
            live: LiveCatalog::new(),
            by_id: by_id.collect(),
            images,
            state: Mutex::new(state),
            changed: Condvar::new(),
            holds_back: !setup.gates.is_empty(),
        }));
        let initial: Vec<_> = setup.images.iter().map(|p| p.name).collect();
        store.add(&initial[..setup.initial]);
        store
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self, name: &str) -> ImageId {
        match self.0.images.get(name) {
            Some(stored) => stored.image.id,
            None => ImageId::of(name.as_bytes()), // Not in the store.
        }
    }

    /// The image's name in the script.
    pub(crate) fn name(&self, id: ImageId) -> &'static str {
        self.0.by_id.get(&id).copied().unwrap_or("?")
    }

    pub(crate) fn add(&self, names: &[&str]) {
        self.0.live.edit(|writer| {
            for name in names {
                writer.insert(name, self.0.images[name].image).unwrap();
            }
        });
    }

    pub(crate) fn remove(&self, name: &str) {
        let id = self.id(name);
        assert!(self.0.live.edit(|writer| writer.remove(id)));
    }

    pub(crate) fn rename(&self, name: &str, to: &str) {
        let image = self.0.images[name].image;
        self.0.live.edit(|writer| {
            writer.remove(image.id);
            writer.insert(to, image).unwrap();
        });
    }

    pub(crate) fn open_gate(&self, name: &str) {
        let id = self.id(name);
        assert!(
            self.state().gates.remove(&id).is_some(),
            "{name} has no closed gate"
        );
        self.wake();
    }

    /// Whether the script holds any body back.
    pub(crate) fn holds_back(&self) -> bool {
        self.0.holds_back
    }

    /// Opens all gates.
    pub(crate) fn end(&self) {
        self.state().finished = true;
        self.wake();
    }

    fn wake(&self) {
        self.0.changed.notify_all();
        let waiting = std::mem::take(&mut self.state().waiting);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether the bytes before `end` can be read without waiting.
    pub(crate) fn is_ready(&self, id: ImageId, end: u64) -> bool {
        self.state().is_ready(id, end)
    }

    /// Whether an image can be opened.
    pub(crate) fn check_open(&self, id: ImageId) -> Result<(), StoreError> {
        match self.state().broken.get(&id) {
            Some(None) => Err(StoreError::Gone(id)),
            _ => Ok(()),
        }
    }

    /// Reads bytes that are ready.
    pub(crate) fn read_ready(
        &self,
        id: ImageId,
        offset: u64,
        length: usize,
    ) -> Result<Bytes, StoreError> {
        let start = usize::try_from(offset).unwrap();
        let end = start + length;
        match self.state().broken.get(&id) {
            Some(Some(at)) if u64::try_from(end).unwrap() > *at => {
                let source = io::Error::other("failure set by the script");
                Err(StoreError::unavailable(id, source))
            }
            _ => Ok(self.0.images[self.name(id)].bytes.slice(start..end)),
        }
    }
}

impl State {
    fn is_ready(&self, id: ImageId, end: u64) -> bool {
        self.finished || self.gates.get(&id).is_none_or(|gate| end <= *gate)
    }
}

/// An open image.
struct Body {
    store: SimulatedStore,
    id: ImageId,
}

fn end_of(offset: u64, length: usize) -> u64 {
    offset + u64::try_from(length).unwrap()
}

impl ImageStore for SimulatedStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.0.live
    }

    fn open(
        self: Arc<Self>,
        image: Image,
        _max_first: usize,
    ) -> BoxFuture<Result<OpenImage, StoreError>> {
        Box::pin(async move {
            self.check_open(image.id)?;
            let body = Body {
                store: (*self).clone(),
                id: image.id,
            };
            Ok(OpenImage::streamed(image, Bytes::new(), Arc::new(body)))
        })
    }

    fn read_ahead(&self) -> ReadAhead {
        ReadAhead::local()
    }
}

impl ImageBody for Body {
    fn read(self: Arc<Self>, offset: u64, length: usize) -> BoxFuture<Result<Bytes, StoreError>> {
        Box::pin(async move {
            poll_fn(|cx| {
                let mut state = self.store.state();
                if state.is_ready(self.id, end_of(offset, length)) {
                    return Poll::Ready(());
                }
                state.waiting.push(cx.waker().clone());
                Poll::Pending
            })
            .await;
            self.store.read_ready(self.id, offset, length)
        })
    }
}

impl BlockingStore for SimulatedStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.0.live
    }

    fn open(&self, image: &Image) -> Result<(Image, Arc<dyn BlockingBody>), StoreError> {
        self.check_open(image.id)?;
        let body = Body {
            store: self.clone(),
            id: image.id,
        };
        Ok((*image, Arc::new(body)))
    }
}

impl BlockingBody for Body {
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize, StoreError> {
        let mut state = self.store.state();
        while !state.is_ready(self.id, end_of(offset, buf.len())) {
            let waited = self.store.0.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(state);
        buf.copy_from_slice(&self.store.read_ready(self.id, offset, buf.len())?);
        Ok(buf.len())
    }
}
