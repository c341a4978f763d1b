//! Runs every decoder on the same bytes. The checks are those of jtp-core's test `laws`.

#[path = "../../jtp-core/tests/laws/decode.rs"]
mod laws;

pub fn run(data: &[u8]) {
    laws::run(data);
}
