//! The example `edge_cache` between a client and an upstream server.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use example::{Config, EdgeStore};
use jtp_kit::{bmp, noise};
use jtp_tokio::client::Error;
use jtp_tokio::jtp_core::ImageId;
use jtp_tokio::jtp_core::client::ClientError;
use jtp_tokio::jtp_core::compress::Threshold;
use jtp_tokio::server::ErrorCode;
use jtp_tokio::store::MemoryStore;
use jtp_tokio::{Client, ImageError, Server};
use tokio::net::TcpListener;

use crate::http::serve;

#[expect(dead_code, reason = "the example's main is not used here")]
#[path = "../../edge_cache/main.rs"]
mod example;

const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// An image that no other one equals. Those of odd `n` compress well.
fn image(n: usize, length: usize) -> Vec<u8> {
    let bytes = match n % 2 {
        0 => noise(length - 8, n as u64),
        _ => bmp(length - 8, 0),
    };
    [bytes, n.to_be_bytes().to_vec()].concat()
}

/// An upstream whose requests each take `delay` longer.
fn upstream(store: &Arc<MemoryStore>, delay: Duration) -> Server {
    Server::builder(Arc::clone(store))
        .on_request(move |request| async move {
            tokio::time::sleep(delay).await;
            request.accept()
        })
        .build()
}

async fn edge(upstream: &str, folder: &Path, max_bytes: u64, relist: Duration) -> String {
    let config = Config {
        upstream: upstream.to_owned(),
        folder: folder.to_owned(),
        max_bytes,
        relist,
    };
    let store = EdgeStore::connect(config).await.unwrap();
    serve(&Server::builder(store).build()).await
}

async fn fetch_all(address: &str) -> BTreeMap<ImageId, Vec<u8>> {
    let mut client = Client::builder(address).build();
    let mut images = client.list_and_get();
    let mut fetched = BTreeMap::new();
    while let Some(image) = images.next().await.unwrap() {
        let id = image.image().id;
        fetched.insert(id, image.bytes(1 << 26).await.unwrap());
    }
    fetched
}

async fn fetch(client: &mut Client, id: ImageId) -> Result<Vec<u8>, Error> {
    let mut images = client.get([id]);
    let image = images.next().await?.expect("the image is listed");
    image.bytes(1 << 26).await.map_err(|error| match error {
        ImageError::Fatal(error) => error,
        error => panic!("{error}"),
    })
}

async fn names(address: &str) -> Vec<String> {
    let entries = Client::builder(address).build().list().await.unwrap();
    entries.into_iter().map(|e| e.name.into_owned()).collect()
}

async fn until_listed(address: &str, expected: &[&str]) {
    for _ in 0..1000 {
        if names(address).await == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?} instead of {expected:?}", names(address).await);
}

/// The bytes of all files.
fn folder_size(folder: &Path) -> u64 {
    let files = std::fs::read_dir(folder).unwrap();
    files
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum()
}

