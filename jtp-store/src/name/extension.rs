//! The file name extensions of images.

use std::ffi::OsStr;

/// The extensions, in lower case, without the dot.
const IMAGE_EXTENSIONS: &[&str] = &[
    "png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "gif", // W5
    "avif", "heic", "heif", "hif", "insp", "jp2", "j2k", "jpf", "jxl",
    "mpo", // modern formats
    "exr", "hdr", "ico", "pbm", "pcx", "pdf", "pgm", "pnm", "ppm", "psd", "qoi", "svg", "tga",
    "tif", "tiff", // documents, graphics, textures
    "3fr", "arw", "cr2", "cr3", "dng", "erf", "gpr", "iiq", "nef", "nrw", "orf", "pef", "raf",
    "rw2", "sr2", "srf", "srw", "x3f", // camera raw files
];

/// The extension of received images whose name has none of an image. A server shares such files only by their first
/// bytes: elsewhere it is that of disk images.
const UNKNOWN: &str = "img";

/// Whether a file name has the extension of an image, ignoring case: the list in Appendix B.2 of RFC.md. // R5
///
/// ```
/// assert!(jtp_store::has_image_extension("a.JPEG"));
/// assert!(!jtp_store::has_image_extension("a.py"));
/// assert!(!jtp_store::has_image_extension(".png"), "a hidden file without an extension");
/// ```
#[must_use]
pub fn has_image_extension(name: &str) -> bool {
    extension(name)
        .is_some_and(|extension| is_image(extension) || extension.eq_ignore_ascii_case(UNKNOWN))
}

/// Whether a file name has the extension of an image that is not that of other files, too, ignoring case.
pub(crate) fn has_certain_extension(name: &str) -> bool {
    extension(name).is_some_and(is_image)
}

/// Whether a file or folder of this name is hidden.
pub(crate) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

fn is_image(extension: &str) -> bool {
    IMAGE_EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}

fn extension(name: &str) -> Option<&str> {
    match name.rfind('.') {
        Some(dot) if dot > 0 => Some(&name[dot + 1..]),
        _ => None,
    }
}
