//! What the threads of a [`DirStore`](super::DirStore) and its open bodies have in common.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::Sender;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cap_std::fs::Dir;
#[cfg(feature = "zstd")]
use jtp_core::ImageHasher;
use jtp_core::ImageId;
#[cfg(feature = "zstd")]
use jtp_core::compress::Threshold;

#[cfg(feature = "zstd")]
use super::form_body::FormBody;
use super::index::{Form, Index, Located, Name};
use super::keeper::Message;
#[cfg(feature = "zstd")]
use super::press;
use super::schedule::Notice;
use super::small::SmallImages;
use crate::fingerprint::Fingerprint;
#[cfg(feature = "zstd")]
use crate::forms::{FormCache, Lists, Whole};
use crate::known::{Contents, Known};
#[cfg(feature = "zstd")]
use crate::memory::MemoryBody;
#[cfg(feature = "zstd")]
use crate::ready::Ready;
use crate::{ImageBody, LiveCatalog, OpenError};

/// What the store's threads and open bodies have in common.
pub(super) struct Shared {
    pub(super) live: LiveCatalog,
    pub(super) folder: PathBuf,
    /// The open folder; none while it is gone.
    pub(super) dir: RwLock<Option<Arc<Dir>>>,
    /// Written by the keeper alone.
    pub(super) index: RwLock<Index>,
    pub(super) small: SmallImages,
    /// What the index file told, until the first index is complete.
    pub(super) known: RwLock<Known>,
    #[cfg(feature = "zstd")]
    pub(super) forms: Option<FormCache>,
    #[cfg(feature = "zstd")]
    pub(super) threshold: Threshold,
    /// Held by whoever makes a form that is needed now.
    #[cfg(feature = "zstd")]
    pub(super) making: std::sync::Mutex<()>,
    pub(super) keeper: Sender<Message>,
    pub(super) stop: AtomicBool,
}

#[cfg(feature = "zstd")]
impl Lists for Shared {
    fn lists(&self, id: ImageId) -> bool {
        self.index().lists_cached(id)
    }
}

impl Shared {
    pub(super) fn dir(&self) -> Option<Arc<Dir>> {
        self.dir
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(super) fn set_dir(&self, dir: Option<Arc<Dir>>) {
        *self.dir.write().unwrap_or_else(PoisonError::into_inner) = dir;
    }

    pub(super) fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Not to be called by a thread that has the index open.
    pub(super) fn index_mut(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn located(&self, id: ImageId) -> Option<Located> {
        self.index().located(id)
    }

    pub(super) fn known(&self, fingerprint: &Fingerprint) -> Option<Contents> {
        self.known
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(fingerprint)
    }

    /// Of how many files the contents are known, at most.
    pub(super) fn knows(&self) -> usize {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.logged()
    }

    pub(super) fn forget_known(&self) {
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Known::default();
    }

    pub(super) fn tell(&self, message: Message) {
        // Without a keeper there is no catalog to correct.
        let _ = self.keeper.send(message);
    }

    /// Has a file looked at that is not what it was indexed as. // S13
    pub(super) fn suspect(&self, name: &Name) {
        self.tell(Message::Heard(Arc::clone(name), Notice::Touched));
    }

    #[cfg(not(feature = "zstd"))]
    pub(super) fn open_form(
        &self,
        _: &Form,
        located: &Located,
    ) -> Result<Box<dyn ImageBody>, OpenError> {
        Err(OpenError::Changed(located.record.id))
    }

    /// Opens the compressed form of an image.
    #[cfg(feature = "zstd")]
    pub(super) fn open_form(
        self: &Arc<Self>,
        form: &Form,
        located: &Located,
    ) -> Result<Box<dyn ImageBody>, OpenError> {
        let id = located.record.id;
        match form {
            Form::Memory(bytes) => {
                let bytes = Arc::clone(bytes);
                Ok(Box::new(MemoryBody { id, bytes }))
            }
            Form::Cached { length, checksum } => {
                let mut whole = Whole {
                    length: *length,
                    checksum: *checksum,
                };
                let forms = self.forms.as_ref().ok_or(OpenError::Changed(id))?;
                let key = press::form_key(&located.record);
                let file = match forms.open_form(key, whole) {
                    Ok(file) => file,
                    Err(_) => {
                        whole = self
                            .make_again(forms, located, whole)
                            .ok_or(OpenError::Changed(id))?;
                        let changed = |_| OpenError::Changed(id);
                        forms.open_form(key, whole).map_err(changed)?
                    }
                };
                Ok(Box::new(FormBody {
                    id,
                    file,
                    length: whole.length,
                    checksum: whole.checksum,
                    source: located.record.fingerprint,
                    hasher: ImageHasher::new(),
                    hashed: 0,
                    shared: Arc::clone(self),
                    ready: Ready::default(),
                }))
            }
        }
    }

    /// Makes a form that is listed and was let go by another program, or that was damaged. One at a time: the
    /// response waits for it.
    #[cfg(feature = "zstd")]
    fn make_again(&self, forms: &FormCache, located: &Located, lost: Whole) -> Option<Whole> {
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let id = located.record.id;
        // There may be more of them.
        self.tell(Message::LostForm(id));
        let job = press::PressJob {
            dir: self.dir()?,
            name: Arc::clone(&located.name),
            record: located.record,
            cache: Some(forms.clone()).filter(|forms| !forms.is_off()),
            room: 0,
        };
        match press::press(&job, self.threshold, &mut Vec::new(), self) {
            Ok(press::Pressed::Form(form)) => {
                let same = form.whole().filter(|made| made.length == lost.length);
                let made = press::Pressed::Form(form);
                self.tell(Message::Pressed(Arc::clone(&located.name), id, made));
                same
            }
            _ => {
                self.tell(Message::DamagedForm(id));
                None
            }
        }
    }
}
