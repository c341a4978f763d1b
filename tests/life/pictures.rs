//! Images, each different from all others.

use std::fs;
use std::sync::OnceLock;

use jtp_kit::bmp;

use crate::support::files::{images_in, noise, samples_folder};
use jtp_kit::Rng;

/// A PNG of one pixel.
const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0\x1f\x15\xc4\x89\0\0\0\rIDATx\x9cc\xf8\xff\xff?\0\x05\xfe\x02\xfe\xa75\x81\x84\0\0\0\0IEND\xaeB`\x82";

/// A GIF of one pixel.
const GIF: &[u8] = b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0!\xf9\x04\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;";

/// An image with a number in its trailing data, which viewers ignore.
pub(super) fn picture(rng: &mut Rng, number: u64) -> Vec<u8> {
    let mut bytes = match rng.below(10) {
        0..4 => PNG.to_vec(),
        4..6 => GIF.to_vec(),
        6..8 => sample(rng),
        _ => bmp(200 + rng.below(30_000), u8::try_from(number % 251).unwrap()),
    };
    bytes.extend(number.to_be_bytes());
    let trailing = match rng.below(20) {
        0 => 300_000,
        1..4 => 20_000,
        _ => 200,
    };
    bytes.extend(noise(rng.below(trailing), number));
    bytes
}

fn sample(rng: &mut Rng) -> Vec<u8> {
    static SAMPLES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let samples = SAMPLES.get_or_init(|| {
        let samples = images_in(&samples_folder()).into_iter();
        samples.map(|sample| sample.bytes).collect()
    });
    rng.pick(samples).clone()
}

/// Whether a file with this name and these bytes is shared.
pub(super) fn is_image(name: &str, bytes: &[u8]) -> bool {
    let begins = |magic: &[u8]| bytes.starts_with(magic);
    let is_webp = begins(b"RIFF") && bytes.get(8..12) == Some(b"WEBP");
    let is_bmp = begins(b"BM") && bytes.get(6..10) == Some(&[0; 4]);
    jtp_store::has_image_extension(name)
        || begins(b"\x89PNG\r\n\x1a\n")
        || begins(b"GIF8")
        || begins(b"\xff\xd8\xff")
        || is_webp
        || is_bmp
}

/// The ID of a file's content, if it can be read.
pub(super) fn id_of_file(path: &std::path::Path) -> Option<u64> {
    let bytes = fs::read(path).ok()?;
    Some(crate::support::bytes::id_of(&bytes))
}
