//! The compression policy: which images are sent compressed, and at which level. // S9
//!
//! This module decides only. The store compresses, once for each image and not for each request.

#![warn(clippy::exhaustive_enums, clippy::exhaustive_structs)]

use crate::image::FileType;

/// Of a larger image, a sample of this many bytes is compressed first, to find out whether it is worth it. // S9
pub const SAMPLE_LEN: u64 = 1024 * 1024;

/// The default threshold. // S9
pub const DEFAULT_THRESHOLD: f64 = 0.95;

/// Whether to try compression: for BMP and "other", unless the image is empty. // S9
#[must_use]
pub const fn is_eligible(file_type: FileType, raw_len: u64) -> bool {
    let bulky = match file_type {
        FileType::Bmp | FileType::Reserved5 | FileType::Reserved6 | FileType::Other => true,
        FileType::Png | FileType::Jpeg | FileType::WebP | FileType::Gif => false,
    };
    bulky && raw_len > 0
}

/// The Zstd level by the uncompressed length in bytes: 6 below 100 KiB, 3 up to 1 MiB, 1 above. // S9
#[must_use]
pub const fn level(raw_len: u64) -> i32 {
    const SMALL: u64 = 100 * 1024;
    const MEDIUM: u64 = 1024 * 1024;
    if raw_len < SMALL {
        6
    } else if raw_len <= MEDIUM {
        3
    } else {
        1
    }
}

/// The ratio of compressed to raw length below which an image is sent compressed. // S9
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Threshold(f64);

impl Threshold {
    /// A threshold from 0 (never compress) to 1; `None` for other values and NaN.
    #[must_use]
    pub fn new(ratio: f64) -> Option<Threshold> {
        (0.0..=1.0).contains(&ratio).then_some(Threshold(ratio))
    }

    /// Whether compression is switched off.
    #[must_use]
    pub fn is_off(self) -> bool {
        self.0 <= 0.0
    }

    /// The threshold in units of 1/10,000, rounded up: for an index that records the threshold at which an image was
    /// not worth compressing.
    #[must_use]
    pub fn ten_thousandths(self) -> u16 {
        // Between 0 and 10,000. `f64::ceil` needs std.
        let exact = self.0 * 10_000.0;
        let whole = exact as u16;
        whole + u16::from(f64::from(whole) < exact)
    }

    /// Whether an image of `raw` bytes that compresses to `compressed` bytes is sent compressed. // S9
    #[must_use]
    pub fn accepts(self, raw: u64, compressed: u64) -> bool {
        // An f64 represents both exactly: images are far smaller than 2^53 bytes. // S14
        (compressed as f64) < self.0 * raw as f64
    }
}

impl Default for Threshold {
    fn default() -> Threshold {
        Threshold(DEFAULT_THRESHOLD)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s9_only_bmp_and_other_are_eligible_unless_empty() {
        for code in 0..8 {
            let file_type = FileType::from_code(code);
            assert_eq!(
                is_eligible(file_type, 1),
                matches!(code, 3 | 5 | 6 | 7),
                "{file_type:?}"
            );
            assert!(!is_eligible(file_type, 0));
        }
    }

    #[test]
    fn s9_the_level_depends_on_the_length() {
        assert_eq!(level(100 * 1024 - 1), 6);
        assert_eq!(level(100 * 1024), 3);
        assert_eq!(level(1024 * 1024), 3);
        assert_eq!(level(1024 * 1024 + 1), 1);
        assert_eq!(level(u64::MAX), 1);
    }

    #[test]
    fn s9_compression_is_used_only_below_the_threshold() {
        let usual = Threshold::default();
        assert!(!usual.is_off() && usual.accepts(100, 94));
        assert!(!usual.accepts(100, 95));
        assert!(!usual.accepts(0, 0));
        assert_eq!(usual.ten_thousandths(), 9500);
        let odd = |ratio| Threshold::new(ratio).map(Threshold::ten_thousandths);
        assert_eq!((odd(0.000_01), odd(1.0)), (Some(1), Some(10_000)));
        let off = Threshold::new(0.0).unwrap();
        assert_eq!(off.ten_thousandths(), 0);
        assert!(off.is_off() && !off.accepts(100, 1));
        assert_eq!(Threshold::new(1.1), None);
        assert_eq!(Threshold::new(-0.1), None);
        assert_eq!(Threshold::new(f64::NAN), None);
    }
}
