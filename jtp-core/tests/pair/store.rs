//! The server's images, and a model of its catalog that shares nothing with the real one.

use std::collections::BTreeMap;
use std::collections::hash_map::{Entry, HashMap};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use jtp_core::{Catalog, CatalogWriter, FileType, Flags, Image, ImageId, nfc};

use super::Dice;

/// An entry of the model's catalog.
pub(crate) type Listed = (String, Image);

/// What one snapshot is to answer.
#[derive(Debug)]
pub(crate) struct Shown {
    /// In catalog order. // S5
    pub(crate) entries: Vec<Listed>,
    /// How many events there were by then. // N1
    pub(crate) told: usize,
}

impl Shown {
    pub(crate) fn get(&self, id: ImageId) -> Option<Image> {
        let found = self.entries.iter().find(|(_, image)| image.id == id);
        found.map(|(_, image)| *image)
    }
}

#[derive(Debug)]
struct Form {
    raw: Vec<u8>,
    packed: Vec<u8>,
}

/// The images, the catalog, and its model.
#[derive(Debug)]
pub(crate) struct Store {
    writer: CatalogWriter,
    /// Every image there ever was.
    forms: HashMap<ImageId, Form>,
    ids: Vec<ImageId>,
    draft: BTreeMap<ImageId, Listed>,
    /// IDs that went from absent to present since the last publishing, in order.
    fresh: Vec<ImageId>,
    shown: Rc<Shown>,
    /// Every event there ever was.
    pub(crate) history: Vec<Listed>,
    snapshots: Vec<Weak<Catalog>>,
    made: u32,
}

impl Store {
    pub(crate) fn new() -> Store {
        Store {
            writer: CatalogWriter::new(),
            forms: HashMap::new(),
            ids: Vec::new(),
            draft: BTreeMap::new(),
            fresh: Vec::new(),
            shown: Rc::new(Shown {
                entries: Vec::new(),
                told: 0,
            }),
            history: Vec::new(),
            snapshots: Vec::new(),
            made: 0,
        }
    }

    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(self.writer.snapshot())
    }

    pub(crate) fn shown(&self) -> Rc<Shown> {
        Rc::clone(&self.shown)
    }

    pub(crate) fn raw(&self, id: ImageId) -> &[u8] {
        &self.forms[&id].raw
    }

    /// The bytes that travel.
    pub(crate) fn wire(&self, image: Image) -> &[u8] {
        let form = &self.forms[&image.id];
        if image.flags.is_compressed() {
            &form.packed
        } else {
            &form.raw
        }
    }

    /// Some ID: mostly one there is, or was; sometimes one that nobody has.
    pub(crate) fn some_id(&self, dice: &mut Dice<'_>) -> ImageId {
        match u32::try_from(self.ids.len()) {
            Ok(count) if count > 0 && !dice.one_in(6) => {
                let at = dice.below(count);
                self.ids[usize::try_from(at).unwrap()]
            }
            _ => ImageId(u64::from(dice.below(4))),
        }
    }

    /// Adds, removes, renames, or changes the form of an image; the change is not published.
    pub(crate) fn change(&mut self, dice: &mut Dice<'_>) {
        let id = match dice.below(8) {
            0..5 => self.make(dice),
            5 => {
                let id = self.some_id(dice);
                let was = self.draft.remove(&id).is_some();
                assert_eq!(self.writer.remove(id), was);
                return;
            }
            _ => self.some_id(dice),
        };
        let Some(form) = self.forms.get(&id) else {
            return;
        };
        let compressed = cfg!(feature = "zstd") && !form.raw.is_empty() && dice.one_in(3);
        let (file_type, wire) = if compressed {
            (FileType::Bmp, &form.packed)
        } else {
            (FileType::Png, &form.raw)
        };
        let image = Image::new(
            id,
            Flags::new(file_type, compressed),
            u32::try_from(wire.len()).unwrap(),
        );
        let name = match dice.below(6) {
            0 => "a.png".to_owned(),
            1 => "cafe\u{301}.png".to_owned(),
            2 => String::new(),
            3 => format!("../{}", id.0 % 7),
            _ => format!("{id}.png"),
        };
        self.writer.insert(&name, image).unwrap();
        let entry = (nfc(&name).into_owned(), image);
        if self.draft.insert(id, entry).is_none() && !self.fresh.contains(&id) {
            self.fresh.push(id);
        }
    }

    fn make(&mut self, dice: &mut Dice<'_>) -> ImageId {
        self.made += 1;
        let len = [0, 1, 9, 90, 400, 3_000, 20_000][dice.index(7)];
        let mut state = u64::from(self.made) | 1 << 40;
        let mut byte = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            state.to_be_bytes()[0]
        };
        let raw: Vec<u8> = (0..len).map(|_| byte()).collect();
        let id = ImageId::of(&raw);
        if let Entry::Vacant(free) = self.forms.entry(id) {
            let packed = pack(&raw, dice.one_in(4));
            free.insert(Form { raw, packed });
            self.ids.push(id);
        }
        id
    }

    pub(crate) fn publish(&mut self) {
        let mut entries: Vec<Listed> = self.draft.values().cloned().collect();
        entries.sort_by(|(a, x), (b, y)| (a.as_bytes(), x.id).cmp(&(b.as_bytes(), y.id)));
        for id in std::mem::take(&mut self.fresh) {
            if let (Some(entry), None) = (self.draft.get(&id), self.shown.get(id)) {
                self.history.push(entry.clone());
            }
        }
        self.shown = Rc::new(Shown {
            entries,
            told: self.history.len(),
        });
        let catalog = self.writer.publish();
        assert_eq!(catalog.latest().events(), self.history.len() as u64, "N1");
        self.snapshots.push(Arc::downgrade(&catalog));
    }

    /// Once no connection is left: no old snapshot may be.
    pub(crate) fn check_memory(&self) {
        let current = Arc::downgrade(self.writer.snapshot());
        let old = self.snapshots.iter().filter(|old| !old.ptr_eq(&current));
        assert_eq!(
            old.filter(|old| old.strong_count() > 0).count(),
            0,
            "snapshots left"
        );
    }
}

/// A Zstd frame that holds the bytes as they are: for this no library is needed. // W8
fn pack(raw: &[u8], skippable: bool) -> Vec<u8> {
    const BLOCK: usize = 100_000;
    let mut out = Vec::new();
    if skippable {
        out.extend_from_slice(&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
    }
    // One segment, its length in four bytes.
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
