//! The server's cache folder: the index of IDs, and compressed forms. // cli.md: `--cache-dir`
//!
//! ```text
//! index/<16 hex digits>   one for each served folder, named by its path and by what of it is served
//! forms/                  compressed forms, for all servers of the user
//! ```
//!
//! Whatever is wrong with it, the server works without, and says so once.

use std::env;
use std::io;
use std::path::{Path, PathBuf};

use jtp_core::ImageHasher;
use jtp_store::{DirStoreBuilder, FormCache};

use crate::server_args::ServerArgs;

/// Sets a store up with what the cache folder can give.
pub fn set_up(mut builder: DirStoreBuilder, args: &ServerArgs) -> DirStoreBuilder {
    let Some(folder) = args.cache_dir.clone().or_else(default_folder) else {
        tracing::warn!(
            "no cache folder is known for this user: all images are read at each start; name one with --cache-dir"
        );
        return builder;
    };
    let index = folder.join("index");
    if let Err(error) = prepare(&index) {
        tracing::warn!(
            "the cache folder {} cannot be used: {error}; all images are read at each start (choose another with --cache-dir)",
            folder.display()
        );
        return builder;
    }
    builder = builder.index_file(index.join(index_name(&args.images, args.only.as_deref())));
    if args.compression_threshold <= 0.0 || args.cache_size == 0 {
        return builder;
    }
    match FormCache::open(folder.join("forms"), args.cache_size) {
        Ok(forms) => builder.forms(forms),
        Err(error) => {
            tracing::warn!(
                "compressed images cannot be kept in {}: {error}; they are kept in memory (choose another with --cache-dir)",
                folder.display()
            );
            builder
        }
    }
}

/// Makes a folder that can be written to.
fn prepare(folder: &Path) -> io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)?;
    tempfile::tempfile_in(folder).map(drop)
}

/// The index of a folder is named by what is served of it, so that several servers do not take turns.
fn index_name(images: &Path, only: Option<&str>) -> String {
    let images = std::fs::canonicalize(images).unwrap_or_else(|_| images.to_owned());
    let mut hasher = ImageHasher::new();
    hasher.update(images.as_os_str().as_encoded_bytes());
    hasher.update(b"\0");
    hasher.update(only.unwrap_or_default().to_lowercase().as_bytes());
    hasher.id().to_string()
}

/// The user's cache folder + `jtp`.
fn default_folder() -> Option<PathBuf> {
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
    fn each_folder_and_each_part_of_it_has_an_index_of_its_own() {
        let place = tempfile::tempdir().unwrap();
        let (one, other) = (place.path().join("one"), place.path().join("other"));
        std::fs::create_dir(&one).unwrap();
        std::fs::create_dir(&other).unwrap();
        let of_one = index_name(&one, None);
        assert_eq!(of_one, index_name(&other.join("../one"), Some("")));
        assert_ne!(of_one, index_name(&other, None));
        assert_ne!(of_one, index_name(&one, Some("x")));
        assert_eq!(index_name(&one, Some("X")), index_name(&one, Some("x")));
    }
}
