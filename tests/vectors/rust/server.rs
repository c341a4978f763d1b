//! Exchanges with the server state machine and its model, with input and output split in several ways.

use std::collections::{HashMap, HashSet};

use jtp_core::server::ServerConfig;
use jtp_core::{FileType, Flags, Image, ImageId, Time};
use serde_json::Value;

use crate::read::{Vector, bytes, vectors};
use crate::simulation::server::Server;
use crate::simulation::store::Store;

const NOW: Time = Time::ZERO;

/// A store, the state machine and the model that follows it, and the output.
struct Exchange {
    store: Store,
    ids: HashMap<String, ImageId>,
    unreadable: HashSet<ImageId>,
    server: Server,
    got: Vec<u8>,
    ended: bool,
    /// The maximum number of bytes of input and of output that move at once.
    cut: (usize, usize),
}

impl Exchange {
    fn new(vector: &Vector, catalogs: &[Vector], cut: (usize, usize)) -> Exchange {
        let option = vector
            .get("options")
            .and_then(|options| options["watch"].as_bool());
        let config = ServerConfig::new().with_watch(option.unwrap_or(true));
        let mut exchange = Exchange {
            store: Store::of(&[]),
            ids: HashMap::new(),
            unreadable: HashSet::new(),
            server: Server::new(config, NOW),
            got: Vec::new(),
            ended: false,
            cut,
        };
        let named = format!("catalog/{}", vector.str("catalog"));
        let catalog = catalogs.iter().find(|catalog| catalog.label == named);
        for file in catalog.expect("the catalog exists").list("files") {
            exchange.insert(file);
        }
        exchange.store.publish();
        exchange
    }

    fn insert(&mut self, file: &Value) {
        let text = |field: &str| file.get(field).and_then(Value::as_str);
        let name = text("name").unwrap();
        let compressed = text("compressed");
        let image = bytes(text("image").unwrap());
        let sent = compressed.map_or_else(|| image.clone(), bytes);
        let code = u8::try_from(file["type"].as_u64().unwrap()).unwrap();
        let id = ImageId::of(&image);
        assert_eq!(Some(&*id.to_string()), text("id"), "{name}");
        let flags = Flags::new(FileType::from_code(code), compressed.is_some());
        let entry = Image::new(id, flags, u32::try_from(sent.len()).unwrap());
        self.store.insert(name, entry, sent);
        self.ids.insert(name.to_owned(), id);
    }

    fn publish(&mut self) {
        self.store.publish();
        self.server.catalog_changed(&self.store, NOW);
        self.run();
    }

    /// Loads bodies and takes output until nothing more happens.
    fn run(&mut self) {
        loop {
            self.server.receive_all(NOW);
            while self.server.is_deciding {
                self.server.accept(&self.store, NOW);
                self.server.receive_all(NOW);
            }
            if let Some(request) = self.server.machine.wants_body() {
                match self.unreadable.contains(&request.image().id) {
                    true => self.server.fail_body(NOW),
                    false => self.server.load(&self.store, false, u32::MAX, NOW),
                }
            }
            let some = self.server.send(self.cut.1, NOW);
            if self.server.finish(NOW) {
                self.ended = true;
            } else if some.is_empty() {
                return;
            }
            self.got.extend(some);
        }
    }

    fn step(&mut self, step: &Value, label: &str) {
        let (what, with) = step.as_object().unwrap().iter().next().unwrap();
        match (what.as_str(), with) {
            ("client", Value::String(text)) => {
                for piece in bytes(text).chunks(self.cut.0) {
                    self.server.input.extend_from_slice(piece);
                    self.run();
                }
            }
            ("client_ends", _) => {
                self.server.end();
                self.run();
            }
            ("server", Value::Array(parts)) => {
                let rest = expect(&self.got, parts);
                let rest = rest.unwrap_or_else(|| panic!("{label}: {:02x?}", self.got));
                self.got = rest.to_vec();
            }
            ("server_any", Value::Array(answers)) => {
                // The longest that matches: one may be a prefix of another.
                let rests = answers
                    .iter()
                    .filter_map(|a| expect(&self.got, a.as_array().unwrap()));
                let rest = rests.min_by_key(|rest| rest.len());
                let rest = rest.unwrap_or_else(|| panic!("{label}: {:02x?}", self.got));
                self.got = rest.to_vec();
            }
            ("server_ends", _) => assert!(self.ended && self.got.is_empty(), "{label}"),
            ("appear", file) => {
                self.insert(file);
                self.publish();
            }
            ("disappear", Value::String(name)) => {
                self.store.unlist(self.ids[name]);
                self.publish();
            }
            ("unreadable", Value::String(name)) => {
                self.unreadable.insert(self.ids[name]);
            }
            other => panic!("{label}: no step {other:?}"),
        }
    }
}

/// The bytes behind these parts, if `got` begins with them.
fn expect<'a>(got: &'a [u8], parts: &[Value]) -> Option<&'a [u8]> {
    parts.iter().try_fold(got, |got, part| match part {
        Value::String(text) => got.strip_prefix(&*bytes(text)),
        // A JTPE with this code and any message.
        error => {
            let code = u8::try_from(error["error"].as_u64()?).ok()?;
            let rest = got.strip_prefix(b"JTPE")?.strip_prefix(&[code])?;
            let (length, rest) = rest.split_first_chunk()?;
            rest.get(usize::from(u16::from_be_bytes(*length))..)
        }
    })
}

#[test]
fn c3_c4_s1_s10_n3_server_exchanges() {
    const UNLIMITED: usize = 1 << 20;
    let catalogs = vectors("catalog");
    for vector in ["server", "server_states"].into_iter().flat_map(vectors) {
        let steps = vector.list("steps");
        let long = steps
            .iter()
            .any(|step| step["client"].as_str().is_some_and(|c| c.contains("*9")));
        let sizes = if long {
            UNLIMITED..UNLIMITED + 1
        } else {
            1..40
        };
        let cuts = sizes.flat_map(|size| [(size, UNLIMITED), (size, 1), (UNLIMITED, size)]);
        for cut in cuts.chain([(UNLIMITED, UNLIMITED)]) {
            let label = format!("{}, cut by {cut:?}", vector.label);
            let mut exchange = Exchange::new(&vector, &catalogs, cut);
            for step in steps {
                exchange.step(step, &label);
            }
            assert!(exchange.got.is_empty(), "{label}: {:02x?}", exchange.got);
            let ends = steps.iter().any(|step| step.get("server_ends").is_some());
            assert_eq!(exchange.ended, ends, "{label}");
        }
    }
}
