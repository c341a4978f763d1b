//! A client's connection tells the same of the same bytes, whole and in pieces.

use jtp_core::Time;
use jtp_core::client::{ClientConnection, ClientError, Event};

use crate::Choices;
use crate::client_bytes::{config, request};

/// What can be seen of a connection.
#[derive(Debug, PartialEq)]
struct Seen {
    events: Vec<Told>,
    sent: Vec<u8>,
    fault: Option<ClientError>,
    outstanding: usize,
}

#[derive(Debug, PartialEq)]
enum Told {
    Event(Event<'static>),
    Data(Vec<u8>),
}

pub fn run(data: &[u8]) {
    let mut choices = Choices(data);
    let settings = choices.byte();
    let requests = choices.take(usize::from(settings >> 1 & 3));
    let cuts = choices.take(8);
    let input = choices.0;
    let whole = play(settings, requests, input, &mut || usize::MAX);
    assert_eq!(play(settings, requests, input, &mut || 1), whole);
    let mut cuts = cuts.iter().map(|cut| usize::from(*cut)).cycle();
    assert_eq!(
        play(settings, requests, input, &mut || cuts.next().unwrap_or(3)),
        whole
    );
}

fn play(settings: u8, requests: &[u8], mut input: &[u8], cut: &mut dyn FnMut() -> usize) -> Seen {
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
            let begun = matches!(event, Event::Image(_));
            tell(&mut events, event);
            if begun && settings & 0x40 != 0 {
                client.leave_undecoded().unwrap();
            }
            send(&mut client, &mut sent);
        }
    }
    let _ = client.receive_eof(Time::ZERO);
    while let Ok(received) = client.receive(&[], Time::ZERO) {
        match received.event {
            Some(event) => tell(&mut events, event),
            None => break,
        }
    }
    Seen {
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

fn tell(events: &mut Vec<Told>, event: Event<'_>) {
    let own = match event {
        Event::Data(data) => {
            match events.last_mut() {
                Some(Told::Data(before)) => before.extend_from_slice(data),
                _ => events.push(Told::Data(data.to_vec())),
            }
            return;
        }
        event => event.into_owned(),
    };
    events.push(Told::Event(own));
}
