//! R7: our clients against a server with the habits of deployed ones.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;

use jtp_core::ImageId;
use jtp_core::client::HaveSet;

use super::deployed_server::Deployed;
use crate::suite::adapters::Adapter;
use crate::suite::ends::{Ask, ClientEnd, Failure, News, Next, Seen, Then};
use crate::suite::script::{Script, Setup};
use crate::support::bytes::*;
use crate::support::files::{noise, pictures, samples_folder};

crate::suite::each_adapter! {
    r7_every_image_comes_verified, r7_nothing_is_sent_behind_an_unfinished_get,
    r6_a_server_that_closes_between_responses_is_connected_to_again,
    r7_r6_rate_limited_at_accept_before_any_request_is_tried_again,
    r7_after_a_cancel_everything_still_comes, r7_a_watch_and_its_end,
}

fn samples() -> Vec<Picture> {
    pictures(&samples_folder())
}

fn setup(retries: u32) -> Setup {
    let script = Script::of([]).setup(|setup| setup.retries = retries);
    script.setup
}

fn client(adapter: Adapter, address: SocketAddr, setup: &Setup) -> Box<dyn ClientEnd> {
    (adapter.client)(setup, address, false)
}

fn ids(pictures: &[Picture]) -> Vec<u64> {
    pictures.iter().map(|p| p.id).collect()
}

/// The images as they come, each the picture that it has to be; at the first byte of all the application may
/// have enough.
fn fetch(
    client: &mut dyn ClientEnd,
    ask: &Ask,
    pictures: &[Picture],
    cancel: bool,
) -> Result<Vec<u64>, Failure> {
    let (mut came, mut body) = (Vec::new(), Vec::new());
    client.fetch(ask, &mut |seen| {
        match seen {
            Seen::Image(image) => {
                came.push(image.id.0);
                body.clear();
            }
            Seen::Bytes(bytes) => body.extend_from_slice(bytes),
            Seen::Good => {
                let picture = pictures.iter().find(|p| Some(&p.id) == came.last());
                assert!(body == picture.expect("it was asked for").bytes);
            }
            bad => panic!("{bad:?}"),
        }
        if cancel && !body.is_empty() {
            Next::Cancel
        } else {
            Next::Go
        }
    })?;
    Ok(came)
}

fn get(ids: &[u64]) -> Ask {
    Ask::Get(ids.iter().map(|id| ImageId(*id)).collect())
}

fn batch(ids: &[u64]) -> Ask {
    Ask::Batch(HaveSet::try_from_iter(ids.iter().map(|id| ImageId(*id))).unwrap())
}

fn everything(client: &mut dyn ClientEnd, pictures: &[Picture]) {
    let all = ids(pictures);
    assert_eq!(client.list().unwrap().len(), all.len());
    let fetched = fetch(client, &Ask::All, pictures, false).unwrap();
    assert_eq!(fetched, all);
    let fetched = fetch(client, &batch(&all[1..2]), pictures, false).unwrap();
    assert_eq!(fetched.len(), all.len() - 1);
    assert_eq!(fetch(client, &get(&all), pictures, false).unwrap(), all);
    client.close();
}

fn r7_every_image_comes_verified(adapter: Adapter) {
    for keep_alive in [true, false] {
        let (server, address, _news) = Deployed::start(samples(), 0, usize::MAX);
        let mut setup = setup(3);
        setup.keep_alive = keep_alive;
        everything(&mut *client(adapter, address, &setup), &server.pictures);
        assert_eq!(server.lost.load(Ordering::Relaxed), 0, "R7");
    }
}

fn r7_nothing_is_sent_behind_an_unfinished_get(adapter: Adapter) {
    // More images than one request can ask for.
    let many: Vec<Picture> = (0..700)
        .map(|n| Picture::new(&format!("{n}.png"), noise(300, n)))
        .collect();
    let (server, address, _news) = Deployed::start(many, 0, usize::MAX);
    everything(&mut *client(adapter, address, &setup(3)), &server.pictures);
    assert_eq!(server.lost.load(Ordering::Relaxed), 0, "R7");
    assert_eq!(server.connections.load(Ordering::Relaxed), 1);
}

fn r6_a_server_that_closes_between_responses_is_connected_to_again(adapter: Adapter) {
    for patience in [1, 2] {
        let (server, address, _news) = Deployed::start(samples(), 0, patience);
        everything(&mut *client(adapter, address, &setup(3)), &server.pictures);
    }
}

fn r7_r6_rate_limited_at_accept_before_any_request_is_tried_again(adapter: Adapter) {
    let (server, address, _news) = Deployed::start(samples(), 1, usize::MAX);
    everything(&mut *client(adapter, address, &setup(3)), &server.pictures);
    assert_eq!(server.connections.load(Ordering::Relaxed), 2);
    // And told, where nothing is to be tried again.
    let (_server, address, _news) = Deployed::start(samples(), 1, usize::MAX);
    let refused = client(adapter, address, &setup(0)).list().unwrap_err();
    assert!(
        refused.contains("the server reports RateLimited"),
        "{refused}"
    );
}

fn r7_after_a_cancel_everything_still_comes(adapter: Adapter) {
    let (server, address, _news) = Deployed::start(samples(), 0, usize::MAX);
    let all = ids(&server.pictures);
    let mut client = client(adapter, address, &setup(3));
    for ask in [get(&all), Ask::All, batch(&[])] {
        fetch(&mut *client, &ask, &server.pictures, true).unwrap();
        // On a new connection: whatever became of the CANCEL, it cannot spoil this.
        for ask in [Ask::All, get(&all)] {
            let fetched = fetch(&mut *client, &ask, &server.pictures, false);
            assert_eq!(fetched.unwrap(), all);
        }
    }
}

fn r7_a_watch_and_its_end(adapter: Adapter) {
    let (server, address, news) = Deployed::start(samples(), 0, usize::MAX);
    let mut client = client(adapter, address, &setup(3));
    let mut new = (0..3).map(|n| Picture::new("new.png", noise(100, n)));
    let mut due = None;
    let ended = client.watch(true, &mut |told| {
        match told {
            News::Begun(listed) => assert_eq!(listed.unwrap().len(), 14),
            News::Image(entry) => assert_eq!(Some(entry.id.0), due),
        }
        match new.next() {
            Some(next) => {
                due = Some(next.id);
                news.send(next).unwrap();
                Then::Wait
            }
            None => Then::Cancel,
        }
    });
    assert!(ended.unwrap().unwrap().is_empty());
    let fetched = fetch(&mut *client, &Ask::All, &server.pictures, false);
    assert_eq!(fetched.unwrap().len(), 14);
}
