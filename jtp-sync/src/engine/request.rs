//! Which images a connection requests next.

use jtp_core::ImageId;
use jtp_core::client::HaveSet;
use jtp_core::wire::request::MAX_GET;

use super::session::{Session, State};
use crate::step::FetchFailure;

/// Minimum size of a request in bytes, unless nothing else is wanted: smaller ones are not worth a round trip. On a long
/// line it is larger: see [`Pace`](super::pace::Pace).
const MIN_BYTES: u64 = 64 * 1024;

/// Maximum number of images that a single connection takes at once: several GET_BY_ID, one after another.
const MAX_SINGLE: usize = 8 * MAX_GET;

/// If the folder contains more images than this and few are missing, those are requested by ID: a BATCH would name all
/// others, in 8 bytes each.
const MAX_BATCH_FOR_FEW: usize = 10_000;

/// A request, and the images that it asks for.
pub(super) enum Request {
    /// All images that the server has. // S8
    All,
    /// All images but these. // S8
    Batch(HaveSet),
    /// These images. // S7
    Ids(Vec<ImageId>),
}

impl Session {
    /// Takes the images of the next request from the planner; `None` if none are wanted now.
    pub(super) fn next_request(&self) -> Option<Request> {
        let state = &mut *self.state();
        // Between the LIST and a request for everything, images may appear that are not selected.
        let bulk = match self.selection.is_all() {
            true => state.next_bulk(),
            false => None,
        };
        let request = bulk.or_else(|| state.next_ids());
        if request.is_some() {
            state.in_flight += 1;
        }
        request
    }
}

impl State {
    /// One request for everything, if one connection is used and only few images have to be named.
    fn next_bulk(&mut self) -> Option<Request> {
        let wanted = usize::try_from(self.planner.wanted().images).unwrap_or(usize::MAX);
        if !self.bulk || self.connections > 1 || self.in_flight > 0 || wanted <= self.suspects.len()
        {
            return None;
        }
        // Images that have arrived and are not processed yet would come again. // R8
        if self.planner.requested().images > 0 {
            return None;
        }
        let few = wanted <= MAX_GET;
        let had = self.planner.len().saturating_sub(wanted) + self.suspects.len();
        if few && (self.follows || had > MAX_BATCH_FOR_FEW) {
            return None;
        }
        if had == 0 {
            self.planner.fetch_all();
            return Some(Request::All);
        }
        if had > HaveSet::MAX {
            return None;
        }
        let suspects = self.suspects.keys().copied();
        let have = HaveSet::try_from_iter(self.planner.have().chain(suspects)).ok()?;
        self.planner.fetch_all();
        for &id in self.suspects.keys() {
            self.planner.fetch_failed(id, FetchFailure::Interrupted);
        }
        Some(Request::Batch(have))
    }

