//! The memory of a catalog that a client collects.
//!
//! `JTP_ENTRIES=10000000 cargo test --release -p jtp-driver --test catalog_memory -- --nocapture` prints the figures for
//! ten million entries.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::thread;

use jtp_async_std::smol::Client;
use jtp_core::wire::entry::{self, Entry};
use jtp_core::wire::response::{Header, encode_head};
use jtp_core::{FileType, Flags, Image, ImageId};
use jtp_driver::Error;
use jtp_kit::Allocations;

#[global_allocator]
static MEMORY: Allocations = Allocations::of_glibc();

/// A server that answers one LIST with entries of one name, and its address.
fn listing(count: u32, name: &'static str) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
        let mut bytes = Vec::with_capacity(128 * 1024);
        encode_head(Header::List, count, &mut bytes);
        for id in 0..u64::from(count) {
            let image = Image::new(ImageId(id), Flags::new(FileType::Png, false), 1);
            entry::encode(&Entry::new(name, image), &mut bytes).unwrap();
            if bytes.len() >= 64 * 1024 {
                // The client closes the connection at its limit.
                if stream.write_all(&bytes).is_err() {
                    return;
                }
                bytes.clear();
            }
        }
        let _ = stream.write_all(&bytes);
    });
    (address, thread)
}

/// The number of entries that were collected, and the most memory that was used meanwhile.
fn collect(count: u32, name: &'static str, limit: usize) -> (Option<usize>, usize) {
    let (address, server) = listing(count, name);
    let builder = Client::builder(address).retries(0);
    let mut client = builder.catalog_limits(usize::MAX, limit).build();
    let before = MEMORY.reset_peak();
    let listed = smol::block_on(client.list());
    let peak = MEMORY.peak() - before;
    drop(client);
    server.join().unwrap();
    let collected = match listed {
        Ok(entries) => Some(entries.len()),
        Err(Error::CatalogTooLarge { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    (collected, peak)
}

/// What does not depend on the number of entries: input of the connection, threads, the runtime.
const BUFFERS: usize = 1024 * 1024;

/// The only test of this file: it counts all allocations of the process.
#[test]
fn r3_a_catalog_takes_no_more_memory_than_its_limit() {
    let _ = collect(1, "a", usize::MAX);
    let (mut collected, mut refused) = (0, 0);
    for limit in [2 << 20, 3 << 20] {
        // Empty, short and long names, and one that NFC changes.
        for name in ["", "a", "0123456789abcdef.png", NFD, LONG] {
            for count in [1_000, 10_000, 25_000, 50_000, 100_000] {
                let (entries, peak) = collect(count, name, limit);
                let what = format!("{count} entries named {name:.10}: {peak} of {limit} bytes");
                assert!(peak <= limit + BUFFERS, "{what}");
                match entries {
                    Some(entries) => {
                        assert_eq!(entries, count as usize);
                        collected += 1;
                    }
                    // Less than half of the limit is never too much.
                    None => {
                        assert!(peak > limit / 2, "{what}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(collected > 10 && refused > 10, "{collected} {refused}");

    if let Ok(count) = std::env::var("JTP_ENTRIES") {
        let limit = 1024 * 1024 * 1024;
        let (entries, peak) = collect(count.parse().unwrap(), "a.png", limit);
        println!("{count} entries: collected {entries:?}, at most {peak} bytes");
        assert!(peak <= limit + BUFFERS);
    }
}

const NFD: &str =
    "e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}e\u{301}.png";
const LONG: &str = concat!(
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789",
    "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789"
);
