//! The fuzz targets of JTP. The `run` function of each module takes the fuzzer's input and panics if an invariant
//! is violated. `tests/seeds.rs` runs the same functions on the seeds.

pub mod body;
pub mod connections;
pub mod identities;
pub mod names;
pub mod object_catalog;
pub mod proxy;
pub mod wire_decode;

/// The function of a target.
pub type Target = fn(&[u8]);

/// All targets by name.
pub const TARGETS: [(&str, Target); 10] = [
    ("wire_decode", wire_decode::run),
    ("server_bytes", connections::server_bytes),
    ("client_bytes", connections::client_bytes),
    ("pair", connections::pair),
    ("calls", connections::calls),
    ("body", body::run),
    ("names", names::run),
    ("object_catalog", object_catalog::run),
    ("identities", identities::run),
    ("proxy", proxy::run),
];

/// Reads the fuzzer's input from the front.
#[derive(Debug, Clone)]
pub struct ByteReader<'a>(pub &'a [u8]);

impl<'a> ByteReader<'a> {
    /// The next byte, or 0 at the end of the input.
    pub fn byte(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    /// The next bytes, at most `count`.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (piece, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        piece
    }
}

/// The images in the catalogs of all targets: name and bytes.
pub const IMAGES: [(&str, &[u8]); 4] = [
    ("a.png", b"the first image"),
    ("b.png", b"another one, a bit longer"),
    ("c.png", b""),
    ("d.bmp", &[7; 300]),
];
