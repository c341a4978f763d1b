//! Opens the images that a snapshot lists.

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
        if let Some(bytes) = self.context.small_image(image, &located.record.fingerprint) {
            // Verified when they were read, whatever happened to the file since.
            return Ok(Box::new(MemoryBody { id, bytes }));
        }
        if image.flags.is_compressed() {
            // A variant was verified when it was made, whatever happened to the file since.
            return match &located.variant {
                Some(variant) if variant.length() == Some(image.length) => {
                    self.open_variant(variant, &located)
                }
                _ => Err(OpenError::Changed(id)),
            };
        }
        self.open_file(image, located)
    }

    fn open_file(&self, image: &Image, located: Located) -> Result<Box<dyn ImageBody>, OpenError> {
        let (id, record) = (image.id, located.record);
        if image.length != record.length {
            return Err(OpenError::Changed(id));
        }
        let failed = |source| {
            self.context.suspect(&located.name);
            let path = self.folder.join(&*located.name);
            OpenError::Io { id, path, source }
        };
        let dir = self.dir.get().ok_or(OpenError::Gone(id))?;
        let file = hash::open(&dir, &located.name, Links::Follow).map_err(failed)?;
        if Fingerprint::of_file(&file).map_err(failed)? != record.fingerprint {
            self.context.suspect(&located.name);
            return Err(OpenError::Changed(id));
        }
        let context = Arc::clone(&self.context);
        let body = FileBody::new(id, file, record.fingerprint, located.name, context);
        Ok(Box::new(body))
    }

    #[cfg(not(feature = "zstd"))]
    #[allow(clippy::unused_self)]
    fn open_variant(
        &self,
        _: &Variant,
        located: &Located,
    ) -> Result<Box<dyn ImageBody>, OpenError> {
        Err(OpenError::Changed(located.record.id))
    }

    #[cfg(feature = "zstd")]
    fn open_variant(
        &self,
        variant: &Variant,
        located: &Located,
    ) -> Result<Box<dyn ImageBody>, OpenError> {
        let id = located.record.id;
        let (length, checksum) = match variant {
            Variant::Memory(bytes) => {
                let bytes = Arc::clone(bytes);
                return Ok(Box::new(MemoryBody { id, bytes }));
            }
            Variant::Cached { length, checksum } => (*length, *checksum),
        };
        let listed = VariantDigest { length, checksum };
        let cache = self.variants.cache.as_ref().ok_or(OpenError::Changed(id))?;
        let key = located.record.variant_key();
        let (file, digest) = match cache.open_variant(key, listed) {
            Ok(file) => (file, listed),
            Err(_) => {
                let digest = self
                    .encode_again(cache, located, listed)
                    .ok_or(OpenError::Changed(id))?;
                let file = cache.open_variant(key, digest);
                (file.map_err(|_| OpenError::Changed(id))?, digest)
            }
        };
        let context = Arc::clone(&self.context);
        let source = located.record.fingerprint;
        Ok(Box::new(VariantBody::new(
            id, file, digest, source, context,
        )))
    }

    /// Makes a listed variant again that is damaged, or that another program removed. One at a time: the response
    /// waits for it. `None` if the new one has another length than the snapshot says.
    #[cfg(feature = "zstd")]
    fn encode_again(
        &self,
        cache: &VariantCache,
        located: &Located,
        listed: VariantDigest,
    ) -> Option<VariantDigest> {
        let _one_at_a_time = self
            .variants
            .encoding
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let id = located.record.id;
        self.context.notify(Message::VariantMissing(id));
        let job = EncodeJob {
            dir: self.dir.get()?,
            name: Arc::clone(&located.name),
            record: located.record,
            cache: Some(cache.clone()).filter(|cache| !cache.is_disabled()),
            memory: 0,
        };
        let (threshold, stop) = (self.variants.threshold, &self.variants.stop);
        match encode(&job, threshold, &mut Vec::new(), stop) {
            Ok(Encoded::Variant(variant)) => {
                let digest = variant.digest();
                let name = Arc::clone(&located.name);
                let encoded = Encoded::Variant(variant);
                self.context.notify(Message::Encoded(name, id, encoded));
                digest.filter(|digest| digest.length == listed.length)
            }
            _ => {
                self.context.notify(Message::VariantDamaged(id));
                None
            }
        }
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
