//! The file name extensions of images.

/// The extensions, in lower case, without the dot. `img` is that of images whose type is not known.
const IMAGE_EXTENSIONS: &[&str] = &[
    "png", "apng", "jpg", "jpeg", "jpe", "jfif", "webp", "bmp", "dib", "gif", // W5
    "avif", "heic", "heif", "hif", "insp", "jp2", "j2k", "jpf", "jxl",
    "mpo", // modern formats
    "exr", "hdr", "ico", "pbm", "pcx", "pdf", "pgm", "pnm", "ppm", "psd", "qoi", "svg", "tga",
    "tif", "tiff", // documents, graphics, textures
    "3fr", "arw", "cr2", "cr3", "dng", "erf", "gpr", "iiq", "nef", "nrw", "orf", "pef", "raf",
    "rw2", "sr2", "srf", "srw", "x3f", // camera raw files
    "img",
];

/// Whether a file name has the extension of an image, ignoring case: the list in Appendix B.2 of RFC.md. // R5
///
/// ```
/// assert!(jtp_store::has_image_extension("a.JPEG"));
/// assert!(!jtp_store::has_image_extension("a.py"));
/// assert!(!jtp_store::has_image_extension(".png"), "a hidden file without an extension");
/// ```
#[must_use]
pub fn has_image_extension(name: &str) -> bool {
    let extension = match name.rfind('.') {
        Some(dot) if dot > 0 => &name[dot + 1..],
        _ => return false,
    };
    IMAGE_EXTENSIONS
        .iter()
        .any(|known| extension.eq_ignore_ascii_case(known))
}
