//! R3: catalogs that never end, or end early, and news that never end.

use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Asked, Mib, asked, client, is_full, scale, scripted, tell};
use crate::support::bytes::*;
use crate::support::process::{Place, eventually, peak_memory};

/// Sends entries, IDs counted up from `from`, until enough are sent or nobody takes them.
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

/// A server of one catalog.
fn catalog(says: usize, count: u64, name: String) -> (std::net::SocketAddr, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let address = scripted(move |mut stream| {
        while asked(&mut stream) == Some(Asked::List) {
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
fn r3_a_catalog_that_only_says_it_is_huge_costs_nothing() {
    let place = Place::of(&[]);
    let says = usize::try_from(u32::MAX).unwrap();
    let (address, _) = catalog(says, 1_000, "short.png".to_owned());
    let ended = client(&place, address, &["--list", "--retries", "0"]);
    assert_eq!(ended.code, Some(4), "{ended:?}");
    tell!(
        "4294967295 entries said, 1000 sent: peak memory {}",
        Mib(ended.peak)
    );
    assert!(ended.peak < 40 << 20, "R3: {}", Mib(ended.peak));
}

#[test]
fn r3_a_catalog_that_never_ends_is_given_up_at_its_limit() {
    if !is_full() {
        return; // What the limit is, is held by the tests of the adapters.
    }
    let says = usize::try_from(u32::MAX).unwrap();
    for (name, limit) in [
        ("a.png".to_owned(), "entries"),
        ("x".repeat(65_000), "bytes"),
    ] {
        let place = Place::of(&[]);
        let (address, sent) = catalog(says, u64::MAX / 2, name);
        for args in [&["--list"][..], &[], &["--watch"]] {
            let ended = client(&place, address, args);
            tell!(
                "a catalog without end, {args:?}: given up for its {limit} after {} entries, {:.1} s; peak memory {}",
                sent.load(Ordering::Relaxed),
                ended.took.as_secs_f64(),
                Mib(ended.peak)
            );
            assert!(ended.code == Some(6) || ended.code == Some(1), "{ended:?}");
            assert!(ended.peak < 3 << 30, "R3: {}", Mib(ended.peak));
        }
    }
}

#[test]
fn r3_ten_million_entries_are_a_catalog() {
    let place = Place::of(&[]);
    let count = scale(20_000, 10_000_000);
    let (address, _) = catalog(count, count as u64, "a.png".to_owned());
    let ended = client(&place, address, &["--list"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    tell!(
        "{count} entries listed: {:.1} s, peak memory {}",
        ended.took.as_secs_f64(),
        Mib(ended.peak)
    );
}

#[test]
fn r3_news_without_end_do_not_fill_the_memory() {
    // Each event has a new ID and a long name of its own; the images are never there.
    let count = scale(100, 20_000) as u64;
    let sent = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&sent);
    let name = "x".repeat(60_000);
    let address = scripted(move |mut stream| {
        while let Some(asked) = asked(&mut stream) {
            match asked {
                Asked::List => drop(stream.write_all(&head(b"JTPL", 0))),
                Asked::Get(_) => drop(stream.write_all(&data_head(0))),
                Asked::Watch => {
                    let news =
                        |id: u64| [&b"JTPW"[..], &entry(0, id, &format!("{id}{name}"), 5)].concat();
                    for id in 0..count {
                        if stream.write_all(&news(id)).is_err() {
                            return;
                        }
                        counter.store(id + 1, Ordering::Relaxed);
                    }
                }
                _ => return,
            }
        }
    });
    let place = Place::of(&[]);
    let mut watcher = place.start_client(address, &["--watch"]);
    let mut peak = 0;
    let begun = std::time::Instant::now();
    while sent.load(Ordering::Relaxed) < count && begun.elapsed().as_secs() < 240 {
        assert!(!watcher.has_ended(), "the watch is not given up");
        peak = peak_memory(watcher.pid()).unwrap().max(peak);
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let sent = sent.load(Ordering::Relaxed);
    tell!(
        "{sent} news of 60 kB each in {:.1} s: peak memory {}",
        begun.elapsed().as_secs_f64(),
        Mib(peak)
    );
    assert_eq!(sent, count);
    assert!(peak < 150 << 20, "R3: {}", Mib(peak));
    watcher.signal(rustix::process::Signal::INT);
    eventually("it ends", || watcher.has_ended());
}
