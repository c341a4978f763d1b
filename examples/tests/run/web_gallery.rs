//! The example `web_gallery`: by plain HTTP requests, and in a headless Chromium where one is installed.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Path;
use axum::response::Html;
use axum::routing::get;
use jtp_tokio::jtp_core::compress::Threshold;
use jtp_tokio::store::MemoryStore;
use jtp_tokio::{Client, Server, ShutdownSignal};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::http::{http, serve, serve_http};
use example::Gallery;

#[expect(dead_code, reason = "the example's main is not used here")]
#[path = "../../web_gallery/main.rs"]
mod example;

const PATIENCE: Duration = Duration::from_secs(60);

/// A bitmap of `side` × `side` pixels of one colour.
fn bitmap(side: u8, colour: u8) -> Vec<u8> {
    let row = usize::from(side) * 4;
    let size = 54 + row * usize::from(side);
    let mut bytes = b"BM".to_vec();
    bytes.extend(u32::try_from(size).unwrap().to_le_bytes());
    for field in [0, 54, 40, u32::from(side), u32::from(side)] {
        bytes.extend(field.to_le_bytes());
    }
    bytes.extend([1, 0, 32, 0]);
    bytes.resize(54, 0);
    bytes.resize(size, colour);
    bytes
}

/// The gallery's HTTP address.
async fn gallery(store: &Arc<MemoryStore>) -> (String, ShutdownSignal) {
    let shutdown = ShutdownSignal::new();
    let gallery = Gallery {
        store: store.clone(),
        shutdown: shutdown.clone(),
    };
    (serve_http(gallery.router()).await, shutdown)
}

#[tokio::test]
async fn the_page_and_the_jtp_server_have_the_same_images() {
    // Bitmaps are compressed for JTP clients; a browser gets them raw.
    let store = Arc::new(MemoryStore::compressing(Threshold::default()));
    store
        .insert("large.bmp", bitmap(255, 1).repeat(12))
        .unwrap();
    store.insert("a & \"b\" <i>.bmp", bitmap(40, 2)).unwrap();
    store
        .insert("c.png", b"\x89PNG\r\n\x1a\n and so on".as_slice())
        .unwrap();
    store
        .insert(
            "d.svg",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>".as_slice(),
        )
        .unwrap();
    store.insert("e.unknown", b"anything".as_slice()).unwrap();
    let (address, _) = gallery(&store).await;
    let jtp = serve(&Server::builder(store.clone()).build()).await;

    let page = http(&address, "GET", "/", &[]).await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let page = String::from_utf8(page.body).unwrap();
    assert!(
        page.contains("alt=\"a &amp; &quot;b&quot; &lt;i&gt;.bmp\""),
        "{page}"
    );
    assert!(!page.contains("<i>") && !page.contains("{{"), "{page}");

    let mut client = Client::builder(jtp).build();
    let entries = client.list().await.unwrap();
    assert!(entries.iter().any(|entry| entry.flags.is_compressed()));
    assert_eq!(page.matches("<figure id=").count(), entries.len());
    let mut images = client.list_and_get();
    while let Some(image) = images.next().await.unwrap() {
        let id = image.image().id;
        let bytes = image.bytes(1 << 26).await.unwrap();
        let path = format!("/images/{id}");
        assert!(page.contains(&format!("src=\"{path}\"")), "{page}");
        let response = http(&address, "GET", &path, &[]).await;
        assert_eq!(response.status, 200);
        assert_eq!(
            response.header("content-length"),
            Some(bytes.len().to_string().as_str())
        );
        assert_eq!(response.header("etag"), Some(format!("\"{id}\"").as_str()));
        let name = &entries.iter().find(|entry| entry.id == id).unwrap().name;
        let expected = match name.rsplit_once('.').unwrap().1 {
            "bmp" => "image/bmp",
            "png" => "image/png",
            "svg" => "image/svg+xml",
            _ => "application/octet-stream",
        };
        assert_eq!(response.header("content-type"), Some(expected));
        assert!(response.body == bytes, "{name}");
    }
}

