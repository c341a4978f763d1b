//! The events, output and error of a client connection do not depend on how the input is split.

use jtp_core::Time;
use jtp_core::client::{ClientConnection, ClientError, Event};

use crate::ByteReader;
use crate::client_bytes::{config, request};

/// Everything observable about a connection.
#[derive(Debug, PartialEq)]
struct ClientOutcome {
    events: Vec<OwnedEvent>,
    sent: Vec<u8>,
    fault: Option<ClientError>,
    outstanding: usize,
}

#[derive(Debug, PartialEq)]
enum OwnedEvent {
    Event(Event<'static>),
    Data(Vec<u8>),
}

pub fn run(data: &[u8]) {
    let mut reader = ByteReader(data);
    let settings = reader.byte();
    let requests = reader.take(usize::from(settings >> 1 & 3));
    let cuts = reader.take(8);
    let input = reader.0;
    let whole = run_split(settings, requests, input, &mut || usize::MAX);
    assert_eq!(run_split(settings, requests, input, &mut || 1), whole);
    let mut cuts = cuts.iter().map(|cut| usize::from(*cut)).cycle();
    assert_eq!(
        run_split(settings, requests, input, &mut || cuts.next().unwrap_or(3)),
        whole
    );
}

fn run_split(
    settings: u8,
    requests: &[u8],
    mut input: &[u8],
    cut: &mut dyn FnMut() -> usize,
) -> ClientOutcome {
    let mut client = ClientConnection::new(config(settings & 1 != 0), Time::ZERO);
    let (mut events, mut sent) = (Vec::new(), Vec::new());
    for choice in requests {
        let _ = client.request(request(*choice), true, Time::ZERO);
        send(&mut client, &mut sent);
    }
    if settings & 0x10 != 0 {
        let _ = client.cancel(Time::ZERO);
    }
    send(&mut client, &mut sent);
    while !input.is_empty() && client.fault().is_none() {
        let (mut piece, later) = input.split_at(cut().clamp(1, input.len()));
        input = later;
        while let Ok(received) = client.receive(piece, Time::ZERO) {
            piece = &piece[received.used..];
            let Some(event) = received.event else {
                assert!(piece.is_empty());
                break;
            };
            let is_image = matches!(event, Event::Image(_));
            push_event(&mut events, event);
            if is_image && settings & 0x40 != 0 {
                client.leave_undecoded().unwrap();
            }
            send(&mut client, &mut sent);
        }
    }
    let _ = client.receive_eof(Time::ZERO);
    while let Ok(received) = client.receive(&[], Time::ZERO) {
        match received.event {
            Some(event) => push_event(&mut events, event),
            None => break,
        }
    }
    ClientOutcome {
        events,
        sent,
        fault: client.fault().cloned(),
        outstanding: client.outstanding(),
    }
}

fn send(client: &mut ClientConnection, sent: &mut Vec<u8>) {
    while !client.transmit().is_empty() {
        let count = client.transmit().len().div_ceil(2);
        sent.extend_from_slice(&client.transmit()[..count]);
        client.transmitted(count, Time::ZERO).unwrap();
    }
}

fn push_event(events: &mut Vec<OwnedEvent>, event: Event<'_>) {
    let owned = match event {
        Event::Data(data) => {
            match events.last_mut() {
                Some(OwnedEvent::Data(before)) => before.extend_from_slice(data),
                _ => events.push(OwnedEvent::Data(data.to_vec())),
            }
            return;
        }
        event => event.into_owned(),
    };
    events.push(OwnedEvent::Event(owned));
}
