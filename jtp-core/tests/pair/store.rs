//! The simulated store: the images, the catalog, and a model of the catalog that is independent of the real
//! one.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use jtp_core::{Catalog, CatalogWriter, FileType, Flags, Image, ImageId, nfc};

use super::Rng;

/// An entry of the model catalog: name and image.
pub(crate) type NamedImage = (String, Image);

/// The expected content of one published catalog.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// In catalog order. // S5
    pub(crate) entries: Vec<NamedImage>,
    /// Index of the history that this snapshot belongs to.
    pub(crate) history: usize,
    /// Number of events of that history up to this snapshot. // N1
    pub(crate) events: usize,
}

impl Snapshot {
    pub(crate) fn get(&self, id: ImageId) -> Option<Image> {
        let found = self.entries.iter().find(|(_, image)| image.id == id);
        found.map(|(_, image)| *image)
    }
}

#[derive(Debug)]
struct Encodings {
    raw: Vec<u8>,
    compressed: Vec<u8>,
}

/// The images, the catalog, and the model catalog.
#[derive(Debug)]
pub(crate) struct Store {
    writer: CatalogWriter,
    /// Every image ever created.
    encodings: HashMap<ImageId, Encodings>,
    ids: Vec<ImageId>,
    draft: BTreeMap<ImageId, NamedImage>,
    /// IDs added since the last `publish`, in order.
    added: Vec<ImageId>,
    current: Rc<Snapshot>,
    /// Every event so far, one list for each writer.
    histories: Vec<Vec<NamedImage>>,
    snapshots: Vec<Weak<Catalog>>,
    created: u32,
}

impl Store {
    pub(crate) fn new() -> Store {
        Store {
            writer: CatalogWriter::new(),
            encodings: HashMap::new(),
            ids: Vec::new(),
            draft: BTreeMap::new(),
            added: Vec::new(),
            current: Rc::new(Snapshot {
                entries: Vec::new(),
                history: 0,
                events: 0,
            }),
            histories: vec![Vec::new()],
            snapshots: Vec::new(),
            created: 0,
        }
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(self.writer.snapshot())
    }

    pub(crate) fn current(&self) -> Rc<Snapshot> {
        Rc::clone(&self.current)
    }

    /// Every event of one history.
    pub(crate) fn history(&self, index: usize) -> &[NamedImage] {
        &self.histories[index]
    }

    pub(crate) fn raw(&self, id: ImageId) -> &[u8] {
        &self.encodings[&id].raw
    }

    /// The encoding that is sent.
    pub(crate) fn wire(&self, image: Image) -> &[u8] {
        let encodings = &self.encodings[&image.id];
        if image.flags.is_compressed() {
            &encodings.compressed
        } else {
            &encodings.raw
        }
    }

    fn variant(&self, id: ImageId, compressed: bool) -> Image {
        let encodings = &self.encodings[&id];
        let (file_type, wire) = if compressed {
            (FileType::Bmp, &encodings.compressed)
        } else {
            (FileType::Png, &encodings.raw)
        };
        Image::new(
            id,
            Flags::new(file_type, compressed),
            u32::try_from(wire.len()).unwrap(),
        )
    }

    /// The other variant of the image: compressed instead of raw, or the reverse. The same if it has only one.
    pub(crate) fn other_variant(&self, image: Image) -> Image {
        let compressed = !image.flags.is_compressed() && self.is_compressible(image.id);
        self.variant(image.id, compressed)
    }

    fn is_compressible(&self, id: ImageId) -> bool {
        cfg!(feature = "zstd") && !self.encodings[&id].raw.is_empty()
    }

    /// An ID: usually of a current or former image, sometimes an unknown one.
    pub(crate) fn some_id(&self, rng: &mut Rng<'_>) -> ImageId {
        match u32::try_from(self.ids.len()) {
            Ok(count) if count > 0 && !rng.one_in(6) => {
                let at = rng.below(count);
                self.ids[usize::try_from(at).unwrap()]
            }
            _ => ImageId(u64::from(rng.below(4))),
        }
    }

