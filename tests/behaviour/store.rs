//! A simulated store. The script decides when a body can be read, and where reading fails.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_store::{ImageBody, ImageStore, LiveCatalog, OpenError, ReadError};

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
    bytes: Arc<[u8]>,
}

#[derive(Default)]
struct State {
    gates: HashMap<ImageId, u64>,
    broken: HashMap<ImageId, Option<u64>>,
    /// The run is over: all gates are open.
    finished: bool,
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
            image: Image {
                id: match image.wrong_id {
                    true => ImageId::of(image.name.as_bytes()),
                    false => ImageId::of(&image.bytes),
                },
                flags: Flags::new(kind, image.compressed),
                length: u32::try_from(bytes.len()).unwrap(),
            },
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
            finished: false,
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
        self.0.changed.notify_all();
    }

    /// Whether the script holds any body back.
    pub(crate) fn holds_back(&self) -> bool {
        self.0.holds_back
    }

    /// Opens all gates.
    pub(crate) fn end(&self) {
        self.state().finished = true;
        self.0.changed.notify_all();
    }

    /// Whether the bytes before `end` can be read without waiting.
    pub(crate) fn is_ready(&self, id: ImageId, end: u64) -> bool {
        let state = self.state();
        state.finished || state.gates.get(&id).is_none_or(|gate| end <= *gate)
    }
}

impl ImageStore for SimulatedStore {
    fn catalog(&self) -> &LiveCatalog {
        &self.0.live
    }

    fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError> {
        if self.state().broken.get(&image.id) == Some(&None) {
            return Err(OpenError::Gone(image.id));
        }
        Ok(Box::new(Body {
            store: self.clone(),
            id: image.id,
        }))
    }
}

struct Body {
    store: SimulatedStore,
    id: ImageId,
}

impl ImageBody for Body {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let inner = &self.store.0;
        let mut state = self.store.state();
        let limit = loop {
            match state.gates.get(&self.id) {
                Some(gate) if offset >= *gate && !state.finished => {
                    state = inner
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Some(gate) if !state.finished => break *gate,
                _ => break u64::MAX,
            }
        };
        let limit = match state.broken.get(&self.id) {
            Some(Some(at)) if offset >= *at => {
                let source = io::Error::other("failure set by the script");
                return Err(ReadError::Io {
                    id: self.id,
                    source,
                });
            }
            Some(Some(at)) => limit.min(*at),
            _ => limit,
        };
        let bytes = &inner.images[self.store.name(self.id)].bytes;
        let end = usize::try_from(limit).map_or(bytes.len(), |limit| limit.min(bytes.len()));
        let rest = &bytes[usize::try_from(offset).unwrap()..end];
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}
