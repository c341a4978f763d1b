//! Opens the images that a snapshot lists.

use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "zstd")]
use std::sync::atomic::AtomicBool;
#[cfg(feature = "zstd")]
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
#[cfg(feature = "zstd")]
use jtp_core::compress::Threshold;
use jtp_core::{Flags, Image, ImageId};
use jtp_driver::store::{BlockingBody, BlockingStore, LiveCatalog, StoreError};

#[cfg(feature = "zstd")]
use super::body::VariantBody;
use super::body::{BodyContext, FileBody, MemoryBody, is_read_at_once, read_at_once};
use super::counters::StoreCounters;
#[cfg(feature = "zstd")]
use super::encode::{EncodeJob, Encoded, encode};
use super::failure::Failure;
#[cfg(feature = "zstd")]
use super::message::Message;
use super::mounts::not_mounted;
use super::record::{Located, Variant};
use super::shared::{SharedDir, SharedIndex};
use crate::hash::{self, Links};
#[cfg(feature = "zstd")]
use crate::variants::{VariantCache, VariantDigest};

/// The variant that was opened, and its bytes.
type Opened = (Image, Arc<dyn BlockingBody>);

/// Opens images. Any thread may use it.
pub(super) struct Opener {
    live: LiveCatalog,
    folder: PathBuf,
    dir: Arc<SharedDir>,
    index: Arc<SharedIndex>,
    context: Arc<BodyContext>,
    #[cfg(feature = "zstd")]
    variants: VariantOpener,
}

impl Opener {
    pub(super) fn new(
        live: LiveCatalog,
        folder: PathBuf,
        dir: Arc<SharedDir>,
        index: Arc<SharedIndex>,
        context: BodyContext,
        #[cfg(feature = "zstd")] variants: VariantOpener,
    ) -> Opener {
        Opener {
            live,
            folder,
            dir,
            index,
            context: Arc::new(context),
            #[cfg(feature = "zstd")]
            variants,
        }
    }

    /// The folder, as the caller gave it.
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn counters(&self) -> StoreCounters {
        self.context.counters().read()
    }

    #[cfg(feature = "zstd")]
    pub(super) fn variant_cache(&self) -> Option<&VariantCache> {
        self.variants.cache.as_ref()
    }

    fn located(&self, id: ImageId) -> Result<Located, StoreError> {
        let located = self.index.read().located(id);
        located.ok_or(StoreError::Gone(id))
    }

    /// Opens the requested variant; another one if that does not exist any more.
    fn open_variant_or_raw(&self, image: &Image, located: &Located) -> Result<Opened, Failure> {
        if image.flags.is_compressed() {
            // A variant was verified when it was made, whatever happened to the file since.
            if let Some(variant) = &located.variant {
                match self.open_variant(image, variant, located) {
                    Err(Failure::Changed | Failure::Gone) => {}
                    opened => return opened,
                }
            }
        }
        self.open_raw_file(image.flags, located)
    }

    fn open_raw_file(&self, flags: Flags, located: &Located) -> Result<Opened, Failure> {
        let record = &located.record;
        match self.open_body(located) {
            Ok(body) => {
                let flags = Flags::new(flags.file_type(), false);
                Ok((Image::new(record.id, flags, record.length), body))
            }
            Err(failure) => {
                if failure.contradicts_catalog() {
                    self.context.suspect(&located.name);
                }
                Err(failure)
            }
        }
    }

    /// Opens the file of an image, if it is still the indexed one. A small one is read at once: its metadata are then
    /// looked at only once. // S13
    fn open_body(&self, located: &Located) -> Result<Arc<dyn BlockingBody>, Failure> {
        let (record, name) = (&located.record, &located.name);
        let dir = self.dir.get().ok_or(Failure::Gone)?;
        let file =
            hash::open(&dir, name, Links::Follow).map_err(|error| match Failure::from(error) {
                Failure::Gone if self.index.mounts().hides(&dir, name) => {
                    Failure::Unavailable(not_mounted())
                }
                failure => failure,
            })?;
        if is_read_at_once(record) {
            let bytes = read_at_once(&file, record, name)?;
            // From memory, no change would be noticed any more that the metadata of the file do not show.
            if !record.fingerprint.is_by_name() {
                let source = &record.fingerprint;
                self.context.keep_small(record.id, false, source, &bytes);
            }
            return Ok(Arc::new(MemoryBody::new(record.id, bytes)));
        }
        if !located.record.fingerprint.is_of(&file, &located.name)? {
            return Err(Failure::Changed);
        }
        let (name, context) = (Arc::clone(name), Arc::clone(&self.context));
        let body = FileBody::new(record.id, file, record.fingerprint, name, context);
        Ok(Arc::new(body))
    }

    #[cfg(not(feature = "zstd"))]
    #[allow(clippy::unused_self)]
    fn open_variant(&self, _: &Image, _: &Variant, _: &Located) -> Result<Opened, Failure> {
        Err(Failure::Changed)
    }

