//! The server's images: its disk, its catalog, and what the catalog should be.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use jtp_core::{Catalog, CatalogWriter, FileType, Flags, Image, ImageId};

use super::Dice;

/// What was published at one time.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// In the catalog's order.
    pub(crate) ids: Vec<ImageId>,
    /// How many events there were by then. // N1
    pub(crate) told: usize,
}

pub(crate) struct Shop {
    writer: CatalogWriter,
    /// Every image there ever was.
    pub(crate) images: BTreeMap<ImageId, Vec<u8>>,
    /// What is on the disk, by its name; the catalog may not know it yet.
    disk: BTreeMap<String, ImageId>,
    listed: BTreeMap<ImageId, String>,
    pub(crate) history: Vec<ImageId>,
    pub(crate) shown: Rc<Snapshot>,
    catalogs: Vec<Weak<Catalog>>,
    made: u32,
}

impl Shop {
    pub(crate) fn new(dice: &mut Dice) -> Shop {
        let mut shop = Shop {
            writer: CatalogWriter::new(),
            images: BTreeMap::new(),
            disk: BTreeMap::new(),
            listed: BTreeMap::new(),
            history: Vec::new(),
            shown: Rc::new(Snapshot {
                ids: Vec::new(),
                told: 0,
            }),
            catalogs: Vec::new(),
            made: 0,
        };
        for _ in 0..dice.below(30) {
            shop.change(dice);
        }
        shop.publish();
        shop
    }

    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        self.writer.snapshot()
    }

    pub(crate) fn is_on_disk(&self, id: ImageId) -> bool {
        self.disk.values().any(|there| *there == id)
    }

    /// A file appears, is replaced, or goes.
    pub(crate) fn change(&mut self, dice: &mut Dice) {
        let name = format!("{}.png", dice.below(40));
        if dice.one_in(4) {
            self.disk.remove(&name);
            return;
        }
        self.made += 1;
        let length = dice.pick(&[0, 1, 200, 4_000, 20_000]);
        let mut state = u64::from(self.made) | 1 << 40;
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                state.to_be_bytes()[0]
            })
            .collect();
        let id = ImageId::of(&bytes);
        self.images.insert(id, bytes);
        if !self.is_on_disk(id) {
            self.disk.insert(name, id);
        }
    }

    /// A file goes, and the catalog does not know; whether there was one.
    pub(crate) fn vanish(&mut self, dice: &mut Dice) -> bool {
        let names: Vec<&String> = self.disk.keys().collect();
        if names.is_empty() {
            return false;
        }
        let name = names[dice.below(u32::try_from(names.len()).unwrap()) as usize].clone();
        self.disk.remove(&name).is_some()
    }

    /// The catalog becomes what is on the disk.
    pub(crate) fn publish(&mut self) {
        let disk: BTreeMap<ImageId, String> = self
            .disk
            .iter()
            .map(|(name, id)| (*id, name.clone()))
            .collect();
        let gone: BTreeSet<ImageId> = self
            .listed
            .keys()
            .filter(|id| !disk.contains_key(id))
            .copied()
            .collect();
        for id in &gone {
            assert!(self.writer.remove(*id));
        }
        for (id, name) in &disk {
            if self.listed.get(id) != Some(name) {
                let image = Image::new(
                    *id,
                    Flags::new(FileType::Png, false),
                    u32::try_from(self.images[id].len()).unwrap(),
                );
                self.writer.insert(name, image).unwrap();
                if !self.listed.contains_key(id) {
                    self.history.push(*id);
                }
            }
        }
        self.listed = disk;
        let mut ids: Vec<(&String, ImageId)> =
            self.listed.iter().map(|(id, name)| (name, *id)).collect();
        ids.sort();
        self.shown = Rc::new(Snapshot {
            ids: ids.into_iter().map(|(_, id)| id).collect(),
            told: self.history.len(),
        });
        let catalog = self.writer.publish();
        self.catalogs.push(Arc::downgrade(&catalog));
    }

    /// No connection is left: no old snapshot may be.
    pub(crate) fn check_memory(&self) {
        let current = Arc::downgrade(self.writer.snapshot());
        let old = self.catalogs.iter().filter(|old| !old.ptr_eq(&current));
        assert!(
            old.filter(|old| old.strong_count() > 0).count() == 0,
            "snapshots left"
        );
    }
}
