//! Whole exchanges of both state machines: they do not depend on how the bytes are split, and the responses match
//! a model of sets and maps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jtp_core::client::{ClientConfig, ClientConnection, Event, HaveSet, Request, ResponseKind};
use jtp_core::server::{ServerConfig, ServerConnection};
use jtp_core::wire::request::RequestKind;
use jtp_core::{Catalog, CatalogWriter, FileType, Flags, Image, ImageId, Time};
use proptest::prelude::*;

const NOW: Time = Time::ZERO;

/// Everything observable about an exchange that must not depend on how it is split.
#[derive(Debug, Default, PartialEq)]
struct Exchange {
    up: Vec<u8>,
    down: Vec<u8>,
    /// The responses in order: kind, and IDs of the entries or images.
    responses: Vec<(ResponseKind, Vec<ImageId>)>,
    names: Vec<String>,
    bodies: Vec<Vec<u8>>,
}

type ImageBytes = BTreeMap<ImageId, Vec<u8>>;

fn catalog(images: &BTreeMap<String, Vec<u8>>) -> (Arc<Catalog>, ImageBytes) {
    let (mut writer, mut bodies) = (CatalogWriter::new(), ImageBytes::new());
    for (name, bytes) in images {
        let image = Image::new(
            ImageId::of(bytes),
            Flags::new(FileType::Png, false),
            u32::try_from(bytes.len()).unwrap(),
        );
        writer.insert(name, image).unwrap();
        bodies.insert(image.id, bytes.clone());
    }
    (writer.publish(), bodies)
}

/// Runs an exchange until nothing moves, split into pieces of the lengths that `cut` returns.
fn run(
    catalog: &Arc<Catalog>,
    bodies: &ImageBytes,
    requests: &[Request],
    cut: &mut dyn FnMut() -> usize,
) -> Exchange {
    let config = ClientConfig::new().with_pipeline(true);
    let mut client = ClientConnection::new(config, NOW);
    let mut server = ServerConnection::new(ServerConfig::new(), NOW);
    for request in requests {
        client.request(request.clone(), true, NOW).unwrap();
    }
    let mut exchange = Exchange::default();
    let (mut up, mut down) = (Vec::new(), Vec::new());
    loop {
        let mut moved = false;
        let count = client.transmit().len().min(cut());
        if count > 0 && server.wants_read(&up) {
            up.extend_from_slice(&client.transmit()[..count]);
            exchange.up.extend_from_slice(&client.transmit()[..count]);
            client.transmitted(count, NOW).unwrap();
            moved = true;
        }
        let received = server.receive(&up, NOW);
        up.drain(..received.used);
        moved |= received.used > 0;
        if received.event.is_some() {
            server.accept(catalog, NOW).unwrap();
        }
        if let Some(wanted) = server.wants_body() {
            let rest = wanted.remaining();
            let count = rest.min(u32::try_from(cut()).unwrap_or(rest));
            server.body_loaded(count, NOW).unwrap();
            moved = true;
        }
        let output = server.transmit();
        let mut bytes = output.bytes.to_vec();
        if let Some(span) = output.body {
            bytes.extend_from_slice(&bodies[&span.image.id][span.range()]);
        }
        bytes.truncate(cut());
        server.transmitted(bytes.len(), NOW).unwrap();
        moved |= !bytes.is_empty();
        exchange.down.extend_from_slice(&bytes);
        down.extend_from_slice(&bytes);
        let mut piece: Vec<u8> = down.drain(..down.len().min(cut())).collect();
        moved |= !piece.is_empty();
        loop {
            let received = client.receive(&piece, NOW).unwrap();
            let used = received.used;
            let Some(event) = received.event else { break };
            exchange.event(event);
            piece.drain(..used);
        }
        if !moved {
            break;
        }
    }
    assert!(client.is_idle() && up.is_empty(), "{client:?}\n{server:?}");
    exchange
}

impl Exchange {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Begin { kind, .. } => self.responses.push((kind, Vec::new())),
            Event::Entry(entry) => {
                self.responses.last_mut().unwrap().1.push(entry.id);
                self.names.push(entry.name.to_string());
            }
            Event::Image(image) => {
                self.responses.last_mut().unwrap().1.push(image.id);
                self.bodies.push(Vec::new());
            }
            Event::Data(data) => self.bodies.last_mut().unwrap().extend_from_slice(data),
            Event::ImageEnd { image, verdict } => {
                assert_eq!(verdict.map(|verified| verified.image()), Ok(image));
                assert_eq!(ImageId::of(self.bodies.last().unwrap()), image.id);
            }
            Event::End { kind } => assert_eq!(kind, self.responses.last().unwrap().0),
            other => panic!("{other:?}"),
        }
    }
}