    #[cfg(feature = "zstd")]
    fn open_variant(
        &self,
        image: &Image,
        variant: &Variant,
        located: &Located,
    ) -> Result<Opened, Failure> {
        let id = located.record.id;
        let flags = Flags::new(image.flags.file_type(), true);
        let (length, checksum) = match variant {
            Variant::Memory(bytes) => {
                let length = variant.length().unwrap_or(u32::MAX);
                let bytes = bytes.clone();
                let body = MemoryBody::new(id, bytes);
                return Ok((Image::new(id, flags, length), Arc::new(body)));
            }
            Variant::Cached { length, checksum } => (*length, *checksum),
        };
        let listed = VariantDigest { length, checksum };
        let cache = self.variants.cache.as_ref().ok_or(Failure::Changed)?;
        let key = located.record.variant_key();
        let (file, digest) = match cache.open_variant(key, listed).map_err(Failure::from) {
            Ok(file) => {
                self.context.counters().cached_variant(true);
                (file, listed)
            }
            Err(failure) if failure.contradicts_catalog() => {
                self.context.counters().cached_variant(false);
                let digest = self.encode_again(cache, located, listed)?;
                (cache.open_variant(key, digest)?, digest)
            }
            Err(failure) => return Err(failure),
        };
        let context = Arc::clone(&self.context);
        let source = (Arc::clone(&located.name), located.record.fingerprint);
        let body = VariantBody::new(id, file, digest, source, context);
        Ok((Image::new(id, flags, digest.length), Arc::new(body)))
    }

    /// Makes a listed variant again that is damaged, or that another program removed. One at a time: the response
    /// waits for it. An error if the new one has another length than the snapshot says.
    #[cfg(feature = "zstd")]
    fn encode_again(
        &self,
        cache: &VariantCache,
        located: &Located,
        listed: VariantDigest,
    ) -> Result<VariantDigest, Failure> {
        let one_at_a_time = self.variants.encoding.lock();
        let _one_at_a_time = one_at_a_time.unwrap_or_else(PoisonError::into_inner);
        let id = located.record.id;
        self.context.notify(Message::VariantMissing(id));
        let job = EncodeJob {
            dir: self.dir.get().ok_or(Failure::Gone)?,
            name: Arc::clone(&located.name),
            record: located.record,
            cache: Some(cache.clone()).filter(|cache| !cache.is_disabled()),
            memory: 0,
        };
        let (threshold, stop) = (self.variants.threshold, &self.variants.stop);
        let failure = match encode(&job, threshold, &mut Vec::new(), stop) {
            Ok(Encoded::Variant(variant)) => {
                let digest = variant.digest();
                let name = Arc::clone(&located.name);
                let encoded = Encoded::Variant(variant);
                self.context.notify(Message::Encoded(name, id, encoded));
                let digest = digest.filter(|digest| digest.length == listed.length);
                return digest.ok_or(Failure::Changed);
            }
            Ok(_) => Failure::Changed,
            Err(error) => Failure::from(error),
        };
        if failure.contradicts_catalog() {
            self.context.notify(Message::VariantDamaged(id));
        }
        Err(failure)
    }
}

impl BlockingStore for Opener {
    fn catalog(&self) -> &LiveCatalog {
        &self.live
    }

    fn open(&self, image: &Image) -> Result<Opened, StoreError> {
        let located = self.located(image.id)?;
        let source = &located.record.fingerprint;
        // The index was locked when `in_memory` looked.
        if let Some(bytes) = self.context.small_image(image, source) {
            return Ok((*image, Arc::new(MemoryBody::new(image.id, bytes))));
        }
        let in_memory = matches!(located.variant, Some(Variant::Memory(_)));
        if self.context.keeps_small(image) && !(in_memory && image.flags.is_compressed()) {
            self.context.counters().small_image(false);
        }
        let opened = self.open_variant_or_raw(image, &located);
        opened.map_err(|failure| failure.into_store_error(image.id, &located.name))
    }

    fn in_memory(&self, image: &Image) -> Option<Bytes> {
        let is_compressed = image.flags.is_compressed();
        if !is_compressed && !self.context.keeps_small(image) {
            return None;
        }
        let index = self.index.try_read()?;
        let (source, variant) = index.source(image.id)?;
        match variant {
            Some(variant @ Variant::Memory(bytes))
                if is_compressed && variant.length() == Some(image.length) =>
            {
                return Some(bytes.clone());
            }
            _ => {}
        }
        drop(index);
        self.context.small_image(image, &source)
    }

    fn report_mismatch(&self, image: &Image) {
        if let Ok(located) = self.located(image.id) {
            self.context.suspect(&located.name);
        }
    }

    fn open_raw(&self, id: ImageId) -> Result<Opened, StoreError> {
        let listed = self.live.snapshot().get(id).ok_or(StoreError::Gone(id))?;
        let located = self.located(id)?;
        let opened = self.open_raw_file(listed.flags, &located);
        opened.map_err(|failure| failure.into_store_error(id, &located.name))
    }
}

/// What it takes to open encoded variants.
#[cfg(feature = "zstd")]
pub(super) struct VariantOpener {
    cache: Option<VariantCache>,
    threshold: Threshold,
    /// Held while a variant is made for a response.
    encoding: Mutex<()>,
    stop: Arc<AtomicBool>,
}

#[cfg(feature = "zstd")]
impl VariantOpener {
    pub(super) fn new(
        cache: Option<VariantCache>,
        threshold: Threshold,
        stop: Arc<AtomicBool>,
    ) -> VariantOpener {
        VariantOpener {
            cache,
            threshold,
            encoding: Mutex::new(()),
            stop,
        }
    }
}
