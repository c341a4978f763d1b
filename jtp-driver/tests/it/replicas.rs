//! Clients with several servers. // R6

use jtp_async_std::smol::Client;
use jtp_core::ImageId;
use jtp_core::client::PeerError;
use jtp_core::wire::response::ErrorCode;
use jtp_driver::{Error, ImageError, ReplicaError};

use crate::support::{error, list, names, scripted};

/// A server that sends one of these answers to the first bytes of each connection, then closes it.
async fn answering(answers: Vec<Vec<u8>>) -> (String, smol::Task<usize>) {
    let script = |answer| vec![(Vec::new(), answer)];
    scripted(answers.into_iter().map(script).collect()).await
}

/// A `DATA` response that ends after `sent` bytes of the last image.
fn data(images: &[&[u8]], sent: usize) -> Vec<u8> {
    let mut bytes = b"JTPD".to_vec();
    bytes.push(u8::try_from(images.len()).unwrap());
    for (index, image) in images.iter().enumerate() {
        bytes.push(0);
        bytes.push(u8::try_from(image.len()).unwrap());
        bytes.extend(ImageId::of(image).to_be_bytes());
        let is_last = index + 1 == images.len();
        bytes.extend(&image[..if is_last { sent } else { image.len() }]);
    }
    bytes
}

#[test]
fn list_comes_from_the_first_server_that_answers_and_the_failures_of_others_are_known() {
    smol::block_on(async {
        let (refuses, _a) = answering(vec![error(ErrorCode::RateLimited)]).await;
        let (violates, _b) = answering(vec![b"HTTP/1.1 200 OK\r\n".to_vec()]).await;
        let (good, _c) = answering(vec![list(1, &["a.png"]), list(1, &["b.png"])]).await;
        let builder = Client::builder(&refuses)
            .replica(Client::builder(&violates))
            .replica(Client::builder(&good))
            .retries(0);
        let mut client = builder.clone().build();
        assert_eq!((client.servers(), client.address()), (3, Some(&*refuses)));
        assert_eq!(names(&client.list().await.unwrap()), ["a.png"]);
        assert_eq!(client.address(), Some(&*good));
        let errors = client.replica_errors();
        let addresses: Vec<_> = errors.iter().map(ReplicaError::address).collect();
        assert_eq!(addresses, [&refuses, &violates]);
        assert!(errors[0].error().is_rate_limited());
        assert!(errors[1].to_string().starts_with(&format!("{violates}: ")));
        // Clients of the same builder begin with the server that works.
        let mut other = builder.build();
        assert_eq!(names(&other.list().await.unwrap()), ["b.png"]);
    });
}

