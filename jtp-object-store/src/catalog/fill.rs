//! The first list of a server, made of all records at once.

use std::collections::HashSet;
use std::ops::Range;

use jtp_core::compress::Threshold;
use jtp_core::{CatalogWriter, Image};

use crate::names::listed_name;
use crate::state::State;

/// Adds all images to a catalog that is empty. The same as adding each by itself, which costs several cache misses and a
/// look-up of its record.
pub(super) fn fill(writer: &mut CatalogWriter, state: &State, threshold: Threshold) {
    let mut names = String::new();
    let mut images = Vec::with_capacity(state.len());
    for (key, object) in state.iter() {
        if let Some(image) = object.listed(threshold) {
            let start = names.len();
            let name = listed_name(&key).unwrap_or_default();
            if names.capacity() - start < name.len() {
                // Grows by an eighth, not by the double.
                names.reserve_exact(name.len() + start / 8);
            }
            names.push_str(&name);
            images.push((start..names.len(), image));
        }
    }
    keep_first(&mut images);
    let name = |range: &Range<usize>| names.get(range.clone()).unwrap_or_default();
    images.retain(|(range, _)| !range.is_empty());
    // In the order of keys, which is that of names but for the folders.
    images.sort_by(|(a, one), (b, other)| (name(a), one.id).cmp(&(name(b), other.id)));
    let images = images.iter().map(|(range, image)| (name(range), *image));
    // A name that is refused is too long. // S14
    writer.fill(images, |_, _| {});
}

/// Keeps the first of the images with one ID: it is listed under the first of its keys.
fn keep_first(images: &mut Vec<(Range<usize>, Image)>) {
    let mut by_id: Vec<_> = (0..)
        .zip(&*images)
        .map(|(at, (_, image))| (image.id, at))
        .collect();
    by_id.sort_unstable();
    let repeated = by_id.windows(2).filter_map(|pair| match pair {
        [(one, _), (other, at)] if one == other => Some(*at),
        _ => None,
    });
    let repeated: HashSet<u32> = repeated.collect();
    if !repeated.is_empty() {
        let mut at = 0..;
        images.retain(|_| at.next().is_some_and(|at| !repeated.contains(&at)));
    }
}

#[cfg(test)]
mod tests {
    use jtp_core::{FileType, ImageId};
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::publish;
    use crate::format::{Change, Contents, Identity, Object, Variant};

    proptest! {
        #[test]
        fn a_list_that_is_made_at_once_is_that_of_all_images_one_by_one(
            objects in prop::collection::vec(("[ab-]{1,2}(/[ab-]{1,2}){0,2}", 0..20u64), 0..40),
        ) {
            let mut state = State::default();
            for (key, id) in objects {
                let contents = match id {
                    0 => Contents::NotImage,
                    _ => Contents::Image { id: ImageId(id), file_type: FileType::Png },
                };
                let mut object = Object::new(Identity::new(Some("e"), None, 100 * id), contents);
                if id % 3 == 1 {
                    let length = u32::try_from(50 * id).unwrap();
                    object.variant = Some(Variant::Encoded { length, checksum: id });
                }
                state.set(&Change { key: key.into(), object: Some(object) }, &mut Vec::new());
            }
            let (mut filled, mut expected) = (CatalogWriter::new(), CatalogWriter::new());
            fill(&mut filled, &state, Threshold::default());
            for id in state.ids() {
                publish(&state, id, Threshold::default(), &mut expected);
            }
            prop_assert!(filled.entries().eq(expected.entries()));
        }
    }
}
