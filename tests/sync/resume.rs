//! Runs after a run, totals, observers that panic, folders that vanish or are full.

use jtp_tokio::Tokio;

use super::job::{Job, target};

#[test]
fn futures_of_a_sync_fit_on_small_stacks() {
    // Helper threads of jtp-blocking have 256 KiB, and a build without optimisation copies futures several times.
    let (_parent, folder) = target();
    let address = std::net::SocketAddr::from(([127, 0, 0, 1], 9));
    let mut sync = Job::new(address, &folder).build(Tokio::default());
    let run = size_of_val(&sync.run());
    let follow = size_of_val(&sync.follow());
    assert!(run < 8 << 10, "run: {run} bytes");
    assert!(follow < 8 << 10, "follow: {follow} bytes");
}
