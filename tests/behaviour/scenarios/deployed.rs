//! R7: our clients against a server that behaves like deployed ones.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use jtp_core::ImageId;
use jtp_core::client::HaveSet;

use super::deployed_server::DeployedServer;
use crate::suite::adapters::Adapter;
use crate::suite::script::{Script, Setup};
use crate::suite::traits::{
    ClientUnderTest, Failure, FetchControl, ImageEvent, ImageRequest, WatchControl, WatchEvent,
};
use crate::support::bytes::*;
use crate::support::files::{images_in, noise, samples_folder};

crate::suite::each_adapter! {
    r7_all_images_arrive_verified, r7_nothing_is_sent_behind_an_unfinished_get,
    r6_client_reconnects_if_the_server_closes_between_responses,
    r7_r6_rate_limit_at_accept_is_retried,
    r7_requests_after_a_cancel_are_answered, r7_watch_and_cancel,
}

fn samples() -> Vec<TestImage> {
    images_in(&samples_folder())
}

fn setup(retries: u32) -> Setup {
    let script = Script::of([]).setup(|setup| setup.retries = retries);
    script.setup
}

fn client(adapter: Adapter, address: SocketAddr, setup: &Setup) -> Box<dyn ClientUnderTest> {
    (adapter.client)(setup, address, false)
}

fn ids(images: &[TestImage]) -> Vec<u64> {
    images.iter().map(|p| p.id).collect()
}

/// Fetches and checks each image; with `cancel` the application cancels at the first body byte.
fn fetch(
    client: &mut dyn ClientUnderTest,
    request: &ImageRequest,
    images: &[TestImage],
    cancel: bool,
) -> Result<Vec<u64>, Failure> {
    let (mut received, mut body) = (Vec::new(), Vec::new());
    client.fetch(request, &mut |seen| {
        match seen {
            ImageEvent::Image(image) => {
                received.push(image.id.0);
                body.clear();
            }
            ImageEvent::Bytes(bytes) => body.extend_from_slice(bytes),
            ImageEvent::Verified => {
                let image = images.iter().find(|p| Some(&p.id) == received.last());
                assert!(body == image.expect("the image was requested").bytes);
            }
            bad => panic!("{bad:?}"),
        }
        if cancel && !body.is_empty() {
            FetchControl::Cancel
        } else {
            FetchControl::Continue
        }
    })?;
    Ok(received)
}

fn get(ids: &[u64]) -> ImageRequest {
    ImageRequest::Get(ids.iter().map(|id| ImageId(*id)).collect())
}

fn batch(ids: &[u64]) -> ImageRequest {
    ImageRequest::Batch(HaveSet::try_from_iter(ids.iter().map(|id| ImageId(*id))).unwrap())
}

fn everything(client: &mut dyn ClientUnderTest, images: &[TestImage]) {
    let all = ids(images);
    assert_eq!(client.list().unwrap().len(), all.len());
    let fetched = fetch(client, &ImageRequest::All, images, false).unwrap();
    assert_eq!(fetched, all);
    let fetched = fetch(client, &batch(&all[1..2]), images, false).unwrap();
    assert_eq!(fetched.len(), all.len() - 1);
    assert_eq!(fetch(client, &get(&all), images, false).unwrap(), all);
    client.close();
}

fn r7_all_images_arrive_verified(adapter: Adapter) {
    for keep_alive in [true, false] {
        let (server, address, _new_images) = DeployedServer::start(samples(), 0, usize::MAX);
        let mut setup = setup(3);
        setup.keep_alive = keep_alive;
        everything(&mut *client(adapter, address, &setup), &server.images);
        assert_eq!(server.lost_bytes.load(Ordering::Relaxed), 0, "R7");
    }
}

fn r7_nothing_is_sent_behind_an_unfinished_get(adapter: Adapter) {
    // More images than one request can name.
    let many: Vec<TestImage> = (0..700)
        .map(|n| TestImage::new(&format!("{n}.png"), noise(300, n)))
        .collect();
    let (server, address, _new_images) = DeployedServer::start(many, 0, usize::MAX);
    everything(&mut *client(adapter, address, &setup(3)), &server.images);
    assert_eq!(server.lost_bytes.load(Ordering::Relaxed), 0, "R7");
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

fn r6_client_reconnects_if_the_server_closes_between_responses(adapter: Adapter) {
    for responses_per_connection in [1, 2] {
        let (server, address, _new_images) =
            DeployedServer::start(samples(), 0, responses_per_connection);
        everything(&mut *client(adapter, address, &setup(3)), &server.images);
    }
}

fn r7_r6_rate_limit_at_accept_is_retried(adapter: Adapter) {
    let (server, address, _new_images) = DeployedServer::start(samples(), 1, usize::MAX);
    everything(&mut *client(adapter, address, &setup(3)), &server.images);
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    // Without retries the error is reported.
    let (_server, address, _new_images) = DeployedServer::start(samples(), 1, usize::MAX);
    let refused = client(adapter, address, &setup(0)).list().unwrap_err();
    assert!(
        refused.contains("the server reports RateLimited"),
        "{refused}"
    );
}

fn r7_requests_after_a_cancel_are_answered(adapter: Adapter) {
    let (server, address, _new_images) = DeployedServer::start(samples(), 0, usize::MAX);
    let all = ids(&server.images);
    let mut client = client(adapter, address, &setup(3));
    for request in [get(&all), ImageRequest::All, batch(&[])] {
        fetch(&mut *client, &request, &server.images, true).unwrap();
        // These use a new connection, so the server's handling of the CANCEL cannot affect them.
        for request in [ImageRequest::All, get(&all)] {
            let fetched = fetch(&mut *client, &request, &server.images, false);
            assert_eq!(fetched.unwrap(), all);
        }
    }
}

fn r7_watch_and_cancel(adapter: Adapter) {
    let (server, address, new_images) = DeployedServer::start(samples(), 0, usize::MAX);
    let mut client = client(adapter, address, &setup(3));
    let mut new = (0..3).map(|n| TestImage::new("new.png", noise(100, n)));
    let mut expected = None;
    let ended = client.watch(true, &mut |event| {
        match event {
            WatchEvent::Started(listed) => assert_eq!(listed.unwrap().len(), 14),
            WatchEvent::NewImage(entry) => assert_eq!(Some(entry.id.0), expected),
        }
        match new.next() {
            Some(next) => {
                expected = Some(next.id);
                new_images.send(next).unwrap();
                WatchControl::Wait
            }
            None => WatchControl::Cancel,
        }
    });
    assert!(ended.unwrap().unwrap().is_empty());
    let fetched = fetch(&mut *client, &ImageRequest::All, &server.images, false);
    assert_eq!(fetched.unwrap().len(), 14);
}
