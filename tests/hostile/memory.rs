//! R3: the memory that catalogs take.

use jtp_driver::ShutdownSignal;

use super::{Mib, client, is_full, report_line};
use crate::support::bytes::*;
use crate::support::process::{WorkDir, peak_memory};
use crate::support::stub::{Request, Stub};

/// `count` entries whose names have this length.
fn entries(first: usize, count: usize, name_len: usize) -> Vec<u8> {
    let entry = |n: usize| {
        let name = format!("{n:0width$}.png", width = name_len - 4);
        // IDs as a hash makes them: all over the range.
        let id = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        entry(0, id, &name, 5)
    };
    joined((first..first + count).map(entry))
}

#[test]
fn r3_huge_announced_count_needs_no_memory() {
    let says = usize::try_from(u32::MAX).unwrap();
    let stub = Stub::new(move |connection| {
        connection.request();
        connection.send([head(b"JTPL", says), entries(0, 1_000, 12)].concat());
    });
    let (ended, peak) = client(&WorkDir::of(&[]), stub.address, "--list --retries 0");
    ended.assert_exit(4);
    report_line!("{says} entries announced: peak memory {}", Mib(peak));
    assert!(peak < 40 << 20, "{}", Mib(peak));
}

/// The peak memory of `client` when it has received a LIST of `count` entries and requests the images.
fn peak_for(count: usize, name_len: usize) -> u64 {
    let requested = ShutdownSignal::new();
    let signal = requested.clone();
    let stub = Stub::new(move |connection| {
        while let Some(Request::List) = connection.request() {
            connection.send(head(b"JTPL", count));
            for first in (0..count).step_by(5_000) {
                connection.send(entries(first, 5_000.min(count - first), name_len));
            }
        }
        // It does not end on its own: the server answers no request for images.
        signal.begin();
        connection.await_end();
    });
    let workdir = WorkDir::of(&[]);
    let client = workdir.start_client(stub.address, "--batch");
    jtp_blocking::runtime::block_on(requested.wait());
    peak_memory(client.id()).unwrap()
}

#[test]
fn r3_list_takes_at_most_100_bytes_an_image_and_its_name() {
    let small = peak_for(1, 12);
    for (count, name_len) in match is_full() {
        false => vec![(200_000, 12), (100_000, 60)],
        true => vec![(1_000_000, 12), (1_000_000, 60), (9_999_999, 6 + 5)],
    } {
        let peak = peak_for(count, name_len);
        let each = (peak - small) / count as u64;
        report_line!("{count} images with names of {name_len} bytes: {peak} bytes, {each} each");
        // What the allocator keeps beside that does not grow with the number of images.
        let bound = (100 + name_len as u64) * count as u64 + (8 << 20);
        assert!(peak - small <= bound, "{count} images: {each} bytes each");
    }
}
