//! R3: endless or truncated catalogs, and endless watch events.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    Mib, ParsedRequest, client, is_full, read_request, report_line, scale, scripted_server,
};
use crate::support::bytes::*;
use crate::support::process::{WorkDir, peak_memory, wait_until};

/// Sends `count` entries with ascending IDs from `from`, or until the peer disconnects.
fn entries(stream: &mut TcpStream, from: u64, count: u64, name: &str, sent: &AtomicU64) {
    let mut id = from;
    while id < from + count {
        let mut piece = Vec::with_capacity(300_000);
        while piece.len() < 200_000 && id < from + count {
            piece.extend(entry(0, id, name, 5));
            id += 1;
        }
        if stream.write_all(&piece).is_err() {
            return;
        }
        sent.store(id - from, Ordering::Relaxed);
    }
}

/// A server that announces `says` entries and sends `count`.
fn catalog(says: usize, count: u64, name: String) -> (std::net::SocketAddr, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let address = scripted_server(move |mut stream| {
        while read_request(&mut stream) == Some(ParsedRequest::List) {
            let _ = stream.write_all(&head(b"JTPL", says));
            entries(&mut stream, 1, count, &name, &counter);
            if count < says as u64 {
                return;
            }
        }
    });
    (address, sent)
}

#[test]
fn r3_huge_announced_count_needs_no_memory() {
    let workdir = WorkDir::of(&[]);
    let says = usize::try_from(u32::MAX).unwrap();
    let (address, _) = catalog(says, 1_000, "short.png".to_owned());
    let (ended, used) = client(&workdir, address, "--list --retries 0");
    ended.assert_exit(4);
    report_line!(
        "4294967295 entries announced, 1000 sent: peak memory {}",
        Mib(used.peak)
    );
    assert!(used.peak < 40 << 20, "R3: {}", Mib(used.peak));
}

#[test]
fn r3_endless_catalog_is_aborted_at_the_limit() {
    if !is_full() {
        return; // The limit itself is tested with each adapter.
    }
    let says = usize::try_from(u32::MAX).unwrap();
    for (name, limit) in [
        ("a.png".to_owned(), "entries"),
        ("x".repeat(65_000), "bytes"),
    ] {
        let workdir = WorkDir::of(&[]);
        let (address, sent) = catalog(says, u64::MAX / 2, name);
        for args in [&["--list"][..], &[], &["--watch"]] {
            let (ended, used) = client(&workdir, address, args);
            report_line!(
                "an endless catalog, {args:?}: aborted for its {limit} after {} entries, {:.1} s; peak memory {}",
                sent.load(Ordering::Relaxed),
                used.elapsed.as_secs_f64(),
                Mib(used.peak)
            );
            assert!(ended.code == Some(6) || ended.code == Some(1), "{ended:?}");
            assert!(used.peak < 3 << 30, "R3: {}", Mib(used.peak));
        }
    }
}

#[test]
fn r3_ten_million_entries_are_listed() {
    let workdir = WorkDir::of(&[]);
    let count = scale(20_000, 10_000_000);
    let (address, _) = catalog(count, count as u64, "a.png".to_owned());
    let (ended, used) = client(&workdir, address, "--list");
    ended.assert_exit(0);
    report_line!(
        "{count} entries listed: {:.1} s, peak memory {}",
        used.elapsed.as_secs_f64(),
        Mib(used.peak)
    );
}

#[test]
fn r3_endless_watch_events_need_bounded_memory() {
    // Each event has a new ID and a long unique name; GET_BY_ID never returns the image.
    let count = scale(100, 20_000) as u64;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let name = "x".repeat(60_000);
    let address = scripted_server(move |mut stream| {
        while let Some(read_request) = read_request(&mut stream) {
            match read_request {
                ParsedRequest::List => drop(stream.write_all(&head(b"JTPL", 0))),
                ParsedRequest::Get(_) => drop(stream.write_all(&data_head(0))),
                ParsedRequest::Watch => {
                    let event =
                        |id: u64| [&b"JTPW"[..], &entry(0, id, &format!("{id}{name}"), 5)].concat();
                    for id in 0..count {
                        if stream.write_all(&event(id)).is_err() {
                            return;
                        }
                        counter.store(id + 1, Ordering::Relaxed);
                    }
                }
                _ => return,
            }
        }
    });
    let workdir = WorkDir::of(&[]);
    let mut watcher = workdir.start_client(address, "--watch");
    let mut peak = 0;
    let start = std::time::Instant::now();
    while sent.load(Ordering::Relaxed) < count && start.elapsed().as_secs() < 240 {
        assert!(!watcher.has_ended(), "the client keeps watching");
        peak = peak_memory(watcher.id()).unwrap().max(peak);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let sent = sent.load(Ordering::Relaxed);
    report_line!(
        "{sent} events of 60 kB each in {:.1} s: peak memory {}",
        start.elapsed().as_secs_f64(),
        Mib(peak)
    );
    assert_eq!(sent, count);
    assert!(peak < 150 << 20, "R3: {}", Mib(peak));
    watcher.signal(rustix::process::Signal::INT);
    wait_until("the client ends", || watcher.has_ended());
}
