//! The server's cache folder (`--cache-dir`): the ID index and compressed images.
//!
//! ```text
//! index/<16 hex digits>   one per served folder and `--only` filter; the name is a hash of both
//! forms/                  compressed images, shared by all servers of the user
//! images/                 images of object stores, likewise (`--store-cache-size`)
//! ```
//!
//! If the cache folder is unusable, the server runs without it and logs one warning. So it does if the folder belongs to
//! another user, or if others can write to it: they could make the server cut files elsewhere, or wait for a pipe.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use jtp_core::ImageHasher;
#[cfg(feature = "object-store")]
use jtp_object_store::ImageCache;
use jtp_store::{DirStoreBuilder, VariantCache, create_private_folder};

use crate::server_args::ServerArgs;

/// The cache folder, if there is a place for one.
#[must_use]
pub fn folder(args: &ServerArgs) -> Option<PathBuf> {
    args.cache_dir.clone().or_else(default_folder)
}

/// Creates the cache folder. [`configure`] reports what is wrong with it.
pub fn create(args: &ServerArgs) {
    if let Some(folder) = folder(args) {
        let _ = create_private_folder(&folder);
    }
}

/// Configures a store to use the cache folder.
pub fn configure(mut builder: DirStoreBuilder, args: &ServerArgs) -> DirStoreBuilder {
    let Some(folder) = folder(args) else {
        tracing::warn!(
            "cannot determine this user's cache folder: all images are read at every start; set a folder with --cache-dir"
        );
        return builder;
    };
    let index = folder.join("index");
    if let Err(error) = create_private_folder(&folder).and_then(|()| create_writable(&index)) {
        tracing::warn!(
            "cannot use the cache folder {}: {error}; all images are read at every start; choose another folder with --cache-dir",
            folder.display()
        );
        return builder;
    }
    builder = builder.index_file(index.join(index_name(&args.images, args.only.as_deref())));
    if args.compression_threshold <= 0.0 || args.cache_size == 0 {
        return builder;
    }
    match VariantCache::open(folder.join("forms"), args.cache_size) {
        Ok(cache) => builder.variant_cache(cache),
        Err(error) => {
            tracing::warn!(
                "cannot store compressed images in {}: {error}; they are kept in memory; choose another folder with --cache-dir",
                folder.display()
            );
            builder
        }
    }
}

/// The cache of images of an object store, if there is to be one.
#[cfg(feature = "object-store")]
pub fn of_object_store(args: &ServerArgs) -> Option<ImageCache> {
    if args.store_cache_size == 0 {
        return None;
    }
    let Some(folder) = folder(args) else {
        tracing::warn!(
            "cannot determine this user's cache folder: all images are read from the object store; set a folder with --cache-dir"
        );
        return None;
    };
    let opened = create_private_folder(&folder)
        .and_then(|()| ImageCache::open(folder.join("images"), args.store_cache_size));
    match opened {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::warn!(
                "cannot use the cache folder {}: {error}; all images are read from the object store; choose another folder with --cache-dir",
                folder.display()
            );
            None
        }
    }
}

/// Creates the folder if necessary and checks that it is private and writable.
fn create_writable(folder: &Path) -> io::Result<()> {
    create_private_folder(folder)?;
    tempfile::tempfile_in(folder).map(drop)
}

/// The index name depends on the folder and the filter, so that servers with different filters do not overwrite each
/// other's index.
fn index_name(images: &Path, only: Option<&str>) -> String {
    let images = std::fs::canonicalize(images).unwrap_or_else(|_| images.to_owned());
    let mut hasher = ImageHasher::new();
    hasher.update(images.as_os_str().as_encoded_bytes());
    hasher.update(b"\0");
    hasher.update(only.unwrap_or_default().to_lowercase().as_bytes());
    hasher.id().to_string()
}

/// The folder that a service manager made for the service (`CACHE_DIRECTORY`; of several, the first), else `jtp` in the
/// user's cache folder.
fn default_folder() -> Option<PathBuf> {
    let of_service = env::var_os("CACHE_DIRECTORY").and_then(|folders| first_path(&folders));
    of_service.or_else(users_folder)
}

/// The first of the absolute paths that `:` separates.
fn first_path(paths: &OsStr) -> Option<PathBuf> {
    env::split_paths(paths)
        .next()
        .filter(|path| path.is_absolute())
}

/// `jtp` in the user's cache folder.
fn users_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        let path = env::var_os(name).map(PathBuf::from);
        path.filter(|path| path.is_absolute())
    };
    let cache = if cfg!(windows) {
        absolute("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        absolute("HOME").map(|home| home.join("Library/Caches"))
    } else {
        absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")))
    };
    cache.map(|cache| cache.join("jtp"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_name_depends_on_folder_and_filter() {
        let dir = tempfile::tempdir().unwrap();
        let (one, other) = (dir.path().join("one"), dir.path().join("other"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&other).unwrap();
        let of_one = index_name(&one, None);
        assert_eq!(of_one, index_name(&other.join("../one"), Some("")));
        assert_ne!(of_one, index_name(&other, None));
        assert_ne!(of_one, index_name(&one, Some("x")));
        assert_eq!(index_name(&one, Some("X")), index_name(&one, Some("x")));
    }
}
