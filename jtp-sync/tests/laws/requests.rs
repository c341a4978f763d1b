//! LISTs, requests and answers of a run.

use jtp_core::{FileType, ImageId};
use jtp_sync::{Count, Fetch, FetchFailure, Received};
use std::collections::BTreeSet;

use crate::executor::{Run, length};

impl Run<'_> {
    /// Sends a LIST. In a troubled run it may lack entries or have some twice.
    pub(crate) fn list(&mut self) {
        let mut entries = self.server.entries.clone();
        let mut complete = true;
        if self.trouble.errors && self.rng.percent(25) && !entries.is_empty() {
            entries.remove(self.rng.below(entries.len()));
            complete = false;
        }
        if self.trouble.errors && self.rng.percent(10) && !entries.is_empty() {
            let doubled = self.rng.pick(&entries).clone();
            entries.push(doubled);
        }
        self.list_of(&entries, complete);
    }

    pub(crate) fn list_of(&mut self, entries: &[(String, ImageId)], complete: bool) {
        self.lists += 1;
        self.log.push(format!("LIST {complete} {entries:?}"));
        self.planner.begin_list();
        self.named.clear();
        for (name, id) in entries {
            // The planner ignores an entry of an ID that this LIST has named before.
            let is_new = !self.named.contains(id);
            if is_new && self.rng.percent(self.reselect) && !self.left_out.remove(id) {
                self.left_out.insert(*id);
            }
            let length = length(*id);
            match self.left_out.contains(id) {
                true => self.planner.leave_out(*id, name, FileType::Png, length),
                false => self.planner.entry(*id, name, FileType::Png, length),
            }
            self.known.insert(*id);
            self.named.insert(*id);
            assert_eq!(self.planner.next_fetch(), None, "a LIST is being received");
            if self.trouble.changes && self.rng.percent(10) {
                self.meanwhile();
            }
        }
        let report = self.planner.end_list(complete);
        assert_eq!(report.entries, entries.len() as u64);
        if complete {
            self.known.clone_from(&self.named);
        }
        self.complete = complete;
        assert!(!self.planner.wants_list());
    }

    pub(crate) fn announce(&mut self, name: &str, id: ImageId) {
        self.log.push(format!("event {name} {id}"));
        match self.left_out.contains(&id) {
            true => self.planner.leave_out(id, name, FileType::Png, length(id)),
            false => self.planner.announce(id, name, FileType::Png, length(id)),
        }
        self.known.insert(id);
        self.named.insert(id);
    }

    /// What may happen while a LIST is being received.
    fn meanwhile(&mut self) {
        match self.rng.below(4) {
            0 if !self.pending.is_empty() => {
                let step = self.pending.swap_remove(self.rng.below(self.pending.len()));
                self.execute(step);
            }
            1 => self.scan(),
            2 => self.change_something(),
            _ => self.receive_something(),
        }
    }

    /// What the program does when the planner wants a LIST.
    pub(super) fn list_or_end(&mut self) {
        if self.bounded && self.lists > 0 && self.rng.percent(60) {
            self.log.push("no more LISTs".to_owned());
            self.planner.no_more_lists();
            assert!(!self.planner.wants_list());
            return;
        }
        self.list();
    }

    /// A connection takes one image, or requests everything.
    pub(super) fn request(&mut self) {
        if self.bulk.is_some() {
            return;
        }
        if !self.requested.is_empty() || self.rng.percent(80) {
            let Some((id, listed)) = self.planner.next_fetch() else {
                return;
            };
            self.log.push(format!("request {id}"));
            assert_eq!(
                (listed, self.planner.length(id)),
                (length(id), Some(length(id)))
            );
            self.check_request(id);
            self.requested.push(id);
            return;
        }
        let wanted = self.planner.wanted();
        assert_eq!(self.planner.fetch_all(), wanted);
        if wanted == Count::default() {
            return;
        }
        let have: BTreeSet<ImageId> = self.planner.have().collect();
        let coming: Vec<ImageId> = {
            let new = |(_, id): &&(String, ImageId)| !have.contains(id);
            self.server
                .entries
                .iter()
                .filter(new)
                .map(|(_, id)| *id)
                .collect()
        };
        self.log
            .push(format!("request all but {have:?}: {coming:?}"));
        let known: Vec<ImageId> = self.known.iter().copied().collect();
        for id in known {
            if !have.contains(&id) {
                self.check_request(id);
            }
        }
        self.bulk = Some(coming.into_iter().collect());
    }

    fn check_request(&self, id: ImageId) {
        assert!(
            !self.left_out.contains(&id),
            "R8: {id} is left out, and fetched"
        );
        let is_missing = !self.folder.contains(id) || self.options.fetch() == Fetch::All;
        assert!(
            self.disturbed || is_missing,
            "R8 (b): {id} is in the folder and fetched again"
        );
    }

    /// What the network does next.
    pub(super) fn receive_something(&mut self) {
        if !self.requested.is_empty() {
            if self.trouble.errors && self.rng.percent(3) {
                // All connections are lost.
                self.requested.clear();
                return self.end_requests(FetchFailure::Interrupted);
            }
            let at = self.rng.below(self.requested.len());
            let id = self.requested.swap_remove(at);
            return self.answer(id);
        }
        let Some(coming) = &mut self.bulk else {
            return;
        };
        if self.trouble.errors && self.rng.percent(10) {
            let failure = *self
                .rng
                .pick(&[FetchFailure::Interrupted, FetchFailure::Broken]);
            self.bulk = None;
            return self.end_requests(failure);
        }
        match coming.pop_front() {
            Some(id) if self.server.ids().contains(&id) => self.answer(id),
            Some(_) => {}
            None => {
                self.bulk = None;
                self.end_requests(FetchFailure::NotSent);
            }
        }
    }

    fn end_requests(&mut self, failure: FetchFailure) {
        self.log.push(format!("requests ended: {failure:?}"));
        self.planner.requests_ended(failure);
        assert_eq!(self.planner.requested(), Count::default());
    }

    /// The counts agree with each other, whatever has happened.
    pub(super) fn check_counts(&self) {
        let planner = &self.planner;
        let (wanted, requested) = (planner.wanted(), planner.requested());
        let needed = wanted.images + requested.images;
        assert_eq!(planner.have().count() as u64 + needed, planner.len() as u64);
        let have: BTreeSet<ImageId> = planner.have().collect();
        let others = self.known.iter().filter(|id| !have.contains(*id));
        let bytes: u64 = others.map(|id| u64::from(length(*id))).sum();
        assert_eq!(wanted.bytes + requested.bytes, bytes);
        let totals = planner.totals();
        let outstanding = totals.planned.images - totals.fetched.images - totals.unfetched.images;
        assert!(needed <= outstanding, "{totals:?}");
    }

    fn answer(&mut self, id: ImageId) {
        if self.trouble.errors && self.rng.percent(10) {
            // It comes again under another ID of the same request, or not at all.
            let failure = *self.rng.pick(&[
                FetchFailure::Broken,
                FetchFailure::NotSent,
                FetchFailure::Interrupted,
            ]);
            return self.planner.fetch_failed(id, failure);
        }
        if self.trouble.errors && self.rng.percent(5) {
            let stranger = ImageId(500 + self.rng.next() % 3);
            self.receive(stranger);
        }
        if self.bad.contains(&id) {
            return self.planner.fetch_failed(id, FetchFailure::Final);
        }
        if !self.server.ids().contains(&id) {
            return self.planner.fetch_failed(id, FetchFailure::NotSent);
        }
        self.receive(id);
    }

    pub(crate) fn receive(&mut self, id: ImageId) {
        self.log.push(format!("received {id}"));
        if self.planner.fetched(id) == Received::Keep {
            *self.fetched.entry(id).or_default() += 1;
            assert!(self.in_hand.insert(id), "{id} is kept twice");
        }
    }
}
