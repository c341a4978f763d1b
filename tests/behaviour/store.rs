//! A store whose bodies come when the script says so, or fail where it says so.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_store::{ImageBody, ImageStore, LiveCatalog, OpenError, ReadError};

use super::script::{Picture, Setup};

/// An image that is no part of any script: it comes and goes until a watcher has told of it. From then on it
/// is known that the server watches.
pub(crate) const BEACON: &str = "beacon.png";

#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    live: LiveCatalog,
    images: HashMap<&'static str, Kept>,
    by_id: HashMap<ImageId, &'static str>,
    state: Mutex<State>,
    changed: Condvar,
    holds_back: bool,
}

struct Kept {
    image: Image,
    /// What travels.
    bytes: Arc<[u8]>,
}

#[derive(Default)]
struct State {
    gates: HashMap<ImageId, u64>,
    broken: HashMap<ImageId, Option<u64>>,
    /// The run is over: nobody waits any more.
    over: bool,
}

impl Kept {
    fn new(picture: &Picture) -> Kept {
        let bytes = if picture.packed {
            zstd::encode_all(&picture.bytes[..], 3).unwrap()
        } else {
            picture.bytes.clone()
        };
        let kind = if picture.packed {
            FileType::Bmp
        } else {
            FileType::Png
        };
        Kept {
            image: Image::new(
                match picture.forged {
                    true => ImageId::of(picture.name.as_bytes()),
                    false => ImageId::of(&picture.bytes),
                },
                Flags::new(kind, picture.packed),
                u32::try_from(bytes.len()).unwrap(),
            ),
            bytes: bytes.into(),
        }
    }
}

impl Store {
    pub(crate) fn new(setup: &Setup) -> Store {
        let mut images: HashMap<_, _> = setup
            .pictures
            .iter()
            .map(|picture| (picture.name, Kept::new(picture)))
            .collect();
        let beacon = super::script::png(BEACON, 3);
        images.insert(BEACON, Kept::new(&beacon));
        let by_id = images.iter().map(|(name, kept)| (kept.image.id, *name));
        let id = |name: &str| images[name].image.id;
        let state = State {
            gates: setup.gates.iter().map(|(n, at)| (id(n), *at)).collect(),
            broken: setup.broken.iter().map(|(n, at)| (id(n), *at)).collect(),
            over: false,
        };
        let store = Store(Arc::new(Inner {
            live: LiveCatalog::new(),
            by_id: by_id.collect(),
            images,
            state: Mutex::new(state),
            changed: Condvar::new(),
            holds_back: !setup.gates.is_empty(),
        }));
        let there: Vec<_> = setup.pictures.iter().map(|p| p.name).collect();
        store.add(&there[..setup.there]);
        store
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn id(&self, name: &str) -> ImageId {
        match self.0.images.get(name) {
            Some(kept) => kept.image.id,
            None => ImageId::of(name.as_bytes()), // Nobody has that.
        }
    }

    /// The script's name of an image.
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
        assert!(self.state().gates.remove(&id).is_some(), "{name} is open");
        self.0.changed.notify_all();
    }

    /// Whether any body is held back at the beginning.
    pub(crate) fn holds_back(&self) -> bool {
        self.0.holds_back
    }

    /// Lets everyone go.
    pub(crate) fn end(&self) {
        self.state().over = true;
        self.0.changed.notify_all();
    }

    /// Whether the bytes up to `end` can be read without waiting.
    pub(crate) fn is_ready(&self, id: ImageId, end: u64) -> bool {
        let state = self.state();
        state.over || state.gates.get(&id).is_none_or(|gate| end <= *gate)
    }
}

impl ImageStore for Store {
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
    store: Store,
    id: ImageId,
}

impl ImageBody for Body {
    fn read_at(&mut self, offset: u64, buf: &mut [u8]) -> Result<usize, ReadError> {
        let inner = &self.store.0;
        let mut state = self.store.state();
        let limit = loop {
            match state.gates.get(&self.id) {
                Some(gate) if offset >= *gate && !state.over => {
                    state = inner
                        .changed
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner);
                }
                Some(gate) if !state.over => break *gate,
                _ => break u64::MAX,
            }
        };
        let limit = match state.broken.get(&self.id) {
            Some(Some(at)) if offset >= *at => {
                let source = io::Error::other("the script says so");
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
