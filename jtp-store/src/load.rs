//! Fetching the next bodies of a response in one go.

use jtp_core::Image;

use crate::{ImageBody, ImageStore, OpenError, ReadError};

/// The beginning of an image, or all of it.
pub struct Loaded {
    /// The image as it was asked for.
    pub image: Image,
    /// Its first bytes.
    pub first: Vec<u8>,
    /// Where the rest comes from; `None` if `first` is the whole image.
    pub body: Option<Box<dyn ImageBody>>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("image", &self.image)
            .field("first", &self.first.len())
            .field("whole", &self.body.is_none())
            .finish()
    }
}

/// Why an image could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Opens the first of `images` and reads up to `budget` bytes of it; then, while budget is left, loads the
/// images that follow as long as they fit in whole. Blocking.
///
/// An async adapter sends a response of many tiny images with one trip to a blocking thread for each
/// `budget` bytes, not for each image. The results are those of the first images, in order, at least one
/// unless `images` is empty. After an error nothing more is loaded: a response ends there (S12). At most
/// `budget` bytes of bodies are held, plus the vectors' own few dozen bytes an image, so the caller also
/// bounds the slice.
pub fn load<S>(store: &S, images: &[Image], budget: usize) -> Vec<Result<Loaded, LoadError>>
where
    S: ImageStore + ?Sized,
{
    let mut results = Vec::new();
    let mut left = budget;
    for image in images {
        let length = usize::try_from(image.length).unwrap_or(usize::MAX);
        if !results.is_empty() && length > left {
            break;
        }
        let loaded = load_one(store, image, length.min(left));
        let goes_on = loaded.as_ref().is_ok_and(|loaded| loaded.body.is_none());
        results.push(loaded);
        if !goes_on {
            break;
        }
        left -= length;
    }
    results
}

fn load_one<S>(store: &S, image: &Image, wanted: usize) -> Result<Loaded, LoadError>
where
    S: ImageStore + ?Sized,
{
    let mut body = store.open(image)?;
    let mut first = vec![0; wanted];
    let mut at = 0;
    while let Some(rest) = first.get_mut(at..).filter(|rest| !rest.is_empty()) {
        // A usize is at most 64 bits wide here, and a body far shorter.
        at += body.read_at(u64::try_from(at).unwrap_or(u64::MAX), rest)?;
    }
    let whole = u64::try_from(wanted).is_ok_and(|wanted| wanted == u64::from(image.length));
    Ok(Loaded {
        image: *image,
        first,
        body: (!whole).then_some(body),
    })
}