/// Images by name. Most have few bytes, so that some are equal.
fn images() -> impl Strategy<Value = BTreeMap<String, Vec<u8>>> {
    let bytes = prop_oneof![
        4 => proptest::collection::vec(0u8..3, 0..6),
        1 => proptest::collection::vec(any::<u8>(), 0..1_200),
    ];
    proptest::collection::btree_map("[a-e]{1,3}\\.png", bytes, 0..40)
}

/// Choices of IDs: of the catalog by index, or unknown; some occur twice.
fn picks() -> impl Strategy<Value = Vec<(prop::sample::Index, bool)>> {
    proptest::collection::vec(
        (any::<prop::sample::Index>(), prop::bool::weighted(0.8)),
        0..50,
    )
}

fn picked(bodies: &ImageBytes, picks: &[(prop::sample::Index, bool)]) -> Vec<ImageId> {
    let ids: Vec<ImageId> = bodies.keys().copied().collect();
    let pick = |(at, known): &(prop::sample::Index, bool)| match *known && !ids.is_empty() {
        true => *at.get(&ids),
        false => ImageId(at.index(1_000) as u64),
    };
    picks.iter().map(pick).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn s1_s3_s5_s7_s8_an_exchange_does_not_depend_on_how_it_is_split(
        images in images(),
        choices in proptest::collection::vec((any::<prop::sample::Index>(), picks()), 1..6),
        cuts in proptest::collection::vec(1usize..60, 1..40),
    ) {
        let (catalog, bodies) = catalog(&images);
        // WATCH has no end, and CANCEL needs a response in progress.
        let kinds = RequestKind::ALL.into_iter().filter(|kind| kind.has_flags());
        let kinds: Vec<RequestKind> = kinds.collect();
        let requests: Vec<Request> = choices.iter().map(|(kind, picks)| {
            Request::of(*kind.get(&kinds), picked(&bodies, picks)).unwrap()
        }).collect();
        let whole = run(&catalog, &bodies, &requests, &mut || usize::MAX);
        let mut cuts = cuts.into_iter().cycle();
        let pieces = run(&catalog, &bodies, &requests, &mut || cuts.next().unwrap());
        prop_assert_eq!(&pieces, &whole);
        prop_assert_eq!(&run(&catalog, &bodies, &requests, &mut || 1), &whole);

        // S7: in request order, without unknown IDs; an ID requested twice is sent twice.
        prop_assert_eq!(whole.responses.len(), requests.len());
        for (request, (kind, ids)) in requests.iter().zip(&whole.responses) {
            prop_assert_eq!(*kind, request.kind());
            if let Request::GetById(requested) = request {
                let known: Vec<ImageId> =
                    requested.iter().filter(|id| bodies.contains_key(id)).copied().collect();
                prop_assert_eq!(ids, &known);
            }
        }
    }

    #[test]
    fn s8_a_batch_returns_the_images_that_the_client_lacks(images in images(), have in picks()) {
        let (catalog, bodies) = catalog(&images);
        let have = picked(&bodies, &have);
        let batch = Request::Batch(HaveSet::try_from(have.clone()).unwrap());
        let exchange = run(&catalog, &bodies, &[batch, Request::List], &mut || usize::MAX);
        let (missing, listed) = (&exchange.responses[0].1, &exchange.responses[1].1);
        let have: BTreeSet<ImageId> = have.into_iter().collect();
        let all: BTreeSet<ImageId> = bodies.keys().copied().collect();
        let received_ids: BTreeSet<ImageId> = missing.iter().copied().collect();
        prop_assert_eq!(received_ids.len(), missing.len(), "S4: an image sent twice");
        prop_assert_eq!(&received_ids, &all.difference(&have).copied().collect());
        // S5: in catalog order.
        let in_order: Vec<ImageId> =
            listed.iter().filter(|id| !have.contains(id)).copied().collect();
        prop_assert_eq!(missing, &in_order);
        for (id, body) in missing.iter().zip(&exchange.bodies) {
            prop_assert_eq!(&bodies[id], body);
        }
    }
}
