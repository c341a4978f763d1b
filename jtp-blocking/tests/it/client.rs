//! What the client offers beside the calls of the async one.

use std::sync::Arc;
use std::thread;

use jtp_blocking::runtime::block_on;
use jtp_blocking::{Error, Server, Threads};

use crate::{Result, RunningServer, store};

#[test]
fn entries_are_returned_one_at_a_time_and_followed_by_a_watch() -> Result {
    let store = store(3);
    let running = RunningServer::start(Server::builder(Arc::clone(&store)).build());
    let mut client = running.client().build();
    let mut entries = client.entries();
    let mut names = Vec::new();
    while let Some(entry) = entries.next()? {
        names.push(entry.name);
    }
    assert_eq!(names, ["0000.png", "0001.png", "0002.png"]);
    assert_eq!((entries.announced(), entries.received()), (Some(3), 3));
    let mut entries = client.entries_and_watch();
    while entries.next()?.is_some() {}
    let mut watch = entries.into_watch()?;
    store.insert("new.png", b"new".as_slice())?;
    assert_eq!(watch.next()?.name, "new.png");
    client.cancel_handle().cancel();
    let mut entries = client.entries();
    assert!(matches!(entries.next(), Err(Error::Cancelled)));
    drop(client);
    running.stop();
    Ok(())
}

#[test]
fn async_client_of_the_driver_runs_on_a_thread() -> Result {
    let running = RunningServer::start(Server::builder(store(20)).build());
    let client: jtp_driver::Client<Threads> = running.client().build_async();
    // It can move to another thread between requests.
    let fetched = thread::spawn(move || {
        let mut client = client;
        block_on(async {
            assert_eq!(client.list().await?.len(), 20);
            let mut fetched = 0;
            let mut images = client.list_and_get();
            while let Some(image) = images.next().await? {
                image.bytes(1 << 20).await.unwrap();
                fetched += 1;
            }
            client.close().await;
            Ok::<_, Error>(fetched)
        })
    });
    assert_eq!(fetched.join().unwrap()?, 20);
    running.stop();
    Ok(())
}
