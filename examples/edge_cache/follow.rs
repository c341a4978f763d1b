//! Keeps a catalog equal to that of the upstream.

use std::time::Duration;

use jtp_tokio::client::{CatalogEntry, Error};
use jtp_tokio::store::LiveCatalog;
use jtp_tokio::{Client, Watch};
use tokio::time::{Instant, sleep, timeout_at};

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Follows the upstream's catalog until the task is dropped.
pub(crate) async fn follow(
    catalog: LiveCatalog,
    mut client: Client,
    relist: Duration,
    max_length: u32,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        let followed = async {
            // Both requests in one write: nothing is missed in between. // N5
            let (entries, watch) = client.list_and_watch().await?;
            replace(&catalog, &entries, max_length);
            pause = FIRST_PAUSE;
            let until = Instant::now() + relist;
            follow_events(&catalog, watch, until, max_length).await
        };
        if let Err(error) = followed.await {
            eprintln!("upstream: {error}; next attempt in {pause:?}");
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Adds new images until it is time for a LIST: WATCH does not report removed and renamed images. // N1
async fn follow_events(
    catalog: &LiveCatalog,
    mut watch: Watch<'_>,
    until: Instant,
    max_length: u32,
) -> Result<(), Error> {
    while let Ok(entry) = timeout_at(until, watch.next()).await {
        insert(catalog, &[entry?], max_length);
    }
    let last = watch.cancel().await?;
    insert(catalog, &last, max_length);
    Ok(())
}

/// Makes the catalog equal to a LIST, in one snapshot.
pub(crate) fn replace(catalog: &LiveCatalog, entries: &[CatalogEntry<'_>], max_length: u32) {
    let fitting = entries.iter().filter(|entry| entry.length <= max_length);
    // An error is a name that is too long in NFC: no client could be sent its entry.
    let _ = catalog.replace(fitting.map(|entry| (&*entry.name, entry.image())));
}

fn insert(catalog: &LiveCatalog, entries: &[CatalogEntry<'_>], max_length: u32) {
    catalog.edit(|writer| {
        for entry in entries.iter().filter(|entry| entry.length <= max_length) {
            let _ = writer.insert(&entry.name, entry.image());
        }
    });
}
