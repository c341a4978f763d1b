//! `--metrics`: `/metrics` and `/healthz`.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::support::{Process, SERVER, TestDir, noise, stalled_peer};

/// A response over HTTP: its status, headers and body.
struct Response {
    status: u16,
    head: String,
    body: String,
}

/// Sends these bytes, and reads until the server closes the connection.
fn exchange(address: &str, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    String::from_utf8(response).unwrap()
}

fn request(address: &str, method: &str, path: &str) -> Response {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let response = exchange(address, request.as_bytes());
    let (head, body) = response.split_once("\r\n\r\n").expect(&response);
    Response {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

fn health(address: &str) -> (u16, String) {
    let response = request(address, "GET", "/healthz");
    (response.status, response.body)
}

/// The samples of a page, by name and labels. Checks the format: each has a type and a help text before it.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let (mut types, mut helps) = (BTreeMap::new(), BTreeSet::new());
    let mut samples = BTreeMap::new();
    for line in page.lines().filter(|line| !line.is_empty()) {
        if let Some(declared) = line.strip_prefix("# TYPE ") {
            let (name, kind) = declared.split_once(' ').unwrap();
            assert!(types.insert(name, kind).is_none(), "{name} has two types");
        } else if let Some(help) = line.strip_prefix("# HELP ") {
            helps.insert(help.split_once(' ').unwrap().0);
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            let name = key.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|suffix| name.strip_suffix(suffix))
                .filter(|family| types.get(family) == Some(&"histogram"))
                .unwrap_or(name);
            assert!(helps.contains(family), "{name} has no help");
            let is_counter = types.get(family) == Some(&"counter");
            assert_eq!(name.ends_with("_total"), is_counter, "{name}");
            let replaced = samples.insert(key.to_owned(), value.parse().expect(line));
            assert!(replaced.is_none(), "{key} appears twice");
        }
    }
    samples
}

/// The address of the metrics listener, from the log.
fn metrics_address(server: &Process) -> String {
    let line = server.err.wait_for("metrics on http://");
    let url = line.split("http://").nth(1).unwrap();
    url.split('/').next().unwrap().to_owned()
}

#[test]
fn page_has_counters_histograms_catalog_and_caches() {
    let dir = TestDir::with_images();
    dir.add(".hidden.png", b"1");
    let server = dir.serve("--no-tls --metrics 127.0.0.1:0");
    let address = metrics_address(&server);
    assert_eq!(health(&address), (200, "ok\n".to_owned()));

    for _ in 0..2 {
        assert_eq!(dir.fetch(&server, "").code, Some(0));
    }
    // The server counts a request after its last byte was sent.
    let mut page = String::new();
    crate::support::wait_until("two LIST requests", || {
        let response = request(&address, "GET", "/metrics");
        assert_eq!(response.status, 200);
        assert!(
            response
                .head
                .contains("content-type: text/plain; version=0.0.4"),
            "{}",
            response.head
        );
        page = response.body;
        let samples = samples(&page);
        samples.get("jtp_connections_open") == Some(&0.0)
            && samples.get("jtp_requests_total{kind=\"LIST\",outcome=\"answered\"}") == Some(&2.0)
    });
    let samples = samples(&page);
    let sample = |name: &str| {
        *samples
            .get(name)
            .unwrap_or_else(|| panic!("{name}: {page}"))
    };
    let version = env!("CARGO_PKG_VERSION");
    for (name, value) in [
        (&*format!("jtp_build_info{{version=\"{version}\"}}"), 1.0),
        ("jtp_ready", 1.0),
        ("jtp_index_files", 3.0),
        ("jtp_index_files_done", 3.0),
        ("jtp_catalog_images", 3.0),
        ("jtp_files_left_out{reason=\"hidden\"}", 1.0),
        ("jtp_files_left_out{reason=\"folder\"}", 0.0),
        ("jtp_images_sent_total", 6.0),
        ("jtp_connections_refused_total{limit=\"client\"}", 0.0),
        ("jtp_connections_refused_total{limit=\"total\"}", 0.0),
        ("jtp_watchers", 0.0),
        ("jtp_request_duration_seconds_count{kind=\"LIST\"}", 2.0),
        ("jtp_variant_cache_max_bytes", (10_u64 << 30) as f64),
    ] {
        assert_eq!(sample(name), value, "{name}");
    }
    assert!(sample("jtp_catalog_bytes") >= 3000.0);
    assert!(sample("jtp_body_bytes_sent_total") >= 6000.0);
    assert!(sample("jtp_connections_accepted_total") >= 2.0);
    assert!(sample("jtp_start_time_seconds") > 1.7e9);
    assert!(sample("jtp_variant_cache_bytes") >= 0.0);
    let bucket = "jtp_request_duration_seconds_bucket{kind=\"LIST\",le=\"+Inf\"}";
    assert_eq!(sample(bucket), 2.0);
    for result in ["hit", "miss"] {
        sample(&format!(
            "jtp_small_image_lookups_total{{result=\"{result}\"}}"
        ));
        sample(&format!(
            "jtp_variant_cache_lookups_total{{result=\"{result}\"}}"
        ));
    }
    // No label has a value that a peer or a file name chooses.
    for text in ["127.0.0.1", "a.png", "b.jpg"] {
        assert!(!page.contains(text), "{text}: {page}");
    }

    // Counters never decrease, and a second page has the same samples.
    let again = self::samples(&request(&address, "GET", "/metrics").body);
    assert_eq!(
        again.keys().collect::<Vec<_>>(),
        samples.keys().collect::<Vec<_>>()
    );
    server.stop();
}

