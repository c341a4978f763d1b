//! R1: our clients against servers that violate the protocol.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::slice::from_ref;
use std::thread;

use jtp_core::ImageId;
use jtp_core::client::HaveSet;

use crate::suite::adapters::Adapter;
use crate::suite::script::Script;
use crate::suite::traits::{
    self, ClientUnderTest, Failure, FetchControl, ImageEvent, WatchControl,
};
use crate::support::Result;
use crate::support::bytes::*;

crate::suite::each_adapter! {
    r1_each_violation_is_an_error, r1_data_behind_a_response_is_an_error,
    r1_jtpe_while_a_large_request_is_being_sent_stops_it,
}

/// A server that answers the first bytes of a connection with a response, then ends it.
fn scripted_server(response: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        // The client may disconnect early.
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(&response);
        let _ = stream.shutdown(Shutdown::Write);
        while stream.read(&mut [0; 4096]).is_ok_and(|n| n > 0) {}
    });
    address
}

fn client(adapter: Adapter, address: SocketAddr) -> Box<dyn ClientUnderTest> {
    (adapter.client)(&Script::of([]).setup, address, false)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operation {
    List,
    Get,
    Batch,
    ListAndGet,
    Watch,
}

/// Makes the request, and adds the verified images.
fn run(
    client: &mut dyn ClientUnderTest,
    operation: Operation,
    ids: &[u64],
    verified: &mut Vec<Vec<u8>>,
) -> Result<(), Failure> {
    let request = match operation {
        Operation::List => return client.list().map(drop),
        Operation::Watch => return client.watch(false, &mut |_| WatchControl::Wait).map(drop),
        Operation::Get => traits::ImageRequest::Get(ids.iter().map(|id| ImageId(*id)).collect()),
        Operation::Batch => traits::ImageRequest::Batch(HaveSet::default()),
        Operation::ListAndGet => traits::ImageRequest::All,
    };
    let mut body = Vec::new();
    let ended = client.fetch(&request, &mut |seen| {
        match seen {
            ImageEvent::Image(_) => body.clear(),
            ImageEvent::Bytes(bytes) => body.extend_from_slice(bytes),
            ImageEvent::Verified => verified.push(body.clone()),
            ImageEvent::Fault { .. } | ImageEvent::Interrupted => {}
        }
        FetchControl::Continue
    });
    ended.map(drop)
}

fn one() -> TestImage {
    TestImage::new("one.png", b"the first image".to_vec())
}

fn two() -> TestImage {
    TestImage::new("two.gif", b"and the second".to_vec())
}

/// Violations of each kind of response: the request, and what comes. All violations are vectors.
fn violations() -> Vec<(Operation, Vec<u8>)> {
    use Operation::*;
    let (one, two) = (one(), two());
    vec![
        (List, b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec()),
        (Batch, images_of(b"JTPG", from_ref(&one))), // The answer to another request.
        (Watch, b"JTPC".to_vec()),                   // Without a CANCEL.
        (Get, data_of(&[&two])),                     // It was not requested.
        (
            ListAndGet,
            [head(b"JTPG", 1), packet(0x20, one.id, &one.bytes)].concat(),
        ),
    ]
}

fn r1_each_violation_is_an_error(adapter: Adapter) {
    for (operation, response) in violations() {
        let mut client = client(adapter, scripted_server(response));
        let mut received = Vec::new();
        let error = run(&mut *client, operation, &[one().id], &mut received).unwrap_err();
        let label = format!("{operation:?}: {error}");
        assert!(
            error.starts_with("protocol: the server violated the protocol"),
            "{label}"
        );
        assert!(received.is_empty(), "{label}");
    }
}

/// The response is complete and valid. The byte behind it is not treated as an answer to the next request.
fn r1_data_behind_a_response_is_an_error(adapter: Adapter) {
    let response = [images_of(b"JTPG", from_ref(&one())), vec![0]].concat();
    let mut client = client(adapter, scripted_server(response));
    let mut received = Vec::new();
    let ended = run(&mut *client, Operation::ListAndGet, &[], &mut received);
    assert_eq!(received, [one().bytes]);
    assert!(ended.is_err() || client.list().is_err());
}

/// The server reads the head of an 8 MB BATCH and no more.
fn r1_jtpe_while_a_large_request_is_being_sent_stops_it(adapter: Adapter) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        let refusal = error(INVALID_REQUEST, "too many");
        stream.write_all(&refusal).unwrap();
        // Neither read nor closed before the client disconnects.
        stream
    });
    let have = HaveSet::try_from_iter((1..=1_000_000).map(ImageId)).unwrap();
    let mut client = client(adapter, address);
    let ended = client.fetch(&traits::ImageRequest::Batch(have), &mut |seen| {
        panic!("{seen:?}")
    });
    let expected = "protocol: the server reports InvalidRequest: too many";
    assert_eq!(ended.unwrap_err(), expected);
    drop(server.join().unwrap());
}
