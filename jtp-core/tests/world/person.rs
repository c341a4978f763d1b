//! Those who use the server: they fetch what they lack, watch, or change their minds; and begin again when a
//! connection is lost.

use std::collections::BTreeSet;

use jtp_core::client::{HaveSet, Request, Retry, Transfer};
use jtp_core::{ImageId, Time};

use super::connection::{Link, Told};
use super::shop::Shop;
use super::{Counts, Dice};

#[derive(Debug)]
enum Job {
    /// Fetches, several times over.
    Fetch {
        transfer: Transfer,
        had: BTreeSet<ImageId>,
        /// What was asked for by name.
        named: Vec<ImageId>,
        left: u32,
    },
    /// Wants everything, and all that is new. // N5
    Watch {
        known: BTreeSet<ImageId>,
        listed: bool,
    },
    /// Asks, and cancels.
    Cancel { left: u32, at: Option<Time> },
}

#[derive(Debug)]
pub(crate) struct Person {
    link: Option<Link>,
    pipeline: bool,
    retry: Retry,
    next_try: Time,
    job: Job,
}

impl Person {
    pub(crate) fn new(dice: &mut Dice) -> Person {
        let job = match dice.below(4) {
            0 | 1 => Job::Fetch {
                transfer: Transfer::all(),
                had: BTreeSet::new(),
                named: Vec::new(),
                left: 1 + dice.below(4),
            },
            2 => Job::Watch {
                known: BTreeSet::new(),
                listed: false,
            },
            _ => Job::Cancel {
                left: 2 + dice.below(6),
                at: None,
            },
        };
        Person {
            link: None,
            pipeline: matches!(job, Job::Cancel { .. }) || dice.one_in(2),
            retry: Retry::new(3),
            next_try: Time::ZERO + dice.millis(3_000),
            job,
        }
    }

    /// Whether the person has what it wants.
    pub(crate) fn is_content(&self, shop: &Shop) -> bool {
        match &self.job {
            Job::Fetch { left, .. } | Job::Cancel { left, .. } => *left == 0,
            Job::Watch { listed, .. } => {
                let at = self.link.as_ref().and_then(|link| link.sight.watch_from);
                *listed && at == Some(shop.history.len())
            }
        }
    }

    pub(crate) fn wakes(&self, now: Time) -> Option<Time> {
        let own = match &self.job {
            Job::Cancel { at, .. } => *at,
            _ => None,
        };
        let link = match &self.link {
            Some(link) => link.wakes(now),
            None => Some(self.next_try),
        };
        own.into_iter().chain(link).filter(|at| *at > now).min()
    }

    // What goes wrong. Each says whether it did.

    pub(crate) fn reset(&mut self, now: Time) -> bool {
        self.link.as_mut().map(|link| link.reset(now)).is_some()
    }

    pub(crate) fn stall(&mut self, now: Time, dice: &mut Dice) -> bool {
        let (time, both) = (dice.millis(70_000), dice.one_in(2));
        self.link
            .as_mut()
            .map(|link| link.stall(time, both, now))
            .is_some()
    }

    pub(crate) fn server_shuts_down(&mut self, now: Time) {
        if let Some(link) = &mut self.link {
            link.shut_down(now);
        }
    }

    /// Does what it can now; whether that was anything.
    pub(crate) fn act(
        &mut self,
        shop: &Shop,
        now: Time,
        calm: bool,
        dice: &mut Dice,
        counts: &mut Counts,
    ) -> bool {
        let Some(link) = &mut self.link else {
            if now < self.next_try || self.is_content(shop) {
                return false;
            }
            counts.connections += 1;
            self.link = Some(Link::new(self.pipeline, dice, now));
            self.begins(now, dice);
            return true;
        };
        let mut moved = false;
        if let Some(told) = link.happens(shop, now, dice, counts) {
            moved = true;
            for told in told {
                self.is_told(told, now, dice, calm, counts);
            }
        }
        moved |= self.cancels(now);
        if self.link.as_ref().is_some_and(Link::is_lost) {
            self.loses(now);
            return true;
        }
        moved
    }