    /// A share of the wanted images that shrinks with their number, so that all connections finish at about the same
    /// time. An image that the server has failed to send is requested alone, after all others.
    fn next_ids(&mut self) -> Option<Request> {
        let wanted = self.planner.wanted();
        let images = usize::try_from(wanted.images).unwrap_or(usize::MAX);
        let (max_images, min_bytes, max_bytes) = match self.connections {
            0 | 1 => (MAX_SINGLE, 0, u64::MAX),
            n => {
                let share = wanted.bytes / u64::try_from(n).unwrap_or(1);
                // The first requests take most of what is wanted. They differ, since each is a share of the rest.
                let share = if self.pace.is_some() {
                    share / 2
                } else {
                    share
                };
                let min_bytes = self.pace.map_or(0, |pace| pace.min_request(n));
                let max_bytes = share.max(MIN_BYTES).max(min_bytes);
                (images.div_ceil(n).min(MAX_GET), min_bytes, max_bytes)
            }
        };
        let mut ids = Vec::new();
        let mut suspects = Vec::new();
        let mut bytes = 0;
        for _ in 0..images {
            let Some((id, length)) = self.planner.next_fetch() else {
                break;
            };
            if self.suspects.contains_key(&id) {
                suspects.push(id);
                continue;
            }
            bytes += u64::from(length);
            ids.push(id);
            let is_share = ids.len() >= max_images && (bytes >= min_bytes || ids.len() >= MAX_GET);
            if is_share || bytes >= max_bytes {
                break;
            }
        }
        let alone = match ids.is_empty() && !suspects.is_empty() {
            true => Some(suspects.swap_remove(0)),
            false => None,
        };
        for id in suspects {
            self.planner.fetch_failed(id, FetchFailure::Interrupted);
        }
        ids.extend(alone);
        (!ids.is_empty()).then_some(Request::Ids(ids))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jtp_core::FileType;

    use super::super::pace::Pace;
    use super::*;
    use crate::{FileKind, Inventory, Options, Planner};

    /// The state after a LIST of images with these lengths, of which the folder has the first ones.
    fn listed(lengths: &[u32], present: usize) -> State {
        let mut planner = Planner::new(Options::new());
        let mut inventory = Inventory::new();
        let ids = || (0..).map(ImageId);
        for id in ids().take(present) {
            inventory.add(&format!("{}.png", id.0), FileKind::Image(id));
        }
        planner.set_folder(inventory);
        planner.begin_list();
        for (id, length) in ids().zip(lengths) {
            planner.entry(id, &format!("{}.png", id.0), FileType::Png, *length);
        }
        planner.end_list(true);
        State::new(planner)
    }

    #[test]
    fn s8_few_images_of_a_large_folder_are_requested_by_id_and_all_others_at_once() {
        let lengths = [100; MAX_BATCH_FOR_FEW + 2];
        for (present, is_batch) in [
            (MAX_BATCH_FOR_FEW + 1, false),
            (MAX_BATCH_FOR_FEW, true),
            (MAX_BATCH_FOR_FEW - 300, true),
        ] {
            let mut state = listed(&lengths[..present + 1], present);
            let request = state.next_bulk();
            assert_eq!(request.is_some(), is_batch, "{present}");
        }
        // Most are missing.
        let request = listed(&[100; 20_000], 10_001).next_bulk();
        assert!(matches!(request, Some(Request::Batch(_))));
        // Events name single images.
        let mut state = listed(&[100; 3], 1);
        state.follows = true;
        assert!(state.next_bulk().is_none());
    }

    #[test]
    fn an_image_in_whose_place_the_connection_ended_is_not_requested_with_all_others() {
        let mut state = listed(&[100; 3], 0);
        state.suspects.insert(ImageId(1), 1);
        let Some(Request::Batch(have)) = state.next_bulk() else {
            panic!("all but the suspect are requested at once");
        };
        assert_eq!(have.len(), 1, "the server is to leave out the suspect");
        assert!(matches!(
            listed(&[100; 3], 0).next_bulk(),
            Some(Request::All)
        ));
    }

    #[test]
    fn small_images_are_shared_by_number() {
        // Nearly all bytes are in the last one.
        let mut lengths = [1; 1_000];
        lengths[999] = 10_000_000;
        let mut state = listed(&lengths, 0);
        state.connections = 4;
        assert_eq!(next(&mut state), 250);
    }

    /// The images of the next request.
    fn next(state: &mut State) -> usize {
        match state.next_ids() {
            Some(Request::Ids(ids)) => ids.len(),
            _ => 0,
        }
    }

    #[test]
    fn requests_of_four_connections_end_one_after_another_and_are_never_too_small_for_the_line() {
        let mut planner = Planner::new(Options::new());
        planner.set_folder(Inventory::new());
        planner.begin_list();
        for n in 0..1_000 {
            planner.entry(ImageId(n), &format!("{n}.png"), FileType::Png, 5_000);
        }
        planner.end_list(true);
        let mut state = State::new(planner);
        state.connections = 4;
        let first: Vec<_> = (0..4).map(|_| next(&mut state)).collect();
        assert!(first.iter().sum::<usize>() > 600, "{first:?}");
        assert!(first.windows(2).all(|pair| pair[0] > pair[1]), "{first:?}");
        // On loopback the rest is divided until requests have 64 KiB.
        let ms = Duration::from_millis;
        state.pace = Some(Pace::measured(1_000_000, ms(0), ms(2)));
        assert!((30..50).contains(&next(&mut state)));
        // 500 kB arrive until the next response begins.
        state.pace = Some(Pace::measured(500_000, ms(80), ms(320)));
        assert_eq!(next(&mut state), 100);
    }
}
