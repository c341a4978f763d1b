//! Images in an object store: `--images URL`.

use std::sync::Arc;
use std::time::Duration;

use jtp_object_store::{
    Bucket, Error, ErrorKind, Indexer, IndexerConfig, Location, ObjectImages, RuntimeClock,
    StoreConfig, Threshold,
};
use jtp_tokio::{ShutdownSignal, Tokio};
use tokio::task::JoinHandle;

use crate::cache;
use crate::escape::escaped;
use crate::exit::{Failure, error_chain};
use crate::server_args::ServerArgs;

/// The most characters of an error of a backend that are shown.
const MAX_CAUSE: usize = 400;

/// How long a program that ends waits until it has given up the lease.
const RELEASE_TIME: Duration = Duration::from_secs(5);

/// The location that `--images` names, if it is a URL.
pub(super) fn location(args: &ServerArgs) -> Result<Option<Location>, Failure> {
    let Some(url) = args.images.to_str().filter(|text| Location::is_url(text)) else {
        return Ok(None);
    };
    let location = url.parse().map_err(|error| {
        Failure::other(format!("invalid URL of images {}: {error}", escaped(url)))
    })?;
    let patterns = args.patterns.patterns()?;
    for (flag, is_set) in [
        ("--only", args.only.is_some()),
        ("--include and --exclude", !patterns.is_empty()),
        ("--checksum", args.checksum),
    ] {
        if is_set {
            return Err(Failure::other(format!(
                "{flag} cannot be used with images in an object store; name a prefix in the URL instead"
            )));
        }
    }
    Ok(Some(location))
}

fn connect(location: &Location) -> Result<Bucket, Failure> {
    let clock = Arc::new(RuntimeClock(Tokio::default()));
    let bucket = location
        .connect(clock)
        .map_err(|error| failure(location, &error))?;
    Ok(bucket.with_spawner(|task| drop(tokio::spawn(task))))
}

fn config(args: &ServerArgs) -> IndexerConfig {
    let config = IndexerConfig::default();
    match args.rescan() {
        Some(interval) => config.with_rescan(interval),
        None => config,
    }
}

/// Loads the catalog, follows it, and indexes the bucket whenever no other server does. The task ends after the shutdown,
/// when another server can index at once.
pub(super) async fn open(
    args: &ServerArgs,
    location: &Location,
    shutdown: &ShutdownSignal,
) -> Result<(Arc<ObjectImages>, JoinHandle<()>), Failure> {
    let mut bucket = connect(location)?;
    if let Some(cache) = cache::of_object_store(args) {
        bucket = bucket.with_cache(cache);
    }
    let threshold = Threshold::new(args.compression_threshold).unwrap_or_default();
    let config_of_store = StoreConfig::default().with_compression(threshold);
    let opened = ObjectImages::open(bucket, config_of_store).await;
    let images = opened.map_err(|error| failure(location, &error))?;
    tokio::spawn(Arc::clone(&images).follow());
    let indexer = images.indexer(config(args));
    let shutdown = shutdown.clone();
    let indexing = tokio::spawn(async move {
        tokio::select! {
            () = indexer.run() => {}
            () = shutdown.wait() => release(&indexer).await,
        }
    });
    Ok((images, indexing))
}

/// Lets another server index at once.
async fn release(indexer: &Indexer) {
    match tokio::time::timeout(RELEASE_TIME, indexer.release()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(
                "cannot give up the lease: {}; another server indexes when it has expired",
                error_chain(&error)
            );
        }
        Err(_) => tracing::warn!(
            "cannot give up the lease within {} s; another server indexes when it has expired",
            RELEASE_TIME.as_secs()
        ),
    }
}

/// Brings the catalog up to date: `--index-only`.
pub(super) async fn index(
    args: &ServerArgs,
    location: &Location,
    shutdown: &ShutdownSignal,
) -> Result<(), Failure> {
    let stopped = || Failure::other("stopped before the catalog was up to date");
    let opened = tokio::select! {
        opened = ObjectImages::open(connect(location)?, StoreConfig::default()) => opened,
        () = shutdown.wait() => return Err(stopped()),
    };
    let images = opened.map_err(|error| failure(location, &error))?;
    let indexer = images.indexer(config(args));
    let report = tokio::select! {
        report = indexer.run_once() => report.map_err(|error| failure(location, &error))?,
        () = shutdown.wait() => {
            release(&indexer).await;
            return Err(stopped());
        }
    };
    tracing::info!(
        "the catalog of {location} is up to date: {} objects, {} read, {} changes",
        report.listed,
        report.read,
        report.changes
    );
    match report.failed {
        0 => Ok(()),
        failed => Err(Failure::other(format!(
            "{failed} objects of {location} could not be read; they are not in the catalog"
        ))),
    }
}

/// An error without the XML of a response, of which only the code is kept.
fn cause(chain: &str) -> String {
    let (text, xml) = chain.split_once('<').unwrap_or((chain, ""));
    let code = xml
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    let text = text.trim_end_matches([' ', ':']).to_owned();
    let cause = code.map_or(text.clone(), |(code, _)| format!("{text}: {code}"));
    cause.chars().take(MAX_CAUSE).collect()
}

/// One line that names the store, the cause, and what to do.
fn failure(location: &Location, error: &Error) -> Failure {
    let cause = cause(&error_chain(error));
    let remedy = match error.kind() {
        ErrorKind::NoBucket => "create it, or correct the URL of --images",
        ErrorKind::Credentials => {
            "check the credentials in the environment, such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what they permit"
        }
        ErrorKind::Unreachable => {
            "check the network, and the endpoint in the environment, such as AWS_ENDPOINT_URL and AWS_REGION"
        }
        _ => "see docs/object-store.md",
    };
    Failure::other(format!(
        "cannot use the images in {}: {}: {remedy}",
        escaped(&location.to_string()),
        escaped(&cause)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_keeps_the_code_of_a_response_and_no_xml() {
        let chain =
            "cannot list a: 404 Not Found: <?xml ?>\n<Error><Code>NoSuchBucket</Code><Message>";
        assert_eq!(cause(chain), "cannot list a: 404 Not Found: NoSuchBucket");
        assert_eq!(cause("no answer"), "no answer");
    }
}
