//! Image files, and generated content.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use jtp_kit::noise;

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
