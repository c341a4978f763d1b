//! Requests for the bytes of images.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use jtp_core::ImageId;
use jtp_driver::store::{ImageStore, OpenImage, StoreError};

use super::world::{Faults, World, listed};
use crate::{ObjectImages, StoreConfig};

const RANGE: usize = 256 * 1024;

/// A bucket of images of a million bytes, and a server of it.
fn with_images(count: u64, config: StoreConfig) -> (World, Arc<ObjectImages>, Vec<Vec<u8>>) {
    let mut world = World::new(count);
    let images: Vec<Vec<u8>> = (0..count).map(|n| image(n, 1_000_000)).collect();
    for (n, bytes) in images.iter().enumerate() {
        world.put(&format!("{n}.gif"), bytes);
    }
    let server = world.open_with(config);
    world.index(&server);
    (world, server, images)
}

fn image(number: u64, length: usize) -> Vec<u8> {
    let numbers = (0..).flat_map(|at: u64| (at * 11 + number).to_le_bytes());
    b"GIF89a"
        .iter()
        .copied()
        .chain(numbers)
        .take(length)
        .collect()
}

/// Opens an image with its first bytes, on its own task.
fn open(world: &mut World, server: &Arc<ObjectImages>, bytes: &[u8], first: usize) -> OpenImage {
    let image = listed(server, bytes);
    world.open_image(server, image, first).0.unwrap()
}

fn read(world: &mut World, opened: &OpenImage, at: usize) -> Result<Bytes, StoreError> {
    let length = usize::try_from(opened.image().length).unwrap();
    let read = Arc::clone(opened.body().unwrap()).read(at as u64, RANGE.min(length - at));
    world.executor.block_on(read)
}

/// The bytes after the first ones, in ranges that follow one another.
fn rest(world: &mut World, opened: &OpenImage) -> Result<Vec<u8>, StoreError> {
    let mut bytes = opened.first().to_vec();
    while bytes.len() < usize::try_from(opened.image().length).unwrap() {
        bytes.extend_from_slice(&read(world, opened, bytes.len())?);
    }
    Ok(bytes)
}

#[test]
fn an_image_is_one_request_however_it_is_read() {
    let (mut world, server, images) = with_images(2, StoreConfig::default());
    for first in [1, RANGE, 999_999, 1_000_000, 4 << 20] {
        for bytes in &images {
            let before = world.store.requests("range");
            let opened = open(&mut world, &server, bytes, first);
            assert!(rest(&mut world, &opened).unwrap() == *bytes, "{first}");
            assert_eq!(world.store.requests("range") - before, 1, "{first}");
        }
    }
    // Another order, as an HTTP server reads ranges.
    let opened = open(&mut world, &server, &images[0], RANGE);
    for at in [700_000, 300_000, RANGE, 2 * RANGE] {
        let bytes = read(&mut world, &opened, at).unwrap();
        assert!(bytes == images[0][at..at + bytes.len()], "{at}");
    }
}

#[test]
fn s13_a_request_that_breaks_is_made_again_for_the_rest_of_the_same_object() {
    let (mut world, server, images) = with_images(1, StoreConfig::default());
    let bytes = &images[0];
    world.store.shared().faults.breaks_after = Some(300_000);
    let before = world.store.requests("range");
    let opened = open(&mut world, &server, bytes, RANGE);
    assert!(rest(&mut world, &opened).unwrap() == *bytes);
    assert_eq!(world.store.requests("range") - before, 4);
    // The object is replaced before the request breaks.
    let opened = open(&mut world, &server, bytes, RANGE);
    world.put("0.gif", &image(9, 1_000_000));
    let error = rest(&mut world, &opened).unwrap_err();
    assert!(matches!(error, StoreError::Changed(id) if id == ImageId::of(bytes)));
}

#[test]
fn images_that_wait_for_their_peers_and_abandoned_ones_delay_no_other() {
    let (mut world, server, images) = with_images(4, StoreConfig::default().with_reads(1));
    let waiting: Vec<_> = images[..3]
        .iter()
        .map(|bytes| open(&mut world, &server, bytes, RANGE))
        .collect();
    // One has the only permit, and one waits for it.
    let mut abandoned = [&images[3], &images[3]].map(|bytes| {
        let image = listed(&server, bytes);
        Arc::clone(&server).open(image, RANGE).fuse()
    });
    for open in &mut abandoned {
        assert!(open.now_or_never().is_none());
    }
    drop(abandoned);
    let begin = world.executor.clock.elapsed();
    let opened = open(&mut world, &server, &images[3], RANGE);
    assert!(rest(&mut world, &opened).unwrap() == images[3]);
    for (opened, bytes) in waiting.iter().zip(&images) {
        assert!(rest(&mut world, opened).unwrap() == *bytes);
    }
    let elapsed = world.executor.clock.elapsed() - begin;
    assert!(elapsed < Duration::from_secs(3), "{elapsed:?}");
}

#[test]
fn s12_while_the_store_is_down_images_fail_at_once_and_few_requests_look_for_it() {
    let (mut world, server, images) = with_images(2, StoreConfig::default());
    let image = listed(&server, &images[0]);
    let open = |world: &mut World| world.open_image(&server, image, RANGE);
    let (begun, _) = open(&mut world);
    world.store.shared().faults.is_down = true;
    let (result, elapsed) = open(&mut world);
    assert!(matches!(result, Err(StoreError::Unavailable { .. })));
    assert!(elapsed >= Duration::from_secs(10));
    // A request that was answered before still gives its bytes.
    assert!(rest(&mut world, &begun.unwrap()).unwrap() == images[0]);
    for follows in [false, true] {
        if follows {
            world.executor.spawn(0, Arc::clone(&server).follow());
        }
        world.store.shared().faults.is_down = true;
        world.executor.run_for(Duration::from_secs(25), |_| {});
        let (before, begin) = (
            world.store.requests("range"),
            world.executor.clock.elapsed(),
        );
        let mut late = 0;
        for _ in 0..1000 {
            let (result, elapsed) = open(&mut world);
            assert!(matches!(result, Err(StoreError::Unavailable { .. })));
            late += u64::from(elapsed > Duration::from_millis(200));
            world.executor.run_for(Duration::from_millis(100), |_| {});
        }
        let seconds = (world.executor.clock.elapsed() - begin).as_secs();
        let probes = world.store.requests("range") - before;
        assert_eq!(late, probes);
        let expected = if follows {
            0..=0
        } else {
            seconds / 26..=seconds / 24
        };
        assert!(expected.contains(&probes), "{probes} in {seconds} s");
        world.store.shared().faults = Faults::default();
        world.executor.run_for(Duration::from_secs(15), |_| {});
        assert!(open(&mut world).0.is_ok());
    }
}