fn requests_for_images(server: &Server) -> u64 {
    let requests = server.counters().requests;
    let kinds = requests
        .iter()
        .filter(|((kind, _), _)| *kind == "GET_BY_ID");
    kinds.map(|(_, count)| count).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_fetched_once_and_equal_those_of_the_upstream() {
    let store = Arc::new(MemoryStore::compressing(Threshold::default()));
    let mut expected = BTreeMap::new();
    for n in 0..400 {
        let length = if n % 100 == 0 {
            3_000_000
        } else {
            3000 + 17 * n
        };
        let bytes = image(n, length);
        expected.insert(
            store.insert(&format!("{n:03}.bmp"), bytes.clone()).unwrap(),
            bytes,
        );
    }
    let upstream = upstream(&store, Duration::from_millis(5));
    let upstream_address = serve(&upstream).await;
    let folder = tempfile::tempdir().unwrap();
    let address = edge(&upstream_address, folder.path(), 1 << 30, FIVE_MINUTES).await;

    // Several clients at once: all misses are shared.
    let (first, second, third) = tokio::join!(
        fetch_all(&address),
        fetch_all(&address),
        fetch_all(&address)
    );
    assert!(first == expected && second == expected && third == expected);
    assert_eq!(upstream.counters().images_sent, 400);

    let requests = requests_for_images(&upstream);
    assert!(requests < 200, "{requests} requests for 400 images");
    assert!(fetch_all(&address).await == expected);
    assert_eq!(requests_for_images(&upstream), requests);

    // The catalogs have the same images in the same variants.
    let mut clients = [&address, &upstream_address].map(|address| Client::builder(address).build());
    let [edge, upstream] = &mut clients;
    assert_eq!(edge.list().await.unwrap(), upstream.list().await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_folder_stays_within_its_bound() {
    const MAX_BYTES: u64 = 400_000;
    let store = Arc::new(MemoryStore::new());
    let mut expected = BTreeMap::new();
    for n in 0..100 {
        let bytes = image(n, 20_000);
        expected.insert(
            store.insert(&format!("{n:03}.png"), bytes.clone()).unwrap(),
            bytes,
        );
    }
    // Over an eighth of the bound.
    store.insert("large.png", image(1000, 60_000)).unwrap();
    let upstream = upstream(&store, Duration::ZERO);
    let upstream_address = serve(&upstream).await;
    let folder = tempfile::tempdir().unwrap();
    let address = edge(&upstream_address, folder.path(), MAX_BYTES, FIVE_MINUTES).await;

    let sizes = {
        let folder = folder.path().to_owned();
        tokio::spawn(async move {
            let mut largest = 0;
            loop {
                // Files may be renamed and removed while the folder is read.
                let files = std::fs::read_dir(&folder).unwrap();
                let lengths = files.filter_map(|file| file.ok()?.metadata().ok());
                largest = largest.max(lengths.map(|metadata| metadata.len()).sum::<u64>());
                assert!(largest <= MAX_BYTES, "{largest} bytes");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
    };
    assert!(
        fetch_all(&address).await == expected,
        "the large image is not listed"
    );
    assert!(fetch_all(&address).await == expected);
    assert!(!sizes.is_finished());
    sizes.abort();
    let size = folder_size(folder.path());
    assert!((MAX_BYTES / 2..=MAX_BYTES).contains(&size), "{size} bytes");

    // The image that was used last stays, one of the first does not.
    let mut client = Client::builder(&address).build();
    let names = client.list().await.unwrap();
    fetch(&mut client, names[99].id).await.unwrap();
    let before = upstream.counters().images_sent;
    fetch(&mut client, names[99].id).await.unwrap();
    assert_eq!(upstream.counters().images_sent, before);
    fetch(&mut client, names[0].id).await.unwrap();
    assert_eq!(upstream.counters().images_sent, before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_catalog_follows_the_upstream_and_outlives_it() {
    let store = Arc::new(MemoryStore::new());
    let a = store.insert("a.png", image(1, 5000)).unwrap();
    let server = upstream(&store, Duration::ZERO);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream_address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    let folder = tempfile::tempdir().unwrap();
    let address = edge(
        &upstream_address.to_string(),
        folder.path(),
        1 << 20,
        FIVE_MINUTES,
    )
    .await;

    // A new image appears at a client that watches the edge.
    let mut client = Client::builder(&address).build();
    let (listed, mut watch) = client.list_and_watch().await.unwrap();
    assert_eq!(listed.len(), 1);
    let b = store.insert("b.png", image(2, 5000)).unwrap();
    assert_eq!(watch.next().await.unwrap().id, b);
    watch.cancel().await.unwrap();
    assert_eq!(fetch(&mut client, a).await.unwrap(), image(1, 5000));

    // The upstream is killed. What is in the folder is still served.
    serving.abort();
    let _ = serving.await;
    assert_eq!(fetch(&mut client, a).await.unwrap(), image(1, 5000));
    let mut impatient = Client::builder(&address).retries(0).build();
    match fetch(&mut impatient, b).await {
        Err(Error::Protocol(ClientError::Server(error))) => {
            assert_eq!(error.code, ErrorCode::ServerError);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(names(&address).await, ["a.png", "b.png"]);

    // It comes back without one image, and with another one.
    store.remove(a);
    store.insert("c.png", image(3, 5000)).unwrap();
    let server = upstream(&store, Duration::ZERO);
    let listener = TcpListener::bind(upstream_address).await.unwrap();
    tokio::spawn(async move { server.serve(listener, std::future::pending()).await });
    until_listed(&address, &["b.png", "c.png"]).await;
    assert_eq!(fetch(&mut client, b).await.unwrap(), image(2, 5000));
}

#[tokio::test]
async fn a_removed_image_disappears_with_the_next_list() {
    let store = Arc::new(MemoryStore::new());
    let a = store.insert("a.png", image(1, 5000)).unwrap();
    store.insert("b.png", image(2, 5000)).unwrap();
    let upstream_address = serve(&upstream(&store, Duration::ZERO)).await;
    let folder = tempfile::tempdir().unwrap();
    let relist = Duration::from_millis(100);
    let address = edge(&upstream_address, folder.path(), 1 << 20, relist).await;
    assert_eq!(names(&address).await, ["a.png", "b.png"]);
    store.remove(a);
    until_listed(&address, &["b.png"]).await;
}

#[tokio::test]
async fn a_new_run_uses_the_folder_and_replaces_damaged_files() {
    let store = Arc::new(MemoryStore::new());
    let ids: Vec<_> = (0..10)
        .map(|n| store.insert(&format!("{n}.png"), image(n, 5000)).unwrap())
        .collect();
    let upstream = upstream(&store, Duration::ZERO);
    let upstream_address = serve(&upstream).await;
    let folder = tempfile::tempdir().unwrap();
    let address = edge(&upstream_address, folder.path(), 1 << 20, FIVE_MINUTES).await;
    let expected = fetch_all(&address).await;
    assert_eq!((expected.len(), upstream.counters().images_sent), (10, 10));

    std::fs::write(folder.path().join("0000000000000001-7.tmp"), "half of").unwrap();
    let damaged = std::fs::read_dir(folder.path()).unwrap().find_map(|file| {
        let path = file.unwrap().path();
        let name = path.file_name()?.to_str()?;
        name.starts_with(&ids[3].to_string()).then_some(path)
    });
    std::fs::write(damaged.unwrap(), image(77, 5000)).unwrap();

    let address = edge(&upstream_address, folder.path(), 1 << 20, FIVE_MINUTES).await;
    assert!(fetch_all(&address).await == expected);
    assert_eq!(upstream.counters().images_sent, 11);
    assert_eq!(folder_size(folder.path()), 50_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn misses_of_one_response_overlap() {
    // Another number shows the cost of larger catalogs.
    let count = std::env::var("EDGE_IMAGES").map_or(1000, |n| n.parse().unwrap());
    let store = Arc::new(MemoryStore::new());
    for n in 0..count {
        store
            .insert(&format!("{n:04}.png"), image(n, 5000))
            .unwrap();
    }
    let upstream = upstream(&store, Duration::from_millis(50));
    let upstream_address = serve(&upstream).await;
    let folder = tempfile::tempdir().unwrap();
    let address = edge(&upstream_address, folder.path(), 1 << 30, FIVE_MINUTES).await;

    let begun = Instant::now();
    assert_eq!(fetch_all(&address).await.len(), count);
    let (cold, requests) = (begun.elapsed(), requests_for_images(&upstream));
    let begun = Instant::now();
    assert_eq!(fetch_all(&address).await.len(), count);
    let warm = begun.elapsed();
    let begun = Instant::now();
    assert_eq!(fetch_all(&upstream_address).await.len(), count);
    let direct = begun.elapsed();
    println!(
        "{count} images: cold {cold:?}, {requests} requests; warm {warm:?}; direct {direct:?}"
    );
    // One by one they would take 50 s.
    let one_by_one = Duration::from_millis(50) * u32::try_from(count).unwrap();
    assert!(cold < one_by_one / 5, "{cold:?}");
}
