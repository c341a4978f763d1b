//! Opens the store: the initial scan, and its progress.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use jtp_core::compress::Threshold;
use jtp_store::{DirStore, DirStoreError, Follow, IndexProgress};

use super::status::{PROGRESS_INTERVAL, Status, progress_line};
use crate::cache;
use crate::exit::{Failure, error_chain};
use crate::server_args::ServerArgs;

/// Opens the store and reads all images, on the store's threads.
pub(super) async fn open_store(
    args: &ServerArgs,
    status: Arc<Status>,
) -> Result<Arc<DirStore>, Failure> {
    let folder = args.images.clone();
    let mut builder = DirStore::builder(&folder)
        .compression(Threshold::new(args.compression_threshold).unwrap_or_default())
        .follow(args.rescan().map_or(Follow::Events, Follow::Interval))
        .recursive(args.recursive)
        .patterns(args.patterns.patterns()?)
        .rehash(args.checksum);
    builder = cache::configure(builder, args);
    if let Some(only) = &args.only {
        builder = builder.only(only);
    }
    let mut logged = Instant::now();
    builder = builder.progress(move |progress: IndexProgress| {
        status.set_progress(progress);
        if logged.elapsed() >= PROGRESS_INTERVAL {
            logged = Instant::now();
            tracing::info!("{}", progress_line(progress));
        }
    });
    let opened = tokio::task::spawn_blocking(move || builder.open()).await;
    match opened {
        Ok(Ok(store)) => Ok(Arc::new(store)),
        Ok(Err(DirStoreError::Folder { path, source })) => Err(folder_failure(&path, &source)),
        Ok(Err(error)) => Err(Failure::other(error_chain(&error))),
        Err(error) => Err(Failure::other(format!(
            "reading the images failed: {error}"
        ))),
    }
}

pub(super) fn folder_failure(path: &Path, error: &io::Error) -> Failure {
    Failure::other(format!(
        "cannot read the images folder {}: {error}; choose another with --images",
        path.display()
    ))
}
