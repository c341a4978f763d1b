//! What the folder holds, as far as it is known: no I/O, no clock.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::ffi::OsStr;
use std::sync::Arc;

use jtp_core::compress::is_eligible;
use jtp_core::{FileType, Flags, Image, ImageId};

use crate::fingerprint::Fingerprint;
use crate::known::{Contents, Known};

/// A file name in the folder.
pub(super) type Name = Arc<OsStr>;

/// A file whose contents are known.
#[derive(Debug, Clone)]
pub(super) struct FileRecord {
    pub(super) id: ImageId,
    pub(super) fingerprint: Fingerprint,
    /// Its length: a file that no packet can carry has no record. // S14
    pub(super) length: u32,
    /// The type that its first bytes tell.
    pub(super) sniffed: Option<FileType>,
    pub(super) file_type: FileType,
    /// Its name in the catalog. // W6
    pub(super) listed: Box<str>,
}

/// What [`DirStore::open`](super::DirStore) has to know of an image.
#[derive(Debug, Clone)]
pub(super) struct Located {
    pub(super) name: Name,
    pub(super) fingerprint: Fingerprint,
    pub(super) raw_length: u32,
    pub(super) form: Option<Arc<[u8]>>,
}

/// The compressed form of an image. // S9
#[derive(Debug, Clone)]
#[cfg_attr(not(feature = "zstd"), allow(dead_code))]
enum Form {
    /// Not tried with the files that are known now.
    Untried,
    Queued,
    /// Not eligible, or not worth it.
    Raw,
    Ready(Arc<[u8]>),
}

/// An ID and the files of those bytes: one image. // S4
#[derive(Debug)]
struct Held {
    /// By listed name, then file name: the first one stands for all.
    holders: BTreeSet<(Box<str>, Name)>,
    form: Form,
}

/// The files and images of a folder, and which images changed since that was last asked.
#[derive(Debug, Default)]
pub(super) struct Index {
    files: HashMap<Name, FileRecord>,
    held: HashMap<ImageId, Held>,
    dirty: Vec<ImageId>,
    /// Images to be compressed, in order.
    queue: VecDeque<ImageId>,
    /// Bytes of all forms.
    form_bytes: u64,
    compress: bool,
}

impl Index {
    pub(super) fn new(compress: bool) -> Index {
        Index {
            compress,
            ..Index::default()
        }
    }

    pub(super) fn file(&self, name: &OsStr) -> Option<&FileRecord> {
        self.files.get(name)
    }

    /// All that is known of contents, to be kept for the next run.
    pub(super) fn known(&self) -> Known {
        let mut known = Known::default();
        for record in self.files.values() {
            let contents = Contents {
                id: record.id,
                sniffed: record.sniffed,
            };
            known.insert(record.fingerprint, contents);
        }
        known
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.files.keys()
    }

    pub(super) fn holds(&self, id: ImageId) -> bool {
        self.held.contains_key(&id)
    }

    /// The first file with that ID's bytes that passes `usable`.
    pub(super) fn holder(
        &self,
        id: ImageId,
        usable: impl Fn(&Name) -> bool,
    ) -> Option<(&Name, &FileRecord)> {
        let holders = &self.held.get(&id)?.holders;
        let (_, name) = holders.iter().find(|(_, name)| usable(name))?;
        Some((name, self.files.get(name)?))
    }

    /// The other names of a file, as far as they are known.
    pub(super) fn links(&self, name: &Name) -> Vec<Name> {
        let Some(record) = self.files.get(name) else {
            return Vec::new();
        };
        let is_link = |other: &&Name| {
            let other_record = self.files.get(*other);
            *other != name
                && other_record.is_some_and(|o| o.fingerprint.is_same_file(&record.fingerprint))
        };
        let holders = self
            .held
            .get(&record.id)
            .into_iter()
            .flat_map(|held| &held.holders);
        holders
            .map(|(_, other)| other)
            .filter(is_link)
            .cloned()
            .collect()
    }

