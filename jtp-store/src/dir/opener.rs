//! Opens the images that a snapshot lists.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
#[cfg(feature = "zstd")]
use std::sync::atomic::AtomicBool;
#[cfg(feature = "zstd")]
use std::sync::{Mutex, PoisonError};

use jtp_core::Image;
#[cfg(feature = "zstd")]
use jtp_core::compress::Threshold;

#[cfg(feature = "zstd")]
use super::body::VariantBody;
use super::body::{BodyContext, FileBody};
#[cfg(feature = "zstd")]
use super::encode::{EncodeJob, Encoded, encode};
use super::failure::Failure;
#[cfg(feature = "zstd")]
use super::message::Message;
use super::record::{Located, Variant};
use super::shared::{SharedDir, SharedIndex};
use crate::fingerprint::Fingerprint;
use crate::hash::{self, Links};
use crate::memory::MemoryBody;
#[cfg(feature = "zstd")]
use crate::variants::{VariantCache, VariantDigest};
use crate::{ImageBody, OpenError};

/// Opens images. Any thread may use it.
pub(super) struct Opener {
    folder: PathBuf,
    dir: Arc<SharedDir>,
    index: Arc<SharedIndex>,
    context: Arc<BodyContext>,
    #[cfg(feature = "zstd")]
    variants: VariantOpener,
}

impl Opener {
    pub(super) fn new(
        folder: PathBuf,
        dir: Arc<SharedDir>,
        index: Arc<SharedIndex>,
        context: BodyContext,
        #[cfg(feature = "zstd")] variants: VariantOpener,
    ) -> Opener {
        Opener {
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

    pub(super) fn open(&self, image: &Image) -> Result<Box<dyn ImageBody>, OpenError> {
        let id = image.id;
        let Some(located) = self.index.read().located(id) else {
            return Err(OpenError::Gone(id));
        };
        let opened = self.open_located(image, &located);
        opened.map_err(|failure| {
            let path = self.folder.join(&*located.name);
            failure.into_open_error(id, path)
        })
    }

    fn open_located(
        &self,
        image: &Image,
        located: &Located,
    ) -> Result<Box<dyn ImageBody>, Failure> {
        let (id, record) = (image.id, located.record);
        if let Some(bytes) = self.context.small_image(image, &record.fingerprint) {
            // Verified when they were read, whatever happened to the file since.
            return Ok(Box::new(MemoryBody { id, bytes }));
        }
        if image.flags.is_compressed() {
            // A variant was verified when it was made, whatever happened to the file since.
            return match &located.variant {
                Some(variant) if variant.length() == Some(image.length) => {
                    self.open_variant(variant, located)
                }
                _ => Err(Failure::Changed),
            };
        }
        if image.length != record.length {
            return Err(Failure::Changed);
        }
        match self.open_file(located) {
            Ok(file) => {
                let (name, context) = (Arc::clone(&located.name), Arc::clone(&self.context));
                let body = FileBody::new(id, file, record.fingerprint, name, context);
                Ok(Box::new(body))
            }
            Err(failure) => {
                if failure.contradicts_catalog() {
                    self.context.suspect(&located.name);
                }
                Err(failure)
            }
        }
    }

    /// Opens the file of an image, if it is still the indexed one. // S13
    fn open_file(&self, located: &Located) -> Result<File, Failure> {
        let dir = self.dir.get().ok_or(Failure::Gone)?;
        let file = hash::open(&dir, &located.name, Links::Follow)?;
        if Fingerprint::of_file(&file)? != located.record.fingerprint {
            return Err(Failure::Changed);
        }
        Ok(file)
    }

    #[cfg(not(feature = "zstd"))]
    #[allow(clippy::unused_self)]
    fn open_variant(&self, _: &Variant, _: &Located) -> Result<Box<dyn ImageBody>, Failure> {
        Err(Failure::Changed)
    }

    #[cfg(feature = "zstd")]
    fn open_variant(
        &self,
        variant: &Variant,
        located: &Located,
    ) -> Result<Box<dyn ImageBody>, Failure> {
        let id = located.record.id;
        let (length, checksum) = match variant {
            Variant::Memory(bytes) => {
                let bytes = Arc::clone(bytes);
                return Ok(Box::new(MemoryBody { id, bytes }));
            }
            Variant::Cached { length, checksum } => (*length, *checksum),
        };
        let listed = VariantDigest { length, checksum };
        let cache = self.variants.cache.as_ref().ok_or(Failure::Changed)?;
        let key = located.record.variant_key();
        let (file, digest) = match cache.open_variant(key, listed).map_err(Failure::from) {
            Ok(file) => (file, listed),
            Err(failure) if failure.contradicts_catalog() => {
                let digest = self.encode_again(cache, located, listed)?;
                (cache.open_variant(key, digest)?, digest)
            }
            Err(failure) => return Err(failure),
        };
        let context = Arc::clone(&self.context);
        let source = located.record.fingerprint;
        let body = VariantBody::new(id, file, digest, source, context);
        Ok(Box::new(body))
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
