//! Takes the planner's steps without carrying them out.
//!
//! Each step counts as done, and each image that is to be fetched as received. So the planner decides as it does in a
//! run in which nothing fails. The folder is not looked at between the steps: it does not have what they would have
//! changed. An exception are files that the scan has not read, which no step has moved: whether they may be replaced is
//! found out as in a run. // R8
//!
//! Some events are reported while the state is locked: nothing else runs that would wait for it.

use std::collections::HashSet;

use super::error::Error;
use super::event::SyncEvent;
use super::moves::{Move, Obstacle, Over, look};
use super::session::Session;
use crate::change::{Change, Comparison, Difference};
use crate::step::{Expect, Outcome, Received};

impl Session {
    /// Takes all steps, and reports them. On a worker thread.
    ///
    /// # Errors
    ///
    /// The folder cannot be read.
    pub(super) fn record_moves(&self) -> Result<(), Error> {
        let mut changed = HashSet::new();
        loop {
            self.check()?;
            let step = self.state().planner.next_move();
            if let Some(step) = step {
                if let Some(planned) = self.next_move_of(step) {
                    if self.record(&planned)? {
                        changed.insert(planned.id);
                    }
                }
                continue;
            }
            let planner = &mut self.state().planner;
            let Some((id, _)) = planner.next_fetch() else {
                break;
            };
            let received = planner.fetched(id);
            debug_assert_eq!(received, Received::Keep, "a wanted image is not discarded");
        }
        if let Some(max) = self.mirror {
            self.delete_unlisted(max)?;
        }
        self.state().planner.unchanged(&mut |id, name, is_present| {
            let name = name.to_owned();
            if !is_present {
                self.emit(&SyncEvent::Change(&Change::LeaveOut { id, name }));
            } else if !changed.contains(&id) {
                self.emit(&SyncEvent::Change(&Change::Keep { id, name }));
            }
        });
        Ok(())
    }

    /// Reports a step as done, unless it would not be made. Returns whether it would.
    fn record(&self, planned: &Move) -> Result<bool, Error> {
        let replaces = match &planned.expect {
            Expect::Nothing => false,
            Expect::Image(replaced) => *replaced != planned.id,
            Expect::Copy { .. } => true,
            Expect::Unread => match self.would_replace_unread(planned)? {
                Some(replaces) => replaces,
                None => return Ok(false),
            },
        };
        let id = planned.id;
        let length = {
            let planner = &mut self.state().planner;
            planner.report(id, Outcome::Done);
            planner.length(id).unwrap_or(0)
        };
        let change = match &planned.from {
            None => Change::Fetch {
                id,
                name: planned.to.clone(),
                length,
                replaces,
            },
            Some(from) => Change::Rename {
                id,
                from: from.clone(),
                to: planned.to.clone(),
                aside: planned.aside,
                replaces,
            },
        };
        self.emit(&SyncEvent::Change(&change));
        Ok(true)
    }

    /// Whether other content would be replaced; `None` if the file may not be replaced, which the planner has learnt then.
    fn would_replace_unread(&self, planned: &Move) -> Result<Option<bool>, Error> {
        let folder = self.folder()?;
        let over = look(folder, planned.to.as_str());
        match over.and_then(|over| self.may_replace(folder, planned, &over)) {
            Ok(Over::Allowed { replaces }) => return Ok(Some(replaces)),
            Ok(Over::Unexpected) | Err(Obstacle::Stale | Obstacle::Name(_)) => {}
            Err(Obstacle::Folder(error)) => return Err(error),
        }
        self.look_again(planned.to.as_str())?;
        self.state().planner.report(planned.id, Outcome::Stale);
        Ok(None)
    }

    /// Reports how the folder differs from the LIST.
    pub(super) fn compare(&self) -> Comparison {
        let mut comparison = Comparison::default();
        let state = self.state();
        comparison.is_incomplete = !state.planner.is_complete();
        let is_incomplete = comparison.is_incomplete;
        comparison.same = state.planner.compare(&mut |difference| {
            let count = match difference {
                Difference::Missing { .. } => &mut comparison.missing,
                Difference::Differs { .. } => &mut comparison.differs,
                // The file is counted already.
                Difference::Unreadable { .. } => &mut 0,
                Difference::Renamed { .. } => &mut comparison.renamed,
                Difference::Extra { .. } if is_incomplete => return,
                Difference::Extra { name, .. } if !self.selects_extra(name) => return,
                Difference::Extra { .. } => &mut comparison.extra,
            };
            *count += 1;
            self.emit(&SyncEvent::Difference(difference));
        });
        comparison.left_out = state.planner.totals().left_out.images;
        comparison.unreadable = state.unreadable;
        comparison
    }
}
