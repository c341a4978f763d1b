//! The simulated store: images with their variants, a catalog, and what that catalog must hold.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap, hash_map};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use jtp_core::{
    BodyReceiver, Catalog, CatalogWriter, FileType, Flags, Image, ImageFault, ImageId, nfc,
};
use jtp_kit::model::{self, Entry, Snapshot};
use jtp_kit::{Rng, noise};

/// The same image in the terms of the model.
pub(crate) fn modelled(image: Image) -> model::Image {
    model::Image {
        id: image.id.0,
        flags: image.flags.bits(),
        length: image.length,
    }
}

#[derive(Debug, Default)]
struct Encodings {
    raw: Vec<u8>,
    compressed: Vec<u8>,
}

pub(crate) struct Store {
    writer: CatalogWriter,
    /// Every image ever created.
    encodings: HashMap<ImageId, Encodings>,
    ids: Vec<ImageId>,
    /// What the next catalog lists.
    draft: BTreeMap<ImageId, Entry>,
    /// Images that cannot be read any more, which the catalog still lists.
    unreadable: BTreeSet<ImageId>,
    /// IDs added since the last `publish`, in order.
    added: Vec<ImageId>,
    current: Rc<Snapshot>,
    catalogs: Vec<Weak<Catalog>>,
    created: u32,
    /// Whether jtp-core can decode compressed images.
    has_zstd: bool,
}

impl Store {
    /// A store with the images that `changes` random changes leave.
    pub(crate) fn new(changes: u32, rng: &mut Rng) -> Store {
        let mut store = Store::of(&[]);
        for _ in 0..changes {
            store.change(rng);
        }
        store.publish();
        store
    }

