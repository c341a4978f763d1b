//! Why a received image is bad.

use crate::image::ImageId;

/// Why a received image is bad. The stream continues after it. // R2
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageFault {
    /// The decoded bytes have another ID than the packet. // W3
    #[error("the image's bytes have the ID {actual}, not {expected}")]
    WrongId {
        /// The ID in the packet's head.
        expected: ImageId,
        /// The ID of the decoded bytes.
        actual: ImageId,
    },
    /// The compressed data are not Zstd frames, or not such as the protocol allows. // W8
    #[error("the compressed data are broken: {0}")]
    Broken(&'static str),
    /// The decoded image exceeds the receiver's limit. // R4
    #[error("the image is longer than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The encrypted bit is set. // R2
    #[error("the image is marked as encrypted")]
    Encrypted,
    /// The data are compressed, and this build lacks the feature `zstd`. // W8
    #[error("the image is compressed, and this program was built without Zstd")]
    CompressionUnsupported,
}
