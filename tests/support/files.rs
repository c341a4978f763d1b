//! Image files, and generated content.

use std::fs;
use std::path::{Path, PathBuf};

use super::bytes::TestImage;

/// The repository's sample images.
pub(crate) fn samples_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../images")
}

/// The images of a folder, in catalog order. // S5
pub(crate) fn images_in(folder: &Path) -> Vec<TestImage> {
    let mut images: Vec<TestImage> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| !entry.file_name().as_encoded_bytes().starts_with(b"."))
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            TestImage::new(&name, fs::read(entry.path()).unwrap())
        })
        .collect();
    images.sort_by(|a, b| a.name.cmp(&b.name));
    images
}

/// A copy of the sample images.
pub(crate) fn samples() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let images = images_in(&samples_folder());
    assert_eq!(images.len(), 14, "all samples are present");
    for image in images {
        fs::write(folder.path().join(&image.name), &image.bytes).unwrap();
    }
    folder
}

/// A folder of images with the given names and bytes.
pub(crate) fn folder_of<'a>(
    files: impl IntoIterator<Item = (&'a str, Vec<u8>)>,
) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// A folder of `count` incompressible images of `len` bytes each.
pub(crate) fn generated(count: usize, len: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for n in 0..count {
        let bytes = noise(len, u64::try_from(n).unwrap());
        fs::write(folder.path().join(format!("{n:04}.png")), bytes).unwrap();
    }
    folder
}

/// Incompressible bytes, different for each seed.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A BMP of `len` bytes in total that compresses well.
pub(crate) fn bmp(len: usize, seed: u8) -> Vec<u8> {
    let mut bytes = b"BM".to_vec();
    bytes.extend(u32::try_from(len).unwrap().to_le_bytes());
    bytes.extend([0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0]);
    bytes.resize(54, seed);
    let mut row = Vec::with_capacity(3 << 16);
    for n in 0..1u32 << 16 {
        let [_, _, high, low] = n.to_be_bytes();
        row.extend([low & 0xf0, high, seed]);
    }
    while bytes.len() < len {
        let left = len - bytes.len();
        bytes.extend_from_slice(&row[..left.min(row.len())]);
    }
    bytes.truncate(len);
    bytes
}
