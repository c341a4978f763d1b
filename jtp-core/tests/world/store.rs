//! The simulated store: image files, the published catalog, and a model of that catalog.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Weak};

use jtp_core::{Catalog, CatalogWriter, FileType, Flags, Image, ImageId};
use jtp_kit::{Rng, noise};

/// The expected content of one published catalog.
#[derive(Debug)]
pub(crate) struct Snapshot {
    /// In catalog order.
    pub(crate) ids: Vec<ImageId>,
    /// Number of events up to this snapshot. // N1
    pub(crate) events: usize,
}

pub(crate) struct SimStore {
    writer: CatalogWriter,
    /// Every image ever created.
    pub(crate) images: BTreeMap<ImageId, Vec<u8>>,
    /// The files by name; the catalog may not list them yet.
    disk: BTreeMap<String, ImageId>,
    listed: BTreeMap<ImageId, String>,
    pub(crate) history: Vec<ImageId>,
    pub(crate) current: Rc<Snapshot>,
    catalogs: Vec<Weak<Catalog>>,
    created: u32,
}

impl SimStore {
    pub(crate) fn new(rng: &mut Rng) -> SimStore {
        let mut store = SimStore {
            writer: CatalogWriter::new(),
            images: BTreeMap::new(),
            disk: BTreeMap::new(),
            listed: BTreeMap::new(),
            history: Vec::new(),
            current: Rc::new(Snapshot {
                ids: Vec::new(),
                events: 0,
            }),
            catalogs: Vec::new(),
            created: 0,
        };
        for _ in 0..rng.below(30) {
            store.change(rng);
        }
        store.publish();
        store
    }

    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        self.writer.snapshot()
    }

    pub(crate) fn is_on_disk(&self, id: ImageId) -> bool {
        self.disk.values().any(|on_disk| *on_disk == id)
    }

    /// Adds, replaces or removes a file.
    pub(crate) fn change(&mut self, rng: &mut Rng) {
        let name = format!("{}.png", rng.below(40));
        if rng.one_in(4) {
            self.disk.remove(&name);
            return;
        }
        self.created += 1;
        let length = *rng.pick(&[0, 1, 200, 4_000, 20_000]);
        let bytes = noise(length, self.created.into());
        let id = ImageId::of(&bytes);
        self.images.insert(id, bytes);
        if !self.is_on_disk(id) {
            self.disk.insert(name, id);
        }
    }

    /// Removes a file without updating the catalog; returns whether there was one.
    pub(crate) fn remove_file(&mut self, rng: &mut Rng) -> bool {
        let names: Vec<&String> = self.disk.keys().collect();
        if names.is_empty() {
            return false;
        }
        let name = names[rng.below(u32::try_from(names.len()).unwrap()) as usize].clone();
        self.disk.remove(&name).is_some()
    }

    /// Publishes a catalog of the files on disk.
    pub(crate) fn publish(&mut self) {
        let disk: BTreeMap<ImageId, String> = self
            .disk
            .iter()
            .map(|(name, id)| (*id, name.clone()))
            .collect();
        let removed: BTreeSet<ImageId> = self
            .listed
            .keys()
            .filter(|id| !disk.contains_key(id))
            .copied()
            .collect();
        for id in &removed {
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
        self.current = Rc::new(Snapshot {
            ids: ids.into_iter().map(|(_, id)| id).collect(),
            events: self.history.len(),
        });
        let catalog = self.writer.publish();
        self.catalogs.push(Arc::downgrade(&catalog));
    }

    /// Checks, once all connections are closed, that no old snapshot is still referenced.
    pub(crate) fn check_memory(&self) {
        let current = Arc::downgrade(self.writer.snapshot());
        let old = self.catalogs.iter().filter(|old| !old.ptr_eq(&current));
        assert!(
            old.filter(|old| old.strong_count() > 0).count() == 0,
            "old snapshots still referenced"
        );
    }
}