    fn begins(&mut self, now: Time, dice: &mut Dice) {
        let Some(link) = &mut self.link else { return };
        match &mut self.job {
            Job::Fetch { transfer, .. } => {
                while let Some(request) = transfer.next_request() {
                    link.ask(request, now);
                }
            }
            Job::Watch { listed, .. } => {
                *listed = false;
                link.ask(Request::List, now);
                link.ask(Request::Watch, now);
            }
            Job::Cancel { left: 0, .. } => {}
            Job::Cancel { at, .. } => {
                let request = match dice.below(4) {
                    0 => Request::List,
                    1 => Request::Watch,
                    2 => Request::Batch(HaveSet::new()),
                    _ => Request::ListAndGet,
                };
                link.ask(request, now);
                *at = Some(now + dice.millis(800));
            }
        }
    }

    fn cancels(&mut self, now: Time) -> bool {
        let (Some(link), Job::Cancel { at, .. }) = (&mut self.link, &mut self.job) else {
            return false;
        };
        if at.is_none_or(|at| at > now) {
            return false;
        }
        *at = None;
        link.cancel(now);
        true
    }

    fn is_told(&mut self, told: Told, now: Time, dice: &mut Dice, calm: bool, counts: &mut Counts) {
        self.retry.progress();
        let Some(link) = &mut self.link else { return };
        match (&mut self.job, told) {
            (Job::Fetch { transfer, had, .. }, Told::Image(id)) => {
                assert!(transfer.image_end(id, true));
                had.insert(id);
            }
            (
                Job::Fetch {
                    transfer,
                    had,
                    named,
                    left,
                },
                Told::End(shown),
            ) => {
                transfer.response_end();
                if !transfer.is_done() {
                    self.begins(now, dice);
                    return;
                }
                let lacks = |id: &&ImageId| !had.contains(id);
                if named.is_empty() {
                    let lacking = shown.ids.iter().find(lacks);
                    assert!(lacking.is_none(), "R6: {lacking:?} did not come");
                } else {
                    let lacking = named.iter().filter(lacks);
                    assert!(
                        lacking.eq(transfer.absent()),
                        "S7: neither came nor is absent"
                    );
                }
                *left -= 1;
                // The next job: what came since, all again, or certain images.
                named.clear();
                *transfer = match dice.below(3) {
                    0 => Transfer::missing(HaveSet::try_from_iter(had.iter().copied()).unwrap()),
                    1 => {
                        had.clear();
                        Transfer::all()
                    }
                    _ => {
                        had.retain(|_| dice.one_in(2));
                        let wanted = shown.ids.iter().filter(|id| !had.contains(id));
                        *named = wanted.copied().collect();
                        named.push(ImageId(7));
                        Transfer::of(named.iter().copied())
                    }
                };
                if *left == 0 || dice.one_in(3) {
                    counts.half_closes += u64::from(link.half_close(now));
                } else {
                    self.begins(now, dice);
                }
            }
            (Job::Watch { known, .. }, Told::Entry(id)) => {
                known.insert(id);
            }
            (Job::Watch { known, .. }, Told::News(id)) => {
                known.insert(id);
                if !calm && dice.one_in(30) {
                    // It has something else to do.
                    link.stall(dice.millis(40_000), false, now);
                }
            }
            (Job::Watch { listed, .. }, Told::End(_)) => *listed = true,
            (Job::Cancel { left, at }, Told::Cancelled) => {
                *left = left.saturating_sub(1);
                *at = None;
                self.begins(now, dice);
            }
            (Job::Cancel { .. }, _) => {}
            (job, told) => panic!("{told:?} for {job:?}"),
        }
    }

    fn loses(&mut self, now: Time) {
        let Some(link) = self.link.take() else { return };
        if link.client.fault().is_none() && !link.was_cut() {
            // S2 S16: an end in order, of which nothing was left open.
            assert!(
                link.is_answered(),
                "an end, and not all is answered: {:?}",
                link.close_reason()
            );
        }
        if let Job::Fetch { transfer, .. } = &mut self.job {
            transfer.connection_lost();
        }
        if let Job::Cancel { at, .. } = &mut self.job {
            *at = None;
        }
        let pause = self.retry.pause(false).unwrap_or_else(|| {
            // Its user begins again.
            self.retry = Retry::new(3);
            std::time::Duration::from_secs(5)
        });
        self.next_try = now + pause;
    }

    pub(crate) fn check(&mut self, shop: &Shop) {
        match &self.job {
            Job::Watch { known, .. } => {
                let lacking = shop.shown.ids.iter().find(|id| !known.contains(id));
                assert!(lacking.is_none(), "N5: {lacking:?} was never told");
            }
            Job::Fetch { .. } | Job::Cancel { .. } => {
                if let Some(link) = &self.link {
                    assert!(link.is_answered() || link.is_lost(), "S1");
                }
            }
        }
    }
}
