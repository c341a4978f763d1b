//! Large catalogs: what the client takes in memory. // R3
//!
//! `JTP_HOSTILE=full` runs them at full scale.

use std::process::Stdio;
use std::time::{Duration, Instant};

use jtp_driver::ShutdownSignal;

use super::stub::{Request, Stub};
use crate::support::bytes::*;
use crate::support::process::{WorkDir, peak_memory};

fn is_full() -> bool {
    std::env::var_os("JTP_HOSTILE").is_some_and(|scale| scale == "full")
}

/// The peak memory of `client` when it has received a LIST of `count` entries and requests the images.
fn peak_for(count: usize, name_len: usize) -> u64 {
    let requested = ShutdownSignal::new();
    let signal = requested.clone();
    let stub = Stub::new(move |connection| {
        while let Some(request) = connection.request() {
            if request != Request::List {
                signal.begin();
                return connection.await_end();
            }
            connection.send(head(b"JTPL", count));
            for first in (0..count).step_by(5_000) {
                let piece = (first..count.min(first + 5_000)).flat_map(|n| {
                    let name = format!("{n:0width$}.png", width = name_len - 4);
                    // IDs as a hash makes them: all over the range.
                    let id = (n as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    entry(0, id, &name, 5)
                });
                if !connection.send(piece.collect::<Vec<u8>>()) {
                    return;
                }
            }
        }
    });
    let workdir = WorkDir::of(&[]);
    let address = stub.address.to_string();
    let mut command = workdir.command("client", &["--addr", &address, "--batch"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let pid = child.id();
    // It does not end on its own: the server answers no request for images.
    let limit = Duration::from_secs(if is_full() { 900 } else { 30 });
    let start = Instant::now();
    while !requested.has_begun() {
        let ended = child.try_wait().unwrap();
        assert!(ended.is_none(), "the client ended: {ended:?}");
        assert!(start.elapsed() < limit, "the client requests no images");
        std::thread::sleep(Duration::from_millis(5));
    }
    let peak = peak_memory(pid).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    peak
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
        println!("      {count} images with names of {name_len} bytes: {peak} bytes, {each} each");
        // What the allocator keeps beside that does not grow with the number of images.
        let bound = (100 + name_len as u64) * count as u64 + (8 << 20);
        assert!(peak - small <= bound, "{count} images: {each} bytes each");
    }
}