#[tokio::test]
async fn ranges_conditions_and_errors_follow_http() {
    let store = Arc::new(MemoryStore::new());
    let bytes: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    let id = store.insert("a.bmp", bytes.clone()).unwrap();
    let (address, _) = gallery(&store).await;
    let path = format!("/images/{id}");

    for (range, expected) in [
        ("bytes=0-0", 0..1),
        ("bytes=10-300009", 10..300_010),
        ("bytes=399990-", 399_990..400_000),
        ("bytes=399990-500000", 399_990..400_000),
        ("bytes=-7", 399_993..400_000),
        ("bytes=-500000", 0..400_000),
    ] {
        let response = http(&address, "GET", &path, &[("Range", range)]).await;
        assert_eq!(response.status, 206, "{range}");
        let (first, last) = (expected.start, expected.end - 1);
        let content_range = format!("bytes {first}-{last}/400000");
        assert_eq!(
            response.header("content-range"),
            Some(content_range.as_str())
        );
        assert_eq!(
            response.header("content-length"),
            Some(expected.len().to_string().as_str())
        );
        assert!(response.body == bytes[expected], "{range}");
    }
    for range in ["bytes=400000-", "bytes=-0"] {
        let response = http(&address, "GET", &path, &[("Range", range)]).await;
        assert_eq!(response.status, 416, "{range}");
        assert_eq!(response.header("content-range"), Some("bytes */400000"));
    }
    for range in ["bytes=5-3", "bytes=0-1,5-6", "items=0-1", "bytes=x-"] {
        let response = http(&address, "GET", &path, &[("Range", range)]).await;
        assert_eq!(
            (response.status, response.body.len()),
            (200, 400_000),
            "{range}"
        );
    }

    let head = http(&address, "HEAD", &path, &[]).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some("400000"));
    let etag = format!("\"{id}\"");
    let known = http(&address, "GET", &path, &[("If-None-Match", &etag)]).await;
    assert_eq!((known.status, known.body.len()), (304, 0));

    for path in ["/images/0000000000000000", "/images/a.bmp"] {
        assert_eq!(http(&address, "GET", path, &[]).await.status, 404);
    }
    store.remove(id);
    assert_eq!(http(&address, "GET", &path, &[]).await.status, 404);
}

/// The events of a page.
struct Events(tokio::io::Lines<BufReader<TcpStream>>);