    /// A store with these raw images.
    pub(crate) fn of(images: &[(&str, &[u8])]) -> Store {
        let mut store = Store {
            writer: CatalogWriter::new(),
            encodings: HashMap::new(),
            ids: Vec::new(),
            draft: BTreeMap::new(),
            unreadable: BTreeSet::new(),
            added: Vec::new(),
            current: Rc::new(Snapshot {
                entries: Vec::new(),
                history: Rc::default(),
                events: 0,
            }),
            catalogs: Vec::new(),
            created: 0,
            has_zstd: has_zstd(),
        };
        for (name, bytes) in images {
            let id = store.add(bytes.to_vec(), false);
            store.list(name, store.variant(id, false));
        }
        store.publish();
        store
    }

    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        self.writer.snapshot()
    }

    pub(crate) fn current(&self) -> &Rc<Snapshot> {
        &self.current
    }

    /// The encoding that is sent.
    pub(crate) fn wire(&self, image: Image) -> &[u8] {
        let encodings = &self.encodings[&image.id];
        match image.flags.is_compressed() {
            true => &encodings.compressed,
            false => &encodings.raw,
        }
    }

    pub(crate) fn is_readable(&self, id: ImageId) -> bool {
        self.draft.contains_key(&id) && !self.unreadable.contains(&id)
    }

    fn variant(&self, id: ImageId, compressed: bool) -> Image {
        let encodings = &self.encodings[&id];
        let (file_type, wire) = match compressed {
            true => (FileType::Bmp, &encodings.compressed),
            false => (FileType::Png, &encodings.raw),
        };
        let flags = Flags::new(file_type, compressed);
        Image::new(id, flags, u32::try_from(wire.len()).unwrap())
    }

    /// The other variant of the image: compressed instead of raw, or the reverse. The same if it has only one.
    pub(crate) fn other_variant(&self, image: Image) -> Image {
        let compressed = !image.flags.is_compressed() && self.is_compressible(image.id);
        self.variant(image.id, compressed)
    }

    fn is_compressible(&self, id: ImageId) -> bool {
        self.has_zstd && !self.encodings[&id].raw.is_empty()
    }

    /// An ID: usually of a current or former image, sometimes an unknown one.
    pub(crate) fn some_id(&self, rng: &mut Rng) -> ImageId {
        match rng.one_in(6) {
            false if !self.ids.is_empty() => *rng.pick(&self.ids),
            // One of them begins like CANCEL. // C5
            _ => ImageId(*rng.pick(&[0, 1, 2, 0x0300 << 48])),
        }
    }

    /// An image that exists or existed, in a variant.
    pub(crate) fn some_image(&self, rng: &mut Rng) -> Image {
        let id = *rng.pick(&self.ids);
        self.variant(id, self.is_compressible(id) && rng.one_in(6))
    }

    /// The image of which the least bytes are sent.
    pub(crate) fn smallest(&self) -> Option<ImageId> {
        let listed = self.current.entries.iter().map(|entry| entry.image);
        let smallest = listed.min_by_key(|image| image.length);
        smallest.map(|image| ImageId(image.id))
    }

    /// Adds, removes, renames or re-encodes an image, without publishing the change.
    pub(crate) fn change(&mut self, rng: &mut Rng) {
        let id = match rng.below(8) {
            0..5 => {
                self.created += 1;
                let length = *rng.pick(&[0, 1, 9, 90, 400, 3_000, 20_000]);
                self.add(noise(length, self.created.into()), rng.one_in(4))
            }
            5 => {
                self.unlist(self.some_id(rng));
                return;
            }
            _ => self.some_id(rng),
        };
        if !self.encodings.contains_key(&id) {
            return;
        }
        let compressed = self.is_compressible(id) && rng.one_in(3);
        let name = match rng.below(6) {
            0 => "a.png".to_owned(),
            1 => "cafe\u{301}.png".to_owned(),
            2 => String::new(),
            3 => format!("../{}", id.0 % 7),
            _ => format!("{id}.png"),
        };
        self.list(&name, self.variant(id, compressed));
    }

    fn add(&mut self, raw: Vec<u8>, skippable: bool) -> ImageId {
        let id = ImageId::of(&raw);
        if let hash_map::Entry::Vacant(free) = self.encodings.entry(id) {
            let compressed = compress(&raw, skippable);
            free.insert(Encodings { raw, compressed });
            self.ids.push(id);
        }
        id
    }

    /// Lists an image in the form in which it is sent.
    pub(crate) fn insert(&mut self, name: &str, image: Image, wire: Vec<u8>) {
        let encodings = self.encodings.entry(image.id).or_default();
        match image.flags.is_compressed() {
            true => encodings.compressed = wire,
            false => encodings.raw = wire,
        }
        self.list(name, image);
    }

    fn list(&mut self, name: &str, image: Image) {
        self.writer.insert(name, image).unwrap();
        let (name, id) = (nfc(name).into_owned(), image.id);
        let image = modelled(image);
        if self.draft.insert(id, Entry { name, image }).is_none() && !self.added.contains(&id) {
            self.added.push(id);
        }
    }

    pub(crate) fn unlist(&mut self, id: ImageId) {
        let was_listed = self.draft.remove(&id).is_some();
        assert_eq!(self.writer.remove(id), was_listed);
    }

    /// Makes an image unreadable; the next catalog does not list it. Returns whether there was one.
    pub(crate) fn lose(&mut self, rng: &mut Rng) -> bool {
        let listed: Vec<ImageId> = self.draft.keys().copied().collect();
        let lost = rng.pick_any(&listed);
        lost.is_some_and(|id| self.unreadable.insert(id))
    }

    pub(crate) fn publish(&mut self) {
        for id in std::mem::take(&mut self.unreadable) {
            self.unlist(id);
        }
        let mut entries: Vec<Entry> = self.draft.values().cloned().collect();
        entries.sort_by(|a, b| (&a.name, a.image.id).cmp(&(&b.name, b.image.id)));
        let history = Rc::clone(&self.current.history);
        for id in std::mem::take(&mut self.added) {
            if let (Some(entry), None) = (self.draft.get(&id), self.current.get(id.0)) {
                history.borrow_mut().push(entry.clone());
            }
        }
        let catalog = self.writer.publish();
        let events = history.borrow().len();
        assert_eq!(catalog.latest().events(), events as u64, "N1");
        self.catalogs.push(Arc::downgrade(&catalog));
        self.current = Rc::new(Snapshot {
            entries,
            history,
            events,
        });
    }

    /// Publishes all images from a new writer, which begins a new history. // N5
    pub(crate) fn replace_writer(&mut self) {
        self.writer = CatalogWriter::new();
        for (id, entry) in &self.draft {
            let flags = Flags::from_bits(entry.image.flags);
            let image = Image::new(*id, flags, entry.image.length);
            self.writer.insert(&entry.name, image).unwrap();
        }
        self.added = self.draft.keys().copied().collect();
        self.current = Rc::new(Snapshot {
            entries: Vec::new(),
            history: Rc::new(RefCell::default()),
            events: 0,
        });
        self.publish();
    }

    /// Checks, once all connections are closed, that no old snapshot is still referenced.
    pub(crate) fn check_memory(&self) {
        let current = Arc::downgrade(self.writer.snapshot());
        let old = self.catalogs.iter().filter(|old| !old.ptr_eq(&current));
        let held = old.filter(|old| old.strong_count() > 0).count();
        assert_eq!(held, 0, "old snapshots still referenced");
    }
}

fn has_zstd() -> bool {
    let mut body = BodyReceiver::default();
    let flags = Flags::new(FileType::Bmp, true);
    body.begin(Image::new(ImageId(0), flags, 0));
    body.verdict() != Some(Err(ImageFault::CompressionUnsupported))
}

/// A Zstd frame of raw blocks, written without the library. // W8
fn compress(raw: &[u8], skippable: bool) -> Vec<u8> {
    let mut out = Vec::new();
    if skippable {
        out.extend_from_slice(&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    }
    // A single segment and block, its content size in four bytes.
    let length = u32::try_from(raw.len()).unwrap();
    assert!(length < 128 * 1024, "the limit of a block");
    out.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0xa0]);
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&(length << 3 | 1).to_le_bytes()[..3]);
    out.extend_from_slice(raw);
    out
}