#[test]
fn requests_for_anything_else_are_refused() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls --metrics 127.0.0.1:0");
    let address = metrics_address(&server);
    for path in ["/", "/metrics/", "/healthz2", "/../metrics", "*"] {
        assert_eq!(request(&address, "GET", path).status, 404, "{path}");
    }
    for path in ["/metrics", "/healthz"] {
        let query = format!("{path}?a=b");
        assert_eq!(request(&address, "GET", &query).status, 200, "{query}");
        let head = request(&address, "HEAD", path);
        assert_eq!((head.status, &*head.body), (200, ""));
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "X"] {
            let refused = request(&address, method, path);
            assert_eq!(refused.status, 405, "{method}");
            assert!(refused.head.contains("allow: get, head"));
        }
    }
    // Malformed, or too large.
    assert!(exchange(&address, b"\x01\x00\r\n\r\n").starts_with("HTTP/1.1 400"));
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}", "x".repeat(1 << 20));
    let response = exchange(&address, long.as_bytes());
    assert!(!response.contains("200 OK"), "{response}");
    let many = "X: y\r\n".repeat(200);
    let response = exchange(
        &address,
        format!("GET /metrics HTTP/1.1\r\n{many}\r\n").as_bytes(),
    );
    assert!(response.starts_with("HTTP/1.1 431"), "{response}");
    assert_eq!(health(&address).0, 200);
}

#[test]
fn silent_http_clients_are_disconnected_and_do_not_block_others() {
    let dir = TestDir::with_images();
    let server = dir.serve("--no-tls --metrics 127.0.0.1:0");
    let address = metrics_address(&server);
    let begun = Instant::now();
    // More than the listener serves at once. If they waited for each other, three times 5 s would pass.
    let silent: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(&address).unwrap();
            stream.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
            stream
        })
        .collect();
    assert_eq!(health(&address).0, 200);
    let elapsed = begun.elapsed();
    assert!(elapsed < Duration::from_secs(10), "{elapsed:?}");
    for mut stream in silent {
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let mut rest = Vec::new();
        // An end or a reset, and no timeout of this test.
        if let Err(error) = stream.read_to_end(&mut rest) {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        }
    }
    // An open connection delays no exit.
    let _open = TcpStream::connect(&address).unwrap();
    server.stop().assert_exit(0);
}

#[test]
fn health_is_503_during_the_first_scan() {
    let dir = TestDir::new();
    dir.add_endless_images();
    let args = "--no-tls --bind 127.0.0.1:0 --metrics 127.0.0.1:0";
    let server = Process::start(dir.command(SERVER, &args));
    let address = metrics_address(&server);
    assert_eq!(health(&address), (503, "starting\n".to_owned()));
    let samples = samples(&request(&address, "GET", "/metrics").body);
    assert_eq!(samples["jtp_ready"], 0.0);
    assert!(!samples.contains_key("jtp_catalog_images"), "{samples:?}");
    server.stop().assert_exit(0).assert_out("");
}

#[test]
fn health_is_503_while_draining() {
    let dir = TestDir::new();
    dir.add("a.png", &noise(30 << 20, 1));
    let server = dir.serve("--no-tls --metrics 127.0.0.1:0");
    let address = metrics_address(&server);
    let mut peer = stalled_peer(&server);
    assert_eq!(health(&address).0, 200);
    server.signal(rustix::process::Signal::TERM);
    server.err.wait_for("stopping");
    assert_eq!(health(&address), (503, "draining\n".to_owned()));
    let page = samples(&request(&address, "GET", "/metrics").body);
    assert_eq!(
        (page["jtp_ready"], page["jtp_connections_open"]),
        (0.0, 1.0)
    );
    peer.read_to_end(&mut Vec::new()).unwrap();
    server.wait().assert_exit(0);
}

#[test]
fn address_in_use_is_reported_before_images_are_read() {
    let dir = TestDir::with_images();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    dir.run(
        SERVER,
        &format!("--no-tls --bind 127.0.0.1:0 --metrics {address}"),
    )
    .assert_failure(1, &[&address, "in use", "--metrics"]);
    dir.run(SERVER, "--metrics 9184").assert_exit(2);
    // Off by default.
    let server = dir.serve("--no-tls");
    server.stop().assert_not_in_err("metrics");
}