#[test]
fn images_that_have_arrived_are_not_requested_from_the_next_server() {
    smol::block_on(async {
        let images: [&[u8]; 3] = [b"first image", b"second image", b"third image"];
        let ids = images.map(ImageId::of);
        let (first, _a) = answering(vec![data(&images[..2], 3)]).await;
        let missing = [ids[1].to_be_bytes(), ids[2].to_be_bytes()].concat();
        let request = [vec![0, 1, 2], missing].concat();
        let answer = data(&images[1..], images[2].len());
        let (second, served) = scripted(vec![vec![(request, answer)]]).await;
        let mut client = Client::builder(&first)
            .replica(Client::builder(&second))
            .retries(0)
            .build();
        let mut fetched = client.get(ids);
        let mut arrived = Vec::new();
        let mut interrupted = Vec::new();
        while let Some(image) = fetched.next().await.unwrap() {
            match image.bytes(100).await {
                Ok(bytes) => arrived.push(bytes),
                Err(ImageError::Interrupted(Error::Replicas(errors))) => interrupted.extend(errors),
                Err(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(arrived, images);
        assert_eq!(interrupted.len(), 1);
        assert_eq!(interrupted[0].address(), first);
        assert_eq!(served.await, 1);
    });
}

#[test]
fn error_of_all_servers_names_each_with_its_cause() {
    smol::block_on(async {
        let (violates, _a) = answering(vec![b"HTTP/1.1 200 OK\r\n".to_vec()]).await;
        let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let refused = unused.local_addr().unwrap().to_string();
        drop(unused);
        let mut client = Client::builder(&violates)
            .replica(Client::builder(&refused))
            .retries(0)
            .build();
        let error = client.list().await.unwrap_err();
        let Error::Replicas(errors) = &error else {
            panic!("{error:?}");
        };
        assert!(matches!(
            errors[0].error(),
            Error::Protocol(jtp_core::client::ClientError::Peer(PeerError::Wire { .. }))
        ));
        assert!(error.is_transient(), "one was not reached");
        assert!(!error.is_refused() && !error.is_rate_limited());
        let text = error.to_string();
        let second = format!("; {refused}: cannot connect to {refused}: ");
        assert!(
            text.starts_with(&format!("{violates}: ")) && text.contains(&second),
            "{text}"
        );
    });
}

#[test]
fn clients_of_one_builder_follow_the_one_that_has_gone_on() {
    smol::block_on(async {
        let limited = error(ErrorCode::RateLimited);
        let (first, _a) = answering(vec![list(1, &["a.png"]), limited]).await;
        let (second, _b) = answering(vec![list(1, &["b.png"]), list(1, &["c.png"])]).await;
        let builder = Client::builder(&first).replica(Client::builder(&second));
        let (mut one, mut other) = (builder.clone().build(), builder.build());
        assert_eq!(names(&one.list().await.unwrap()), ["a.png"]);
        assert!(!one.is_left_behind());
        assert_eq!(names(&other.list().await.unwrap()), ["b.png"]);
        assert!(one.is_left_behind() && !other.is_left_behind());
        one.follow();
        assert!(!one.is_left_behind());
        assert_eq!(names(&one.list().await.unwrap()), ["c.png"]);
    });
}

#[test]
fn s15_a_client_that_all_servers_limit_is_refused_by_its_rate() {
    smol::block_on(async {
        let (first, _a) = answering(vec![error(ErrorCode::RateLimited)]).await;
        let (second, _b) = answering(vec![error(ErrorCode::RateLimited)]).await;
        let builder = Client::builder(&first).replica(Client::builder(&second));
        let error = builder.retries(0).build().list().await.unwrap_err();
        assert!(error.is_refused() && error.is_rate_limited(), "{error:?}");
    });
}

#[test]
fn without_retries_the_caller_decides_when_another_server_is_used() {
    smol::block_on(async {
        let (first, _a) = answering(vec![list(0, &[])[..3].to_vec(), list(1, &["a.png"])]).await;
        let (second, _b) = answering(vec![list(1, &["b.png"])]).await;
        let builder = Client::builder(&first).replica(Client::builder(&second));
        let mut client = builder.without_retries().build();
        let error = client.list().await.unwrap_err();
        assert!(!matches!(error, Error::Replicas(_)), "{error:?}");
        assert_eq!(client.address(), Some(&*first));
        let failed = client.fail_over(error).unwrap();
        assert_eq!(failed.address(), first);
        assert_eq!(names(&client.list().await.unwrap()), ["b.png"]);
        // The second failure completes the round; the next attempt is made at the first again.
        let error = client.list().await.unwrap_err();
        assert!(
            matches!(client.fail_over(error), Err(Error::Replicas(errors)) if errors.len() == 2)
        );
        assert_eq!(names(&client.list().await.unwrap()), ["a.png"]);
    });
}

#[test]
fn wrong_calls_and_limits_of_the_client_lead_to_no_other_server() {
    smol::block_on(async {
        let (first, _a) = answering(vec![list(2, &["a.png", "b.png"])]).await;
        let mut client = Client::builder(&first)
            .replica(Client::builder("127.0.0.1:9"))
            .catalog_limits(1, 1 << 20)
            .build();
        let error = client.list().await.unwrap_err();
        assert!(matches!(error, Error::CatalogTooLarge { .. }), "{error:?}");
        assert_eq!(client.address(), Some(&*first));
    });
}
