//! Who has the lease after a holder dies, stalls, or ends.

use std::sync::Arc;
use std::time::Duration;

use super::failures::{config, holder, servers, with_images};
use super::world::{World, gif};
use crate::format::LeaseState;

#[test]
fn a_holder_that_dies_or_stalls_is_replaced_within_the_expiry() {
    for seed in 0..20 {
        for dies in [true, false] {
            println!("seed {seed}, dies: {dies}");
            let mut world = servers(seed, 3, 3);
            world.run(seed);
            let first = holder(&world);
            match dies {
                true => world.kill(first),
                false => world.executor.pause(first),
            }
            world.put("new.gif", &gif(9));
            world.run(30);
            assert_ne!(holder(&world), first);
            world.run(5);
            world.executor.resume(first);
            world.run(5);
            world.assert_all_list(4);
        }
    }
}

#[test]
fn a_released_lease_is_taken_at_the_next_look() {
    let mut world = with_images(2, 1);
    let images = world.open();
    world.index(&images);
    let other = world.open();
    let begin = world.executor.clock.elapsed();
    world.index(&other);
    assert!(world.executor.clock.elapsed() - begin < Duration::from_secs(2));
}

fn is_released(world: &World) -> bool {
    let (_, lease) = LeaseState::decode(&world.read(".jtp/v1/lease")).unwrap();
    lease.released
}

/// Ends a process as SIGTERM does: it gives up the lease first.
fn end(world: &mut World, process: usize) {
    let images = Arc::clone(&world.images[&process]);
    world.kill(process);
    let release = async move { images.indexer(config()).release().await };
    world.executor.block_on(release).unwrap();
}

#[test]
fn the_lease_of_a_holder_that_ends_is_taken_at_the_next_look() {
    // The holder ends while it renews the lease, too: renewals begin each 7.5 s.
    for ends_after in [0, 2_400, 2_500, 2_510, 2_520, 2_530, 2_540] {
        for seed in 0..10 {
            let mut world = servers(seed, 3, 3);
            let duration = Duration::from_millis(ends_after);
            world.executor.run_for(duration, |_| {});
            let first = holder(&world);
            end(&mut world, first);
            // A quarter of the expiry, and the time of two requests.
            world.run(8);
            assert_ne!(holder(&world), first, "seed {seed}, {ends_after} ms");
        }
    }
}

#[test]
fn a_server_that_ends_leaves_the_lease_of_another_one() {
    let mut world = servers(14, 3, 2);
    let first = holder(&world);
    end(&mut world, 1 - first);
    assert!(!is_released(&world));
    assert_eq!(holder(&world), first);
    // Nor one that was taken from it.
    let mut world = servers(15, 3, 2);
    let first = holder(&world);
    world.executor.pause(first);
    world.run(30);
    assert_eq!(holder(&world), 1 - first);
    end(&mut world, first);
    assert!(!is_released(&world));
}

#[test]
fn a_job_that_is_stopped_in_its_pass_gives_up_the_lease() {
    let mut world = with_images(16, 3);
    let images = world.open();
    world.images.insert(0, Arc::clone(&images));
    let indexer = images.indexer(config());
    world
        .executor
        .spawn(0, async move { _ = indexer.run_once().await });
    world.executor.run_for(Duration::from_millis(150), |_| {});
    assert_eq!(holder(&world), 0);
    end(&mut world, 0);
    assert!(is_released(&world));
}

#[test]
fn with_the_store_down_giving_up_the_lease_fails_within_the_deadline() {
    let mut world = servers(17, 3, 1);
    world.store.shared().faults.is_down = true;
    let images = Arc::clone(&world.images[&0]);
    let begin = world.executor.clock.elapsed();
    let release = async move { images.indexer(config()).release().await };
    let result = world.executor.block_on(release);
    assert!(result.is_err());
    assert!(world.executor.clock.elapsed() - begin < Duration::from_secs(11));
}

#[test]
fn a_lost_answer_to_a_renewal_does_not_lose_the_lease() {
    let mut world = servers(10, 1, 2);
    let first = holder(&world);
    // What became of a put is found out by reading.
    world.store.shared().faults.puts_unanswered = true;
    world.run(120);
    assert_eq!(holder(&world), first);
}