impl Events {
    async fn open(address: &str, generation: u64, last_event: Option<&str>) -> Events {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let last_event = last_event.map_or(String::new(), |id| format!("Last-Event-ID: {id}\r\n"));
        let request =
            format!("GET /events/{generation} HTTP/1.1\r\nHost: {address}\r\n{last_event}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        Events(BufReader::new(stream).lines())
    }

    /// The next event's name, data and ID; `None` at the end.
    async fn next(&mut self) -> Option<(String, String, Option<String>)> {
        let (mut event, mut data, mut id) = (None, String::new(), None);
        while let Some(line) = timeout(PATIENCE, self.0.next_line())
            .await
            .unwrap()
            .unwrap()
        {
            match line.split_once(": ") {
                Some(("event", value)) => event = Some(value.to_owned()),
                Some(("data", value)) => data = value.to_owned(),
                Some(("id", value)) => id = Some(value.to_owned()),
                _ if line == "0" => return None, // The last chunk of HTTP.
                _ if line.is_empty() => {
                    if let Some(event) = event.take() {
                        return Some((event, data, id));
                    }
                }
                _ => {}
            }
        }
        None
    }
}

#[tokio::test]
async fn an_open_page_is_notified_of_changes() {
    let store = Arc::new(MemoryStore::new());
    let a = store.insert("a.bmp", bitmap(1, 1)).unwrap();
    let (address, shutdown) = gallery(&store).await;
    let page = http(&address, "GET", "/", &[]).await.body;
    assert!(String::from_utf8(page).unwrap().contains("\"/events/1\""));

    let mut events = Events::open(&address, 1, None).await;
    // The subscription begins with the page's snapshot, not with the connection.
    let b = store.insert("b\n.bmp", bitmap(1, 2)).unwrap();
    let added = |id, name: &str, generation: &str| {
        Some((
            "added".to_owned(),
            format!("{id} {name}"),
            Some(generation.to_owned()),
        ))
    };
    assert!(matches!(
        events.next().await,
        Some((event, ..)) if event == "clear" || event == "added"
    ));

    // A browser that was away starts again from what there is now.
    let mut late = Events::open(&address, 1, Some("1")).await;
    assert_eq!(
        late.next().await,
        Some(("clear".to_owned(), String::new(), None))
    );
    assert_eq!(
        late.next().await,
        Some(("added".to_owned(), format!("{a} a.bmp"), None))
    );
    assert_eq!(late.next().await, added(b, "b .bmp", "2"));
    store.remove(a);
    let removed = Some(("removed".to_owned(), a.to_string(), Some("3".to_owned())));
    assert_eq!(late.next().await, removed);
    let mut current = Events::open(&address, 1, Some("3")).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let c = store.insert("c.bmp", bitmap(1, 3)).unwrap();
    assert_eq!(current.next().await, added(c, "c.bmp", "4"));

    shutdown.begin();
    assert_eq!(current.next().await, None);
}

fn chromium() -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH")?;
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let mut candidates =
        std::env::split_paths(&path).flat_map(|folder| names.map(|name| folder.join(name)));
    candidates.find(|candidate| candidate.is_file())
}

/// A page that shows the gallery in a frame, and reports the names of the images that are drawn in it.
const OBSERVER: &str = r#"<!doctype html>
<iframe id="frame" src="/" width="1200" height="2000"></iframe>
<script>
  let reported;
  setInterval(() => {
    const images = [...document.getElementById("frame").contentDocument.images];
    const drawn = images.filter((image) => image.complete && image.naturalWidth > 0);
    const names = drawn.map((image) => image.alt).sort().join("|");
    if (names !== reported) {
      reported = names;
      fetch(`/report/${encodeURIComponent(names)}-`);
    }
  }, 50);
</script>"#;

#[tokio::test]
async fn chromium_draws_all_images_and_a_new_one() {
    let Some(chromium) = chromium() else {
        println!("skipped: no Chromium is installed");
        return;
    };
    let store = Arc::new(MemoryStore::new());
    let mut expected: Vec<String> = (1..=8).map(|n| format!("{n} <&>.bmp")).collect();
    for (name, n) in expected.iter().zip(1..) {
        store.insert(name, bitmap(60, n)).unwrap();
    }
    let (sender, mut reports) = mpsc::unbounded_channel();
    let report = move |Path(names): Path<String>| async move { drop(sender.send(names)) };
    let shutdown = ShutdownSignal::new();
    let gallery = Gallery {
        store: store.clone(),
        shutdown,
    };
    let observer = Router::new()
        .route("/observer", get(|| async { Html(OBSERVER) }))
        .route("/report/{names}", get(report));
    let address = serve_http(gallery.router().merge(observer)).await;

    let profile = tempfile::tempdir().unwrap();
    let mut browser = tokio::process::Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1300,2200",
            "--remote-debugging-port=0", // It stays open until it is killed.
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{address}/observer"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    let mut until_drawn = async |expected: &[String]| {
        let wanted = format!("{}-", expected.join("|"));
        let mut last = String::new();
        let waiting = async {
            while last != wanted {
                last = reports.recv().await.unwrap();
            }
        };
        let drawn = timeout(PATIENCE, waiting).await;
        assert!(drawn.is_ok(), "drawn: {last}");
    };
    until_drawn(&expected).await;
    store.insert("9 new.bmp", bitmap(60, 9)).unwrap();
    expected.push("9 new.bmp".to_owned());
    until_drawn(&expected).await;
    browser.kill().await.unwrap();
}