    /// Adds, removes, renames or re-encodes an image, without publishing the change.
    pub(crate) fn change(&mut self, rng: &mut Rng<'_>) {
        let id = match rng.below(8) {
            0..5 => self.create(rng),
            5 => {
                let id = self.some_id(rng);
                let was_listed = self.draft.remove(&id).is_some();
                assert_eq!(self.writer.remove(id), was_listed);
                return;
            }
            _ => self.some_id(rng),
        };
        if !self.encodings.contains_key(&id) {
            return;
        }
        let compressed = self.is_compressible(id) && rng.one_in(3);
        let image = self.variant(id, compressed);
        let name = match rng.below(6) {
            0 => "a.png".to_owned(),
            1 => "cafe\u{301}.png".to_owned(),
            2 => String::new(),
            3 => format!("../{}", id.0 % 7),
            _ => format!("{id}.png"),
        };
        self.writer.insert(&name, image).unwrap();
        let entry = (nfc(&name).into_owned(), image);
        if self.draft.insert(id, entry).is_none() && !self.added.contains(&id) {
            self.added.push(id);
        }
    }

    fn create(&mut self, rng: &mut Rng<'_>) -> ImageId {
        self.created += 1;
        let len = [0, 1, 9, 90, 400, 3_000, 20_000][rng.index(7)];
        let mut state = u64::from(self.created) | 1 << 40;
        let mut byte = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        };
        let raw: Vec<u8> = (0..len).map(|_| byte()).collect();
        let id = ImageId::of(&raw);
        if let Entry::Vacant(free) = self.encodings.entry(id) {
            let compressed = compress(&raw, rng.one_in(4));
            free.insert(Encodings { raw, compressed });
            self.ids.push(id);
        }
        id
    }

    /// Publishes all images from a new writer, which begins a new history. // N5
    pub(crate) fn replace_writer(&mut self) {
        self.writer = CatalogWriter::new();
        for (name, image) in self.draft.values() {
            self.writer.insert(name, *image).unwrap();
        }
        self.added = self.draft.keys().copied().collect();
        self.current = Rc::new(Snapshot {
            entries: Vec::new(),
            history: self.histories.len(),
            events: 0,
        });
        self.histories.push(Vec::new());
        self.publish();
    }

    pub(crate) fn publish(&mut self) {
        let history = &mut self.histories[self.current.history];
        let mut entries: Vec<NamedImage> = self.draft.values().cloned().collect();
        entries.sort_by(|(a, x), (b, y)| (a.as_bytes(), x.id).cmp(&(b.as_bytes(), y.id)));
        for id in std::mem::take(&mut self.added) {
            if let (Some(entry), None) = (self.draft.get(&id), self.current.get(id)) {
                history.push(entry.clone());
            }
        }
        self.current = Rc::new(Snapshot {
            entries,
            history: self.current.history,
            events: history.len(),
        });
        let catalog = self.writer.publish();
        assert_eq!(catalog.latest().events(), history.len() as u64, "N1");
        self.snapshots.push(Arc::downgrade(&catalog));
    }

    /// Checks, once all connections are closed, that no old snapshot is still referenced.
    pub(crate) fn check_memory(&self) {
        let current = Arc::downgrade(self.writer.snapshot());
        let old = self.snapshots.iter().filter(|old| !old.ptr_eq(&current));
        assert_eq!(
            old.filter(|old| old.strong_count() > 0).count(),
            0,
            "old snapshots still referenced"
        );
    }
}

/// A Zstd frame of raw blocks, written without the library. // W8
fn compress(raw: &[u8], skippable: bool) -> Vec<u8> {
    const BLOCK: usize = 100_000;
    let mut out = Vec::new();
    if skippable {
        out.extend_from_slice(&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    }
    // Single segment, content size in four bytes.
    out.extend_from_slice(&[0x28, 0xb5, 0x2f, 0xfd, 0xa0]);
    out.extend_from_slice(&u32::try_from(raw.len()).unwrap().to_le_bytes());
    let mut blocks = raw.chunks(BLOCK).peekable();
    if blocks.peek().is_none() {
        out.extend_from_slice(&[1, 0, 0]);
    }
    while let Some(block) = blocks.next() {
        let last = u32::from(blocks.peek().is_none());
        let header = u32::try_from(block.len()).unwrap() << 3 | last;
        out.extend_from_slice(&header.to_le_bytes()[..3]);
        out.extend_from_slice(block);
    }
    out
}
