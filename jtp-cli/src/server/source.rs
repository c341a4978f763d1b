//! Where the images are: in a folder, or in an object store.

use std::sync::Arc;

#[cfg(feature = "object-store")]
use jtp_object_store::ObjectImages;
use jtp_store::DirStore;
use jtp_tokio::store::{ImageStore, LiveCatalog};

/// The store of the server.
#[derive(Clone)]
pub(super) enum Source {
    Folder(Arc<DirStore>),
    #[cfg(feature = "object-store")]
    Bucket(Arc<ObjectImages>),
}

impl Source {
    pub(super) fn store(&self) -> Arc<dyn ImageStore> {
        match self {
            Source::Folder(store) => Arc::clone(store) as Arc<dyn ImageStore>,
            #[cfg(feature = "object-store")]
            Source::Bucket(images) => Arc::clone(images) as Arc<dyn ImageStore>,
        }
    }

    pub(super) fn catalog(&self) -> &LiveCatalog {
        match self {
            Source::Folder(store) => store.catalog(),
            #[cfg(feature = "object-store")]
            Source::Bucket(images) => ImageStore::catalog(&**images),
        }
    }

    /// The store of a folder.
    pub(super) fn folder(&self) -> Option<&DirStore> {
        match self {
            Source::Folder(store) => Some(store),
            #[cfg(feature = "object-store")]
            Source::Bucket(_) => None,
        }
    }
}