    /// Notes what a file holds, in place of what it held.
    pub(super) fn attach(&mut self, name: &Name, record: FileRecord) {
        if self
            .files
            .get(name)
            .is_some_and(|old| old.id != record.id || old.listed != record.listed)
        {
            self.detach(name);
        }
        let id = record.id;
        let eligible = self.compress && is_eligible(record.file_type, u64::from(record.length));
        let held = self.held.entry(id).or_insert_with(|| Held {
            holders: BTreeSet::new(),
            form: Form::Untried,
        });
        held.holders
            .insert((record.listed.clone(), Arc::clone(name)));
        if eligible && matches!(held.form, Form::Untried) {
            held.form = Form::Queued;
            self.queue.push_back(id);
        }
        self.files.insert(Arc::clone(name), record);
        self.dirty.push(id);
    }

    /// Forgets a file. The ID if it was the last one with those bytes.
    pub(super) fn detach(&mut self, name: &Name) -> Option<ImageId> {
        let record = self.files.remove(name)?;
        self.dirty.push(record.id);
        let held = self.held.get_mut(&record.id)?;
        held.holders.remove(&(record.listed, Arc::clone(name)));
        if !held.holders.is_empty() {
            return None;
        }
        if let Some(Held {
            form: Form::Ready(form),
            ..
        }) = self.held.remove(&record.id)
        {
            self.form_bytes = self.form_bytes.saturating_sub(byte_len(&form));
        }
        Some(record.id)
    }

    /// The image as the catalog should list it, and where it is. // S6
    pub(super) fn listing(&self, id: ImageId) -> Option<(&str, Image, Located)> {
        let held = self.held.get(&id)?;
        let (listed, name) = held.holders.first()?;
        let record = self.files.get(name)?;
        let form = match &held.form {
            // Another name's extension may have made the type one that travels raw.
            Form::Ready(form) if is_eligible(record.file_type, u64::from(record.length)) => {
                Some(Arc::clone(form))
            }
            _ => None,
        };
        let form_length = form
            .as_ref()
            .and_then(|form| u32::try_from(form.len()).ok());
        let image = Image {
            id,
            flags: Flags::new(record.file_type, form_length.is_some()),
            length: form_length.unwrap_or(record.length),
        };
        let located = Located {
            name: Arc::clone(name),
            fingerprint: record.fingerprint,
            raw_length: record.length,
            form,
        };
        Some((listed, image, located))
    }

    pub(super) fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// The IDs that came, went or changed since the last call, each once, in the order they did so first.
    pub(super) fn take_dirty(&mut self) -> Vec<ImageId> {
        let mut seen = HashSet::new();
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|id| seen.insert(*id));
        dirty
    }
}

#[cfg(feature = "zstd")]
impl Index {
    pub(super) fn form_bytes(&self) -> u64 {
        self.form_bytes
    }

    /// The next image to be compressed, and its first file.
    pub(super) fn next_to_press(&mut self) -> Option<(Name, FileRecord)> {
        while let Some(id) = self.queue.pop_front() {
            let queued = |held: &Held| matches!(held.form, Form::Queued);
            if self.held.get(&id).is_some_and(queued) {
                if let Some((name, record)) = self.holder(id, |_| true) {
                    return Some((Arc::clone(name), record.clone()));
                }
            }
        }
        None
    }

    /// Notes how compressing an image went: a form, or none that is worth it.
    pub(super) fn pressed(&mut self, id: ImageId, form: Option<Arc<[u8]>>) {
        let Some(held) = self.held.get_mut(&id) else {
            return;
        };
        if let Form::Ready(old) = &held.form {
            self.form_bytes = self.form_bytes.saturating_sub(byte_len(old));
        }
        held.form = match form {
            Some(form) => {
                self.form_bytes += byte_len(&form);
                self.dirty.push(id);
                Form::Ready(form)
            }
            None => Form::Raw,
        };
    }

    /// Compressing failed because the file changed: to be tried with what is found next.
    pub(super) fn not_pressed(&mut self, id: ImageId) {
        if let Some(held) = self.held.get_mut(&id) {
            held.form = Form::Untried;
        }
    }
}

fn byte_len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
